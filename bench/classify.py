"""`python -m bench classify`: how often `llm_classify` is right, on lines whose labels are known.

Each set is shuffled once by a fixed seed: its first 500 lines are for the record, the next 500 for trying things out,
and examples come from the rest. Labels, descriptions and instructions are what a user would write for the set.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rlm_local.calls import FreeCaller, classify_all, judge_of
from rlm_local.config import Home
from rlm_local.errors import ConfigError
from rlm_local.plan import plan_runtime
from rlm_local.runtime import start_runtime
from rlm_local.types import CallKind, JsonValue

HELD_OUT = 500
SHUFFLE_SEED = 7
_TREC = {
    "ABBR": "abbreviation",
    "DESC": "description and abstract concept",
    "ENTY": "entity",
    "HUM": "human being",
    "LOC": "location",
    "NUM": "numeric value",
}


@dataclass(frozen=True, slots=True)
class Task:
    """What a user would give for a set."""

    file: str
    labels: Mapping[str, str]
    instruction: str


TASKS = {
    "trec": Task(
        "trec/train_5500.label",
        {
            "abbreviation": "the full form or meaning of an abbreviation",
            "description and abstract concept": "a definition, description, manner or reason",
            "entity": "a thing, such as an animal, food, product, event, language or creative work",
            "human being": "a person or a group of people",
            "location": "a place, such as a city, country or mountain",
            "numeric value": "a number, such as a count, date, distance, money or size",
        },
        "Which kind of answer does the question ask for?",
    ),
    "sms": Task(
        "oolong_sources/sms_spam.jsonl",
        {
            "ham": "an ordinary personal message",
            "spam": "advertising, a prize, a paid service or another unwanted mass message",
        },
        "",
    ),
    "subjectivity": Task(
        "oolong_sources/subjectivity.jsonl",
        {
            "subjective opinion": "the writer's own judgement or feeling",
            "objective plot statement": "tells what happens in a story",
        },
        "",
    ),
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a classification came to."""

    model: str
    task: str
    split: str
    items: int
    examples: int
    passes: int
    seed: int  # of the examples
    accuracy: float
    majority: float  # what naming the commonest label each time would come to
    mean_confidence: float
    right_by_label: Mapping[str, str]  # "right of gold"
    lines_per_s: float
    weights_sha256: str

    def as_object(self) -> dict[str, object]:
        return asdict(self)


async def measure(
    model: str,
    home: Home,
    data: Path,
    *,
    task: str,
    split: str,
    items: int,
    examples: int,
    passes: int,
    seed: int,
    say: Callable[[str], None],
) -> Found:
    """Classify the lines of a set and compare. split: "record" or "try". Raises ConfigError where there is no data."""
    chosen = TASKS[task]
    rows = _rows(data / chosen.file)
    record, trial, rest = rows[:HELD_OUT], rows[HELD_OUT : 2 * HELD_OUT], rows[2 * HELD_OUT :]
    asked = (record if split == "record" else trial)[:items]
    given = balanced(rest, list(chosen.labels), examples, seed)
    args: dict[str, JsonValue] = {"labels": dict(chosen.labels), "examples": [list(pair) for pair in given]}
    args["passes"] = passes
    if chosen.instruction:
        args["instruction"] = chosen.instruction
    async with start_runtime(plan_runtime(model, home, window_tokens=8_192, needs_jail=False)) as runtime:
        judge = await judge_of(FreeCaller(runtime.engine, reply_tokens=64), CallKind.CLASSIFY, args)
        say(f"{task}: {len(asked)} lines, {len(given)} examples, {judge.head_tokens} tokens before each line")
        began = time.monotonic()
        made = [one.value async for one in classify_all(judge, [text for text, _ in asked])]
        seconds = time.monotonic() - began
    said = [value if isinstance(value, dict) else {"label": None, "confidence": 0.0} for value in made]
    gold = [label for _, label in asked]
    right = Counter(label for label, value in zip(gold, said, strict=True) if value["label"] == label)
    counts = Counter(gold)
    return Found(
        model=runtime.card.name,
        task=task,
        split=split,
        items=len(asked),
        examples=len(given),
        passes=passes,
        seed=seed,
        accuracy=round(right.total() / len(asked), 4),
        majority=round(max(counts.values()) / len(asked), 4),
        mean_confidence=round(sum(float(str(value["confidence"])) for value in said) / len(said), 4),
        right_by_label={label: f"{right[label]} of {counts[label]}" for label in chosen.labels},
        lines_per_s=round(len(asked) / seconds, 2),
        weights_sha256=runtime.weights_sha256,
    )


def balanced(pool: Sequence[tuple[str, str]], labels: Sequence[str], count: int, seed: int) -> list[tuple[str, str]]:
    """Return examples, as many of each label as of any other, in a random order."""
    draw = random.Random(seed)
    by_label = {label: [row for row in pool if row[1] == label] for label in sorted(labels)}
    names = list(by_label)
    chosen = [draw.choice(by_label[names[at % len(names)]]) for at in range(count)]
    draw.shuffle(chosen)
    return chosen


def _rows(path: Path) -> list[tuple[str, str]]:
    """Return the lines of a set, each once, shuffled."""
    try:
        text = path.read_text(encoding="latin-1" if path.suffix == ".label" else "utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", hint="name the data folder with --data"
        ) from error
    if path.suffix == ".label":
        pairs = [line.split(" ", 1) for line in text.split("\n") if line]
        rows = [(question, _TREC[kind.split(":")[0]]) for kind, question in pairs]
    else:
        rows = [(one["text"], one["label"]) for one in map(json.loads, filter(None, text.split("\n")))]
    rows = list(dict.fromkeys(rows))
    random.Random(SHUFFLE_SEED).shuffle(rows)
    return rows
