"""What is written when stdout is full, narrow, or left by its reader. Each in a process that can be spared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WRITE = """
import sys
from rlm_local.cli.streams import mend_standard_streams, write_result
from rlm_local.errors import RlmError
mend_standard_streams()
try:
    write_result(sys.argv[1].encode("ascii").decode("unicode_escape"), kept="the trace has it")
except RlmError as error:
    print(error, error.hint, sep=" | ", file=sys.stderr)
    sys.exit(error.exit_code)
except BrokenPipeError:
    sys.exit(7)
"""


def write(text: str, *, stdout: int = subprocess.PIPE, encoding: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", WRITE, text.encode("unicode_escape").decode("ascii")],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )


@pytest.mark.parametrize(
    ("text", "encoding", "written"),
    [
        ("30 €", "utf-8", "30 €\n".encode()),
        ("30 €", "latin-1", b"30 \\u20ac\n"),
        ("half \ud83d", "utf-8", b"half \\ud83d\n"),
    ],
)
def test_every_text_can_be_written_whatever_stdout_can_carry(text: str, encoding: str, written: bytes) -> None:
    ended = write(text, encoding=encoding)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, written, b"")


def test_a_full_disk_tells_where_else_the_result_is() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = write("x", stdout=full.fileno())
    assert ended.returncode == 1
    assert ended.stderr == b"standard output takes no more: No space left on device | the trace has it\n"


def test_a_reader_that_has_left_is_told_apart_from_a_full_disk() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = write("x", stdout=writer)
    os.close(writer)
    assert ended.returncode in (7, 120)  # 120: Python's own, for what it could not flush
    assert b"takes no more" not in ended.stderr
