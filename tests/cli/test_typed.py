"""`classify`, `extract`, `map` and `filter`: mistakes, told before an engine is started."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_local.cli.lines import read_lines
from rlm_local.errors import ConfigError

Mistaken = Callable[..., Any]


@pytest.fixture
def here(toy_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("items.txt").write_text("a\nb\n")
    Path("labels.json").write_text('["x", "y"]')
    Path("broken.json").write_text('["x", ')
    Path("half.jsonl").write_text('{"item": "a", "label": "x"}\n{"item": \n')
    Path("latin1.txt").write_bytes(b"Geb\xfchr\n")
    Path("program").write_bytes(b"\x7fELF\x02\x01\x01\x00")
    Path("folder").mkdir()
    return folder


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["classify", "items.txt"], "missing option '--labels'", "see `rlm-local classify --help`"),
        (["classify", "--labels", "labels.json"], "missing argument 'ITEMS'", "see `rlm-local classify --help`"),
        (["classify", "--labels", "none.json", "items.txt"], "none.json cannot be read: No such file", ""),
        (["classify", "--labels", "", "items.txt"], "'' cannot be read: Is a directory", ""),
        (["filter", "--condition", "x", ""], "'' cannot be read: Is a directory", "name a file of lines"),
        (["classify", "--labels", "broken.json", "items.txt"], "broken.json is not JSON", ""),
        (["classify", "--labels", "labels.json", "missing.txt"], "missing.txt does not exist", "- is standard input"),
        (
            ["classify", "--labels", "labels.json", "--examples", "half.jsonl", "items.txt"],
            "line 2 of half.jsonl is not JSON",
            "",
        ),
        (["classify", "--labels", "labels.json", "--long", "cut", "items.txt"], "invalid value for '--long'", "see"),
        (
            ["classify", "--labels", "labels.json", "--live", "--passes", "2", "items.txt"],
            "--live answers each line at once, but --passes 2 reads lines again; leave one of them out",
            "",
        ),
        (["classify", "--labels", "labels.json", "--model", "no-such", "items.txt"], "no model is named 'no-such'", ""),
        (["extract", "--schema", "broken.json", "items.txt"], "broken.json is not JSON", ""),
        (["map", "items.txt"], "missing option '--instruction'", "see"),
        (["map", "--instruction", "x", "--max-tokens", "0", "items.txt"], "--max-tokens is 0, but must be", ""),
        (["filter", "items.txt"], "missing option '--condition'", "see"),
        (["classify", "--labels", "{[]}", "items.txt"], "there are 0 labels, but there must be 2 to 100", ""),
        (["classify", "--labels", '{["a"]}', "items.txt"], "there are 1 labels, but there must be 2 to 100", ""),
        (["classify", "--labels", '{["a", "a"]}', "items.txt"], "'a' and 'a', which are one; name each once", ""),
        (
            ["classify", "--labels", '{"a"}', "items.txt"],
            "labels must be a list of texts, or text: description, not 'a'",
            "",
        ),
        (
            ["classify", "--labels", "{[1, 2]}", "items.txt"],
            "labels must be a list of texts, not [1, 2]",
            "",
        ),
        (["classify", "--labels", '{{"a": 1, "b": ""}}', "items.txt"], "the description of 'a' must be a text", ""),
        (
            ["classify", "--labels", "labels.json", "--examples", '{["a", "z"]}', "items.txt"],
            "example 1 has the label 'z', which is none of x, y",
            "",
        ),
        (
            ["classify", "--labels", "labels.json", "--examples", "{[]}", "items.txt"],
            "or a pair of them",
            "",
        ),
        (
            ["classify", "--labels", "labels.json", "--instruction", "", "items.txt"],
            "--instruction is empty; say what you want",
            "",
        ),
        (["extract", "--schema", '{{"type": "nope"}}', "items.txt"], "has the type 'nope'", ""),
        (["extract", "--schema", "{[]}", "items.txt"], "the schema", ""),
        (["extract", "--schema", "{" + "[" * 9_999 + "}", "items.txt"], "holds a number of thousands of digits", ""),
        (["extract", "--schema", "{" + "9" * 5_000 + "}", "items.txt"], "holds a number of thousands of digits", ""),
        (["classify", "--labels", '{{"a": "", "b": "", "a": "x"}}', "items.txt"], "has the key 'a' twice", "each once"),
        (["classify", "--labels", '{["a\\ud800", "b"]}', "items.txt"], "which has half of a character in it", ""),
        (["classify", "--labels", "labels.json", "--examples", "{ }", "items.txt"], "holds no example", "one a line"),
        (["classify", "--labels", "-", "-"], "standard input was given twice", "name a file for one of them"),
        (["extract", "--schema", "-", "-"], "standard input was given twice", "name a file for one of them"),
        (["extract", "--schema", '{{"$ref": "#"}}', "items.txt"], "uses '$ref', which is not served", ""),
        (["extract", "--schema", '{{"type": "integer"}}', "--instruction", " ", "items.txt"], "--instruction is", ""),
        (["map", "--instruction", "", "items.txt"], "--instruction is empty; say what you want", ""),
        (["filter", "--condition", "", "items.txt"], "--condition is empty; say what you want", ""),
        (["filter", "--condition", "x", "folder"], "folder cannot be read: Is a directory", "name a file of lines"),
        (["filter", "--condition", "x", "program"], "program is a program (ELF), but an item is a line", "text files"),
        (["filter", "--condition", "x", "latin1.txt"], "line 1 of latin1.txt is not valid UTF-8: byte 3 is 0xfc", ""),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    here: Path, mistake: Mistaken, arguments: list[str], error: str, hint: str
) -> None:
    for at, word in enumerate(arguments):
        if word.startswith("{"):  # what a file of this argument's holds
            Path("given.json").write_text(word[1:-1])
            arguments = [*arguments[:at], "given.json", *arguments[at + 1 :]]
    made = mistake(*([*arguments, "--model", "toy"] if "--model" not in arguments else arguments))
    assert made.exit_code == 2
    assert error in made.error
    assert hint in made.hint


async def _all(file: str) -> list[str]:
    return [line async for line in read_lines(file)]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\r\n\nb\n\n", ["a", "", "b", ""]),
        ("é\n契約".encode(), ["é", "契約"]),
        (b"x" * 200_000 + b"\ny", ["x" * 200_000, "y"]),
    ],
)
async def test_every_line_is_an_item(tmp_path: Path, data: bytes, lines: list[str]) -> None:
    path = tmp_path / "items"
    path.write_bytes(data)
    assert await _all(str(path)) == lines


async def test_a_line_that_is_no_text_is_named_after_those_before_it(tmp_path: Path) -> None:
    path = tmp_path / "items"
    path.write_bytes(b"a\nb\nGeb\xfchr\nc\n")
    lines = read_lines(str(path))
    assert [await anext(lines), await anext(lines)] == ["a", "b"]
    with pytest.raises(ConfigError, match=f"line 3 of {path} is not valid UTF-8: byte 3 is 0xfc"):
        await anext(lines)


async def test_lines_come_while_the_writer_is_still_writing(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    lines = read_lines(str(pipe))
    first = asyncio.ensure_future(anext(lines))  # opens the pipe, which waits for a writer
    descriptor = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)
    try:
        os.write(descriptor, b"one\ntw")
        assert await asyncio.wait_for(first, 30) == "one"
        os.write(descriptor, b"o\n")
        assert await asyncio.wait_for(anext(lines), 30) == "two"
    finally:
        os.close(descriptor)
    assert [line async for line in lines] == []
