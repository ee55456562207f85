from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.engine import Texts, ideal_hits
from bench.engine_report import EngineResult, Line
from bench.provenance import provenance


@pytest.mark.parametrize(
    ("prompts", "hits"),
    [
        ([(1, 2, 3)], 0),
        ([(1, 2, 3), (1, 2, 3)], 2),  # the last token is computed again, for its logits
        ([(1, 2, 3), (1, 2, 4, 5), (1, 2, 4, 6)], 2 + 3),
        ([(1, 2), (1, 2, 3, 4), (1, 2, 3, 4, 5)], 2 + 4),
    ],
)
def test_ideal_hits_are_the_longest_common_prefix_with_any_earlier_prompt(
    prompts: list[tuple[int, ...]], hits: int
) -> None:
    assert ideal_hits(prompts) == hits


def test_the_same_texts_come_every_time_and_no_two_alike() -> None:
    one, other = Texts(), Texts()
    first, second = one.some(25), one.some(25)
    assert (other.some(25), other.some(25)) == (first, second)
    assert first != second


def test_a_result_is_a_page_and_an_object_that_say_the_same(tmp_path: Path) -> None:
    result = EngineResult("m", "0" * 64, 0.5, [Line("gain", "2.00", "x")], provenance("python -m bench engine"))
    result.write(tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["lines"] == [
        {"name": "gain", "value": "2.00", "detail": "x"}
    ]
    assert "| gain | 2.00 | x |" in (tmp_path / "result.md").read_text()
