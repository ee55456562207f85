"""`from rlm_local import RLM` from end to end: real weights, a real jail, and nothing left of them."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MODEL, QUESTION, Asking

pytestmark = [pytest.mark.engine, pytest.mark.jail, pytest.mark.slow]

ASKS = f"""
import json, sys
from pathlib import Path
from rlm_local import RLM, Limits
rlm = RLM({MODEL!r})
limits = Limits(max_turns=2, wall_s=90.0)
for event in rlm.events({QUESTION!r}, Path("harbour.txt"), limits=limits):
    print(type(event).__name__, file=sys.stderr, flush=True)
answer = event.answer
told = [[one.document, one.start, one.end, one.quote] for one in answer.citations]
print(json.dumps({{"value": answer.value, "citations": told, "turns": answer.turns}}))
"""


def start(installation: Any, code: str) -> Asking:
    return Asking([sys.executable, "-c", code], environ=installation.environ, cwd=installation.folder)


def test_a_script_that_closes_nothing_leaves_nothing(installation: Any) -> None:
    with start(installation, ASKS) as asking:
        assert asking.wait(within_s=300) == 0, asking.err
        text = (Path(installation.folder) / "harbour.txt").read_text()
        told = json.loads(asking.out)
        assert all(text[start:end] == quote for _, start, end, quote in told["citations"])
        assert asking.err[0] == "RunStarted"
        assert asking.err[-1] == "RunEnded"
        assert asking.left() == []
        assert installation.litter() == []


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_a_script_that_is_ended_leaves_no_process(installation: Any, ending: signal.Signals) -> None:
    with start(installation, ASKS) as asking:
        asking.wait_for("TurnStarted", within_s=300)
        asking.signal(ending)
        assert asking.wait() != 0
        assert asking.left() == []
