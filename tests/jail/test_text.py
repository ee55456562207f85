"""`context` is a str that views the documents' memory, of whatever kind their characters are."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from rlm_local.jail.session import JailSession
from rlm_local.limits import MIB
from rlm_local.texts import SealedText
from rlm_local.types import CellStatus, Document
from sandbox.worker import text as worker_text
from tests.jail.conftest import echo

KINDS = {
    "ascii": "the quick brown fox\n",
    "latin-1": "na\xefve caf\xe9\n",
    "two bytes": "price in \u20ac, \ud800 alone\n",
    "four bytes": "smile \U0001f600 now\n",
}
Start = Callable[..., Awaitable[JailSession]]


def opened(text: str) -> str:
    with contextlib.closing(SealedText(text)) as sealed:
        return worker_text.open_text(os.dup(sealed.fileno()), sealed.chars, sealed.char_bytes, is_ascii=sealed.is_ascii)


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_is_a_str_like_any_other(kind: str) -> None:
    text = KINDS[kind] * 2_000 + "the end"
    view = opened(text)
    assert type(view) is str
    assert (view, hash(view), len(view), sys.getsizeof(view)) == (text, hash(text), len(text), sys.getsizeof(text))
    assert view[3:40] == text[3:40]
    assert view.split("\n") == text.split("\n")
    assert view.upper() == text.upper()
    assert view + "x" == text + "x"
    assert view.encode("utf-16", "surrogatepass") == text.encode("utf-16", "surrogatepass")
    assert list(view) == list(text)
    assert {text: 1}[view] == 1
    grown = view
    grown += "more"  # in place where nobody else holds the str
    assert (view, grown) == (text, text + "more")


@pytest.mark.parametrize("kind", KINDS)
def test_a_python_that_is_laid_out_otherwise_gets_a_copy(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_text, "_header_of", lambda char_bytes, is_ascii: None)
    text = KINDS[kind] * 2_000
    assert opened(text) == text


@pytest.mark.parametrize("kind", KINDS)
def test_this_python_needs_no_copy(kind: str) -> None:
    sealed = SealedText(KINDS[kind] * 2_000)
    with contextlib.closing(sealed):
        assert worker_text._header_of(sealed.char_bytes, sealed.is_ascii) is not None


@pytest.mark.jail
@pytest.mark.parametrize("kind", KINDS)
async def test_a_large_document_of_any_kind_arrives_as_it_is(start: Start, kind: str) -> None:
    text = KINDS[kind] * 3_000
    session = await start(Document("a", text))
    code = f"unit = {KINDS[kind]!a}\ndocuments[0].text == unit * 3_000, type(context) is str, context.count(unit)"
    result = await session.execute(code, wall_s=20, query=echo)
    assert result.stdout == "(True, True, 3000)\n", result.error


@pytest.mark.jail
async def test_documents_are_mapped_once_and_not_copied(start: Start) -> None:
    text = "x" * (64 * MIB)
    session = await start(Document("a", text))
    result = await session.execute("context.count('x')", wall_s=20, query=echo)
    assert result.stdout == f"{64 * MIB}\n"
    assert anonymous_bytes(session.jail.worker_pid) < 48 * MIB


def anonymous_bytes(pid: int) -> int:
    maps = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8", errors="replace")
    return sum(int(line.split()[1]) * 1024 for line in maps.splitlines() if line.startswith("Anonymous:"))


@pytest.mark.jail
async def test_a_cell_that_writes_into_the_documents_harms_itself_alone(start: Start) -> None:
    text = "the truth\n" * 1_000
    first, second = await start(Document("a", text)), await start(Document("a", text))
    address = "id(context) + sys.getsizeof(context) - len(context) - 1"
    poke = f"import ctypes, sys\nctypes.memset({address}, 0x58, 9)"
    assert (await first.execute(poke, wall_s=20, query=echo)).status is CellStatus.KILLED
    # Memory of its own it may make of the mapping; nobody else sees what it puts there.
    own = f"import ctypes, sys\na = {address}\nctypes.CDLL(None).mprotect(ctypes.c_void_p(a), 4096, 3)\n"
    result = await first.execute(f"{own}ctypes.memset(a, 0x58, 9)\ncontext[:9]", wall_s=20, query=echo)
    assert result.stdout == "'XXXXXXXXX'\n", result.error
    for session in (second, await start(Document("a", text))):
        assert (await session.execute("context.count('X')", wall_s=20, query=echo)).stdout == "0\n"


def test_the_view_works_on_every_python_that_is_here() -> None:
    """The header of a str differs from version to version; each that is installed is tried."""
    tried = 0
    for version in ("3.11", "3.12", "3.13"):
        try:
            done = subprocess.run([f"python{version}", "-c", _VIEW], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        if "not found" in done.stderr or done.returncode == 127:  # a version manager's empty shim
            continue
        assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr
        tried += 1
    if not tried:
        pytest.skip("no python3.11, python3.12 or python3.13 on the path")


_VIEW = f"""
import os, sys
sys.path.insert(0, {str(Path(worker_text.__file__).parents[2])!r})
from sandbox.worker import text as worker_text
for text, char_bytes in (("plain", 1), ("caf\\xe9", 1), ("\\u20ac", 2), ("\\U0001f600", 4)):
    text *= 5000
    file = os.memfd_create("text")
    os.write(file, text.encode(worker_text.ENCODINGS[char_bytes]) + bytes(char_bytes))
    assert worker_text._header_of(char_bytes, text.isascii()) is not None
    view = worker_text.open_text(file, len(text), char_bytes, is_ascii=text.isascii())
    assert view == text and hash(view) == hash(text) and view[7:99] == text[7:99] and type(view) is str
print("same")
"""
