"""`rlm-local serve`: one model behind OpenAI's API."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from pathlib import Path

import click
from click.core import ParameterSource

from rlm_local import __version__
from rlm_local.cards import DEFAULT_MODEL
from rlm_local.cli.engines import EngineOf, engine_options
from rlm_local.cli.options import told_in_options
from rlm_local.cli.packages import jail_packages_option
from rlm_local.cli.records import state_option
from rlm_local.cli.streams import Patient
from rlm_local.config import home
from rlm_local.errors import ConfigError
from rlm_local.jail import Packages
from rlm_local.plan import plan_runtime
from rlm_local.runtime import Runtime, start_runtime
from rlm_local.trace import visible

DEFAULT_PORT = 8000


@click.command()
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Name or alias of a model card.")
@engine_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=DEFAULT_PORT, show_default=True, help="Port to listen on; 0 for a free one.")
@click.option("--uds", type=click.Path(path_type=Path), default=None, help="Listen on this unix socket instead.")
@click.option("--tls-cert", type=click.Path(path_type=Path), default=None, help="Certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), default=None, help="Its key, PEM.")
@state_option("Where files, keys and runs are kept.")
@click.option("--max-runs", type=int, default=4, show_default=True, help="Runs at once.")
@click.option("--max-queue", type=int, default=64, show_default=True, help="Runs that wait; more get a 429.")
@click.option("--drain-seconds", type=float, default=30, show_default=True, help="For work under way at the end.")
@click.option("--window", type=int, default=None, help="Tokens of one request; the model's card bounds it.")
@click.option("--kv-tokens", type=int, default=None, help="Tokens that the engine keeps in memory.")
@jail_packages_option
def serve(
    model: str,
    engine_of: EngineOf,
    host: str,
    port: int,
    uds: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    state: Path | None,
    max_runs: int,
    max_queue: int,
    drain_seconds: float,
    window: int | None,
    kv_tokens: int | None,
    packages: Packages,
) -> int:
    """Serve a model to OpenAI clients on this machine.

    NAME answers through a run: the last user message is the question, long earlier ones are the documents.
    NAME:direct is the engine itself. Beyond loopback it is served with keys (`rlm-local keys`) and TLS only.
    Ctrl-C or SIGTERM stops it and leaves nothing running; exit code 0.
    """
    # Not at the top: what the other commands do not need they do not wait for.
    from rlm_local.server.app import application
    from rlm_local.server.database import Database, claim
    from rlm_local.server.desk import Desk
    from rlm_local.server.files import Files
    from rlm_local.server.keys import Keys
    from rlm_local.server.listen import is_loopback, listen_tcp, listen_unix, read_tls
    from rlm_local.server.owner import Owner
    from rlm_local.server.presence import Presence, new_secret, remove_presence, write_presence
    from rlm_local.server.quotas import Quotas
    from rlm_local.server.runs import Runs
    from rlm_local.server.serve import serve as serve_until_asked
    from rlm_local.server.settings import Settings

    engine = engine_of(model)
    if uds is not None and (other := [name for name in ("host", "port") if _was_given(name)]):
        raise ConfigError(
            f"--uds listens on a socket of this machine alone, so --{other[0]} is not heeded",
            hint=f"leave --{other[0]} or --uds out",
        )
    with told_in_options({"max_runs": "--max-runs", "max_queue": "--max-queue", "drain_s": "--drain-seconds"}):
        settings = Settings(max_runs=max_runs, max_queue=max_queue, drain_s=drain_seconds)
    folder = state or home().server
    claim(folder)  # for as long as this process lives
    remove_presence(folder)  # of a server that was killed
    database = Database(folder)
    keys = Keys(database)
    tls = read_tls(tls_cert, tls_key)
    if uds is None and not is_loopback(host) and not (tls and keys.exist()):
        lacks = "keys and TLS" if not tls and not keys.exist() else "TLS" if not tls else "keys"
        raise ConfigError(
            f"--host is {host!r}, but without {lacks} only loopback is served",
            hint="`rlm-local keys add NAME` makes a key; --tls-cert and --tls-key name a certificate",
        )
    plan = plan_runtime(model, home(), window_tokens=window, kv_tokens=kv_tokens, packages=packages, engine=engine)
    listener = listen_tcp(host, port) if uds is None else listen_unix(uds)
    notes = Patient(sys.stderr)

    def tell(runtime: Runtime) -> None:
        for warning in runtime.warnings:
            notes.write(f"warning: {visible(warning)}\n")
        for note in runtime.notes:
            notes.write(f"{visible(note)}\n")
        if left := runs.go_on():
            notes.write(f"{left} run{'s' if left > 1 else ''} of an earlier server go on\n")
        notes.write(f"{runtime.card.name} is served at {_address(listener, is_tls=tls is not None)}\n")
        if uds is None:
            notes.write(f"its runs can be watched at {reached}/\n")

    owner = Owner(new_secret())
    certificate = "" if tls is None else str(tls.certificate.absolute())
    reached = _reached(listener, is_tls=tls is not None)
    presence = Presence(os.getpid(), __version__, plan.card.name, reached, certificate, owner.secret, time.time())

    desk = Desk(plan.card, settings, Quotas(database))
    files = Files(database, settings)
    runs = Runs(desk, database, files)
    app = application(desk, keys, files, runs, owner)
    try:
        write_presence(folder, presence)
        asyncio.run(serve_until_asked(app, desk, start_runtime(plan), listener, tell, tls=tls))
    finally:
        remove_presence(folder)
        listener.close()
        database.close()
        if uds is not None:
            uds.unlink(missing_ok=True)
    return 0


def _was_given(parameter: str) -> bool:
    return click.get_current_context().get_parameter_source(parameter) is ParameterSource.COMMANDLINE


def _reached(listener: socket.socket, *, is_tls: bool) -> str:
    """Return where a command on this machine reaches the server."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{Path(listener.getsockname()).absolute()}"
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http{'s' if is_tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"


def _address(listener: socket.socket, *, is_tls: bool) -> str:
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http{'s' if is_tls else ''}://{f'[{host}]' if ':' in host else host}:{port}/v1"
