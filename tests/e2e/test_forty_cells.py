"""A run whose model turns on its jail in 40 cells: the answer is right all the same, and nothing is left."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from rlm_local.controller import Ports, run_node
from rlm_local.events import TurnTaken
from rlm_local.jail import JailSession, leftovers
from rlm_local.limits import MIB, Limits
from rlm_local.prompts import load_profile
from rlm_local.testing import KeptEvents, ScriptedEngine
from rlm_local.types import CellStatus, Citation, Corpus, Document, JsonValue, Request, Sampling, Span

pytestmark = [pytest.mark.jail, pytest.mark.slow]

TEXT = "The archive closes at noon. The fee is 30 euros.\n"
CORPUS = Corpus((Document("rules.txt", TEXT),), TEXT, (0,))
LIMITS = Limits(
    max_turns=50, max_tokens=50_000_000, wall_s=1200.0, cell_s=1.0, cell_cpu_s=1.0, cell_memory_bytes=128 * MIB
)
# One of each in turn, five times over; each says which it is, so that no two cells are the same.
HOSTILE = (
    "import os\nfor make in (os.fork, os.forkpty):\n    try: make()\n    except OSError as error: print({n}, error)",
    "import subprocess\ntry: subprocess.run(['id'])\nexcept OSError as error: print({n}, error)",
    "while True: print('flood {n}' * 1000)",
    "import time\ntime.sleep(1e9 + {n})",
    "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(1e9 + {n})",
    "hoard = [{n}]\nwhile True: hoard.append(bytearray(1 << 20))",
    "import threading\ndef spin():\n    while True: sum(range({n}))\n"
    "for _ in range(200): threading.Thread(target=spin, daemon=True).start()",
    "import os\nwith open('/tmp/{n}', 'wb') as file:\n    while True: file.write(bytes(1 << 20))",
)
ANSWER = "found = search('fee', show=False)\nFINAL(documents[0].text.split('fee is ')[1].split('.')[0])"


def no_citations(
    value: JsonValue, spans: Sequence[Span], readings: Sequence[str], *, sources: Sequence[Span] = ()
) -> tuple[Citation, ...]:
    return ()


def account() -> tuple[int, list[Path], tuple[str, ...]]:
    """Return what a run could leave: descriptors, files under our name in the folders for such, jails."""
    folders = (Path(tempfile.gettempdir()), Path("/dev/shm"))
    files = sorted(path for folder in folders for path in folder.glob(f"*{os.getpid()}*"))
    return len(list(Path("/proc/self/fd").iterdir())), files, leftovers()


async def test_forty_hostile_cells_leave_a_right_answer_and_nothing_else(nsjail: None) -> None:
    cells = [HOSTILE[number % len(HOSTILE)].format(n=number) for number in range(40)]
    # On a machine that is very busy the answering cell may be late too; then it is tried again.
    engine = ScriptedEngine([f"```repl\n{code}\n```" for code in (*cells, *[ANSWER] * 5)], window_tokens=10_000_000)
    recorder = KeptEvents()
    before = account()
    async with await JailSession.start(CORPUS, LIMITS, notes={"question": "What is the fee?"}) as repl:
        answer = await run_node(
            Request("What is the fee?", CORPUS.documents, LIMITS),
            CORPUS,
            Ports(engine, repl, recorder),
            load_profile("large"),
            sampling=Sampling(),
            cite=no_citations,
        )
    assert (answer.value, answer.confirmed) == ("30 euros", True), answer.reason
    turns = [event.turn for event in recorder.events if isinstance(event, TurnTaken)]
    ended = [turn.result.status for turn in turns[:40] if turn.result]
    assert len(ended) == 40
    assert set(ended) >= {CellStatus.TIMEOUT, CellStatus.OUT_OF_MEMORY}
    assert account() == before
