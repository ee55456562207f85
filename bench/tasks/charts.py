"""Questions over charts of patients who never lived (Synthea), with gold from the records behind the charts."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.haystack import CountTokens
from bench.tasks import scoring
from bench.tasks.asked import Asked, task_of_kinds
from bench.tasks.fill import fill, shuffled
from bench.tasks.task import Family, Maker, Sources, Task, characters
from rlm_local.errors import ConfigError
from rlm_local.types import Document, JsonValue

CHARTS, FACTS = "synthea/charts.txt.gz", "synthea/facts.jsonl.gz"
_HEADER = re.compile(r"^##### CHART (\S+)\n", re.MULTILINE)
_VALUE = re.compile(r"^(-?\d+(?:\.\d+)?) \S")
NAMES: JsonValue = {"type": "array", "items": {"type": "string"}}

# What people say, and the condition's name in the charts.
LAY_WORDS = {
    "high blood pressure": ("Hypertension",),
    "a heart attack": ("Myocardial Infarction", "History of myocardial infarction (situation)"),
    "bones that break easily, as they grow thin with age": ("Osteoporosis (disorder)",),
    "an inflamed middle ear": ("Otitis media",),
    "blood sugar above normal, but not high enough for diabetes": ("Prediabetes",),
    "an appendix that was inflamed or taken out": ("Appendicitis", "History of appendectomy"),
    "swollen joints from too much uric acid": ("Gout",),
    "a pregnancy lost in its first three months": ("Miscarriage in first trimester",),
    "a body weight so high that it is a disease": ("Body mass index 30+ - obesity (finding)",),
    "a broken collarbone": ("Fracture of clavicle",),
    "a twisted ankle": ("Sprain of ankle",),
    "a throat that a virus made sore": ("Acute viral pharyngitis (disorder)",),
}


@dataclass(frozen=True, slots=True)
class Patient:
    id: str
    name: str
    text: str  # the chart
    conditions: frozenset[str]
    medications: tuple[tuple[str, str], ...]  # name, day
    labs: tuple[tuple[str, str, float], ...]  # name, day, value; those that are numbers


def read_patients(sources: Sources) -> list[Patient]:
    """Return every patient whose chart is there and whose name nobody else has."""
    charts = _HEADER.split(gzip.decompress(sources.read(CHARTS)).decode("utf-8"))
    texts = dict(zip(charts[1::2], charts[2::2], strict=True))
    lines = gzip.decompress(sources.read(FACTS)).decode("utf-8").splitlines()
    records = [one for one in map(json.loads, filter(None, lines)) if one["id"] in texts]
    names = Counter(one["name"] for one in records)
    return [_patient(one, texts[one["id"]]) for one in records if names[one["name"]] == 1]


def _patient(record: dict[str, Any], text: str) -> Patient:
    labs = [(lab["name"], lab["date"], _VALUE.match(str(lab["value"]))) for lab in record["labs"]]
    return Patient(
        record["id"],
        record["name"],
        text.strip(),
        frozenset(one["name"] for one in record["conditions"]),
        tuple((one["name"], one["date"]) for one in record["medications"]),
        tuple((name, when, float(value[1])) for name, when, value in labs if value),
    )


def _latest(patients: Sequence[Patient], draw: random.Random) -> Asked | None:
    fit = []
    for patient in patients:
        for name in sorted({name for name, _, _ in patient.labs}):
            days = [when for each, when, _ in patient.labs if each == name]
            if len(days) > 1 and days.count(max(days)) == 1:
                fit.append((patient, name))
    if not fit:
        return None
    patient, name = draw.choice(fit)
    _, _, value = max((lab for lab in patient.labs if lab[0] == name), key=lambda lab: lab[1])
    text = f"What is the latest value of '{name}' in the chart of {patient.name}? Answer with the number alone."
    return Asked(text, value, scoring.close, {"type": "number"}, 100)


def _first(patients: Sequence[Patient], draw: random.Random) -> Asked | None:
    fit = [(one, name) for one in patients for name in sorted({name for name, _ in one.medications})]
    if not fit:
        return None
    patient, name = draw.choice(fit)
    when = min(when for each, when in patient.medications if each == name)
    text = f"On which day was '{name}' first ordered for {patient.name}? Answer as YYYY-MM-DD."
    return Asked(text, when, scoring.day, None, "2012-01-01")


def _with(patients: Sequence[Patient], names: Sequence[str]) -> list[str]:
    return sorted(one.name for one in patients if one.conditions & set(names))


def _common(patients: Sequence[Patient], draw: random.Random) -> str:
    counts = Counter(name for one in patients for name in one.conditions)
    several = sorted(name for name, number in counts.items() if number >= 2)
    return draw.choice(several) if several else ""


def _cohort(patients: Sequence[Patient], draw: random.Random) -> Asked | None:
    if not (name := _common(patients, draw)):
        return None
    text = f"How many of the {len(patients)} patients have the diagnosis '{name}' in their chart?"
    number = len(_with(patients, [name]))
    return Asked(f"{text} Answer with the number.", number, scoring.count, {"type": "integer"}, len(patients) // 4)


def _lay(patients: Sequence[Patient], draw: random.Random) -> Asked | None:
    fit = sorted(words for words, names in LAY_WORDS.items() if _with(patients, names))
    if not fit:
        return None
    words = draw.choice(fit)
    text = f"How many of the {len(patients)} patients have ever been diagnosed with {words}?"
    number = len(_with(patients, LAY_WORDS[words]))
    return Asked(f"{text} Answer with the number.", number, scoring.count, {"type": "integer"}, len(patients) // 4)


def _list(patients: Sequence[Patient], draw: random.Random) -> Asked | None:
    if not (name := _common(patients, draw)):
        return None
    text = f"List the names of all patients with the diagnosis '{name}', a name a line."
    everyone: JsonValue = [one.name for one in patients]
    return Asked(text, list(_with(patients, [name])), scoring.set_f1, NAMES, everyone)


KINDS: dict[str, Callable[[Sequence[Patient], random.Random], Asked | None]] = {
    "latest value": _latest,
    "cohort count": _cohort,
    "first date": _first,
    "cohort count, lay words": _lay,
    "cohort list": _list,
}


async def plan(sources: Sources, tokens: int, seed: int, count: CountTokens) -> Maker:
    patients = read_patients(sources)
    chars = await characters(tokens, max((one.text for one in patients), key=len), count)
    by_name = {one.name: one for one in patients if len(one.text) <= chars}
    if not by_name:
        raise ConfigError(f"--tokens is {tokens}, but not even the shortest chart fits into it")

    def make(index: int) -> Task:
        draw = random.Random(f"charts {seed} {index}")
        texts = [Document(name, one.text) for name, one in by_name.items()]
        documents = fill((), shuffled(texts, draw), chars, draw)
        chosen = [by_name[document.name] for document in documents]
        task = task_of_kinds("charts", index, documents, KINDS, lambda ask: ask(chosen, draw), counted="patients")
        if task is None:
            raise ConfigError(f"--tokens is {tokens}, but its {len(chosen)} charts hold nothing to ask about")
        return task

    return make


FAMILY = Family("charts", "values, dates and cohorts in charts of made-up patients (Synthea)", plan)
