from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.engine.constraint import constraint_times
from bench.engine.report import PAGE
from bench.engine.run import Plan, measure
from bench.provenance import provenance
from rlm_local.cards import find_card, load_cards
from rlm_local.config import home
from rlm_local.store import Store

MODEL = "smollm2-135m"
pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def weights() -> Path:
    return Store(home()).path(find_card(MODEL, load_cards()), "llama")


def plan(folder: Path, name: str, *only: str) -> Plan:
    return Plan([name], folder, folder / "no data", model=MODEL, scale=0.1, rounds=1, contestants=only)


def test_a_measurement_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        assert measure(plan(tmp_path, "reuse", "root growth"), provenance("python -m bench engine"), said.append)
    assert said == ["reuse, round 1: root growth"]
    (row,) = [json.loads(path.read_text()) for path in (tmp_path / "rows").iterdir()]
    assert row["figures"]["hit_tokens"] == row["figures"]["unlimited_hit_tokens"] == 1_200  # the second turn's head
    assert "| root growth | **1.0000** |" in (tmp_path / PAGE).read_text()


def test_nothing_is_begun_once_the_time_is_over(tmp_path: Path) -> None:
    asked = Plan(["reuse"], tmp_path, tmp_path / "no data", model=MODEL, minutes=0)
    said: list[str] = []
    assert not measure(asked, provenance("python -m bench engine"), said.append)
    assert said == ["time is over; the same command goes on from here"]


@pytest.mark.filterwarnings("ignore:llama_:DeprecationWarning")  # llguidance's own calls
def test_a_constraint_costs_something_for_every_token_that_was_written(weights: Path) -> None:
    found = constraint_times(weights, 'start: "seven " /[a-z ]{400}/', "Say something.", replies=1, out=12)
    assert found["tokens"] == 12
    assert found["masks"] >= 1  # "seven" is not what it would say of itself
    assert 0 < found["p50_us"] <= found["p99_us"]
