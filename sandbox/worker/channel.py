"""The worker's end of the socket: one writer at a time, one reader thread, and who waits for which reply."""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Mapping, Sequence

from rlm_local.jail import wire

_IN_FLIGHT = 8  # sub-calls that wait at once; the host ends a worker that goes far beyond
PROMPTS_PER_CALL = 1024
ASKS_PER_CALL = 64  # questions to children


class CellOverError(Exception):
    """The cell that waited for this reply has ended."""


class _Waiter:
    """One query on its way."""

    def __init__(self, cell_id: int) -> None:
        self.cell_id = cell_id
        self.answered = threading.Event()
        self.replies: list[dict[str, str]] | None = None


class Channel:
    """Frames to and from the host. The descriptor itself is the authentication; there is no other."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._write_lock = threading.Lock()
        self._sending: int | None = None  # the thread inside a send
        self._slots = threading.BoundedSemaphore(_IN_FLIGHT)
        self._waiters: dict[int, _Waiter] = {}
        self._last_id = 0
        self.cells: queue.SimpleQueue[dict[str, wire.Json]] = queue.SimpleQueue()

    def receive(self) -> dict[str, wire.Json]:
        """Return the next frame. Raises EOFError when the host has gone."""
        header = self._exactly(wire.HEADER_BYTES)
        return wire.decode(self._exactly(wire.payload_bytes(header, max_bytes=wire.FROM_HOST_BYTES)))

    def send(self, frame: Mapping[str, object]) -> None:
        data = wire.encode(frame, max_bytes=wire.FROM_JAIL_BYTES)
        with self._write_lock:
            self._write(data)

    def is_sending(self) -> bool:
        """Whether the calling thread is inside a send: an exception now would leave half a frame behind."""
        return self._sending == threading.get_ident()

    def listen(self) -> None:
        """From now on a thread hands replies to who waits for them, and cells to `cells`."""
        threading.Thread(target=self._listen, name="channel", daemon=True).start()

    def query(self, cell_id: int, prompts: Sequence[str]) -> list[dict[str, str]]:
        """Return the host's replies, one a prompt: {"answer", "refused"}.

        Raises ValueError when the prompts are too many or too long for a frame, CellOverError when the cell ends first.
        """
        if len(prompts) > PROMPTS_PER_CALL:
            raise ValueError(f"{len(prompts)} prompts in one call, but at most {PROMPTS_PER_CALL} are allowed")
        return self._exchange(cell_id, {"op": "query", "prompts": list(prompts)})

    def recurse(self, cell_id: int, asks: Sequence[Mapping[str, object]]) -> list[dict[str, str]]:
        """Return the host's replies, one a question. Raises as query() does."""
        if len(asks) > ASKS_PER_CALL:
            raise ValueError(f"{len(asks)} questions in one call, but at most {ASKS_PER_CALL} are allowed")
        return self._exchange(cell_id, {"op": "recurse", "asks": list(asks)})

    def _exchange(self, cell_id: int, asked: Mapping[str, object]) -> list[dict[str, str]]:
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
            try:
                waiter.answered.wait()
            finally:
                self._waiters.pop(query_id, None)
        if waiter.replies is None:
            raise CellOverError("the cell ended before this sub-call was answered")
        return waiter.replies

    def end_cell(self, cell_id: int) -> None:
        """Wake every thread that still waits for a reply to this cell."""
        for query_id, waiter in list(self._waiters.items()):
            if waiter.cell_id == cell_id:
                self._waiters.pop(query_id, None)
                waiter.answered.set()

    def _listen(self) -> None:
        while True:
            try:
                frame = self.receive()
            except (EOFError, OSError, wire.WireError):
                os._exit(0)  # the host has gone; nobody is left to hear of it
            if frame.get("op") == "exec":
                self.cells.put(frame)
            elif frame.get("op") == "result":
                self._answer(frame)

    def _answer(self, frame: dict[str, wire.Json]) -> None:
        query_id, replies = frame.get("id"), frame.get("replies")
        waiter = self._waiters.pop(query_id, None) if isinstance(query_id, int) else None
        if waiter is not None and isinstance(replies, list):
            waiter.replies = [{k: str(v) for k, v in reply.items()} for reply in replies if isinstance(reply, dict)]
            waiter.answered.set()

    def _write(self, data: bytes) -> None:
        self._sending = threading.get_ident()
        self._socket.sendall(data)
        self._sending = None

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            chunk = self._socket.recv(min(count - len(data), 1 << 20))
            if not chunk:
                raise EOFError
            data += chunk
        return bytes(data)
