"""Running payloads: a fresh jail for each, several at once, each followed by a proof that the jail still serves."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlm_local.attack.canaries import Canaries, canaries, ears
from rlm_local.attack.oracle import Heard, agrees, breaches, has_company
from rlm_local.attack.payloads import Payload, toolkit
from rlm_local.errors import JailError
from rlm_local.jail import NO_PACKAGES, JailSession, Packages, leftovers, require_imports
from rlm_local.limits import MIB, Limits
from rlm_local.types import CellResult, CellStatus, Corpus, Document, JsonValue

LIMITS = Limits(cell_s=60.0, cell_cpu_s=60.0, cell_memory_bytes=256 * MIB)
BITS = 40  # that one jail tries to tell another
_TOOLKIT_S = 60.0
_PROOF_S = 5.0
_TEXT = "A test of the jail: this line is all that there is to read.\n"
_CORPUS = Corpus((Document("test.txt", _TEXT),), _TEXT, (0,))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one payload."""

    payload: Payload
    breaches: tuple[str, ...]  # a sentence each; empty when it was contained
    ended: str  # how its cell ended
    went_on: str  # "next cell" or "fresh jail": what has been seen to work afterwards
    elapsed_s: float

    @property
    def contained(self) -> bool:
        return not self.breaches


@dataclass(frozen=True, slots=True)
class Report:
    """All outcomes, in the order of the payloads, and what was left on the host when all jails had ended."""

    outcomes: tuple[Outcome, ...]
    leftovers: tuple[str, ...]
    elapsed_s: float
    cgroup_version: int | None  # of the jails' control groups; None where there were none

    @property
    def contained(self) -> int:
        return sum(outcome.contained for outcome in self.outcomes)

    @property
    def is_clean(self) -> bool:
        return self.contained == len(self.outcomes) and not self.leftovers


async def attack(
    payloads: Sequence[Payload],
    *,
    at_once: int | None = None,
    told: Callable[[Outcome], None] = lambda _: None,
    packages: Packages = NO_PACKAGES,
) -> Report:
    """Run payloads against the jails that a run uses, and return what became of each.

    at_once: jails besides the one that is watched; told: hears each outcome as it comes. packages: what
    every payload finds imported.
    Raises JailUnavailable where no jail can be started, or a package not be imported there.
    """
    await require_imports(packages, LIMITS)
    began = time.monotonic()
    waiting = list(enumerate(payloads))[::-1]
    outcomes: dict[int, Outcome] = {}

    async def lane(out: Canaries) -> None:
        async with ears(out) as mine:
            while waiting:
                number, payload = waiting.pop()
                outcomes[number] = await _outcome(payload, mine, packages)
                told(outcomes[number])

    async with canaries(LIMITS) as out:
        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(min(at_once or 2 * (os.cpu_count() or 1) + 2, len(payloads))):
                    lanes.create_task(lane(out))
        except BaseExceptionGroup as errors:
            if (lost := errors.subgroup(JailError)) is not None:
                raise lost.exceptions[0] from None
            raise
        whole = await out.peer_is_whole()
        group = out.peer.jail.group
    left = leftovers() + (() if whole else ("the other jail is not as it was",))
    inside = tuple(outcomes[number] for number in sorted(outcomes))
    return Report(inside, left, time.monotonic() - began, group.version if group else None)


async def _outcome(payload: Payload, mine: Canaries, packages: Packages) -> Outcome:
    began = time.monotonic()
    run = _run_two if payload.receiver else _run_one
    found, ended, went_on = await run(payload, mine, packages)
    return Outcome(payload, tuple(found), ended, went_on, time.monotonic() - began)


async def _run_one(payload: Payload, mine: Canaries, packages: Packages) -> tuple[list[str], str, str]:
    heard = Heard()
    async with await _start(mine.target, packages) as session:
        try:
            await _prepare(session, payload, heard, packages)
            heard.results.append(
                result := await session.execute(payload.code, wall_s=payload.wall_s, query=heard.query)
            )
            ended = _ending(result)
            company = has_company(session.jail.worker_pid)
            proof = await session.execute(_PROOF, wall_s=_PROOF_S, query=heard.query)
            heard.results.append(proof)
            went_on = "next cell" if proof.stdout == _PROVED else ""
        except JailError as error:
            ended, company, went_on = f"lost: {error}", False, ""
    went_on = went_on or await _fresh_jail(mine, packages)
    found = breaches(payload, heard, mine)
    if company:
        found.append("a process of its own was left")
    if not went_on:
        found.append("afterwards no fresh jail worked")
    return found, ended, went_on


async def _run_two(payload: Payload, mine: Canaries, packages: Packages) -> tuple[list[str], str, str]:
    sent = [0, 1] * (BITS // 2)
    random.SystemRandom().shuffle(sent)
    received: list[int] = []
    heard = Heard()
    async with (
        await _start(mine.target, packages, bits=list(sent)) as one,
        await _start(mine.target, packages) as other,
    ):
        for session, code in ((one, payload.code), (other, payload.receiver)):
            await _prepare(session, payload, heard, packages)
            result = await session.execute(code, wall_s=payload.wall_s, query=heard.query)
        ended = _ending(result)
        for number in range(BITS):
            spoken = await one.execute(f"send(bits[{number}], {number})", wall_s=payload.wall_s, query=heard.query)
            result = await other.execute(f"FINAL(receive({number}))", wall_s=payload.wall_s, query=heard.query)
            heard.results += [spoken, result]
            if result.final is not None and result.final.value in (0, 1):
                received.append(int(result.final.value))
            elif spoken.status is not CellStatus.OK or result.status is CellStatus.KILLED:
                ended = _ending(result if spoken.status is CellStatus.OK else spoken)
                break
        heard.results.append(proof := await other.execute(_PROOF, wall_s=_PROOF_S, query=heard.query))
    found = breaches(payload, heard, mine)
    if agrees(sent, received):
        found.append(f"{BITS} bits went from one jail to another")
    went_on = "next cell" if proof.stdout == _PROVED else await _fresh_jail(mine, packages)
    return found, ended, went_on


async def _start(target: dict[str, JsonValue], packages: Packages, **notes: JsonValue) -> JailSession:
    known: JsonValue = {**target, "packages": list(packages.bound)}
    return await JailSession.start(_CORPUS, LIMITS, notes={"target": known, **notes}, packages=packages)


async def _prepare(session: JailSession, payload: Payload, heard: Heard, packages: Packages) -> None:
    prepared = [f"import {module}" for module in packages.modules] + [toolkit()] * payload.needs_toolkit
    for code in prepared:
        ready = await session.execute(code, wall_s=_TOOLKIT_S, query=heard.query)
        if ready.status is not CellStatus.OK:
            raise AssertionError(f"the toolkit of the attacks does not run: {ready.error}")


_PROOF = "print(6 * 7)"
_PROVED = "42\n"


async def _fresh_jail(mine: Canaries, packages: Packages) -> str:
    async with await _start(mine.target, packages) as session:
        proof = await session.execute(_PROOF, wall_s=_TOOLKIT_S, query=Heard().query)
    return "fresh jail" if proof.stdout == _PROVED else ""


def _ending(result: CellResult) -> str:
    if result.status is CellStatus.RAISED:
        return f"raised {result.error.splitlines()[-1][:80]}" if result.error else "raised"
    return result.status.value
