"""The real `rlm-local classify`, `extract`, `map` and `filter` with a small model, as processes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.slow]

ITEMS = ["You won a prize! Call now.", "See you at eight", "", "WIN cash, text YES", "I am at home"]


@pytest.fixture
def files(installation: Any) -> Path:
    folder: Path = installation.folder
    (folder / "items.txt").write_text("\n".join(ITEMS) + "\n")
    (folder / "labels.json").write_text('{"spam": "advertising", "ham": "a personal message"}')
    examples = [{"item": "Free ringtones", "label": "spam"}, {"item": "ok", "label": "ham"}]
    (folder / "examples.jsonl").write_text("".join(json.dumps(example) + "\n" for example in examples))
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    (folder / "schema.json").write_text(json.dumps(schema))
    return folder


def rows(running: Any, code: int = 0) -> list[dict[str, Any]]:
    assert running.wait() == code, running.err
    return [json.loads(line) for line in running.out.splitlines()]


def test_each_line_gets_a_label_in_order(installation: Any, files: Path) -> None:
    with installation.start("classify", "--labels", "labels.json", "items.txt") as running:
        made = rows(running)
    assert [row["item"] for row in made] == ITEMS
    assert {row["label"] for row in made} <= {"spam", "ham"}
    assert all(0.5 <= row["confidence"] <= 1 for row in made)
    assert installation.litter() == []


def test_values_keep_their_schema_and_replies_may_be_texts(installation: Any, files: Path) -> None:
    with installation.start("extract", "--schema", "schema.json", "--max-tokens", "64", "items.txt") as running:
        made = rows(running)
    assert [row["item"] for row in made] == ITEMS
    assert all(isinstance(row["value"]["n"], int) for row in made)
    with installation.start("filter", "--condition", "It is advertising.", "items.txt") as running:
        assert [row["meets"] in (True, False) for row in rows(running)] == [True] * 5


def test_an_item_beyond_the_window_is_refused_with_its_size_and_the_others_are_answered(
    installation: Any, files: Path
) -> None:
    (files / "long.txt").write_text("short\n" + "word " * 9_000 + "\nshort too\n")
    command = ("map", "--instruction", "Repeat it.", "--max-tokens", "8", "--long", "refuse", "long.txt")
    with installation.start(*command) as running:
        first, second, third = rows(running, code=3)
    assert isinstance(first["answer"], str)
    assert isinstance(third["answer"], str)
    assert second["answer"] is None
    assert "9,00" in second["error"]
    assert "but one sub-call reads" in second["error"]


def test_answers_stream_while_items_are_still_typed_and_ctrl_c_leaves_nothing(installation: Any, files: Path) -> None:
    pipe = files / "pipe"
    os.mkfifo(pipe)
    command = ("classify", "--labels", "labels.json", "--examples", "examples.jsonl", "--live", "pipe")
    with installation.start(*command) as running:
        descriptor = os.open(pipe, os.O_WRONLY)  # waits until it is read
        try:
            os.write(descriptor, b"You won a prize!\n")
            running.wait_for_out('"item": "You won a prize!"')
            running.signal(signal.SIGINT)
            assert running.wait() == 130
        finally:
            os.close(descriptor)
        assert running.err == ["interrupted"]
        assert len(running.out.splitlines()) == 1
        assert running.left() == []
    assert installation.litter() == []
