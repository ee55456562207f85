"""The command line as a whole: versions, unknown words, broken traces, and streams that are closed, full or narrow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm_local import __version__
from rlm_local.cli.main import cli, main
from rlm_local.events import TurnWritten
from rlm_local.trace import TraceWriter

COMMANDS = [
    "ask",
    "attack",
    "classify",
    "doctor",
    "extract",
    "filter",
    "grammar",
    "keys",
    "list",
    "map",
    "ps",
    "pull",
    "resume",
    "rm",
    "runs",
    "serve",
    "show",
    "stop",
    "trace",
    "verify",
]

Mistaken = Callable[..., Any]


def test_version_is_one_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"rlm-local {__version__}\n", "")


def test_there_are_the_commands_that_the_documents_name() -> None:
    assert sorted(cli.commands) == COMMANDS


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["trace", "show"], ["trace", "replay"]])
def test_help_is_on_stdout_and_tells_what_a_command_is_for(
    capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    for option in ("-h", "--help"):
        assert main([*command, option]) == 0
        out, err = capsys.readouterr()
        assert out.startswith(" ".join(["Usage: rlm-local", *command]))
        assert err == ""


def test_no_command_at_all_shows_the_help_as_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert all(f"  {name} " in err for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["asks"], "no such command 'asks'"),
        (["--versio"], "no such option '--versio'"),
        (["pull"], "missing argument 'NAME'"),
        (["list", "all"], "got unexpected extra argument"),
        (["pull", "toy", "--engine", "tpu"], "invalid value for '--engine'"),
        (["trace", "draw"], "no such command 'draw'"),
    ],
)
def test_a_word_that_no_command_knows_is_one_sentence(mistake: Mistaken, arguments: list[str], error: str) -> None:
    said = mistake(*arguments)
    assert said.exit_code == 2
    assert said.error.startswith(error)
    assert "--help`" in said.hint


def test_a_trace_that_is_not_there_is_a_users_mistake(mistake: Mistaken, tmp_path: Path) -> None:
    said = mistake("trace", "show", str(tmp_path / "none.jsonl"))
    assert (said.exit_code, said.error) == (2, f"{tmp_path / 'none.jsonl'} does not exist")
    assert str(Path("traces")) in said.hint


@pytest.mark.parametrize(
    ("data", "exit_code", "error"),
    [
        (b"", 2, "is not a trace: it holds nothing"),
        (b"Dear tenant,\n", 2, "is not a trace of rlm-local: its first line is no event"),
        (b"\x7fELF\x02\x01\x00", 2, "is not a trace of rlm-local: its first line is no event"),
        (b'{"v":7,"seq":0,"t"', 1, "is not a trace: it holds one line that was cut"),
        (b'{"v":9,"seq":0}\n', 1, "trace version 9, this build reads 7"),
    ],
)
def test_a_broken_trace_is_named_with_what_is_wrong(
    mistake: Mistaken, tmp_path: Path, data: bytes, exit_code: int, error: str
) -> None:
    (tmp_path / "run.jsonl").write_bytes(data)
    said = mistake("trace", "show", str(tmp_path / "run.jsonl"))
    assert said.exit_code == exit_code
    assert said.error.startswith(str(tmp_path / "run.jsonl"))
    assert error in said.error


def test_a_folder_is_no_trace_and_its_files_may_be(mistake: Mistaken, tmp_path: Path) -> None:
    said = mistake("trace", "show", str(tmp_path))
    assert (said.exit_code, said.error) == (2, f"{tmp_path} is a folder, but a trace is a file")
    assert said.hint == f"name one of its files: {tmp_path}/*.jsonl"


# --- streams: these need a process of their own, whose standard streams they take away -------------------------------


def test_a_reader_that_leaves_ends_the_command_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = command("list", stdout=writer)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_a_listing_is_written_in_one_piece_so_that_who_reads_its_head_leaves_no_failure() -> None:
    reader, writer = os.pipe()
    listing = subprocess.Popen([sys.executable, "-m", "rlm_local", "attack", "--list"], stdout=writer)
    os.close(writer)
    assert len(os.read(reader, 1 << 16)) > 10_000  # what is longer than a pipe holds comes in several
    os.close(reader)
    assert listing.wait(60) == 0


def test_a_full_disk_behind_stdout_is_one_sentence() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = command("list", stdout=full.fileno())
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"error: [Errno 28] No space left on device\n")
    assert b"Traceback" not in ended.stderr
    assert b"Exception" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code"), [(["--version"], 0), (["ask"], 2), (["ask", "q", "-", "--model", "x"], 2)]
)
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_command_without_its_streams_ends_as_it_would_with_them(
    arguments: list[str], exit_code: int, closed: tuple[int, ...]
) -> None:
    ended = command(*arguments, closed=closed)
    assert ended.returncode == exit_code
    assert b"Traceback" not in ended.stderr


def test_what_a_narrow_encoding_cannot_carry_is_escaped(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "run.jsonl") as writer:
        writer.write(TurnWritten("0", 1, "Gebühr: 30 €"))
    ended = command("trace", "show", str(writer.path), environ={"PYTHONIOENCODING": "latin-1"})
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"Geb\xfchr: 30 \\u20ac" in ended.stdout


def command(
    *arguments: str,
    stdout: int = subprocess.PIPE,
    closed: Sequence[int] = (),
    environ: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run rlm-local as the console script does, without the streams with the numbers in `closed`."""

    def close() -> None:
        for number in closed:
            os.close(number)

    return subprocess.run(
        [sys.executable, "-m", "rlm_local", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environ or {})},
        preexec_fn=close,
        check=False,
        timeout=60,
    )
