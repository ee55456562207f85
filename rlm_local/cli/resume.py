"""`rlm-local resume`: let a run go on that was interrupted, from its trace."""

from __future__ import annotations

from pathlib import Path

import click

from rlm_local.cli.engines import EngineOf, engine_options
from rlm_local.cli.running import ask_before_option, run_and_tell
from rlm_local.cli.trace import existing_trace
from rlm_local.config import home
from rlm_local.plan import plan_runtime
from rlm_local.resume import check_same, check_unfinished, packages_of, read_again
from rlm_local.trace import TraceWriter, Written


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@engine_options
@click.option(
    "--kv-tokens", type=int, default=None, help="Tokens that the engine keeps in memory; default: see `show`."
)
@ask_before_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing of the run, only the answer.")
def resume(
    file: Path,
    paths: tuple[str, ...],
    engine_of: EngineOf,
    kv_tokens: int | None,
    ask_before: int | None,
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Let the run of the trace FILE go on where it stopped: by Ctrl-C, the death of its process, or --ask-before.

    Turns and sub-calls that it has paid for are not asked again; the code of its cells runs again to bring its
    variables back. Its documents are read again and must be the same; name those that are now elsewhere, or came
    from standard input, as PATH. Name its engine as for `ask`: a run goes on with the weights that it had.
    Exit codes are those of `ask`.
    """
    trace = existing_trace(file)
    check_unfinished(trace)
    again = read_again(trace, paths)
    model = again.started.model
    engine = engine_of(model)
    plan = plan_runtime(
        model,
        home(),
        # An engine that runs already has the window that it was started with, also one that no card allows.
        window_tokens=None if engine.is_attached else again.started.engine.window_tokens,
        kv_tokens=kv_tokens,
        packages=packages_of(again.started),
        engine=engine,
    )
    check_same(again, plan)
    writer = TraceWriter(file, behind=Written(len(trace.events), trace.whole_bytes, trace.times_s[-1]))
    return run_and_tell(again.request, plan, writer, as_json=as_json, quiet=quiet, again=again, ask_before=ask_before)
