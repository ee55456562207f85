"""A slice of `make fuzz-grammar`, and what it must notice."""

from __future__ import annotations

import pytest

pytest.importorskip("llguidance", reason="llguidance comes with the extra 'llama'")

from bench import fuzz_grammar
from bench.fuzz_grammar import Fuzzed, fuzz, judge, text_of
from rlm_local.grammar import MAX_TEXT_BYTES

SLICE = 150


def test_no_input_of_a_slice_crashes_or_takes_a_second() -> None:
    found = Fuzzed(seed=1)
    for number in range(SLICE):
        judge(number, 1, found)
    assert found.faults == []
    assert found.inputs == sum(found.kinds.values()) == SLICE
    assert len(found.kinds) == 5


def test_an_input_is_the_same_each_time_and_never_longer_than_a_turn() -> None:
    for number in range(300):
        kind, text = text_of(number, 7)
        assert (kind, text) == text_of(number, 7)
        assert len(text) <= MAX_TEXT_BYTES


def test_what_raises_is_a_fault_with_its_number_and_the_next_input_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(fuzz_grammar, "decode_turn", breaks)
    found = Fuzzed(seed=1)
    judge(5, 1, found)
    assert "input 5" in found.faults[0]
    assert "raised ValueError: broken" in found.faults[0]


def test_the_inputs_run_in_a_process_of_their_own_and_what_it_found_comes_back() -> None:
    said: list[str] = []
    found = fuzz(0.5, 3, said.append, first=10)
    assert found.faults == []
    assert found.seed == 3
    assert said
