"""listed(): what stands behind a label ("Diagnoses: gout; a cold") in many documents, and in which of them."""

from __future__ import annotations

import re
from collections.abc import Callable

from sandbox.worker.corpus import Corpus

_LABEL = re.compile(r"^[^\w\n]{0,16}([^\W\d_][\w /-]{0,40}?):[ \t]+(\S.*)$", re.MULTILINE)
_STATE = re.compile(r"[(\[][^()\[\]]*[)\]]$")  # "(active)", "[stopped]": of one entry, and not what it is
_STATES = frozenset({"active", "resolved", "stopped", "completed", "inactive", "current", "past", "ongoing"})
_LABELS_TOLD = 20
_SHARED_TOLD = 6
_STEM = 6  # characters

# A document's name, and what stands behind a label in one of its lines.
_Line = tuple[str, str]


class Listed:
    """The REPL name `listed`."""

    def __init__(self, corpus: Corpus, question: Callable[[], object] = str) -> None:
        self._corpus = corpus
        self._question = question  # of the run

    def __call__(self, label: str, documents: object = None) -> dict[str, set[str]]:
        """Return each thing that stands behind the label in a line, and the names of the documents that have it.

        "Diagnoses: gout (active); a cold" has two, "gout" and "a cold". label: in whatever case; where no line has it,
        the likest one. Is that a name of each document, as in "Patient: Ada", then its plural means what several have:
        the label that the run's question speaks of. documents: as timeline() takes them. Prints how many there are,
        and of which label. Raises ValueError, with the labels that there are, where none is like it or spoken of.
        """
        asked = str(label).strip().rstrip(":")
        lines: dict[str, list[_Line]] = {}
        for document in self._corpus.some(documents):
            for match in _LABEL.finditer(document.text):
                lines.setdefault(match[1], []).append((document.name, match[2]))
        wanted = _likest(asked, sorted(lines, key=lambda name: -len(lines[name])))
        found = _things(lines[wanted])
        if wanted.casefold() != asked.casefold() and _names_each(found):
            named, wanted = wanted, _spoken_of(asked, wanted, lines, str(self._question()))
            found = _things(lines[wanted])
            print(f"listed: no line begins with {asked!r}; '{named}:' says something else of every document")
        print(f"listed: {len(found)} different things behind '{wanted}:'")
        return found


def _things(lines: list[_Line]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for document, said in lines:
        for one in said.split(";"):
            if thing := _without_state(one.strip().rstrip(".")):
                found.setdefault(thing, set()).add(document)
    return found


def _names_each(things: dict[str, set[str]]) -> bool:
    """Return whether each document has one thing that no other has, as it has a name."""
    documents = [name for names in things.values() for name in names]
    return len(things) == len(documents) == len(set(documents)) > 1


def _shared(things: dict[str, set[str]]) -> int:
    """Return how many of the things stand in more than one document."""
    return sum(len(names) > 1 for names in things.values())


def _spoken_of(asked: str, label: str, lines: dict[str, list[_Line]], question: str) -> str:
    """Return the one label with things that documents share which the question has a word of, or raise ValueError."""
    shared = {name: number for name, behind in lines.items() if (number := _shared(_things(behind)))}
    words = _beginnings(question)
    spoken_of = [name for name in shared if not words.isdisjoint(_beginnings(name))]
    if len(spoken_of) == 1:
        return spoken_of[0]
    most = sorted(spoken_of or shared, key=lambda name: -shared[name])
    raise ValueError(
        f"no line begins with {asked!r} and a colon, and '{label}:' says something else of every document; "
        f"labels with things that several documents have: {', '.join(map(repr, most[:_SHARED_TOLD])) or 'none'}"
    )


def _beginnings(text: str) -> frozenset[str]:
    """Return how the longer words begin: "diagnosed" as "Diagnoses" does."""
    return frozenset(word[:_STEM] for word in re.findall(r"\w+", text.casefold()) if len(word) >= _STEM)


def _likest(label: str, names: list[str]) -> str:
    """Return the label that is meant, of those that there are, the most frequent first."""
    asked = label.casefold()
    for name in names:
        if name.casefold() == asked:
            return name
    from difflib import get_close_matches  # few labels are misspelt

    folded = {name.casefold(): name for name in reversed(names)}
    if close := get_close_matches(asked, folded, n=1, cutoff=0.7):
        return folded[close[0]]
    known = ", ".join(names[:_LABELS_TOLD]) or "none"
    raise ValueError(f"no line begins with {label!r} and a colon; labels that there are: {known}")


def _without_state(text: str) -> str:
    """Return an entry without what is in brackets at its end, where that tells its state: a word of such, or a day."""
    while (end := _STATE.search(text)) and (
        _STATES.intersection(re.findall(r"[a-z]+", end[0].lower())) or re.search(r"\d{4}", end[0])
    ):
        text = text[: end.start()].rstrip()
    return text
