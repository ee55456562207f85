"""`python -m bench counts`: does a count over every line of a long document lose or double any of them?

A mechanics test without a model, in a real jail: a scripted root cuts the lines out, has each labelled, and counts;
the sub-model is a table of right answers, of which a share can be made wrong. The lines look like OOLONG's, their
labels and words are made up. Scored as OOLONG scores numbers, 0.75 ** |gold - counted|.
"""

from __future__ import annotations

import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial

from bench.arms.rlm import Forgetful
from rlm_local.calls.classify import SILENT
from rlm_local.controller import Ports, run_node
from rlm_local.documents import cite, join
from rlm_local.events import Event, PageDone
from rlm_local.jail import JailSession
from rlm_local.limits import Limits
from rlm_local.prompts import load_profile
from rlm_local.testing import AnsweringEngine
from rlm_local.types import Completion, Document, Request, Sampling

LABELS = ("abbreviation", "description", "entity", "human being", "location", "numeric value")
SHARES = (2, 20, 18, 12, 9, 39)  # in a hundred: skewed, as OOLONG's windows are
CHARS_PER_TOKEN = 2.42  # of OOLONG's windows by Llama 2's tokenizer: 317,671 characters at 131,072
CODE = """```repl
from collections import Counter
rows = [line.split(" || Instance: ")[1] for line in documents[0].text.splitlines() if " || Instance: " in line]
counts = dict(Counter(llm_classify(rows, {labels})))
print(len(rows), counts)
```"""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run came to."""

    tokens: int
    lines: int
    gold: Mapping[str, int]
    counted: Mapping[str, int]
    asked: int  # items that reached the sub-model
    pages: int
    score: float  # mean over the labels
    seconds: float
    host_peak_bytes: int

    def as_object(self) -> dict[str, object]:
        return asdict(self)


async def count(tokens: int, *, accuracy: float = 1.0, seed: int = 0, say: Callable[[str], None] = print) -> Counts:
    """Run one count over a document of about so many tokens. accuracy: the share of lines that get their own label."""
    draw = random.Random(seed)
    text, gold = document(tokens, draw)
    lines = len(gold)
    say(f"{lines:,} lines, {len(text):,} characters")
    wrong = {row: draw.choice([one for one in LABELS if one != label])
             for row, label in gold.items() if draw.random() >= accuracy}  # fmt: skip
    asked = 0

    def answer(completion: Completion) -> str:
        nonlocal asked
        last = completion.messages[-1].content
        if completion.choices:
            row = gold.get(last)
            asked += row is not None
            return wrong.get(last) or row or completion.choices[0]
        is_first = len(completion.messages) == first_length
        return CODE.format(labels=list(LABELS)) if is_first else "FINAL_VAR(counts)"

    profile = load_profile("large")
    first_length = 2 + len(profile.worked)
    engine = AnsweringEngine(answer, window_tokens=32_768)
    limits = Limits(max_subcalls=lines + len(SILENT), max_tokens=10**12, wall_s=86_400, cell_s=3_600, cell_cpu_s=3_600)
    request = Request("How many lines are there of each kind?", (Document("lines.txt", text),), limits)
    corpus = join(request.documents)
    recorder = _Pages()
    began = time.monotonic()
    async with await JailSession.start(corpus, limits) as repl:
        answered = await run_node(
            request,
            corpus,
            Ports(engine, repl, recorder),
            profile,
            sampling=Sampling(),
            cite=partial(cite, corpus=corpus, question=request.question),
        )
    seconds = time.monotonic() - began
    right = Counter(gold.values())
    said = answered.value if isinstance(answered.value, dict) else {}
    numbers = {label: int(str(said.get(label, 0))) for label in LABELS}
    score = sum(0.75 ** abs(right[label] - numbers[label]) for label in LABELS) / len(LABELS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Counts(tokens, lines, dict(right), numbers, asked, recorder.pages, score, round(seconds, 1), peak)


def document(tokens: int, draw: random.Random) -> tuple[str, dict[str, str]]:
    """Return a text of about so many tokens, and the label of each of its items; no two items are equal."""
    gold: dict[str, str] = {}
    lines: list[str] = []
    chars = 0
    while chars < tokens * CHARS_PER_TOKEN * 0.95:
        words = " ".join(draw.choices(_WORDS, k=draw.randint(5, 9)))
        item = f"What is {words} number {len(gold)} ?"
        gold[item] = draw.choices(LABELS, SHARES)[0]
        month = draw.choice(("Jan", "Feb", "Mar", "Apr", "May", "Jun"))
        lines.append(
            f"Date: {month} {draw.randint(1, 28):02}, 2024 || User: {draw.randint(10_000, 99_999)} || Instance: {item}"
        )
        chars += len(lines[-1]) + 1
    return "\n".join(lines) + "\n", gold


_WORDS = ("the", "oldest", "river", "first", "name", "of", "a", "city", "in", "north", "star", "for", "coal", "engine")


class _Pages(Forgetful):
    """Keeps the number of frames that brought items."""

    def __init__(self) -> None:
        self.pages = 0

    def write(self, event: Event) -> None:
        self.pages += isinstance(event, PageDone)
