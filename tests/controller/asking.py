"""One short run over a fixed document, with an engine and a REPL that are scripted."""

from __future__ import annotations

from collections.abc import Sequence

from rlm_local.controller import Cite, Ports, run_node
from rlm_local.limits import Limits
from rlm_local.prompts import load_profile
from rlm_local.testing import KeptEvents, ScriptedEngine
from rlm_local.types import (
    DEFAULT_GRAMMAR,
    Answer,
    Citation,
    Corpus,
    Document,
    GrammarMode,
    JsonValue,
    Request,
    Sampling,
    Span,
)

TEXT = "The archive closes at noon. The fee is 30 euros."
CORPUS = Corpus((Document("rules.txt", TEXT),), TEXT, (0,))
LOOK = '```repl\nsearch("fee")\n```'
LOOK_AGAIN = '```repl\nsearch("euros")\n```'
SEEN = "1 match for 'fee'\n[1] rules.txt line 1 (offset 28):\nThe fee is 30 euros.\n"


def no_citations(
    value: JsonValue, spans: Sequence[Span], readings: Sequence[str], *, sources: Sequence[Span] = ()
) -> tuple[Citation, ...]:
    return ()


async def ask(
    engine: ScriptedEngine,
    repl: object,
    *,
    recorder: KeptEvents | None = None,
    question: str = "What is the fee?",
    profile: str = "small",
    grammar: GrammarMode = DEFAULT_GRAMMAR,
    answer_schema: JsonValue = None,
    cite: Cite = no_citations,
    **limits: object,
) -> Answer:
    bounds = Limits(**{"max_tokens": 100_000, **limits})  # type: ignore[arg-type]
    return await run_node(
        Request(question, CORPUS.documents, bounds, grammar, answer_schema),
        CORPUS,
        Ports(engine, repl, recorder or KeptEvents()),  # type: ignore[arg-type]
        load_profile(profile),
        sampling=Sampling(),
        cite=cite,
    )
