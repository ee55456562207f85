"""Long documents that are to be read whole by llm_filter or llm_classify: refused, with what asks of them instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from rlm_local.types import Document
from sandbox.worker.calls import LONG_CHARS, WHOLE_CHARS, Calls
from tests.jail.conftest import worker_corpus


def ask(texts: Sequence[str], kind: str, args: Mapping[str, object], behind: int, ahead: int) -> list[dict[str, Any]]:
    return [{"value": kind == "filter" or {"label": "a", "confidence": 1.0}, "refused": ""} for _ in texts]


def documents(number: int, chars: int) -> Any:
    return worker_corpus(*(Document(f"d{at}", "x" * chars) for at in range(number))).documents


@pytest.mark.parametrize("function", ["llm_filter", "llm_classify"])
def test_long_documents_are_not_read_whole_unasked(function: str) -> None:
    calls = Calls(ask)
    tell = {"llm_filter": calls.llm_filter, "llm_classify": lambda items, _: calls.llm_classify(items, ["a", "b"])}
    charts = documents(25, LONG_CHARS + 160)
    with pytest.raises(
        ValueError, match=rf"^{function}\(\) would read 25 documents whole, 104,000 characters; ask_each\(question"
    ):
        tell[function](list(charts), "tall")
    assert len(tell[function]([one.text for one in charts], "tall")) == 25  # whoever says so has them read


@pytest.mark.parametrize(("number", "chars"), [(500, LONG_CHARS), (1, WHOLE_CHARS), (25, LONG_CHARS)])
def test_many_short_documents_and_few_long_ones_are_read_whole(number: int, chars: int) -> None:
    given = documents(number, chars)
    assert Calls(ask).llm_filter(given, "tall") == list(given)
