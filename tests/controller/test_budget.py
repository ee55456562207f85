"""A budget is never overspent, whatever order calls come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_local.controller.budget import Budget
from rlm_local.controller.left import told_left
from rlm_local.errors import ConfigError
from rlm_local.grammar import TurnState
from rlm_local.limits import Limits
from rlm_local.price import Price
from rlm_local.prompts import load_profile
from rlm_local.types import StopReason, Usage


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 500), st.booleans()), max_size=40))
def test_reserved_and_used_tokens_never_exceed_the_limit(calls: list[tuple[int, int, bool]]) -> None:
    budget = Budget(Limits(max_tokens=2_000, turn_tokens=100))
    open_calls: list[tuple[Usage, int]] = []
    for wanted, used, settles_now in calls:
        if isinstance(reserved := budget.reserve_turn(wanted, 0), Usage):
            open_calls.append((reserved, min(used, wanted)))
        if settles_now and open_calls:
            reserved, spent = open_calls.pop()
            budget.settle(reserved, Usage(prompt_tokens=spent))
        assert budget.remaining_tokens >= 0
    for reserved, spent in open_calls:
        budget.settle(reserved, Usage(prompt_tokens=spent))
    assert budget.remaining_tokens == 2_000 - budget.usage.total_tokens


PRICE = Price("EUR", 1.0, 0.1, 4.0)
CALL = st.tuples(st.integers(0, 2), st.integers(1, 500), st.integers(1, 200), st.integers(0, 800), st.booleans())


@given(st.lists(CALL, max_size=60), st.integers(200, 900), st.integers(0, 8))
def test_promises_are_kept_at_every_level_at_every_moment(
    calls: list[tuple[int, int, int, int, bool]], share: int, most_calls: int
) -> None:
    root = Budget(Limits(max_tokens=2_000, turn_tokens=100, max_subcalls=8, max_prompt_tokens=1_500))
    child = Budget(Limits(max_tokens=share, turn_tokens=100, max_subcalls=most_calls), parent=root)
    grandchild = Budget(Limits(max_tokens=10**9, max_subcalls=10**9), parent=child)  # it cannot raise its share
    nodes, under_way = (root, child, grandchild), []
    for at, prompt, completion, really, settles in calls:
        node = nodes[at]
        reserved = node.reserve_call(prompt, completion)
        if isinstance(reserved, Usage):
            under_way.append((node, reserved, really))
        for level in nodes:
            assert (level.usage + level.reserved).total_tokens <= level.limits.max_tokens
            assert level.subcalls <= level.limits.max_subcalls
        if settles and under_way:
            whose, promise, spent = under_way.pop(0)
            used = min(spent, promise.total_tokens)
            whose.settle(promise, Usage(prompt_tokens=used))
    assert root.usage.total_tokens >= child.usage.total_tokens >= grandchild.usage.total_tokens


@given(st.lists(st.integers(1, 900), max_size=40), st.integers(0, 700))
def test_no_run_is_over_by_more_than_one_call(costs: list[int], excess: int) -> None:
    budget = Budget(Limits(max_tokens=2_000, turn_tokens=100, max_subcalls=10**6))
    for cost in costs:
        before = budget.usage.total_tokens
        reserved = budget.reserve_call(cost, 1)
        if not isinstance(reserved, Usage):
            assert budget.remaining_tokens < cost + 1
            continue
        assert before < 2_000
        budget.settle(reserved, Usage(prompt_tokens=cost, completion_tokens=1 + excess))
    assert budget.usage.total_tokens <= 2_000 + excess


def test_what_a_child_spends_its_parent_has_spent_and_a_refusal_leaves_no_mark() -> None:
    root = Budget(Limits(max_tokens=2_000, turn_tokens=100))
    child = Budget(Limits(max_tokens=1_000, turn_tokens=100), parent=root)
    other = Budget(Limits(max_tokens=1_000, turn_tokens=100), parent=root)
    assert child.reserve_turn(1_100, 0) is StopReason.TOKEN_LIMIT
    assert (root.reserved, child.reserved) == (Usage(), Usage())
    reserved = child.reserve_turn(900, 100)
    assert isinstance(reserved, Usage)
    root.kept = Usage(500)  # for the root's own answer: no child may take it
    assert other.reserve_turn(600, 0) is StopReason.TOKEN_LIMIT
    assert isinstance(root.reserve_turn(600, 0), Usage)
    child.settle(reserved, Usage(prompt_tokens=10))
    assert (root.usage, child.usage, other.usage) == (Usage(10), Usage(10), Usage())


def test_a_limit_of_prompts_or_of_completions_holds_by_itself() -> None:
    budget = Budget(Limits(max_tokens=2_000, turn_tokens=100, max_prompt_tokens=300, max_completion_tokens=50))
    assert budget.reserve_turn(301, 1) is StopReason.TOKEN_LIMIT
    assert budget.reserve_turn(1, 51) is StopReason.TOKEN_LIMIT
    assert isinstance(budget.reserve_turn(300, 50), Usage)
    assert budget.exhausted() is StopReason.TOKEN_LIMIT


def test_a_call_leaves_what_the_node_keeps_to_answer_and_a_turn_may_take_it() -> None:
    budget = Budget(Limits(max_tokens=2_000, turn_tokens=100))
    budget.kept = Usage(600)
    assert budget.reserve_call(1_400, 100) is StopReason.TOKEN_LIMIT
    assert budget.subcalls == 0
    assert isinstance(budget.reserve_call(1_300, 100), Usage)
    assert budget.subcalls == 1
    assert isinstance(budget.reserve_turn(500, 100), Usage)


@given(st.lists(CALL, max_size=60), st.integers(1, 90))
def test_money_is_never_overspent_at_any_level(calls: list[tuple[int, int, int, int, bool]], share: int) -> None:
    root = Budget(Limits(max_tokens=10**6, max_cost=100 / 1e6, price=PRICE))
    child = Budget(Limits(max_tokens=10**6, max_cost=share / 1e6, price=PRICE), parent=root)
    grandchild = Budget(Limits(max_tokens=10**6, price=PRICE), parent=child)
    nodes, under_way = (root, child, grandchild), []
    for at, prompt, completion, cached, settles in calls:
        reserved = nodes[at].reserve_turn(prompt, completion)
        if isinstance(reserved, Usage):
            under_way.append((nodes[at], reserved, min(cached, prompt)))
        else:
            assert reserved is StopReason.COST_LIMIT
        for level in (root, child):
            assert level.limits.max_cost is not None
            assert level.cost(level.usage + level.reserved) <= level.limits.max_cost * (1 + 1e-9)
        if settles and under_way:
            whose, promise, cached = under_way.pop(0)
            whose.settle(promise, Usage(promise.prompt_tokens, cached, promise.completion_tokens))


def test_a_run_whose_money_is_spent_ends_by_that_limit() -> None:
    budget = Budget(Limits(max_cost=100 / 1e6, price=PRICE))
    budget.kept = Usage(0, 0, 10)
    assert budget.cost_left_for_calls() == pytest.approx(60 / 1e6)
    assert budget.reserve_call(61, 0) is StopReason.COST_LIMIT
    assert isinstance(budget.reserve_turn(100, 0), Usage)
    assert (budget.remaining_cost, budget.exhausted()) == (pytest.approx(0), StopReason.COST_LIMIT)


def test_money_that_is_low_is_told() -> None:
    budget = Budget(Limits(max_cost=100 / 1e6, price=PRICE))
    assert "money" not in told_left(load_profile("small"), TurnState.OPEN, budget, 0.0)
    budget.book(0, Usage(80))
    told = told_left(load_profile("small"), TurnState.OPEN, budget, 0.0)
    assert told.endswith("Of the money only 0.0000200 EUR are left.")


def test_without_a_bound_no_money_is_counted() -> None:
    budget = Budget(Limits(price=PRICE))
    assert isinstance(budget.reserve_turn(100_000, 0), Usage)
    assert (budget.remaining_cost, budget.exhausted()) == (float("inf"), None)


def test_each_limit_is_named_when_it_is_reached() -> None:
    clock = [0.0]
    budget = Budget(Limits(max_turns=2, max_tokens=2_000), now=lambda: clock[0])
    assert budget.exhausted() is None
    budget.turns = 2
    assert budget.exhausted() is StopReason.TURN_LIMIT
    budget.settle(Usage(), Usage(prompt_tokens=2_000))
    assert budget.exhausted() is StopReason.TOKEN_LIMIT
    clock[0] = 700.0
    assert budget.exhausted() is StopReason.TIME_LIMIT


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_turns": 1}, "max_turns is 1"),
        ({"max_subcalls": -1}, "max_subcalls is -1"),
        ({"wall_s": 0}, "wall_s is 0"),
        ({"wall_s": float("nan")}, "wall_s is nan"),
        ({"cell_s": float("inf")}, "cell_s is inf"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": 500}, "max_tokens is 500, but one turn alone may take 1024"),
        ({"max_prompt_tokens": 0}, "max_prompt_tokens is 0"),
        ({"max_cost": 0.0}, "max_cost is 0"),
        ({"max_cost": float("nan")}, "max_cost is nan"),
        ({"max_depth": 0}, r"max_depth is 0, but must be 1\.\.4"),
        ({"max_concurrency": 0}, "max_concurrency is 0"),
        ({"cell_memory_bytes": 1}, "cell_memory_bytes is 1"),
        ({"max_turns": 10**38}, f"max_turns is {10**38}, but must be at most 10000$"),
        ({"max_subcalls": 10**9 + 1}, "max_subcalls is 1000000001, but must be at most 1000000000$"),
        ({"max_completion_tokens": 10**12 + 1}, "max_completion_tokens is 1000000000001, but must be at most"),
        ({"max_cost": 1e13}, "max_cost is 10000000000000.0, but must be at most 1000000000000$"),
        ({"max_concurrency": 4097}, "max_concurrency is 4097, but must be at most 4096$"),
        ({"wall_s": 1e300}, "wall_s is 1e.300, but must be at most 2592000$"),
        ({"cell_memory_bytes": 1 << 64}, f"cell_memory_bytes is {1 << 64}, but must be at most {1 << 40}$"),
    ],
)
def test_limits_that_cannot_be_are_refused_by_name(limits: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Limits(**limits)  # type: ignore[arg-type]
