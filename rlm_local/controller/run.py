"""A run from its first event to its last."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rlm_local.controller.budget import Budget
from rlm_local.controller.clock import Clock
from rlm_local.controller.node import Cite, Node
from rlm_local.controller.past import Past
from rlm_local.controller.record import Record
from rlm_local.controller.remember import Memory
from rlm_local.controller.tree import Place, Tree
from rlm_local.events import ROOT, RunEnded
from rlm_local.ports import Engine, Recorder, Repl
from rlm_local.prompts import Profile
from rlm_local.types import Answer, Corpus, Request, Sampling, StopReason


@dataclass(frozen=True, slots=True)
class Ports:
    """Who is plugged in for one run."""

    engine: Engine
    repl: Repl
    recorder: Recorder


async def run_node(
    request: Request,
    corpus: Corpus,
    ports: Ports,
    profile: Profile,
    *,
    sampling: Sampling,
    cite: Cite,
    past: Past | None = None,
) -> Answer:
    """Answer a request and tell the recorder all that happens on the way, the answer included.

    past: what of this run is known already. Its turns are taken as they came out, its replies as they were paid; what
    it holds is not told again. The repl has the variables of its cells, or runs them again with `past.redo`.
    A limit ends the run with an unconfirmed answer. Raises ConfigError when the question or the tokens leave no
    room for a single turn, or the answer's schema is not served; what is our fault: EngineError, JailError,
    TraceError (also where the run goes otherwise than its past); and CancelledError, after the recorder was told.
    """
    clock = Clock(past_s=None if past is None else past.ended_at_s)
    known = past or Past()
    recorder = Record(ports.recorder, known, clock)
    memory = Memory(ports.engine, ports.recorder, known, clock)
    budget = Budget(request.limits, now=clock.elapsed_s)
    budget.book(0, known.abandoned())
    tree = Tree(memory, recorder, profile, sampling, known, clock)
    node = Node(request, corpus, ports.repl, tree, Place(ROOT, 0, budget), cite)
    try:
        async with asyncio.timeout(None) as bound:
            loop = asyncio.get_running_loop()
            clock.when_live(lambda: bound.reschedule(loop.time() + budget.remaining_s))
            answer = await node.run()
    except TimeoutError:
        answer = node.unconfirmed(StopReason.TIME_LIMIT)
    except asyncio.CancelledError:
        recorder.write(RunEnded(node.unconfirmed(StopReason.CANCELLED)))
        raise
    # What came out otherwise is told by then; how a run ends is told anew each time.
    recorder.write(RunEnded(answer))
    return answer
