"""The composition root: a plan becomes an engine, documents become a jail, and a run ties them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from rlm_local import __version__
from rlm_local.cards import Card
from rlm_local.config import Home
from rlm_local.controller import Opened, Past, PastCell, Ports, Validate, answer_directly, direct_tokens, run_node
from rlm_local.documents import cite, coverage, join_aside, joined_bytes
from rlm_local.engine.choice import open_engine
from rlm_local.engine.memory import available_bytes, gib
from rlm_local.errors import ConfigError
from rlm_local.events import ROOT, DocumentInfo, Routed, RunResumed, RunStarted
from rlm_local.jail import (
    NO_PACKAGES,
    Checkpoint,
    JailPool,
    JailSession,
    Packages,
    require_imports,
)
from rlm_local.limits import priced
from rlm_local.plan import Plan, plan_runtime
from rlm_local.ports import ChatEngine, Engine, Recorder
from rlm_local.prompts import Profile, shown_head
from rlm_local.texts import text_sha256
from rlm_local.types import Answer, Completion, Corpus, Document, EngineInfo, Reply, Request, Route, Sampling

JAILS_AHEAD = 1  # 9 MiB each


@dataclass(frozen=True, slots=True)
class Runtime:
    """A model that is loaded and ready for runs. Runs may follow each other or go side by side."""

    card: Card
    profile: Profile
    engine: ChatEngine
    weights_sha256: str
    warnings: tuple[str, ...] = ()  # what the engine said of this model while it was loaded, for the user
    jails: JailPool | None = None  # where runs have their jails from; None: each starts its own
    packages: Packages = NO_PACKAGES  # that code may import; the profile tells the model
    notes: tuple[str, ...] = ()  # what the engine was found to do, for the user

    async def ask(
        self,
        request: Request,
        recorder: Recorder,
        *,
        scope: str = "",
        sampling: Sampling | None = None,
        past: Past | None = None,
        validate: Validate | None = None,
        ask_before: int | None = None,
    ) -> Answer:
        """Answer one request in a jail of its own, telling the recorder all that happens.

        scope: runs of different scopes share nothing that the engine has computed but the rules all begin with.
        sampling: of the root's turns, in place of the card's.
        past: what of this request's run is known already; see rlm_local.resume.
        validate: the caller's own check of the answer; ask_before: the sub-calls of a cell that the user wants to be
        asked about when they are more, by FanOutHeld; see controller.run_node.
        Raises EngineError, JailError or TraceError for what is our fault; limits end in an unconfirmed Answer.
        """
        require_room(request.documents, available_bytes())
        request = self._priced(request)
        corpus = await join_aside(request.documents)
        engine = _Scoped(self.engine, scope) if scope else self.engine
        told = past is not None  # on which way its request went
        chosen = await choose(request, corpus, self.card, self.profile, engine) if not told else None
        route = chosen.route if chosen else request.route
        cited = partial(cite, corpus=corpus, question=request.question)
        if route is Route.DIRECT:
            self._begin(request, recorder, sampling, past, chosen)
            return await answer_directly(
                request,
                corpus,
                self.profile,
                engine,
                recorder,
                sampling=sampling or self.card.sampling,
                cite=cited,
                cover=partial(coverage, corpus),
                past=past,
                validate=validate,
            )
        source = self.jails.open if self.jails else None
        notes = {"question": request.question}
        packages = self.packages
        open_child = partial(_open_child, packages=packages)
        async with await JailSession.start(
            corpus, request.limits, notes=notes, jails=source, packages=packages
        ) as repl:
            # After the jail: a run that cannot begin leaves no trace.
            self._begin(request, recorder, sampling, past, chosen)
            if past is not None and not past.redo:
                cells = [(cell.code, cell.result) for cell in past.cells(ROOT)]
                await repl.restore(Checkpoint.of_results(cells, request.limits))
            return await run_node(
                request,
                corpus,
                Ports(engine, repl, recorder, open_child),
                self.profile,
                sampling=sampling or self.card.sampling,
                cite=cited,
                cover=partial(coverage, corpus),
                past=past,
                validate=validate,
                ask_before=ask_before,
            )

    def _begin(
        self,
        request: Request,
        recorder: Recorder,
        sampling: Sampling | None,
        past: Past | None,
        chosen: Routed | None,
    ) -> None:
        """Tell that a run begins, or goes on."""
        if past is None:
            recorder.write(self.started(request, sampling))
        elif not past.redo:
            recorder.write(RunResumed(datetime.now(UTC).isoformat(timespec="seconds")))
        if chosen is not None and request.route is not Route.RLM:
            recorder.write(chosen)

    def started(self, request: Request, sampling: Sampling | None = None) -> RunStarted:
        """Return the first event of a request's run. Raises ConfigError for a bound on what nobody can tell."""
        request = self._priced(request)
        return RunStarted(
            question=request.question,
            model=self.card.name,
            weights_sha256=self.weights_sha256,
            profile=self.profile.name,
            prompts_sha256=self.profile.sha256,
            sampling=sampling or self.card.sampling,
            documents=tuple(_info(document) for document in request.documents),
            limits=request.limits,
            grammar=request.grammar,
            answer_schema=request.answer_schema,
            require_coverage=request.require_coverage,
            engine=self.engine.info,
            version=__version__,
            jail_packages=self.packages.named,
            head=shown_head(self.profile, request.documents),
        )

    def _priced(self, request: Request) -> Request:
        return replace(request, limits=priced(request.limits, self.card.price, self.card.name))


async def choose(request: Request, corpus: Corpus, card: Card, profile: Profile, engine: Engine) -> Routed:
    """Return which way a request goes, and why.

    Raises ConfigError, with both numbers, for one that is to go directly and does not fit the window.
    """
    most = card.direct_up_to_tokens
    if request.route is Route.RLM or (request.route is Route.AUTO and most is None):
        why = "as asked" if request.route is Route.RLM else f"no crossover is measured for {card.name}"
        return Routed(Route.RLM, why)
    tokens = await direct_tokens(request, corpus, profile, engine)
    window = engine.info.window_tokens
    if request.route is Route.DIRECT:
        if tokens is None or tokens > window:
            size = f"{len(corpus.context):,} characters" if tokens is None else f"{tokens:,} tokens with the answer"
            raise ConfigError(
                f"the question and its documents have {size}, but the window holds {window:,} tokens",
                hint="leave --route direct out, or raise --window",
            )
        return Routed(Route.DIRECT, "as asked")
    assert most is not None
    bound = min(most, window)
    told = "far more" if tokens is None else f"{tokens:,}"
    fits = tokens is not None and tokens <= bound
    why = f"{told} tokens, and a direct answer is as good up to {bound:,} with {card.name}"
    return Routed(Route.DIRECT if fits else Route.RLM, why)


@asynccontextmanager
async def _open_child(
    request: Request, corpus: Corpus | None, cells: Sequence[PastCell], *, packages: Packages
) -> AsyncIterator[Opened]:
    """See controller.tree.OpenChild."""
    notes = {"question": request.question}
    own = await join_aside(request.documents) if corpus is None else corpus
    async with await JailSession.start(own, request.limits, notes=notes, packages=packages) as repl:
        if cells:
            results = [(cell.code, cell.result) for cell in cells]
            await repl.restore(Checkpoint.of_results(results, request.limits))
        yield Opened(own, repl, partial(cite, corpus=own, question=request.question), partial(coverage, own))


def require_room(documents: Sequence[Document], available: int) -> None:
    """Raise ConfigError when the documents, sealed for their jail, do not fit the memory that is left.

    The jail maps them as they are sealed, so that is all, however many jails have them.
    """
    taken = joined_bytes(documents)
    if taken > available:
        raise ConfigError(
            f"the documents take {gib(taken)} of memory for their jail, but {gib(available)} are available",
            hint="ask of fewer documents at a time",
        )


@dataclass(frozen=True, slots=True)
class _Scoped:
    """An engine as one scope sees it. Implements ports.Engine."""

    engine: Engine
    scope: str

    @property
    def info(self) -> EngineInfo:
        return self.engine.info

    async def complete(self, completion: Completion) -> Reply:
        return await self.engine.complete(replace(completion, scope=self.scope))

    async def count_tokens(self, text: str) -> int:
        return await self.engine.count_tokens(text)


@asynccontextmanager
async def start_runtime(plan: Plan, *, runs: int | None = None) -> AsyncIterator[Runtime]:
    """Start the engine and yield a Runtime; stop the engine on the way out.

    The first run's jail starts while the engine loads, and each later one's while the run before it goes on.
    runs: how many are to come, where that is known; 0 starts no jail.
    Raises ConfigError when window or cells are larger than memory, EngineUnavailable when the engine does not
    come up, JailUnavailable when a module that the model is told of cannot be imported.
    """
    await require_imports(plan.packages)
    async with (
        JailPool(JAILS_AHEAD, runs=runs, packages=plan.packages) as jails,
        open_engine(
            plan.engine,
            plan.card,
            plan.weights,
            adapter=plan.adapter,
            window_tokens=plan.window_tokens,
            kv_tokens=plan.kv_tokens,
            runtime_dir=plan.sockets,
            log=plan.log,
        ) as engine,
    ):
        yield Runtime(
            plan.card,
            plan.profile,
            engine,
            plan.weights_sha256,
            engine.warnings,
            jails,
            plan.packages,
            engine.notes,
        )


@asynccontextmanager
async def open_runtime(
    model: str, home: Home, *, window_tokens: int | None = None, kv_tokens: int | None = None
) -> AsyncIterator[Runtime]:
    """Plan and start in one step. Arguments and errors are those of plan_runtime and start_runtime."""
    async with start_runtime(plan_runtime(model, home, window_tokens=window_tokens, kv_tokens=kv_tokens)) as runtime:
        yield runtime


def _info(document: Document) -> DocumentInfo:
    return DocumentInfo(document.name, len(document.text), text_sha256(document.text), document.path)
