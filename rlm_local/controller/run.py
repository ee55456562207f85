"""A run from its first event to its last."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rlm_local.controller.budget import Budget
from rlm_local.controller.clock import Clock
from rlm_local.controller.node import Node
from rlm_local.controller.past import Past
from rlm_local.controller.record import Record
from rlm_local.controller.remember import Memory
from rlm_local.controller.tree import Cite, Cover, OpenChild, Opened, Place, Tree, Validate, cover_nothing
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
    open_child: OpenChild | None = None  # None: rlm_query is a plain sub-call


async def run_node(
    request: Request,
    corpus: Corpus,
    ports: Ports,
    profile: Profile,
    *,
    sampling: Sampling,
    cite: Cite,
    cover: Cover = cover_nothing,
    past: Past | None = None,
    validate: Validate | None = None,
    ask_before: int | None = None,
) -> Answer:
    """Answer a request and tell the recorder all that happens on the way, the answer included.

    past: what of this run is known already. Its turns are taken as they came out, its replies as they were paid; what
    it holds is not told again. The repl has the variables of its cells, or runs them again with `past.redo`.
    validate: an answer that it does not take is told to the model once; the second such one is unconfirmed.
    ask_before: a cell, of a child too, that asks more sub-calls ends the run with FanOutHeld before they are asked.
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
    tree = Tree(memory, recorder, profile, sampling, known, clock, ports.open_child, _run_child, validate, ask_before)
    node = Node(request, Opened(corpus, ports.repl, cite, cover), tree, Place(ROOT, 0, budget))
    try:
        answer = await _bounded(node, budget, clock)
    except asyncio.CancelledError:
        recorder.write(RunEnded(node.unconfirmed(StopReason.CANCELLED)))
        raise
    recorder.write(RunEnded(answer))
    return answer


async def _run_child(tree: Tree, request: Request, corpus: Corpus | None, place: Place) -> Answer:
    assert tree.open_child is not None  # or nobody asks for one
    cells = [] if tree.past.redo else tree.past.cells(place.id)
    async with tree.open_child(request, corpus, cells) as opened:
        return await _bounded(Node(request, opened, tree, place), place.budget, tree.clock)


async def _bounded(node: Node, budget: Budget, clock: Clock) -> Answer:
    """Run a node to its end, or to the end of its seconds. They pass from when the run is live."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as bound:

            def begin() -> None:
                if running:
                    bound.reschedule(loop.time() + budget.remaining_s)

            running = True
            clock.when_live(begin)
            try:
                return await node.run()
            finally:
                running = False
    except TimeoutError:
        return node.unconfirmed(StopReason.TIME_LIMIT)
