"""What a cell prints: bounded where it is made, so that a flood costs neither memory nor socket."""

from __future__ import annotations

import io
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Printed(TypedDict):
        stdout: str  # whole, or its head
        stdout_tail: str  # empty when stdout is whole
        stdout_bytes: int  # UTF-8 bytes that were printed, kept or not


_CHUNK_CHARS = 1 << 16  # how much of one long text is encoded at a time


class BoundedOutput(io.TextIOBase):
    """Stands for sys.stdout and sys.stderr: keeps max_bytes of head and tail, counts the rest. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._whole = max_bytes
        self._tail_bytes = max_bytes // 2
        self._lock = threading.Lock()
        self._head = bytearray()
        self._tail = bytearray()
        self._bytes = 0

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() takes a text, not {type(text).__name__}")
        with self._lock:
            for start in range(0, len(text), _CHUNK_CHARS):
                self._keep(text[start : start + _CHUNK_CHARS].encode("utf-8", "replace"))
        return len(text)

    def _keep(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        self._head += chunk[: max(0, self._whole - len(self._head))]
        self._tail += chunk
        if len(self._tail) > self._whole + _CHUNK_CHARS:
            del self._tail[: -self._whole]

    def take(self) -> Printed:
        """Return what was printed since the last take, and forget it."""
        with self._lock:
            head, tail, count = self._head, self._tail, self._bytes
            self._head, self._tail, self._bytes = bytearray(), bytearray(), 0
        if count <= self._whole:
            return {"stdout": head.decode("utf-8"), "stdout_tail": "", "stdout_bytes": count}
        # "ignore" drops the one character that either cut went through; the host counts it as truncated.
        head = head[: self._whole - self._tail_bytes]
        tail = tail[len(tail) - self._tail_bytes :]
        return {
            "stdout": head.decode("utf-8", "ignore"),
            "stdout_tail": tail.decode("utf-8", "ignore"),
            "stdout_bytes": count,
        }
