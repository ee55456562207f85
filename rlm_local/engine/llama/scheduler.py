"""Continuous batching: requests join and leave at any step, and share what another has computed.

A step computes one token of every reply under way, then a piece of the prompts that are still to be read. The
two are computations of their own, so a reply's token never goes through the kernels for long prompts; see
"same reply" in ARCHITECTURE.md for what that gives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from rlm_local.engine.llama.choices import Place, groups
from rlm_local.engine.llama.compute import Computation, Part
from rlm_local.engine.llama.fair import FairOrder
from rlm_local.engine.llama.interrupt import Aborted, Cancel, DeadlinePassed, NoRoom
from rlm_local.engine.llama.metrics import Metrics
from rlm_local.engine.llama.pace import ESTABLISHED, Pace
from rlm_local.engine.llama.prefix_tree import PrefixTree
from rlm_local.engine.llama.request import Request
from rlm_local.engine.llama.sampler import Logits
from rlm_local.errors import EngineError, EngineRefused


class Scheduler:
    """All requests of one context. One thread at a time, but for interrupt().

    running: most requests under way together, fewer than the sequences of the tree.
    scratch: sequence numbers beyond the tree's, for scoring choices.
    """

    def __init__(
        self,
        computation: Computation,
        tree: PrefixTree,
        *,
        running: int = 64,
        scratch: Sequence[int] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.metrics = Metrics(cells=tree.cells)
        self._computation = computation
        self._tree = tree
        self._running_max = min(running, computation.outputs)
        self._scratch = scratch
        self._clock = clock
        self._pace = Pace(computation.batch)
        self._fair = FairOrder()
        self._waiting: list[Request] = []
        self._running: list[Request] = []
        self._arrivals = 0
        self._stop_step = Cancel()
        self._computing: frozenset[Request] = frozenset()
        computation.obey(self._stop_step)

    def submit(self, request: Request) -> None:
        """Queue a request; its result is set by some later step."""
        reach = request.job.reach
        if reach > self._tree.cells:
            request.fail(EngineRefused(f"this can reach {reach} tokens, but the memory holds {self._tree.cells}"))
            return
        self._arrivals += 1
        request.arrived = self._clock()
        request.arrival = self._arrivals
        self._fair.joined(request.job.scope)
        self._waiting.append(request)

    def interrupt(self, request: Request) -> None:
        """Cancel a request, from any thread; a computation that it takes part in ends within milliseconds."""
        request.cancel.set()
        # Memory that cannot be cut at any token cannot take back half a step either.
        if request in self._computing and self._tree.reuse:
            self._stop_step.set()

    def step(self) -> bool:
        """Do one round of work; False when nothing is left to do."""
        self._leave()
        self._admit()
        if self._running:
            self._tree.put_away_idle()
        self._write()
        self._read()
        self.metrics.state(
            waiting=len(self._waiting),
            running=len(self._running),
            cells=self._tree.used,
            shelved=self._tree.shelf.tokens,
            shelved_bytes=self._tree.shelf.bytes,
        )
        return bool(self._waiting or self._running)

    def flush(self, scope: str | None) -> int:
        """Forget a scope, or all, but for what requests under way hold; return how many tokens that were."""
        return self._tree.flush(scope)

    def fail_all(self, error: Exception) -> None:
        for request in [*self._running, *self._waiting]:
            self._end(request, error)

    def _leave(self) -> None:
        for request in [*self._running, *self._waiting]:
            limit = request.job.deadline_s
            late = limit is not None and self._clock() - request.arrived > limit
            if request.cancel.is_set or late:
                spent = f"{len(request.prompt)} tokens in, {len(request.reply)} out"
                self._end(request, DeadlinePassed(f"the deadline of {limit} s passed after {spent}") if late
                          else Aborted(f"cancelled after {spent}"))  # fmt: skip

    def _admit(self) -> None:
        for request in sorted(self._waiting, key=self._fair.turn):
            if len(self._running) == self._running_max:
                return
            job = request.job
            known, loose = self._tree.known(request.wanted)
            if any(self._will_share(request, other) > known for other in self._running):
                continue  # computing it here too would be a waste; others may go ahead
            reserved = sum(r.outstanding for r in self._running)
            if self._tree.pinned() + loose + reserved + job.reach - known > self._tree.cells:
                return  # nobody overtakes for being small, or the large would never run
            request.admit(self._tree.open(request.wanted))
            self._waiting.remove(request)
            self._running.append(request)
            self.metrics.admitted(len(job.prompt), request.cached, waited_s=self._clock() - request.arrived)

    def _will_share(self, request: Request, other: Request) -> int:
        """Return how many tokens `request` can take over once `other` has read its prompt; 0 if it has."""
        return 0 if not self._tree.reuse or other.is_read else request.wanted.alike(other.wanted)

    def _write(self) -> None:
        """Compute one token of each reply, and draw the next."""
        writing = [r for r in self._running if r.is_read]
        if not writing:
            return
        parts = [Part(r.tip.sequence, r.position, [r.next_token], 1) for r in writing]
        rows = self._compute(writing, parts)
        if rows is None:
            return
        began = self._clock()
        for request, logits in zip(writing, rows, strict=True):
            if request.job.choices is None:
                self._draw(request, logits)
        self.metrics.drew(len(writing), self._clock() - began)
        # The rows live until the next computation, which scoring needs: so it keeps what it wants of them.
        self._score({r: r.job.choices.at((), row) for r, row in zip(writing, rows, strict=True) if r.job.choices})

    def _draw(self, request: Request, logits: Logits) -> None:
        try:
            if request.take(logits):
                self._end(request, None)
        except EngineError as error:  # a grammar that went beyond its limits
            self._end(request, error)
        if request.timed_mask is not None:
            self.metrics.masked(request.timed_mask.take_s())

    def _score(self, steps: dict[Request, dict[Place, float]]) -> None:
        """Compute what choices need beyond their prompts, many requests at a time, and finish the requests."""
        work = [(r, path) for r in steps if r.job.choices for path in r.job.choices.paths]
        most = min(self._computation.batch, self._computation.outputs)
        for group in groups(work, tokens=most, count=len(self._scratch)):
            self._score_together(group, steps)
        for request, found in steps.items():
            if request.job.choices and not request.result.done():
                request.choose(request.job.choices.probabilities(found))
                self._end(request, None)

    def _score_together(self, group: Sequence[tuple[Request, Place]], steps: dict[Request, dict[Place, float]]) -> None:
        """Compute some requests' places in one go, and add what follows there to their steps."""
        while group := [(r, path) for r, path in group if not r.result.done()]:
            numbers = self._scratch[: len(group)]
            for number, (request, _) in zip(numbers, group, strict=True):
                self._computation.share(request.tip.sequence, number, 0, request.tip.end)
            parts = [Part(n, r.tip.end, path, len(path)) for n, (r, path) in zip(numbers, group, strict=True)]
            rows = self._compute([r for r, _ in group], parts, keep=False)
            for number in numbers:
                self._computation.remove(number, 0)
            if rows is not None:
                places = [(r, path[: size + 1]) for r, path in group for size in range(len(path))]
                for (request, place), logits in zip(places, rows, strict=True):
                    assert request.job.choices is not None  # _score looked
                    steps[request] |= request.job.choices.at(place, logits)
                return
            for request in {r for r, _ in group if r.cancel.is_set and not r.result.done()}:
                self._end(request, Aborted("cancelled while its choices were scored"))

    def _read(self) -> None:
        """Compute a piece of the prompts that are not read yet, as much as those who write can wait for."""
        reading = sorted((r for r in self._running if not r.is_read), key=self._fair.turn)
        if not reading:
            return
        unread = sum(len(r.job.prompt) - 1 - r.position for r in reading)
        writers = sum(r.is_read and len(r.reply) >= ESTABLISHED for r in self._running)
        room = self._pace.prompt_tokens(writers=writers, readers=len(reading), unread=unread)
        chosen, parts = [], []
        for request in reading:
            if tokens := request.unread(room):
                chosen.append(request)
                parts.append(Part(request.tip.sequence, request.position, tokens))
                room -= len(tokens)
        if parts:
            self._compute(chosen, parts)

    def _compute(self, requests: Sequence[Request], parts: Sequence[Part], *, keep: bool = True) -> list[Logits] | None:
        """Compute the parts of these requests and note it in the tree; None when it must be tried again.

        requests: one for each part. keep: False for what is not to stay.
        """
        count = sum(len(part.tokens) for part in parts)
        if not self._tree.make_room(count):
            self._shed(requests, f"no {count} of {self._tree.cells} cells can be freed")
            return None
        self._stop_step.clear()
        self._computing = frozenset(requests)
        began = self._clock()
        for request in requests:
            if not request.has_begun:
                request.has_begun = True
                self.metrics.began(began - request.arrived)
        try:
            rows = self._computation.compute(parts)
        except Aborted:
            self._undo(parts)
            return None
        except NoRoom as error:  # our count of the cells and llama.cpp's differ: give way, never die
            if not self._tree.make_room(self._tree.cells - self._tree.used + count):
                self._shed(requests, str(error))
            return None
        except EngineError as error:
            self._undo(parts)
            for request in dict.fromkeys(requests):
                self._end(request, error)
            return None
        finally:
            self._computing = frozenset()
        took_s = self._clock() - began
        writing = any(part.wanted for part in parts)
        self.metrics.step(count, took_s, writing=writing)
        self._pace.took(count, took_s, writing=writing)
        for request, part in zip(requests, parts, strict=True):
            self._fair.gave(request.job.scope, len(part.tokens))
            if keep:
                self._tree.grow(request.tip, part.tokens)
        return rows

    def _undo(self, parts: Iterable[Part]) -> None:
        for part in parts:
            self._computation.remove(part.sequence, part.start)

    def _shed(self, requests: Sequence[Request], why: str) -> None:
        """End the request whose turn is last, so that the others go on."""
        self._end(max(requests, key=self._fair.turn), NoRoom(why))

    def _end(self, request: Request, error: Exception | None) -> None:
        if request.is_admitted:
            self._running.remove(request)
            self._tree.close(request.tip)
        else:
            self._waiting.remove(request)
        self._fair.left(request.job.scope)
        if error is not None:
            request.fail(error)
        self.metrics.ended(error, written=len(request.reply))
