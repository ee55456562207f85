"""`rlm-local ps`, `runs` and `stop`: what a server on this machine does, and its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlm_local.cli.records import recorded, state_option
from rlm_local.cli.served import NoServer, Served, reached
from rlm_local.cli.streams import write_lines
from rlm_local.cli.values import identifier
from rlm_local.config import home
from rlm_local.errors import ConfigError
from rlm_local.server.presence import read_presence
from rlm_local.trace import visible

if TYPE_CHECKING:
    from rlm_local.server.run_rows import Run

_STATES = ("queued", "running", "done", "failed", "cancelled")
_UNDER_WAY = ("running", "queued")
_QUESTION_CHARS = 60
_MOST = 1_000_000


@click.command()
@state_option()
def ps(state: Path | None) -> int:
    """Show the server that runs here, and its runs that have not ended. Exit code 1 when none runs."""
    folder = state or home().server

    async def told(server: Served) -> dict[str, Any]:
        return await server.call("GET", "/ready")

    server, ready = _with_server(folder, lambda server: _pair(server, told))
    presence, places = server.presence, ready["runs"]
    since = datetime.fromtimestamp(presence.began, UTC)
    where = f"{presence.address}  process {presence.pid}  since {since:%Y-%m-%d %H:%M} UTC"
    click.echo(f"{presence.model}  {ready['status']}  {where}")
    click.echo(f"{places['running']} of {places['most']} runs at work, {places['waiting']} wait")
    _show(state, _UNDER_WAY, most=1_000)
    return 0


@click.command()
@click.option("--status", type=click.Choice(_STATES), default=None, help="Only those; by default all.")
@click.option("-n", "most", type=click.IntRange(1, _MOST), default=20, show_default=True, help="How many at most.")
@state_option()
def runs(status: str | None, most: int, state: Path | None) -> None:
    """List the runs that a server has accepted, of all tenants, the newest first. The server need not run."""
    shown, more = _show(state, _STATES if status is None else (status,), most=most)
    if not shown:
        told = f"no {status or ''} runs are kept in {state or home().server}"
        click.echo(told.replace("  ", " "), err=True)
    elif more:
        click.echo(f"there are more than the newest {most}; -n shows as many as it says", err=True)


@click.command()
@click.argument("run", required=False, type=identifier)
@state_option()
def stop(run: str | None, state: Path | None) -> int:
    """End the run RUN; without RUN end the server: it gives what is under way its time, then ends."""
    folder = state or home().server
    if run is None:
        _stop_server(folder)
        return 0
    tenant = _tenant_of(state, run)
    ended = _with_server(folder, lambda server: server.call("POST", f"/v1/rlm/runs/{run}/cancel", tenant=tenant))
    click.echo(f"{run} is {ended['status']}")
    return 0


def _stop_server(folder: Path) -> None:
    async def stopped(server: Served) -> None:
        await server.call("POST", "/v1/rlm/server/stop")
        # The last thing that it does is to take its file away; one that is killed meanwhile leaves it, and is gone.
        while read_presence(folder) == server.presence:
            async with reached(folder) as there:
                if there is None and read_presence(folder) == server.presence and not _lives(server.presence.pid):
                    return
            await asyncio.sleep(0.1)

    pid = _with_server(folder, lambda server: _pair(server, stopped))[0].presence.pid
    click.echo(f"the server, process {pid}, has stopped")


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def _pair(server: Served, work: Callable[[Served], Any]) -> tuple[Served, Any]:
    return server, await work(server)


def _with_server(folder: Path, work: Callable[[Served], Any]) -> Any:
    """Return what `work` returns of the running server. Raises NoServer."""

    async def found() -> Any:
        async with reached(folder) as server:
            if server is None:
                raise NoServer(folder, "start one with `rlm-local serve`, or name its folder with --state")
            return await work(server)

    return asyncio.run(found())


def _show(state: Path | None, states: tuple[str, ...], *, most: int) -> tuple[int, bool]:
    """Print a line for each run, at most so many; return how many these are, and whether there are more."""
    from rlm_local.server.run_rows import read_runs

    found = recorded(state, lambda database: read_runs(database, states, most + 1)) or []
    write_lines(_line(run) for run in found[:most])
    return min(len(found), most), len(found) > most


def _line(run: Run) -> str:
    took = (time.time() if run.ended is None else run.ended) - (run.started or run.created)
    question = visible(" ".join(run.question.split()))
    if len(question) > _QUESTION_CHARS:
        question = question[: _QUESTION_CHARS - 1] + "…"
    made = datetime.fromtimestamp(run.created, UTC)
    return f"{run.id}  {run.state.value:9}  {made:%Y-%m-%d %H:%M}  {took:6.0f} s  {run.tenant}  {question}"


def _tenant_of(state: Path | None, run: str) -> str:
    from rlm_local.server.run_rows import tenant_of_run

    tenant = recorded(state, lambda database: tenant_of_run(database, run))
    if tenant is None:
        raise ConfigError(f"there is no run {run!r} in {state or home().server}", hint="`rlm-local runs` lists them")
    return tenant
