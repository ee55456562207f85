"""Items of a command: one a line, from a file or from whoever types or pipes them, read as they are needed."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

from rlm_local.cli.inputs import NO_NAME
from rlm_local.documents.decode import binary_kind
from rlm_local.errors import ConfigError

MAX_ITEM_BYTES = 64 << 20  # of one line; a longer one is no item but a file given by mistake
_AHEAD = 1_024  # lines that are read before they are asked for
_CHUNK_BYTES = 1 << 16


def check_items(file: str) -> None:
    """Raise ConfigError where a file cannot be read, is not text, or has a first line that read_lines refuses.

    What is no regular file, as a pipe, is not touched: what is read from it is gone.
    """
    path = Path(file)
    if file == "-" or not (path.is_file() or path.is_dir()):
        return
    try:
        with path.open("rb") as stream:
            kind = binary_kind(stream.read(_CHUNK_BYTES))
        if kind is not None:
            raise ConfigError(f"{file} is {kind.name}, but an item is a line of text", hint=kind.repair)
        next(_lines(file), "")
    except OSError as error:
        raise ConfigError(f"{file or NO_NAME} cannot be read: {error.strerror}", hint="name a file of lines") from error


async def read_lines(file: str) -> AsyncIterator[str]:
    """Yield the lines of a file, or of standard input for `-`, without their ends; the last may have none.

    Raises ConfigError for a file that cannot be read, and for a line that is no UTF-8 or too long, after all before it.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Queue[str | Exception | None] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)

    def read() -> None:
        last: Exception | None = None
        try:
            for line in _lines(file):
                room.acquire()
                loop.call_soon_threadsafe(ready.put_nowait, line)
        except (OSError, ConfigError) as error:
            last = error
        except RuntimeError:
            return  # the loop is closed: nobody reads any more
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(ready.put_nowait, last)

    # A thread that waits for somebody who types ends with the process, and holds no lock that Python's end needs.
    threading.Thread(target=read, name="items", daemon=True).start()
    while isinstance(line := await ready.get(), str):
        room.release()
        yield line
    if isinstance(line, OSError):
        raise ConfigError(f"{file} cannot be read: {line.strerror}") from line
    if line is not None:
        raise line


def _lines(file: str) -> Iterator[str]:
    descriptor = sys.stdin.fileno() if file == "-" else os.open(Path(file), os.O_RDONLY)
    number, rest = 0, b""
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            number += 1
            yield _text(line, file, number)
        if len(rest) > MAX_ITEM_BYTES:
            raise ConfigError(f"line {number + 1} of {file} has more than {MAX_ITEM_BYTES:,} bytes; cut it into lines")
    if rest:
        yield _text(rest, file, number + 1)


def _text(line: bytes, file: str, number: int) -> str:
    try:
        return line.removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"line {number} of {file} is not valid UTF-8: byte {error.start} is {line[error.start]:#04x}",
            hint="convert it, for example with iconv -f latin1 -t utf-8",
        ) from error
