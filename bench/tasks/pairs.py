"""OOLONG-Pairs: its twenty predicates over pairs of users, on windows of TREC's questions; F1 over the pairs.

Tasks 1 to 20 of a seed share one window, 21 to 40 the next, and so on.
"""

from __future__ import annotations

import random
from itertools import combinations

from bench.haystack import CountTokens
from bench.tasks.aggregate import ASYMMETRIC, SYMMETRIC, Side, pairs_of
from bench.tasks.lines import SETS, by_label, read_lines
from bench.tasks.scoring import pairs_f1
from bench.tasks.task import Family, Maker, Sources, Task, characters
from bench.tasks.windows import DOCUMENT_NAME, draw_window, program
from rlm_local.types import Document, JsonValue

QUERIES = len(SYMMETRIC) + len(ASYMMETRIC)
_TREC = SETS[0]
SCHEMA: JsonValue = {
    "type": "array",
    "items": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
}


def predicate(query: int) -> str:
    """Return in words what a pair of users has to fulfil. query: 1 to 20."""
    if query <= len(SYMMETRIC):
        x, y, *more = SYMMETRIC[query - 1]
        words = f"both users have at least one line of the kind '{x}' or '{y}'"
        if more:
            z, when, limit = more
            words += f", and all lines of the kind '{z}' of both users are {when} {limit} (they may have none)"
        return words
    one, other = ASYMMETRIC[query - len(SYMMETRIC) - 1]
    return f"one user has {_side(one)}, and the other user has {_side(other)}"


def _side(side: Side) -> str:
    many = [f"{how} {number} {'line' if number == 1 else 'lines'} of the kind '{a}'" for a, how, number in side]
    return " and ".join(many)


async def plan(sources: Sources, tokens: int, seed: int, count: CountTokens) -> Maker:
    texts = by_label(read_lines(sources, _TREC.file))
    sample = draw_window(_TREC, texts, 20_000, random.Random("pairs sample")).text
    chars = await characters(tokens, sample, count)

    def make(index: int) -> Task:
        window = draw_window(_TREC, texts, chars, random.Random(f"pairs {seed} {index // QUERIES}"))
        query = index % QUERIES + 1
        users = sorted({line.user for line in window.lines})
        return Task(
            family="pairs",
            index=index,
            kind=f"query {query}",
            documents=(Document(DOCUMENT_NAME, window.text),),
            question=(
                f"List all pairs of user ids for which this holds: {predicate(query)}. No pair twice, and the lower "
                "id first. Answer with the pairs in the form (id, id), a pair a line."
            ),
            gold=_jsonable(pairs_of(window.rows(), query)),
            scorer=pairs_f1,
            answer_schema=SCHEMA,
            floors={
                "all pairs": [list(pair) for pair in combinations(users, 2)],
                "regular expressions": _jsonable(pairs_of(window.guessed, query)),
            },
            labels=window.labels,
            program=program(_TREC.labels, f"pairs_of(rows, {query})"),
            solve=lambda labels: _jsonable(pairs_of(window.rows(lambda line: labels[line.text]), query)),
            facts={"lines": len(window.lines), "users": len(users)},
        )

    return make


def _jsonable(found: list[list[int]]) -> JsonValue:
    return [list(pair) for pair in found]


FAMILY = Family("pairs", "pairs of users who fulfil one of twenty conditions (OOLONG-Pairs)", plan)
