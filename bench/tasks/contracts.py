"""Questions over real contracts with lawyers' answers (CUAD, CC BY 4.0, The Atticus Project).

Contracts go by numbers of our own, because a file's name tells its parties and its type.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.haystack import CountTokens
from bench.tasks import scoring
from bench.tasks.asked import Asked, task_of_kinds
from bench.tasks.fill import fill, shuffled
from bench.tasks.task import Family, Maker, Sources, Task, characters
from rlm_local.errors import ConfigError
from rlm_local.types import Document, JsonValue

CLAUSES = "cuad/master_clauses.csv"
DESCRIPTIONS = "cuad/category_descriptions.csv"
TEXTS = "cuad/full_contract_txt"
YES_NO: JsonValue = {"enum": ["yes", "no"]}
NAMES: JsonValue = {"type": "array", "items": {"type": "string"}}
_OMITTED = re.compile(r"\s*<omitted>\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Contract:
    file: str
    law: str  # "" where the lawyers found none, or more than one
    has: frozenset[str]  # clauses that are answered with Yes
    passages: tuple[tuple[str, tuple[str, ...]], ...]  # of each clause, as the lawyers copied them


@dataclass(frozen=True, slots=True)
class Named:
    """A contract as a task shows it."""

    document: Document
    contract: Contract

    @property
    def name(self) -> str:
        return self.document.name


class Clauses:
    """The lawyers' table, by contracts whose texts are here."""

    def __init__(self, sources: Sources) -> None:
        rows = list(csv.DictReader(io.StringIO(sources.read(CLAUSES).decode("utf-8-sig"))))
        columns = rows[0].keys()
        self.yes_no = [
            name
            for name in columns
            if f"{name}-Answer" in columns and {row[f"{name}-Answer"].strip() for row in rows} <= {"Yes", "No", ""}
        ]
        self.about = self._descriptions(sources)
        self.texts: dict[str, str] = {}
        self.contracts: list[Contract] = []
        files = {_key(path.stem): path for path in sorted((sources.folder / TEXTS).glob("*.txt"))}
        digest = hashlib.sha256()
        for row in rows:
            path = files.get(_key(row["Filename"].removesuffix(".pdf")))
            if path is not None:
                packed = path.read_bytes()
                digest.update(path.name.encode() + b"\0" + packed)
                text = packed.decode("utf-8", "replace")
                self.texts[path.name] = text
                self.contracts.append(self._contract(row, path.name))
        sources.sha256[TEXTS] = digest.hexdigest()

    def _contract(self, row: dict[str, str], file: str) -> Contract:
        law = " ".join(row["Governing Law-Answer"].split())
        passages = []
        for clause in self.yes_no:
            parts = [part for said in _spans(row[clause]) for part in _OMITTED.split(said)]
            kept = tuple(" ".join(part.split()) for part in parts if part.strip())
            if kept:
                passages.append((clause, kept))
        has = frozenset(name for name in self.yes_no if row[f"{name}-Answer"].strip() == "Yes")
        return Contract(file, "" if ";" in law or "," in law else law, has, tuple(passages))

    def _descriptions(self, sources: Sources) -> dict[str, str]:
        rows = csv.reader(io.StringIO(sources.read(DESCRIPTIONS).decode("utf-8-sig")))
        told = {}
        for row in list(rows)[1:]:
            name = row[0].partition(":")[2].strip().lower()
            told[name] = " ".join(row[1].partition(":")[2].split())
        return {clause: told[clause.lower()] for clause in self.yes_no if clause.lower() in told}


def _spans(cell: str) -> list[str]:
    try:
        read = ast.literal_eval(cell)
    except (ValueError, SyntaxError):
        return []
    return [str(one) for one in read] if isinstance(read, list) else []


def _key(name: str) -> str:
    return "".join(each for each in name.lower() if each.isalnum())


def _holds(known: Clauses, named: Sequence[Named], draw: random.Random) -> Asked | None:
    """Whether a contract has a clause; yes as often as no, as far as there are such."""
    wants_yes = draw.random() < 0.5
    fit = [(one, clause) for one in named for clause in known.about if (clause in one.contract.has) is wants_yes]
    if not fit:
        return None
    one, clause = draw.choice(fit)
    text = f"Does the contract {one.name} have a clause of this kind: {clause}? {known.about[clause]} Answer yes or no."
    return Asked(text, "yes" if wants_yes else "no", scoring.word, YES_NO, "yes")


def _quote(known: Clauses, named: Sequence[Named], draw: random.Random) -> Asked | None:
    texts = {one.name: " ".join(str(one.document.text).split()) for one in named}
    fit = [
        (one, clause, said)
        for one in named
        for clause, said in one.contract.passages
        if clause in known.about and all(each in texts[one.name] for each in said)  # one in twenty was copied otherwise
    ]
    if not fit:
        return None
    one, clause, said = draw.choice(fit)
    text = (
        f"Quote word for word each passage of the contract {one.name} that belongs to this kind of clause: {clause}. "
        f"{known.about[clause]} A passage a line."
    )
    return Asked(text, list(said), scoring.passages_f1, NAMES, [])


def _law(known: Clauses, named: Sequence[Named], draw: random.Random) -> Asked | None:
    fit = [one for one in named if one.contract.law]
    if not fit:
        return None
    one = draw.choice(fit)
    text = f"The law of which state or country governs the contract {one.name}? Answer with its name alone."
    return Asked(text, one.contract.law, scoring.exact, None, "New York")


def _count(known: Clauses, named: Sequence[Named], draw: random.Random) -> Asked | None:
    clause = draw.choice(sorted(known.about))
    number = sum(clause in one.contract.has for one in named)
    text = f"How many of the {len(named)} contracts have a clause of this kind: {clause}? {known.about[clause]}"
    return Asked(f"{text} Answer with the number.", number, scoring.count, {"type": "integer"}, len(named) // 4)


def _list(known: Clauses, named: Sequence[Named], draw: random.Random) -> Asked | None:
    counts = Counter(clause for one in named for clause in one.contract.has if clause in known.about)
    common = sorted(clause for clause, number in counts.items() if number >= 2)
    if len(common) < 2:
        return None
    for _ in range(100):
        one, other = draw.sample(common, 2)
        both = sorted(each.name for each in named if {one, other} <= each.contract.has)
        if both:
            text = (
                f"Which contracts have both kinds of clauses: {one} ({known.about[one]}), and {other} "
                f"({known.about[other]})? List the contracts' names, a name a line."
            )
            everyone: JsonValue = [each.name for each in named]
            return Asked(text, list(both), scoring.set_f1, NAMES, everyone)
    return None


KINDS: dict[str, Callable[[Clauses, Sequence[Named], random.Random], Asked | None]] = {
    "yes or no": _holds,
    "quote": _quote,
    "governing law": _law,
    "count": _count,
    "list": _list,
}


async def plan(sources: Sources, tokens: int, seed: int, count: CountTokens) -> Maker:
    known = Clauses(sources)
    if not known.contracts:
        raise ConfigError(f"no contract of {CLAUSES} has its text in {sources.folder / TEXTS}")
    chars = await characters(tokens, next(iter(known.texts.values())), count)
    fitting = [one for one in known.contracts if len(known.texts[one.file]) <= chars]
    if not fitting:
        raise ConfigError(f"--tokens is {tokens}, but not even the shortest contract fits into it")

    def make(index: int) -> Task:
        draw = random.Random(f"contracts {seed} {index}")
        by_name = name_all(fitting, draw)
        texts = [Document(name, known.texts[one.file]) for name, one in by_name.items()]
        documents = fill((), texts, chars, draw)
        named = [Named(document, by_name[document.name]) for document in documents]
        task = task_of_kinds(
            "contracts", index, documents, KINDS, lambda ask: ask(known, named, draw), counted="contracts"
        )
        if task is None:
            raise ConfigError(f"--tokens is {tokens}, but its {len(named)} contracts hold nothing to ask about")
        return task

    return make


def name_all(contracts: Sequence[Contract], draw: random.Random) -> dict[str, Contract]:
    """Return the contracts in a random order, each under a number that says nothing of it."""
    numbers = draw.sample(range(1_000, 10_000), len(contracts))
    return {f"C{number}": one for number, one in zip(numbers, shuffled(contracts, draw), strict=True)}


FAMILY = Family("contracts", "clauses of real contracts: yes or no, quotes, laws, counts, lists (CUAD)", plan)
