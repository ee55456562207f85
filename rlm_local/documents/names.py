"""Names of documents: no two of a run share one."""

from __future__ import annotations


def own_name(name: str, taken: set[str]) -> str:
    """Return `name`, or the first of "name (2)", "name (3)", ... that is not in `taken`, and add it there."""
    own, number = name, 1
    while own in taken:
        number += 1
        own = f"{name} ({number})"
    taken.add(own)
    return own
