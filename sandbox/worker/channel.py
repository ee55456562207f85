"""The worker's end of the socket: one writer at a time, one reader thread, and who waits for which reply."""

from __future__ import annotations

import os
import sys
import threading
from _queue import SimpleQueue  # what `queue` and `socket` put around these two takes longer to import than to start
from _socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET, socket
from collections.abc import Mapping, Sequence

from rlm_local.jail import wire

_IN_FLIGHT = 8  # sub-calls that wait at once; the host ends a worker that goes far beyond
PROMPTS_PER_CALL = 1024
_INT_BYTES = 4


class CellOverError(Exception):
    """The cell that waited for this reply has ended."""


class _Waiter:
    """One query on its way."""

    def __init__(self, cell_id: int) -> None:
        self.cell_id = cell_id
        self.answered = threading.Lock()  # held until the reply is there: an Event takes three of these
        self.answered.acquire()
        self.replies: list[dict[str, str]] | None = None


class Channel:
    """Frames to and from the host. The descriptor itself is the authentication; there is no other."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket(fileno=descriptor)
        self._write_lock = threading.Lock()
        self._sending: int | None = None  # the thread inside a send
        self._slots = threading.BoundedSemaphore(_IN_FLIGHT)
        self._waiters: dict[int, _Waiter] = {}
        self._last_id = 0
        self.cells: SimpleQueue[dict[str, wire.Json]] = SimpleQueue()

    def receive(self) -> dict[str, wire.Json]:
        """Return the next frame. Raises EOFError when the host has gone."""
        return self._payload(self._exactly(wire.HEADER_BYTES))

    def receive_with_descriptor(self) -> tuple[dict[str, wire.Json], int]:
        """Return the next frame and the descriptor that comes with it. Possible until stage 2, and never after it."""
        header, ancillary, _, _ = self._socket.recvmsg(wire.HEADER_BYTES, CMSG_SPACE(_INT_BYTES))
        if not header:
            raise EOFError
        ((level, kind, data),) = ancillary
        if (level, kind, len(data)) != (SOL_SOCKET, SCM_RIGHTS, _INT_BYTES):
            raise wire.WireError("the first frame must bring one descriptor")
        frame = self._payload(header + self._exactly(wire.HEADER_BYTES - len(header)))
        return frame, int.from_bytes(data, sys.byteorder)

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
        with self._slots:
            waiter = _Waiter(cell_id)
            with self._write_lock:
                # Numbered and sent under one lock, so that the host sees the numbers rise.
                self._last_id += 1
                query_id = self._last_id
                self._waiters[query_id] = waiter
                try:
                    frame = {"op": "query", "id": query_id, "cell_id": cell_id, "prompts": list(prompts)}
                    self._write(wire.encode(frame, max_bytes=wire.FROM_JAIL_BYTES))
                except wire.WireError as error:
                    del self._waiters[query_id]
                    raise ValueError(f"the prompts are too long: {error}; send a shorter passage") from None
            try:
                waiter.answered.acquire()
            finally:
                self._waiters.pop(query_id, None)
        if waiter.replies is None:
            raise CellOverError("the cell ended before this sub-call was answered")
        return waiter.replies

    def end_cell(self, cell_id: int) -> None:
        """Wake every thread that still waits for a reply to this cell."""
        for query_id, waiter in list(self._waiters.items()):
            # Whoever takes it out of the table wakes it; the reader thread may be about to.
            if waiter.cell_id == cell_id and self._waiters.pop(query_id, None) is not None:
                waiter.answered.release()

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
            waiter.answered.release()

    def _write(self, data: bytes) -> None:
        self._sending = threading.get_ident()
        self._socket.sendall(data)
        self._sending = None

    def _payload(self, header: bytes) -> dict[str, wire.Json]:
        return wire.decode(self._exactly(wire.payload_bytes(header, max_bytes=wire.FROM_HOST_BYTES)))

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            chunk = self._socket.recv(min(count - len(data), 1 << 20))
            if not chunk:
                raise EOFError
            data += chunk
        return bytes(data)


class Nowhere(Channel):
    """A channel that leads nowhere, for a rehearsal."""

    def __init__(self) -> None:
        """Open nothing."""

    def send(self, frame: Mapping[str, object]) -> None:
        wire.encode(frame, max_bytes=wire.FROM_JAIL_BYTES)

    def end_cell(self, cell_id: int) -> None:
        """Nobody waits."""
