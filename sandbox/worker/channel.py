"""The worker's end of the socket: one writer at a time, one reader at a time, and who waits for which reply."""

from __future__ import annotations

import os
import sys
import threading
from _queue import SimpleQueue  # what `queue` and `socket` put around these two takes longer to import than to start
from _socket import CMSG_SPACE, MSG_PEEK, SCM_RIGHTS, SOL_SOCKET, socket
from collections.abc import Mapping, Sequence

from rlm_local.jail import wire
from rlm_local.jail.wire import Json

_IN_FLIGHT = 8  # sub-calls that wait at once; the host ends a worker that goes far beyond
TEXTS_PER_QUERY = 4096
ASKS_PER_CALL = 64  # questions to children
_INT_BYTES = 4
# At once: of a frame whose length is not known yet, and of a longer one. What is above 128 KiB malloc asks the kernel
# for each time, and gives back: three calls and new pages for a reply of a hundred bytes.
_FIRST_BYTES = 1 << 14
_MORE_BYTES = 1 << 20


class CellOverError(Exception):
    """The cell that waited for this reply has ended."""


class _Waiter:
    """One query on its way."""

    def __init__(self, cell_id: int) -> None:
        self.cell_id = cell_id
        self.answered = threading.Lock()  # held until the reply is there: an Event takes three of these
        self.answered.acquire()
        self.problem = ""  # why the whole call was refused
        self.replies: list[dict[str, Json]] | None = None


class Channel:
    """Frames to and from the host. The descriptor itself is the authentication; there is no other.

    The main thread reads what it waits for itself: a thread for that would be woken for each frame, only to wake the
    main one. From the first sub-call of another thread on there is such a thread, and it reads whenever main does not.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket(fileno=descriptor)
        self._write_lock = threading.Lock()
        self._sending: int | None = None  # the thread inside a send
        self._read_lock = threading.Lock()
        self._reading: int | None = None  # the thread that takes bytes in
        self._received = bytearray()  # a piece of a frame
        self._has_listener = False
        self._slots = threading.BoundedSemaphore(_IN_FLIGHT)
        self._waiters: dict[int, _Waiter] = {}
        self._last_id = 0
        self._cells: SimpleQueue[dict[str, wire.Json]] = SimpleQueue()

    def receive_with_descriptor(self) -> tuple[dict[str, wire.Json], int]:
        """Return the first frame and the descriptor that comes with it; EOFError when the host has gone.

        Possible until stage 2, and never after it.
        """
        header, ancillary, _, _ = self._socket.recvmsg(wire.HEADER_BYTES, CMSG_SPACE(_INT_BYTES))
        if not header:
            raise EOFError
        ((level, kind, data),) = ancillary
        if (level, kind, len(data)) != (SOL_SOCKET, SCM_RIGHTS, _INT_BYTES):
            raise wire.WireError("the first frame must bring one descriptor")
        self._received += header
        while (frame := self._taken()) is None:
            self._receive()
        return frame, int.from_bytes(data, sys.byteorder)

    def next_cell(self) -> dict[str, wire.Json]:
        """Return the next cell that the host wants to be run. For the main thread."""
        if self._may_read():
            try:
                while self._cells.empty():
                    self._read_on()
            finally:
                self._read_lock.release()
        return self._cells.get()

    def send(self, frame: Mapping[str, object]) -> None:
        data = wire.encode(frame, max_bytes=wire.FROM_JAIL_BYTES)
        with self._write_lock:
            self._write(data)

    def is_busy(self) -> bool:
        """Whether the calling thread writes or takes bytes in: an exception now would leave half a frame behind."""
        return threading.get_ident() in (self._sending, self._reading)

    def query(
        self, cell_id: int, texts: Sequence[str], kind: str, args: Mapping[str, object], *, behind: int, ahead: int
    ) -> list[dict[str, Json]]:
        """Return the host's replies, one a text: {"value", "refused"}; for "reduce" one for all of them.

        kind, args: what is asked of the texts. behind, ahead: texts of the same call that came before and will come.
        Raises ValueError when the call is not one that the host serves, or too long for a frame; CellOverError when
        the cell ends first.
        """
        if len(texts) > TEXTS_PER_QUERY:
            raise ValueError(f"{len(texts)} prompts in one call, but at most {TEXTS_PER_QUERY} are allowed")
        asked = {"op": "query", "kind": kind, "texts": list(texts), "args": dict(args)}
        return self._exchange(cell_id, f"llm_{kind}", {**asked, "behind": behind, "ahead": ahead})

    def recurse(self, cell_id: int, asks: Sequence[Mapping[str, object]]) -> list[dict[str, Json]]:
        """Return the host's replies, one a question. Raises as query() does."""
        if len(asks) > ASKS_PER_CALL:
            raise ValueError(f"{len(asks)} questions in one call, but at most {ASKS_PER_CALL} are allowed")
        return self._exchange(cell_id, "rlm_query", {"op": "recurse", "asks": list(asks)})

    def _exchange(self, cell_id: int, function: str, asked: Mapping[str, object]) -> list[dict[str, Json]]:
        with self._slots:
            waiter = _Waiter(cell_id)
            with self._write_lock:
                # Numbered and sent under one lock, so that the host sees the numbers rise.
                self._last_id += 1
                query_id = self._last_id
                self._waiters[query_id] = waiter
                try:
                    frame = {**asked, "id": query_id, "cell_id": cell_id}
                    self._write(wire.encode(frame, max_bytes=wire.FROM_JAIL_BYTES))
                except wire.WireError as error:
                    del self._waiters[query_id]
                    raise ValueError(f"the prompts are too long: {error}; send a shorter passage") from None
                except (TypeError, ValueError, RecursionError) as error:
                    del self._waiters[query_id]
                    raise ValueError(f"an argument of {function} is no plain value: {error}") from None
            try:
                self._wait(waiter)
            finally:
                self._waiters.pop(query_id, None)
        if waiter.problem:
            raise ValueError(waiter.problem)
        if waiter.replies is None:
            raise CellOverError("the cell ended before this sub-call was answered")
        return waiter.replies

    def end_cell(self, cell_id: int) -> None:
        """Wake every thread that still waits for a reply to this cell."""
        for query_id, waiter in list(self._waiters.items()):
            # Whoever takes it out of the table wakes it; the reader thread may be about to.
            if waiter.cell_id == cell_id and self._waiters.pop(query_id, None) is not None:
                waiter.answered.release()

    def _wait(self, waiter: _Waiter) -> None:
        """Return when the waiter's reply is there, or its cell is over."""
        if threading.current_thread() is not threading.main_thread():
            self._listen()
        elif self._may_read():
            try:
                while waiter.answered.locked():
                    self._read_on()
            except BaseException:
                self._listen()  # the reply may still come, and be too large to wait in the socket
                raise
            finally:
                self._read_lock.release()
        waiter.answered.acquire()

    def _may_read(self) -> bool:
        """Become the reader, for the caller to undo; False where a listener reads, who hands on what comes."""
        return not self._has_listener and self._read_lock.acquire(blocking=False)

    def _listen(self) -> None:
        """See to it that somebody reads, also while the main thread is at work."""
        with self._write_lock:
            is_first, self._has_listener = not self._has_listener, True
        if is_first:
            threading.Thread(target=self._read_for_all, name="channel", daemon=True).start()

    def _read_for_all(self) -> None:
        with self._read_lock:  # from when the main thread has what it waits for
            while True:
                self._read_on()

    def _read_on(self) -> None:
        """Take in what comes next, and hand it to whoever waits for it. Ends the worker when the host has gone."""
        try:
            self._socket.recv(1, MSG_PEEK)  # may be interrupted: nothing is taken yet
            self._reading = threading.get_ident()
            self._receive()
            while (frame := self._taken()) is not None:
                if frame.get("op") == "exec":
                    self._cells.put(frame)
                elif frame.get("op") == "result":
                    self._answer(frame)
        except (EOFError, OSError, wire.WireError):
            os._exit(0)  # nobody is left to hear of it
        self._reading = None

    def _answer(self, frame: dict[str, wire.Json]) -> None:
        query_id, replies = frame.get("id"), frame.get("replies")
        waiter = self._waiters.pop(query_id, None) if isinstance(query_id, int) else None
        if waiter is not None and isinstance(replies, list):
            waiter.problem = str(frame.get("problem", ""))
            waiter.replies = [reply for reply in replies if isinstance(reply, dict)]
            waiter.answered.release()

    def _write(self, data: bytes) -> None:
        self._sending = threading.get_ident()
        self._socket.sendall(data)
        self._sending = None

    def _receive(self) -> None:
        missing = self._end() - len(self._received)
        chunk = self._socket.recv(min(max(missing, _FIRST_BYTES), _MORE_BYTES))
        if not chunk:
            raise EOFError
        self._received += chunk

    def _end(self) -> int:
        """Return where the first frame of what was received ends; 0 while its length is not known."""
        if len(self._received) < wire.HEADER_BYTES:
            return 0
        header = bytes(self._received[: wire.HEADER_BYTES])
        return wire.HEADER_BYTES + wire.payload_bytes(header, max_bytes=wire.FROM_HOST_BYTES)

    def _taken(self) -> dict[str, wire.Json] | None:
        """Take the first whole frame out of what was received; None while there is none."""
        end = self._end()
        if not end or len(self._received) < end:
            return None
        payload = bytes(self._received[wire.HEADER_BYTES : end])
        del self._received[:end]
        return wire.decode(payload)


class Nowhere(Channel):
    """A channel that leads nowhere, for a rehearsal."""

    def __init__(self) -> None:
        """Open nothing."""

    def send(self, frame: Mapping[str, object]) -> None:
        wire.encode(frame, max_bytes=wire.FROM_JAIL_BYTES)

    def end_cell(self, cell_id: int) -> None:
        """Nobody waits."""
