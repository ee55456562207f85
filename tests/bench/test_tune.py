"""What suits a model best is chosen by scores, and written into its card with the evidence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import tune
from bench.compare import Finished
from bench.output import RESULT
from bench.run import Settings
from bench.tune import Choice, choose_profile, choose_route, finished, with_choice, write_choice
from rlm_local.cards import read_card
from rlm_local.errors import ConfigError
from rlm_local.limits import Limits
from rlm_local.types import GrammarMode
from tests.test_cards import CARD, write

BETTER = Choice({"profile": "large"}, "profile large: small 0.400, large 0.600 (mixed)")


def ran(name: str, scores: list[float], tokens: int = 8_192) -> Finished:
    rows = [{"sha256": f"task {at}", "score": score} for at, score in enumerate(scores)]
    result = {"task": "mixed", "tokens": tokens, "seed": 7, "arm": name, "model": "toy", "rows": rows}
    return Finished(name, {**result, "summary": {"score": sum(scores) / len(scores)}})


@pytest.mark.parametrize(
    ("small", "large", "taken"),
    [
        ([0.0] * 12, [1.0] * 12, "large"),
        ([1.0] * 12, [0.0] * 12, "small"),
        ([0.0, 1.0] * 6, [1.0, 0.0] * 5 + [1.0, 1.0], "small"),  # better by one task of twelve: chance
    ],
)
def test_a_profile_is_changed_for_one_that_is_clearly_better(
    small: list[float], large: list[float], taken: str
) -> None:
    choice = choose_profile("small", {"small": ran("small", small), "large": ran("large", large)})
    assert choice.fields == {"profile": taken}
    assert choice.evidence.startswith(f"profile {taken}: small ")
    assert "12 tasks of mixed, 8,192 tokens, seed 7" in choice.evidence


@pytest.mark.parametrize(
    ("direct", "rlm", "upto"),
    [
        ([0.8, 0.7, 0.2], [0.8, 0.6, 0.5], 4_096),
        ([0.4, 0.7, 0.9], [0.5, 0.6, 0.5], None),  # what is worse at the shortest is not asked further
        ([0.8, 0.7, 0.6], [0.5, 0.5, 0.5], 8_192),
    ],
)
def test_direct_goes_as_far_as_it_is_no_worse_than_a_run(
    direct: list[float], rlm: list[float], upto: int | None
) -> None:
    lengths = (2_048, 4_096, 8_192)
    pairs = [
        (ran("direct", [one], length), ran("rlm", [other], length))
        for one, other, length in zip(direct, rlm, lengths, strict=True)
    ]
    assert choose_route(pairs).fields == {"direct_up_to_tokens": upto}


def test_a_choice_is_written_and_what_was_found_before_gives_way(tmp_path: Path) -> None:
    card = read_card(write(tmp_path, CARD.lstrip()))
    write_choice(card, Choice({"direct_up_to_tokens": 4_096}, "direct at up to 4,096 tokens: so it was"))
    write_choice(card, BETTER)
    write_choice(card, replace(BETTER, evidence="profile large: found again"))
    written = read_card(card.origin)
    assert (written.profile, written.direct_up_to_tokens) == ("large", 4_096)
    assert written.evidence == ("direct at up to 4,096 tokens: so it was", "profile large: found again")
    assert (written.sampling, written.llama) == (card.sampling, card.llama)
    write_choice(card, Choice({"direct_up_to_tokens": None}, "direct at no length: not any more"))
    assert read_card(card.origin).direct_up_to_tokens is None
    assert [path.name for path in tmp_path.iterdir()] == ["toy.toml"]


def test_a_choice_that_would_break_the_card_leaves_it_alone(tmp_path: Path) -> None:
    card = read_card(write(tmp_path, CARD.lstrip()))
    with pytest.raises(ConfigError, match="profile is 'tiny'"):
        write_choice(card, Choice({"profile": "tiny"}, "profile tiny: a mistake"))
    assert card.origin.read_text() == CARD.lstrip()
    assert [path.name for path in tmp_path.iterdir()] == ["toy.toml"]


def test_tables_below_are_not_taken_for_fields() -> None:
    text = 'name = "toy"\n\n[llama]\nprofile = "small"\n'
    assert with_choice(text, BETTER).endswith('\n[llama]\nprofile = "small"\n')


def test_a_run_that_is_there_to_its_end_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "run", None)
    (tmp_path / RESULT).write_text(json.dumps(ran("rlm", [1.0, 0.0]).result))
    settings = Settings(
        "mixed", "m", "rlm", 8_192, 2, 7, tmp_path, tmp_path, None, None, Limits(), GrammarMode.PYTHON, "python"
    )
    assert finished(settings).summary["score"] == 0.5
