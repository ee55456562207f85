"""One small run, as its events: a cell with a sub-call, then an answer with a citation."""

import pytest

from rlm_local.events import (
    DocumentInfo,
    Event,
    Replied,
    RunEnded,
    RunStarted,
    Spent,
    SubCallDone,
    TokensCounted,
    TurnStarted,
    TurnTaken,
    TurnWritten,
)
from rlm_local.limits import Limits
from rlm_local.types import (
    Answer,
    Cell,
    CellResult,
    CellStatus,
    Citation,
    EngineInfo,
    Final,
    GrammarMode,
    Reply,
    ReplyStop,
    Sampling,
    Span,
    StopReason,
    SubCall,
    Turn,
    Usage,
)

CODE = 'hits = search("days")\nprint(llm_query(hits[0].text))'


@pytest.fixture
def run() -> list[Event]:
    subcall = SubCall("How long is the notice period?", "30 days", Usage(40, 0, 4))
    result = CellResult(
        CellStatus.OK,
        "... within 30 days of ...\n30 days\n",
        spans=(Span(0, 10, 60),),
        elapsed_s=0.5,
    )
    written = f"I look for the period.\n```repl\n{CODE}\n```"
    answer = Answer(
        "30 days",
        StopReason.FINAL,
        confirmed=True,
        citations=(Citation("licence.txt", 120, 146, 7, "notice within 30 days of it"),),
        usage=Usage(2_000, 1_500, 60),
        subcalls=1,
        turns=2,
        wall_s=12.34,
    )
    return [
        RunStarted(
            question="What is the notice period?",
            model="qwen2.5-coder-1.5b",
            weights_sha256="0" * 64,
            profile="small",
            prompts_sha256="3" * 64,
            sampling=Sampling(),
            documents=(
                DocumentInfo("licence.txt", 11_358, "1" * 64, "/texts/licence.txt"),
                DocumentInfo("other.txt", 642, "2" * 64),
            ),
            limits=Limits(),
            grammar=GrammarMode.PYTHON,
            answer_schema={"type": "string"},
            require_coverage=0.0,
            engine=EngineInfo("qwen2.5-coder-1.5b", 16_384, "lark", can_close=True),
            version="0.1.0",
            jail_packages=("numpy==2.4.6",),
        ),
        TurnStarted("0", 1, "first"),
        TurnWritten("0", 1, written),
        TokensCounted("4" * 32, 40),
        Replied("0", 1, "5" * 32, Reply("30 days", ReplyStop.COMPLETE, Usage(40, 0, 4))),
        SubCallDone("0", 1, 1, subcall),
        TurnTaken("0", 1, Turn(written, Cell(CODE), Usage(900, 0, 40), result), "ok: ...", Spent(1, Usage(40, 0, 4))),
        TurnStarted("0", 2, "later"),
        TurnWritten("0", 2, 'FINAL("30 days")'),
        TurnTaken("0", 2, Turn('FINAL("30 days")', Final("30 days"), Usage(1_060, 1_000, 16)), ""),
        RunEnded(answer),
    ]
