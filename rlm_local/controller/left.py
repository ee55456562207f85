"""What the model is told of the budget that is left."""

from __future__ import annotations

from rlm_local.controller.budget import Budget
from rlm_local.controller.judge import fill
from rlm_local.grammar import TurnState
from rlm_local.prompts import Profile

LOW = 0.25  # share of a limit below which its rest is told by name


def told_left(profile: Profile, state: TurnState, budget: Budget, elapsed_s: float) -> str:
    """Return what the coming turn may be, with what is running low; turns are in it anyway."""
    if state is TurnState.LAST:
        return profile.last
    limits, left = budget.limits, budget.left_for_calls()
    left_s = max(0.0, limits.wall_s - elapsed_s)
    lines = [
        fill(
            profile.look if state is TurnState.FIRST else profile.open,
            turns_left=budget.remaining_turns,
            subcalls_left=f"{max(0, budget.remaining_subcalls):,}",
            tokens_left=f"{left:,}",
            seconds_left=_rough_s(left_s),
        )
    ]
    for what, rest, most, shown in (
        ("sub-calls", budget.remaining_subcalls, limits.max_subcalls, f"{max(0, budget.remaining_subcalls):,}"),
        ("tokens", left, limits.max_tokens, f"{left:,}"),
        ("seconds", left_s, limits.wall_s, _rough_s(left_s)),
    ):
        if rest < LOW * most:
            lines.append(fill(profile.low, what=what, left=shown))
    cost_left = budget.cost_left_for_calls()
    if limits.price is not None and limits.max_cost is not None and cost_left < LOW * limits.max_cost:
        lines.append(fill(profile.low, what="money", left=limits.price.told(cost_left)))
    return "\n".join(lines)


def _rough_s(seconds: float) -> str:
    """Return seconds to two digits, rounded down."""
    if seconds < 10:
        return f"{seconds:.0f}"
    step = 10 ** (len(str(int(seconds))) - 2)
    return f"{int(seconds) // step * step:,}"
