"""What `rlm-local ask` says to a mistake: one sentence, the repair, an exit code, and no engine started for it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_local.cli.main import main
from tests.interrupts import hear_interrupts

LEASE = "The notice period is ninety days.\n"

Mistaken = Callable[..., Any]


@pytest.fixture
def here(toy_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with documents of every bad kind and one good one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("lease.txt").write_text(LEASE)
    Path("empty.txt").write_bytes(b"")
    Path("blank.txt").write_bytes(b" \n\t")
    Path("program").write_bytes(b"\x7fELF\x02\x01\x01\x00")
    Path("latin1.txt").write_bytes(b"Geb\xfchr: 30 Euro")
    Path("unreadable.txt").symlink_to("/proc/self/mem")  # fails for root too
    Path("no-text").mkdir()
    return folder


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["", "lease.txt"], "the question is empty", ""),
        ([" \n", "lease.txt"], "the question is empty", ""),
        (["q"], "no documents given", "name files or folders"),
        (["q", "missing.txt"], "missing.txt does not exist", "check the spelling"),
        (["q", ""], "'' does not exist", "check the spelling"),
        (["q", "lease.txt", "--answer-schema", ""], "'' cannot be read: Is a directory", ""),
        (["q", "unreadable.txt"], "unreadable.txt cannot be read: Input/output error", "make it readable"),
        (["q", "-", "--answer-schema", "-"], "standard input was given twice", "name a file for one of them"),
        (
            ["q", "lease.txt", "--max-prompt-tokens", "300000"],
            "--max-prompt-tokens is 300000, but is a part of --max-tokens, which is 200000; raise --max-tokens",
            "",
        ),
        (["q", "empty.txt"], "empty.txt is empty", "give a document with text in it"),
        (["q", "blank.txt"], "blank.txt holds nothing but white space", "give a document with text in it"),
        (["q", "program"], "program is a program (ELF); give text files only", ""),
        (["q", "no-text"], "the folder no-text holds no text file", "hidden files"),
        (["q", "lease.txt", "missing.txt"], "missing.txt does not exist", "check the spelling"),
        (["q", "latin1.txt", "--strict"], "latin1.txt is not valid UTF-8: byte 3 is 0xfc", "iconv"),
        (["q", "lease.txt", "--max-cost", "2"], "--max-cost is 2, but the card of toy has no price list", "[price]"),
        (["q", "lease.txt", "--max-cost", "0"], "--max-cost is 0.0, but must be above 0", ""),
        (["q", "lease.txt", "--max-turns", "1"], "--max-turns is 1, but a run needs at least 2", ""),
        (["q", "lease.txt", "--max-tokens", "10"], "--max-tokens is 10, but one turn alone may take 1024", ""),
        (["q", "lease.txt", "--max-tokens", "-1"], "--max-tokens is -1, but must be at least 1", ""),
        (["q", "lease.txt", "--max-seconds", "0"], "--max-seconds is 0.0, but must be above 0", ""),
        (["q", "lease.txt", "--max-seconds", "nan"], "--max-seconds is nan, but must be above 0", ""),
        (["q", "lease.txt", "--max-subcalls", "-1"], "--max-subcalls is -1, but must be 0 or more", ""),
        (["q", "lease.txt", "--max-turns", "9" * 38], f"--max-turns is {'9' * 38}, but must be at most 10000", ""),
        (["q", "lease.txt", "--max-tokens", "9" * 38], f"--max-tokens is {'9' * 38}, but must be at most 10", ""),
        (["q", "lease.txt", "--max-seconds", "1e9"], "--max-seconds is 1000000000.0, but must be at most 2592000", ""),
        (
            ["q", "lease.txt", "--max-completion-tokens", "9" * 38],
            f"--max-completion-tokens is {'9' * 38}, but must be at most 1000000000000",
            "",
        ),
        (
            ["q", "lease.txt", "--window", "10"],
            "a window of 10 tokens is not possible with toy; it takes 4096..8192",
            "",
        ),
        (["q", "lease.txt", "--window", "0"], "a window of 0 tokens is not possible with toy", ""),
        (["q", "lease.txt", "--window", "9000"], "a window of 9000 tokens is not possible with toy", ""),
        (["q", "lease.txt", "--trace-dir", "lease.txt"], "cannot create the trace lease.txt/", "--trace-dir"),
        (["q", "lease.txt", "--trace-dir", "/proc/here"], "cannot create the trace /proc/here/", "--trace-dir"),
        (["q", "lease.txt", "--max-turns", "two"], "invalid value for '--max-turns'", "see `rlm-local ask --help`"),
        (
            ["q", "lease.txt", "--require-coverage", "nan"],
            "invalid value for '--require-coverage': nan is not in the range 0.0<=x<=1.0",
            "see `rlm-local ask --help`",
        ),
        (["q", "lease.txt", "--nothing"], "no such option '--nothing'", "see `rlm-local ask --help`"),
        (
            ["q", "lease.txt", "--jail-packages", "never-installed"],
            "the package never-installed is not installed, so no jail can have it",
            "pip install never-installed",
        ),
        *(
            (
                ["q", "lease.txt", "--jail-packages", name],
                f"{name} is a module of the standard library, which code in the jail has already",
                f"leave {name} out",
            )
            for name in ("json", "os", "os.path", "re")
        ),
        (["q", "lease.txt", "--jail-packages", ""], "--jail-packages is '', but must be names", "leave it out"),
        (["q", "lease.txt", "--jail-packages", " , "], "--jail-packages is ' , ', but must be names", "leave it out"),
        ([], "missing argument 'QUESTION'", "see `rlm-local ask --help`"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(
    here: Path, toy_home: Path, mistake: Mistaken, arguments: list[str], error: str, hint: str
) -> None:
    said = mistake("ask", *arguments, "--model", "toy")
    assert said.exit_code == 2
    assert said.error.startswith(error)
    assert hint in said.hint
    assert bool(hint) == bool(said.hint)
    assert traces(toy_home) == []


def test_an_unknown_model_is_answered_with_the_nearest_names(here: Path, mistake: Mistaken) -> None:
    said = mistake("ask", "q", "lease.txt", "--model", "toy-2b")
    assert (said.exit_code, said.error) == (2, "no model is named 'toy-2b'")
    assert said.hint.startswith("did you mean toy-1b")
    assert "`rlm-local list`" in said.hint


def test_a_model_that_is_not_pulled_is_told_with_how_to_pull_it(here: Path, toy_home: Path, mistake: Mistaken) -> None:
    said = mistake("ask", "q", "lease.txt", "--model", "smollm2")
    assert (said.exit_code, said.error) == (1, "model 'smollm2-135m' is not pulled")
    assert said.hint == "run `rlm-local pull smollm2-135m`"
    assert traces(toy_home) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["missing.txt"], "missing.txt does not exist"),
        (["lease.txt", "/dev/null"], "/dev/null is neither a file nor a folder"),
        (["lease.txt", "--max-cost", "1"], "--max-cost is 1, but the card of smollm2-135m has no price list"),
        (["lease.txt", "--trace-dir", "/proc/x"], "cannot create the trace /proc/x/"),
        (["-", "lease.txt/more"], "lease.txt/more cannot be read: Not a directory"),
    ],
)
def test_what_was_asked_wrongly_is_told_before_weights_that_are_not_pulled(
    here: Path, mistake: Mistaken, arguments: list[str], error: str
) -> None:
    said = mistake("ask", "q", *arguments, "--model", "smollm2")
    assert said.exit_code == 2
    assert said.error.startswith(error)


@pytest.mark.parametrize(
    ("environment", "arguments", "error", "hint"),
    [
        ({}, ["--engine", "llama", "--vllm-args", "--foo"], "--vllm-args goes with --engine vllm", "--vllm-args out"),
        ({}, ["--vllm-grammar", "xgrammar"], "--vllm-grammar goes with --engine vllm", "leave --vllm-grammar out"),
        ({}, ["--engine-url", "nowhere"], "--engine-url is 'nowhere', but must be like http://host:8000", ""),
        ({"ENGINE_URL": "nowhere"}, [], "RLM_LOCAL_ENGINE_URL is 'nowhere', but must be like", ""),
        (
            {"ENGINE_URL": "http://a:1"},
            ["--engine", "llama"],
            "RLM_LOCAL_ENGINE_URL names an engine that runs already, which heeds no --engine llama",
            "unset RLM_LOCAL_ENGINE_URL",
        ),
        ({"ENGINE_URL": "http://a:1"}, ["--kv-tokens", "7"], "RLM_LOCAL_ENGINE_URL names an engine", "--kv-tokens"),
        (
            {"VLLM_ARGS": "'"},
            ["--engine", "vllm", "--vllm-python", "/bin/sh"],
            'RLM_LOCAL_VLLM_ARGS is "\'": No closing quotation',
            "",
        ),
        ({"VLLM_GRAMMAR": "none"}, [], "invalid value for '--vllm-grammar' (env var: 'RLM_LOCAL_VLLM_GRAMMAR')", "see"),
    ],
)
def test_options_of_an_engine_that_is_not_used_are_refused_by_the_name_that_they_were_given_by(
    here: Path,
    mistake: Mistaken,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    arguments: list[str],
    error: str,
    hint: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"RLM_LOCAL_{name}", value)
    said = mistake("ask", "q", "lease.txt", "--model", "toy", *arguments)
    assert said.exit_code == 2
    assert said.error.startswith(error)
    assert hint in said.hint


def test_what_the_environment_says_of_vllm_contradicts_no_other_engine(
    here: Path, mistake: Mistaken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_LOCAL_VLLM_ARGS", "-tp 2")
    monkeypatch.setenv("RLM_LOCAL_VLLM_GRAMMAR", "xgrammar")
    assert "toy.gguf" in mistake("ask", "q", "lease.txt", "--model", "toy").error


@pytest.mark.parametrize("option", [["--model", "toi"], ["--window", "1"], ["--max-turns", "0"], ["--trace-dir", "x"]])
def test_a_mistake_in_the_options_is_told_before_standard_input_is_read(
    here: Path, mistake: Mistaken, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    Path("x").write_text("a file, so that no traces can be kept in it")
    typed = io.TextIOWrapper(io.BytesIO(LEASE.encode()))
    monkeypatch.setattr(sys, "stdin", typed)
    assert mistake("ask", "q", "-", "--model", "toy", *option).exit_code == 2
    assert typed.read() == LEASE


def test_empty_standard_input_is_an_empty_document(
    here: Path, mistake: Mistaken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert mistake("ask", "q", "-", "--model", "toy").error == "stdin is empty"


def test_without_a_jail_nothing_is_started_and_the_repair_is_named(
    here: Path, toy_home: Path, mistake: Mistaken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_LOCAL_NSJAIL", "/nonexistent")
    said = mistake("ask", "q", "lease.txt", "--model", "toy")
    assert (said.exit_code, said.error) == (2, "RLM_LOCAL_NSJAIL names /nonexistent, but no file is there")
    assert said.hint == "correct or unset it"
    assert traces(toy_home) == []


def test_a_home_that_is_a_relative_path_is_refused(mistake: Mistaken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_LOCAL_HOME", "models")
    said = mistake("ask", "q", "lease.txt")
    assert (said.exit_code, said.error) == (2, "RLM_LOCAL_HOME is 'models', but must be an absolute path")


def test_a_run_whose_engine_does_not_start_leaves_no_trace(here: Path, toy_home: Path, mistake: Mistaken) -> None:
    said = mistake("ask", "q", "lease.txt", "--model", "toy")
    assert said.exit_code == 1
    assert "toy.gguf" in said.error
    assert traces(toy_home) == []


def test_invalid_bytes_are_counted_in_a_warning_and_the_run_goes_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["ask", "q", "latin1.txt", "--model", "toy"])  # which comes as far as the engine
    warning, error, *_ = capsys.readouterr().err.splitlines()
    assert warning == "warning: latin1.txt: 1 invalid byte replaced by U+FFFD, the first at byte 3"
    assert "toy.gguf" in error


def test_a_files_name_in_an_error_does_not_act_on_the_terminal(here: Path, mistake: Mistaken) -> None:
    said = mistake("ask", "q", "\x1b[2Jno\nsuch", "--model", "toy")
    assert said.error == r"\x1b[2Jno\x0asuch does not exist"
    assert "\x1b" not in mistake("ask", "q", "lease.txt", "--model", "\x1b[2J").error
    assert "\x1b" not in mistake("trace", "show", "\x1b[2J").error


def test_ctrl_c_while_a_document_is_read_is_one_word(here: Path, toy_home: Path) -> None:
    os.mkfifo("pipe")
    command = [sys.executable, "-m", "rlm_local", "ask", "q", "pipe", "--model", "toy"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=hear_interrupts,
    ) as asking:
        with Path("pipe").open("wb"):  # returns when the other end is open, so the document is being read
            asking.send_signal(signal.SIGINT)
            assert asking.wait(60) == 130
        assert asking.stdout is not None
        assert asking.stderr is not None
        assert (asking.stdout.read(), asking.stderr.read().split()) == (b"", [b"interrupted"])
    assert traces(toy_home) == []


def traces(home: Path) -> list[Path]:
    return list(home.glob("traces/*"))
