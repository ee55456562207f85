"""What a task is, whatever family it is of, and how a family makes its tasks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from bench.haystack import CountTokens
from rlm_local.errors import ConfigError
from rlm_local.limits import Limits
from rlm_local.types import Document, GrammarMode, JsonValue, Request

Scorer: TypeAlias = Callable[[JsonValue, JsonValue], float]
"""Points from 0 to 1 for an answer, by the gold."""

Solver: TypeAlias = Callable[[Mapping[str, str]], JsonValue]
"""From the label of each item to the answer."""

FILLED = 0.95  # of the tokens asked for; the rest is for the question and the answer, as OOLONG does
SAMPLE_CHARS = 16_000  # of a text, by which its tokens are estimated


@dataclass(frozen=True)
class Task:
    """One question with its documents. Whoever answers gets no more of it than request() holds."""

    family: str
    index: int  # 0-based within its run
    kind: str  # of question, within the family
    documents: tuple[Document, ...]
    question: str
    gold: JsonValue
    scorer: Scorer
    answer_schema: JsonValue = None
    floors: Mapping[str, JsonValue] = field(default_factory=dict)  # answers that need no understanding, by their maker
    labels: Mapping[str, str] = field(default_factory=dict)  # gold label of each item that has to be read
    program: str = ""  # Python for a root that is only there to test the mechanics; its answer is in `result`
    solve: Solver | None = None  # the answer by other labels than the gold ones
    prompt: str = ""  # the family's own for a direct completion, $text for the documents; empty: question after text
    facts: Mapping[str, JsonValue] = field(default_factory=dict)  # what its row in a result says of it

    def score(self, answer: JsonValue) -> float:
        """Return the points of an answer; None, which is no answer, has none."""
        return 0.0 if answer is None else self.scorer(answer, self.gold)

    def request(self, limits: Limits, grammar: GrammarMode, *, typed: bool) -> Request:
        """Return all that an answerer may see. typed: with the schema of the answer."""
        schema = self.answer_schema if typed else None
        return Request(self.question, self.documents, limits, grammar, schema)

    @property
    def document_bytes(self) -> int:
        return sum(len(str(document.text).encode()) for document in self.documents)

    @cached_property
    def sha256(self) -> str:
        """Two runs whose tasks have the same digests were asked the same."""
        digest = hashlib.sha256()
        for part in (self.question, *(text for one in self.documents for text in (one.name, one.text))):
            digest.update(str(part).encode() + b"\0")
        digest.update(json.dumps(self.gold, sort_keys=True).encode())
        return digest.hexdigest()


Maker: TypeAlias = Callable[[int], Task]
"""Makes the task of an index, however many others there are."""


class Sources:
    """The data folder. Remembers the digest of every file that was read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sha256: dict[str, str] = {}

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raises ConfigError when the data folder does not hold it."""
        try:
            data = (self.folder / name).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{self.folder / name}: {error.strerror}",
                hint="--data names the folder that holds haystack/ and ruler/",
            ) from error
        self.sha256[name] = hashlib.sha256(data).hexdigest()
        return data


PlanTasks: TypeAlias = Callable[[Sources, int, int, CountTokens], Awaitable[Maker]]
"""From data, tokens of a task, seed and the model's tokenizer to the maker of the tasks. Raises ConfigError where the
data is not there or so many tokens hold no task."""


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    about: str  # one line for --help
    plan: PlanTasks
    reads_data: bool = True  # from the folder that --data names

    def check_data(self, folder: Path) -> None:
        """Raise ConfigError where that folder is not there, before anybody waits for an engine."""
        if self.reads_data and not folder.is_dir():
            raise ConfigError(
                f"--data is {str(folder)!r}, but no folder is there",
                hint="--data names the folder that holds haystack/ and ruler/",
            )


async def characters(tokens: int, sample: str, count: CountTokens) -> int:
    """Return how many characters of such text as the sample fill a task of so many tokens."""
    cut = sample[:SAMPLE_CHARS]
    return int(tokens * FILLED * len(cut) / max(1, await count(cut)))


async def count_task(task: Task, count: CountTokens) -> int:
    """Return the tokens of a task's documents and question, estimated by samples of 16,000 characters."""
    total = await count(task.question)
    for document in task.documents:
        cut = document.text[:SAMPLE_CHARS]
        total += round(await count(cut) * len(document.text) / max(1, len(cut)))
    return total


def joined(task: Task) -> str:
    """Return the documents as one text, each under its name where there are several."""
    if len(task.documents) == 1:
        return str(task.documents[0].text)
    return "\n\n".join(f"##### {document.name}\n{document.text}" for document in task.documents)
