"""listed(): what stands behind a label ("Diagnoses: gout; a cold") in many documents, and in which of them."""

from __future__ import annotations

import re
from collections import Counter

from sandbox.worker.corpus import Corpus

_LABEL = re.compile(r"^[^\w\n]{0,16}([^\W\d_][\w /-]{0,40}?):[ \t]+(\S.*)$", re.MULTILINE)
_STATE = re.compile(r"[(\[][^()\[\]]*[)\]]$")  # "(active)", "[stopped]": of one entry, and not what it is
_STATES = frozenset({"active", "resolved", "stopped", "completed", "inactive", "current", "past", "ongoing"})
_LABELS_TOLD = 20


class Listed:
    """The REPL name `listed`."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def __call__(self, label: str, documents: object = None) -> dict[str, set[str]]:
        """Return each thing that stands behind the label in a line, and the names of the documents that have it.

        "Diagnoses: gout (active); a cold" has two, "gout" and "a cold". label: in whatever case; where no line has it,
        the likest one. documents: as timeline() takes them. Prints how many there are. Raises ValueError, with the
        labels that there are, where none is like it.
        """
        lines = [
            (document.name, match[1], match[2])
            for document in self._corpus.some(documents)
            for match in _LABEL.finditer(document.text)
        ]
        wanted = _likest(label, Counter(name for _, name, _ in lines))
        found: dict[str, set[str]] = {}
        for document, name, said in lines:
            if name == wanted:
                for one in said.split(";"):
                    if thing := _without_state(one.strip().rstrip(".")):
                        found.setdefault(thing, set()).add(document)
        print(f"listed: {len(found)} different things behind '{wanted}:'")
        return found


def _likest(label: str, names: Counter[str]) -> str:
    asked = str(label).strip().rstrip(":").casefold()
    for name, _ in names.most_common():
        if name.casefold() == asked:
            return name
    from difflib import get_close_matches  # few labels are misspelt

    folded = {name.casefold(): name for name, _ in reversed(names.most_common())}
    if close := get_close_matches(asked, folded, n=1, cutoff=0.7):
        return folded[close[0]]
    known = ", ".join(name for name, _ in names.most_common(_LABELS_TOLD)) or "none"
    raise ValueError(f"no line begins with {label!r} and a colon; labels that there are: {known}")


def _without_state(text: str) -> str:
    """Return an entry without what is in brackets at its end, where that tells its state: a word of such, or a day."""
    while (end := _STATE.search(text)) and (
        _STATES.intersection(re.findall(r"[a-z]+", end[0].lower())) or re.search(r"\d{4}", end[0])
    ):
        text = text[: end.start()].rstrip()
    return text
