"""Frames that a hostile worker might write: valid ones, and what becomes of them in bad hands. Seeded."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

from rlm_local.jail import wire

Frame = dict[str, Any]
_ODD_TEXTS = ("", "a", "\x00", "\u202e", "\U0001f600", "\ufeff", "\x7f" * 40, "x" * 3000, '"\\"', "\\ud800")
_ODD_NUMBERS = (0, -1, 1, 2**31, 2**53, 2**53 + 1, 2**64, 10**40, -(2**53), 0.5, 1e308)
_ODD_JSON = (
    b"{}", b"[]", b"null", b"NaN", b'{"op":NaN}', b'{"op":1e999}', b'{"op":"done","op":"done"}', b'{"op":"\\ud800"}',
    b'{"op":' + b"[" * 40 + b"]" * 40 + b"}", b'{"op":"\xff"}', b"\xef\xbb\xbf{}", b'{"op":' + b"9" * 5000 + b"}",
    b"[" * 100_000, b'{"a":' * 20_000, b'{"op":"query","id":1,"cell_id":1,"texts":[' + b'"",' * 3000 + b'""]}',
)  # fmt: skip


class Generator:
    """seeds: payloads that somebody else has made, to be bent like our own."""

    def __init__(self, seed: int, seeds: Sequence[bytes] = (), *, documents: Sequence[int] = (1_000,)) -> None:
        self.random = random.Random(seed)
        self._seeds = list(seeds)
        self._documents = documents
        self._query_id = 0

    def script(self, cell_id: int) -> list[bytes]:
        """Return what one cell's worker writes: some frames as they should be, some not, and now and then the end."""
        dice = self.random
        self._query_id = 0
        # What is not allowed ends the jail, and what comes after it is not read: so most of it comes late.
        pieces = [
            _whole(self._valid(cell_id)) if dice.random() < 0.97 else self._piece(cell_id)
            for _ in range(dice.choice((0, 1, 5, 20, 60)))
        ]
        pieces += [self._piece(cell_id) for _ in range(dice.choice((0, 1, 3)))]
        if not pieces or dice.random() < 0.5:
            pieces.append(_whole(self._done(cell_id)))
        if dice.random() < 0.1 and len(pieces) > 1:
            pieces = self._interleaved(pieces)
        return pieces

    def _piece(self, cell_id: int) -> bytes:
        dice = self.random
        shape = dice.random()
        if shape < 0.55:
            return _whole(self._valid(cell_id))
        if shape < 0.62:
            return struct.pack(">I", dice.choice((0, 1, 2**32 - 1, wire.FROM_JAIL_BYTES + 1, 77)))
        if shape < 0.70:
            return _framed(dice.choice(_ODD_JSON))
        if shape < 0.72:
            return _framed(self._huge())
        if shape < 0.80 and self._seeds:
            return _framed(self._bent(dice.choice(self._seeds)) if dice.random() < 0.5 else dice.choice(self._seeds))
        payload = _payload(self._forged(cell_id))
        return _framed(self._bent(payload) if dice.random() < 0.6 else payload)

    def _valid(self, cell_id: int) -> Frame:
        return self._query(cell_id) if self.random.random() < 0.5 else self._spans(cell_id)

    def _query(self, cell_id: int) -> Frame:
        self._query_id += 1
        texts = [self._text() for _ in range(self.random.choice((1, 1, 1, 3, 30)))]
        kind = self.random.choice(("query", "query", "classify", "extract", "map", "filter", "reduce"))
        args = {} if self.random.random() < 0.5 else {self._text(): self._text()}
        frame = {"op": "query", "id": self._query_id, "cell_id": cell_id, "kind": kind, "texts": texts, "args": args}
        return frame | {"behind": self.random.choice((0, 1, 5)), "ahead": self.random.choice((0, 1, 5))}

    def _spans(self, cell_id: int) -> Frame:
        spans = [self._span() for _ in range(self.random.choice((0, 1, 3, 40)))]
        return {"op": "spans", "cell_id": cell_id, "spans": spans}

    def _span(self) -> list[int]:
        document = self.random.randrange(len(self._documents))
        start = self.random.randrange(self._documents[document])
        return [document, start, self.random.randint(start + 1, self._documents[document])]

    def _done(self, cell_id: int) -> Frame:
        printed = self._text()
        status = self.random.choice(("ok", "raised", "timeout", "out_of_memory"))
        return {
            "op": "done", "cell_id": cell_id, "status": status,
            "error": self._text(), "stdout": printed, "stdout_tail": "", "stdout_bytes": len(printed.encode()),
            "final": None if self.random.random() < 0.8 else self._final(),
        }  # fmt: skip

    def _final(self) -> Frame:
        dice = self.random
        sources = [self._span() if dice.random() < 0.5 else self._text() for _ in range(dice.choice((0, 0, 1, 3, 64)))]
        return {"value": self._value(3), "sources": sources}

    def _forged(self, cell_id: int) -> Frame:
        """Return a frame with something in it that is not ours to say."""
        dice = self.random
        frame = dice.choice((self._query, self._spans, self._done))(cell_id)
        key = dice.choice(list(frame))
        match dice.randrange(5):
            case 0:
                frame[key] = self._value(3)
            case 1:
                del frame[key]
            case 2:
                frame[self._text()] = self._value(1)
            case 3:
                frame["cell_id"] = dice.choice((cell_id - 1, cell_id + 1, *_ODD_NUMBERS))
            case _:
                frame["id" if "id" in frame else key] = dice.choice(_ODD_NUMBERS)
        return frame

    def _bent(self, payload: bytes) -> bytes:
        """Return the payload with bytes changed, cut out, doubled or put in."""
        data, dice = bytearray(payload), self.random
        for _ in range(dice.choice((1, 1, 2, 8))):
            at = dice.randrange(len(data) + 1)
            match dice.randrange(4):
                case 0 if data:
                    data[at % len(data)] = dice.randrange(256)
                case 1:
                    del data[at : at + dice.randrange(1, 9)]
                case 2:
                    data[at:at] = data[max(0, at - dice.randrange(1, 33)) : at]
                case _:
                    data[at:at] = dice.choice((b'"', b"\\", b",", b"{", b"]", b"\x00", b"\xff", b"1e9", b"\\u0000"))
        return bytes(data)

    def _huge(self) -> bytes:
        """Return a payload of up to 4 MiB that costs much to read, or would."""
        unit = self.random.choice((b"1,", b'"",', b"[],", b"{},", b'{"a":1},', b'\\",', b"1.5e300,", b"9" * 300 + b","))
        count = self.random.choice((1 << 12, 1 << 16, wire.FROM_JAIL_BYTES - 64)) // len(unit)
        return b'{"op":[' + unit * count + b"1]}"

    def _interleaved(self, pieces: list[bytes]) -> list[bytes]:
        """Return two writers' frames with one inside the other, as if nobody held the lock."""
        first, second, *rest = pieces
        cut = self.random.randrange(len(first) + 1)
        torn = first[:cut] + second + first[cut:]
        return [torn, *rest]

    def _text(self) -> str:
        dice = self.random
        return dice.choice(_ODD_TEXTS) if dice.random() < 0.2 else "word " * dice.randrange(12)

    def _value(self, depth: int) -> Any:
        dice = self.random
        makers: list[Callable[[], Any]] = [
            lambda: dice.choice(_ODD_NUMBERS),
            self._text,
            lambda: dice.choice((None, True, False)),
        ]
        if depth:
            makers.append(lambda: [self._value(depth - 1) for _ in range(dice.randrange(4))])
            makers.append(lambda: {self._text(): self._value(depth - 1) for _ in range(dice.randrange(4))})
        return dice.choice(makers)()


def _payload(frame: Frame) -> bytes:
    return json.dumps(frame, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _framed(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def _whole(frame: Frame) -> bytes:
    return _framed(_payload(frame))
