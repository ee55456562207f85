"""The typed calls of one run: from a frame's texts and arguments to a value for each text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rlm_local.calls.caller import Caller
from rlm_local.calls.checks import (
    Labels,
    examples_of,
    instruction_of,
    labels_of,
    long_of,
    max_tokens_of,
    only,
    passes_of,
    schema_of,
    sure_of,
)
from rlm_local.calls.classify import Example, Judge, classifier, classify, condition_filter
from rlm_local.calls.fan import in_order
from rlm_local.calls.form import ReplyForm
from rlm_local.calls.texts import Reader, extractor, mapper, reduce
from rlm_local.types import CallForm, CallKind, JsonValue, SubCall

Args: TypeAlias = Mapping[str, JsonValue]
_KEPT = 64  # classifiers: what earlier frames of the same call have set up, and the prior of its labels


async def judge_of(caller: Caller, kind: CallKind, args: Args, *, live: bool = False) -> Judge:
    """Return what classifies, or filters, by these arguments. Raises BadCall.

    live: no item waits for others, and so nothing is learned from any; a filter is always so.
    """
    if kind is CallKind.FILTER:
        asked = _Condition.of(args)
        return await condition_filter(caller, asked.condition, sure=asked.sure, split=asked.split)
    by = _Labelling.of(args)
    return await classifier(
        caller,
        by.labels,
        instruction=by.instruction,
        examples=by.examples,
        split=by.split,
        passes=by.passes,
        live=live,
    )


async def reader_of(caller: Caller, kind: CallKind, args: Args) -> Reader:
    """Return what extracts, or maps, by these arguments. Raises BadCall."""
    by = _Reading.of(kind, args, caller.reply_tokens)
    make = extractor if kind is CallKind.EXTRACT else mapper
    return await make(caller, by.instruction, by.form, split=by.split)


def check_arguments(kind: CallKind, args: Args, *, reply_tokens: int) -> None:
    """Raise BadCall for what judge_of and reader_of refuse without asking an engine anything."""
    if kind is CallKind.FILTER:
        _Condition.of(args)
    elif kind is CallKind.CLASSIFY:
        _Labelling.of(args)
    else:
        _Reading.of(kind, args, reply_tokens)


@dataclass(frozen=True, slots=True)
class _Condition:
    """What a filter is asked with. of() raises BadCall, as that of the other two does."""

    condition: str
    sure: float
    split: bool

    @classmethod
    def of(cls, args: Args) -> _Condition:
        only(args, "condition", "sure", "long")
        condition = instruction_of(args.get("condition"), "condition")
        return cls(condition, sure_of(args.get("sure")), long_of(args.get("long")))


@dataclass(frozen=True, slots=True)
class _Labelling:
    """What a classification is asked with."""

    labels: Labels
    instruction: str
    examples: tuple[Example, ...]
    passes: int
    split: bool

    @classmethod
    def of(cls, args: Args) -> _Labelling:
        only(args, "labels", "instruction", "examples", "passes", "long")
        labels = labels_of(args.get("labels"))
        return cls(
            labels,
            instruction_of(args["instruction"]) if "instruction" in args else "",
            examples_of(args.get("examples"), labels),
            passes_of(args.get("passes")),
            long_of(args.get("long")),
        )


@dataclass(frozen=True, slots=True)
class _Reading:
    """What an extraction, or a map, is asked with."""

    form: ReplyForm
    instruction: str
    split: bool

    @classmethod
    def of(cls, kind: CallKind, args: Args, reply_tokens: int) -> _Reading:
        only(args, "schema" if kind is CallKind.EXTRACT else "max_tokens", "instruction", "long")
        split = long_of(args.get("long"))
        if kind is CallKind.EXTRACT:
            form = ReplyForm(reply_tokens, schema=schema_of(args.get("schema")))
            return cls(form, instruction_of(args["instruction"]) if "instruction" in args else "", split)
        form = ReplyForm(max_tokens_of(args.get("max_tokens"), reply_tokens))
        return cls(form, instruction_of(args.get("instruction")), split)


class TypedCalls:
    """Serves llm_classify, llm_extract, llm_map, llm_filter and llm_reduce. Safe to call from several tasks at once."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._judges: dict[str, Judge] = {}

    async def __call__(self, texts: Sequence[str], form: CallForm) -> list[SubCall]:
        """Return what became of each text, in order; of llm_reduce one for all. Raises BadCall."""
        if form.kind is CallKind.REDUCE:
            return [await self._reduce(texts, form.args)]
        if form.kind in (CallKind.CLASSIFY, CallKind.FILTER):
            judge = await self._judge(form)
            self._check_many(texts, form, judge.head_tokens, judge.calls_for)
            return [one async for one in classify(judge, texts)]
        reader = await reader_of(self._caller, form.kind, form.args)
        self._check_many(texts, form, reader.head_tokens)
        return [one async for one in in_order(texts, reader)]

    async def learn(self, texts: Sequence[str], form: CallForm) -> None:
        """Have the classifier of a call as it was after a frame with these texts; other calls learn nothing."""
        if form.kind in (CallKind.CLASSIFY, CallKind.FILTER):
            judge = await self._judge(form)
            if not judge.has_learned:
                await judge.learn(texts[: max(1, judge.waits_for)])

    async def _judge(self, form: CallForm) -> Judge:
        """Return the classifier of a call: one for all of its frames, and for equal calls, so that one prior holds."""
        key = json.dumps([form.kind, dict(form.args)], sort_keys=True)
        if key not in self._judges:
            made = await judge_of(self._caller, form.kind, form.args)
            while len(self._judges) >= _KEPT:
                del self._judges[next(iter(self._judges))]
            self._judges.setdefault(key, made)
        return self._judges[key]

    async def _reduce(self, texts: Sequence[str], args: Args) -> SubCall:
        only(args, "instruction", "max_tokens")
        instruction = instruction_of(args.get("instruction"))
        # A step's replies are the next one's texts: of a whole window each, nothing would ever join.
        most = min(self._caller.reply_tokens, self._caller.engine.info.window_tokens // 4)
        return await reduce(self._caller, texts, instruction, ReplyForm(max_tokens_of(args.get("max_tokens"), most)))

    def _check_many(
        self, texts: Sequence[str], form: CallForm, head_tokens: int, calls_for: Callable[[int], int] = int
    ) -> None:
        if not form.behind:  # later frames of a call that has begun go as far as the budget does
            items = len(texts) + form.ahead
            self._caller.check_many(items, calls=calls_for(items), prompt_tokens=head_tokens)
