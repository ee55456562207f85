"""OOLONG-like windows: dated lines of users, and questions over the labels that the lines do not show.

As OOLONG's paper and its published windows describe them: filled to 95 %, labels in skewed shares, days over 41
months, five-digit users of whom a fifth write four lines in five; counting, comparison, user and date questions. The
wording is our own, the lines are not filtered by any model, and each task has a window of its own.
"""

from __future__ import annotations

import inspect
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from itertools import cycle

from bench.haystack import CountTokens
from bench.tasks import aggregate
from bench.tasks.aggregate import MONTHS, Row, solve
from bench.tasks.lines import SETS, LineSet, by_label, read_lines
from bench.tasks.scoring import AnswerType, oolong
from bench.tasks.task import Family, Maker, Sources, Task, characters
from rlm_local.errors import ConfigError
from rlm_local.types import Document, JsonValue

FIRST, LAST = date(2022, 2, 1), date(2025, 6, 30)
LINES_PER_USER = 4
COMMON_SHARE = 0.2  # of the users, who write so much:
COMMON_LINES = 0.8
DOCUMENT_NAME = "lines.txt"
MIN_LINES = 8
DRAWS = 200  # tries for a question that has one answer


@dataclass(frozen=True, slots=True)
class Line:
    day: date
    user: int
    text: str
    label: str  # gold; never part of a window's text

    @property
    def shown(self) -> str:
        return f"Date: {self.day:%b %d, %Y} || User: {self.user} || Instance: {self.text}"


@dataclass(frozen=True, slots=True)
class Window:
    set: LineSet
    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        names = ", ".join(f"'{label}'" for label in self.set.labels)
        head = (
            f"Below stand {len(self.lines)} {self.set.lines}, a line each, with day and user. "
            f"{self.set.labelled}: {names}. The kind itself is not given.\n"
            "Questions will ask how often the kinds occur. Work out exact numbers from all lines; do not estimate."
        )
        return "\n".join([head, "", *(line.shown for line in self.lines), "", head, ""])

    def rows(self, label: Callable[[Line], str] = lambda line: line.label) -> list[Row]:
        """Return the rows for aggregate.solve, labelled by gold or by somebody else."""
        return [(line.day.isoformat(), line.user, label(line)) for line in self.lines]

    @property
    def guessed(self) -> list[Row]:
        """The rows as the floor labels them."""
        return self.rows(lambda line: self.set.guess(line.text))

    @property
    def labels(self) -> dict[str, str]:
        return {line.text: line.label for line in self.lines}


@dataclass(frozen=True, slots=True)
class Question:
    kind: str  # how it is told in a result: "month: count"
    text: str
    type: AnswerType
    args: Mapping[str, JsonValue]  # of aggregate.solve

    def answer(self, rows: Sequence[Row]) -> str | int | None:
        return solve(rows, **self.args)  # type: ignore[arg-type]


def draw_window(lines: LineSet, texts: Mapping[str, Sequence[str]], chars: int, draw: random.Random) -> Window:
    """Return a window of about so many characters. texts: of each label. Raises ConfigError for fewer than 8 lines."""
    shares = [draw.gammavariate(1.5, 1.0) + 0.05 for _ in lines.labels]
    decks = {label: cycle(draw.sample(texts[label], len(texts[label]))) for label in lines.labels}
    chosen: list[tuple[str, str]] = []
    left = chars - 2 * len(Window(lines, ()).text)
    while True:
        label = draw.choices(lines.labels, shares)[0]
        text = next(decks[label])
        left -= len(text) + len("Date: Jan 01, 2022 || User: 12345 || Instance: ") + 1
        if left < 0:
            break
        chosen.append((text, label))
    if len(chosen) < MIN_LINES:
        raise ConfigError(f"{chars} characters hold {len(chosen)} lines, but a window has at least {MIN_LINES}")
    users = draw.sample(range(10_000, 100_000), max(2, len(chosen) // LINES_PER_USER))
    common = users[: max(1, round(len(users) * COMMON_SHARE))]
    days = (LAST - FIRST).days + 1
    made = [
        Line(
            FIRST + timedelta(draw.randrange(days)),
            draw.choice(common if draw.random() < COMMON_LINES else users),
            text,
            label,
        )
        for text, label in chosen
    ]
    return Window(lines, tuple(made))


def draw_question(number: int, window: Window, draw: random.Random) -> Question:
    """Return a question of the kind with this number, counted round, that has one answer.

    Raises ConfigError when none is found: a window of few lines may have no user or month to ask about.
    """
    for turn in range(len(_KINDS)):
        make = _KINDS[(number + turn) % len(_KINDS)]
        for _ in range(DRAWS):
            question = make(window, draw)
            if question.answer(window.rows()) is not None:
                return question
    raise ConfigError(f"no question with one answer was found for a window of {len(window.lines)} lines")


def _scope(window: Window, draw: random.Random, name: str) -> tuple[str, dict[str, JsonValue]]:
    """Return how a question names some of the rows, and the arguments that choose them."""
    if name == "users":
        counts = Counter(line.user for line in window.lines)
        users = sorted(user for user, _ in counts.most_common(draw.randint(2, max(2, len(counts) // 8))))
        return f"Look only at the lines of the users {', '.join(map(str, users))}. ", {"users": list(users)}
    if name == "month":
        month = draw.randint(1, 12)
        return f"Look only at the lines from {MONTHS[month - 1]}, of whatever year. ", {"month": month}
    if name == "range":
        one, other = sorted(line.day for line in draw.sample(window.lines, 2))
        args: dict[str, JsonValue] = {"start": one.isoformat(), "end": other.isoformat()}
        return f"Look only at the lines from {one:%b %d, %Y} to {other:%b %d, %Y}, both included. ", args
    return "", {}


def _most(window: Window, draw: random.Random, scope: str) -> Question:
    where, args = _scope(window, draw, scope)
    text = f"{where}Which kind is the most common? Answer in the form 'Label: KIND' with one of the kinds."
    return Question(f"{scope}: most common", text, AnswerType.LABEL, {**args, "kind": "most_common"})


def _compare(window: Window, draw: random.Random, scope: str) -> Question:
    where, args = _scope(window, draw, scope)
    a, b = draw.sample(window.set.labels, 2)
    text = (
        f"{where}Is '{a}' more common than, less common than, or of the same frequency as '{b}'? Answer in the form "
        "'Answer: RELATION' with 'more common than', 'less common than' or 'same frequency as'."
    )
    return Question(f"{scope}: compare", text, AnswerType.COMPARISON, {**args, "kind": "compare", "a": a, "b": b})


def _count(window: Window, draw: random.Random, scope: str) -> Question:
    where, args = _scope(window, draw, scope)
    a = draw.choice(window.set.labels)
    text = f"{where}How many lines are of the kind '{a}'? Answer in the form 'Answer: NUMBER'."
    return Question(f"{scope}: count", text, AnswerType.NUMERIC, {**args, "kind": "count", "a": a})


def _top_user(window: Window, draw: random.Random, of_label: str) -> Question:
    a = draw.choice(window.set.labels) if of_label else ""
    which = f"lines of the kind '{a}'" if a else "lines"
    text = f"Which user has the most {which}? Answer in the form 'User: ID'."
    kind = "user with most of a kind" if a else "most frequent user"
    return Question(kind, text, AnswerType.USER, {"kind": "top_user", "a": a})


def _top_day(window: Window, draw: random.Random) -> Question:
    text = "On which day are there the most lines? Answer in the form 'Date: DAY', written as in the lines."
    return Question("most frequent day", text, AnswerType.DATE, {"kind": "top_day"})


def _before_after(window: Window, draw: random.Random) -> Question:
    a, day = draw.choice(window.set.labels), draw.choice(window.lines).day
    text = (
        f"Was '{a}', as a share of all lines, more common before {day:%b %d, %Y} than after it? Answer in the form "
        "'Answer: RELATION' with 'more common than', 'less common than' or 'same frequency as': before, against after."
    )
    args: dict[str, JsonValue] = {"kind": "before_after", "a": a, "start": day.isoformat()}
    return Question("before and after", text, AnswerType.COMPARISON, args)


def _first_month(window: Window, draw: random.Random) -> Question:
    a, b = draw.sample(window.set.labels, 2)
    text = (
        f"What is the first month in which '{a}' occurs more often than '{b}'? Answer in the form "
        "'Answer: MONTH YEAR', as in 'March 2023'."
    )
    return Question("first month", text, AnswerType.MONTH_YEAR, {"kind": "first_month", "a": a, "b": b})


def _months_more(window: Window, draw: random.Random) -> Question:
    a, b = draw.sample(window.set.labels, 2)
    text = (
        f"In how many months, each of its own year, does '{a}' occur more often than '{b}'? Answer in the form "
        "'Answer: NUMBER'."
    )
    return Question("months with more", text, AnswerType.NUMERIC, {"kind": "months_more", "a": a, "b": b})


def _months_top(window: Window, draw: random.Random) -> Question:
    a = draw.choice(window.set.labels)
    text = (
        f"In how many months, each of its own year, is '{a}' the single most frequent kind? Answer in the form "
        "'Answer: NUMBER'."
    )
    return Question("months on top", text, AnswerType.NUMERIC, {"kind": "months_top", "a": a})


# Those of upstream's 25 a window, in an order in which neighbours differ: 11 of counts, 9 of users, the rest of time.
_KINDS: tuple[Callable[[Window, random.Random], Question], ...] = (
    partial(_count, scope="all"),
    partial(_count, scope="users"),
    partial(_months_more),
    partial(_compare, scope="all"),
    partial(_top_user, of_label="yes"),
    _before_after,
    partial(_most, scope="all"),
    partial(_compare, scope="users"),
    partial(_count, scope="month"),
    _first_month,
    partial(_top_user, of_label=""),
    partial(_most, scope="range"),
    _months_top,
    partial(_most, scope="users"),
    partial(_compare, scope="month"),
    partial(_count, scope="range"),
    _top_day,
    partial(_most, scope="month"),
    partial(_compare, scope="range"),
)
KINDS = len(_KINDS)

_PROGRAM = """{source}
import datetime
lines = [line for line in documents[0].text.split("\\n") if line.startswith("Date: ")]
parts = [line.split(" || ", 2) for line in lines]
labels = llm_classify([part[2].removeprefix("Instance: ") for part in parts], {labels})
days = [str(datetime.datetime.strptime(part[0], "Date: %b %d, %Y").date()) for part in parts]
users = [int(part[1].removeprefix("User: ")) for part in parts]
rows = list(zip(days, users, labels))
result = {answer}
print(len(rows), result)
"""


def program(labels: Iterable[str], answer: str) -> str:
    """Return Python that labels every line of a window by a sub-model. answer: an expression over `rows`."""
    return _PROGRAM.format(source=inspect.getsource(aggregate), labels=list(labels), answer=answer)


def window_task(family: str, index: int, window: Window, question: Question) -> Task:
    rows = window.rows()
    # "or 0": labels with errors may leave a question without an answer, or with several.
    return Task(
        family=family,
        index=index,
        kind=question.kind,
        documents=(Document(DOCUMENT_NAME, window.text),),
        question=question.text,
        gold=question.answer(rows),
        scorer=partial(oolong, kind=question.type),
        answer_schema={"type": "integer"} if question.type is AnswerType.NUMERIC else None,
        floors={"regular expressions": question.answer(window.guessed)},
        labels=window.labels,
        program=program(window.set.labels, f"solve(rows, **{dict(question.args)!r}) or 0"),
        solve=lambda labels: question.answer(window.rows(lambda line: labels[line.text])) or 0,
        facts={"lines": len(window.lines), "answer_type": question.type.value},
    )


def _family(lines: LineSet) -> Family:
    name = f"oolong-{lines.name}"

    async def plan(sources: Sources, tokens: int, seed: int, count: CountTokens) -> Maker:
        texts = by_label(read_lines(sources, lines.file))
        sample = draw_window(lines, texts, 20_000, random.Random(f"{name} sample")).text
        chars = await characters(tokens, sample, count)

        def make(index: int) -> Task:
            draw = random.Random(f"{name} {seed} {index}")
            window = draw_window(lines, texts, chars, draw)
            return window_task(name, index, window, draw_question(index + seed, window, draw))

        return make

    return Family(name, f"labels that {lines.lines} do not show, counted and compared", plan)


FAMILIES = tuple(_family(lines) for lines in SETS)
