"""Traces that are read on as they grow, by readers who may be slow."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_local.server.follow import PIECE_BYTES, TraceReader


@pytest.mark.parametrize("line_bytes", [10, 1_000, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES])
def test_a_long_trace_comes_in_pieces_and_every_line_once(tmp_path: Path, line_bytes: int) -> None:
    count = 3 * PIECE_BYTES // line_bytes + 1
    path = tmp_path / "run.jsonl"
    path.write_bytes((b"x" * line_bytes + b"\n") * count)
    reader = TraceReader(path)
    read: list[tuple[int, bytes]] = []
    while piece := reader.lines():
        assert len(piece) == 1 or sum(len(line) + 1 for _, line in piece) <= PIECE_BYTES
        read += piece
    assert read == [(number, b"x" * line_bytes) for number in range(count)]


@pytest.mark.parametrize("line_bytes", [10, 2 * PIECE_BYTES])
def test_a_line_is_read_when_its_end_has_come(tmp_path: Path, line_bytes: int) -> None:
    path = tmp_path / "run.jsonl"
    reader = TraceReader(path)
    assert reader.lines() == []  # it is not there yet
    path.write_bytes(b"x" * line_bytes)
    assert reader.lines() == []
    with path.open("ab") as file:
        file.write(b"\ny")
    assert reader.lines() == [(0, b"x" * line_bytes)]
    assert reader.lines() == []
