"""What a jail may say."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm_local.jail.messages import (
    ARGS_CHARS,
    SOURCE_CHARS,
    SOURCES_PER_FINAL,
    SPANS_PER_CELL,
    TEXTS_PER_QUERY,
    Done,
    Query,
    Spans,
    parse,
)
from rlm_local.jail.wire import WireError
from rlm_local.types import CallForm, CallKind, CellStatus, Final, Span

# These machines are shared: a slow draw is no failure.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

OUTPUT_BYTES = 8
DONE: dict[str, Any] = {
    "op": "done", "cell_id": 1, "status": "ok", "error": "", "stdout": "hello", "stdout_tail": "", "stdout_bytes": 5,
    "final": None,
}  # fmt: skip
QUERY: dict[str, Any] = {
    "op": "query", "id": 1, "cell_id": 1, "kind": "query", "texts": ["a"], "args": {}, "behind": 0, "ahead": 0,
}  # fmt: skip
SPANS: dict[str, Any] = {"op": "spans", "cell_id": 1, "spans": [[0, 0, 10], [1, 2, 3]]}


def read(frame: dict[str, Any]) -> Query | Spans | Done:
    return parse(frame, document_chars=(10, 5), output_bytes=OUTPUT_BYTES)


def test_honest_frames_are_read() -> None:
    assert read(QUERY) == Query(1, 1, ("a",), CallForm())
    page = QUERY | {"kind": "classify", "args": {"labels": ["a", "b"]}, "behind": 3, "ahead": 4}
    assert read(page) == Query(1, 1, ("a",), CallForm(CallKind.CLASSIFY, {"labels": ["a", "b"]}, 3, 4))
    assert read(SPANS) == Spans(1, (Span(0, 0, 10), Span(1, 2, 3)))
    assert read(DONE) == Done(1, CellStatus.OK, "", "hello", "", 0, None)
    for sources, final in (([], Final([1])), ([[1, 2, 3], "x"], Final([1], (Span(1, 2, 3),), ("x",)))):
        done = read(DONE | {"final": {"value": [1], "sources": sources}})
        assert isinstance(done, Done)
        assert done.final == final


def test_the_host_works_out_itself_how_much_was_cut() -> None:
    cut = read(DONE | {"stdout": "abcd", "stdout_tail": "wxyz", "stdout_bytes": 100})
    assert isinstance(cut, Done)
    assert cut.truncated_bytes == 92


@pytest.mark.parametrize(
    "frame",
    [
        {},
        {"op": None},
        {"op": "eval", "code": "1"},
        {"op": "ready", "python": "3.11"},
        QUERY | {"extra": 1},
        {key: value for key, value in QUERY.items() if key != "id"},
        QUERY | {"id": True},
        QUERY | {"id": "1"},
        QUERY | {"texts": []},
        QUERY | {"texts": [1]},
        QUERY | {"texts": "text"},
        QUERY | {"texts": ["a"] * (TEXTS_PER_QUERY + 1)},
        QUERY | {"kind": "shell"},
        QUERY | {"kind": None},
        QUERY | {"args": []},
        QUERY | {"args": {"labels": "x" * ARGS_CHARS}},
        QUERY | {"behind": -1},
        QUERY | {"ahead": "1"},
        SPANS | {"spans": [[0, 0, 11]]},
        SPANS | {"spans": [[0, -1, 1]]},
        SPANS | {"spans": [[0, 3, 3]]},
        SPANS | {"spans": [[2, 0, 1]]},
        SPANS | {"spans": [[-1, 0, 1]]},
        SPANS | {"spans": [[0, 0]]},
        SPANS | {"spans": [[0, 0, 1]] * (SPANS_PER_CELL + 1)},
        SPANS | {"spans": {"0": 1}},
        DONE | {"status": "killed"},
        DONE | {"stdout": "x" * 9, "stdout_bytes": 9},
        DONE | {"stdout_bytes": 4},
        DONE | {"stdout_bytes": 6},
        DONE | {"stdout_bytes": -1},
        DONE | {"final": 1},
        DONE | {"final": {"value": 1}},
        DONE | {"final": {"value": 1, "sources": [], "more": 2}},
        DONE | {"final": {"value": 1, "sources": "x"}},
        DONE | {"final": {"value": 1, "sources": [["x", 0, 1]]}},
        DONE | {"final": {"value": 1, "sources": [[0, 0, 11]]}},
        DONE | {"final": {"value": 1, "sources": ["x" * (SOURCE_CHARS + 1)]}},
        DONE | {"final": {"value": 1, "sources": ["x"] * (SOURCES_PER_FINAL + 1)}},
        DONE | {"error": None},
    ],
)
def test_a_frame_that_our_worker_does_not_send_is_refused(frame: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        read(frame)


@patient
@given(
    st.dictionaries(
        st.sampled_from(sorted({*QUERY, *SPANS, *DONE})),
        st.none() | st.integers(-2, 20) | st.booleans() | st.text(max_size=5)
        | st.lists(st.integers(-2, 20), max_size=3) | st.sampled_from(["query", "spans", "done", "ok"]),
    )
)  # fmt: skip
def test_any_object_is_a_message_or_a_wire_error(frame: dict[str, Any]) -> None:
    with contextlib.suppress(WireError):
        read(frame)
