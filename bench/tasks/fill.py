"""Choosing documents until a task has the length that it is to have."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rlm_local.types import Document

T = TypeVar("T")


def fill(first: Sequence[Document], others: Iterable[Document], chars: int, draw: random.Random) -> list[Document]:
    """Return `first`, and of the others, in their order, each that still fits into so many characters; all shuffled.

    `first` is taken whatever its length: without it there is no question.
    """
    chosen = list(first)
    left = chars - sum(len(document.text) for document in chosen)
    taken = {document.name for document in chosen}
    for document in others:
        if document.name not in taken and len(document.text) <= left:
            chosen.append(document)
            taken.add(document.name)
            left -= len(document.text)
    draw.shuffle(chosen)
    return chosen


def shuffled(many: Iterable[T], draw: random.Random) -> list[T]:
    """Return the elements in a random order."""
    made = list(many)
    draw.shuffle(made)
    return made
