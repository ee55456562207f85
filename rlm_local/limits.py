"""The bounds of a run. Reaching one ends the run with an `Answer`; it never raises out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rlm_local.errors import ConfigError
from rlm_local.price import Price

MIB = 1 << 20
MAX_DEPTH = 4  # each level has jails of its own
MIN_WRITTEN_TOKENS = 256  # in a whole run: some lines of code, some short sub-calls, an answer
_MOST_TOKENS = 10**12
_MOST_S = 30 * 86_400.0  # 30 days
# Far above what a run can use: what is more is a slip of a key, and numbers that no clock, counter or file could hold.
_MOST: Mapping[str, float] = {
    "max_turns": 10_000,
    "max_subcalls": 10**9,
    "max_tokens": _MOST_TOKENS,
    "max_prompt_tokens": _MOST_TOKENS,
    "max_completion_tokens": _MOST_TOKENS,
    "max_cost": 1e12,
    "max_concurrency": 4096,
    "wall_s": _MOST_S,
    "cell_s": _MOST_S,
    "cell_cpu_s": _MOST_S,
    "cell_output_bytes": 1024 * MIB,
    "cell_memory_bytes": MIB * MIB,
    "turn_tokens": _MOST_TOKENS,
    "answer_tokens": _MOST_TOKENS,
    "subcall_tokens": _MOST_TOKENS,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may spend. Raises ConfigError when a bound is out of range or two contradict."""

    max_turns: int = 12  # root turns; the last one may only answer
    max_subcalls: int = 10_000  # llm_query calls in the whole run; each item of a batch counts
    max_tokens: int = 200_000  # prompt + completion tokens of the whole run, cached ones included
    max_prompt_tokens: int | None = None  # of those, if they have a bound of their own
    max_completion_tokens: int | None = None
    max_cost: float | None = None  # of the whole run, in the price's currency
    price: Price | None = None  # of tokens; None: the model card's, where it has one
    max_depth: int = 1  # levels below the root; a question to the last one is a plain sub-call
    max_concurrency: int = 64  # requests to the engine at one time, in the whole run
    wall_s: float = 600.0  # the whole run, wall clock
    cell_s: float = 60.0  # one cell, wall clock without the time spent waiting for sub-calls
    cell_cpu_s: float = 60.0  # one cell, processor time
    cell_output_bytes: int = 65_536  # stdout of one cell that leaves the jail; the rest is counted
    cell_memory_bytes: int = 1024 * MIB  # address space of the jail on top of the documents' share
    turn_tokens: int = 1024  # completion tokens of one root turn
    answer_tokens: int = 256  # completion tokens of a turn that may only answer
    subcall_tokens: int = 512  # completion tokens of one sub-call

    def __post_init__(self) -> None:
        if self.max_turns < 2:
            raise ConfigError(f"max_turns is {self.max_turns}, but a run needs at least 2: one to look, one to answer")
        for name in ("max_tokens", "turn_tokens", "answer_tokens", "subcall_tokens", "cell_output_bytes"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"{name} is {value}, but must be at least 1")
        for name in ("max_prompt_tokens", "max_completion_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}, but must be at least 1")
        if self.max_cost is not None and not 0 < self.max_cost < float("inf"):
            raise ConfigError(f"max_cost is {self.max_cost}, but must be above 0 and finite")
        if not 1 <= self.max_depth <= MAX_DEPTH:
            raise ConfigError(f"max_depth is {self.max_depth}, but must be 1..{MAX_DEPTH}")
        if self.max_concurrency < 1:
            raise ConfigError(f"max_concurrency is {self.max_concurrency}, but must be at least 1")
        if self.max_subcalls < 0:
            raise ConfigError(f"max_subcalls is {self.max_subcalls}, but must be 0 or more")
        for name in ("wall_s", "cell_s", "cell_cpu_s"):
            seconds = getattr(self, name)
            if not 0 < seconds < float("inf"):
                raise ConfigError(f"{name} is {seconds}, but must be above 0 and finite")
        if self.cell_memory_bytes < 64 * MIB:
            raise ConfigError(
                f"cell_memory_bytes is {self.cell_memory_bytes}, but a Python worker needs at least {64 * MIB}"
            )
        for name, most in _MOST.items():
            value = getattr(self, name)
            if value is not None and value > most:
                raise ConfigError(f"{name} is {value}, but must be at most {most:.0f}")
        if self.max_prompt_tokens is not None and self.max_prompt_tokens > self.max_tokens:
            raise ConfigError(
                f"max_prompt_tokens is {self.max_prompt_tokens}, but is a part of max_tokens, which is "
                f"{self.max_tokens}; raise max_tokens"
            )
        if self.turn_tokens > self.max_tokens:
            raise ConfigError(
                f"max_tokens is {self.max_tokens}, but one turn alone may take {self.turn_tokens} (turn_tokens); "
                "raise max_tokens"
            )


def priced(limits: Limits, price: Price | None, of: str) -> Limits:
    """Return limits with a price list: their own, or where they have none the one given, of the model named `of`.

    Raises ConfigError where a cost is bounded that nobody can tell.
    """
    known = limits.price or price
    if known is None and limits.max_cost is not None:
        raise ConfigError(
            f"max_cost is {limits.max_cost:g}, but the card of {of} has no price list",
            hint="leave it out, or write a [price] into a card of your own",
        )
    return replace(limits, price=known)


def writing_at_most(limits: Limits, tokens: int) -> Limits:
    """Return limits under which a whole run writes at most so many tokens: root, sub-calls and children together.

    A request sets aside what it may write before it begins. So turns, answers and sub-calls get bounds that are shares
    of the whole, and no more sub-calls go side by side than half of it holds. Raises ConfigError for too few tokens.
    """
    if tokens < MIN_WRITTEN_TOKENS:
        raise ConfigError(
            f"the run may write {tokens} tokens, but needs at least {MIN_WRITTEN_TOKENS} for code, sub-calls and answer"
        )
    subcall_tokens = min(limits.subcall_tokens, tokens // 16)
    return replace(
        limits,
        max_completion_tokens=tokens,
        turn_tokens=min(limits.turn_tokens, tokens // 4),
        answer_tokens=min(limits.answer_tokens, tokens // 8),
        subcall_tokens=subcall_tokens,
        max_concurrency=min(limits.max_concurrency, tokens // 2 // subcall_tokens),
    )
