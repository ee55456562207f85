"""`rlm-local`: gathers the commands, and turns every error into one clear line and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from rlm_local import __version__
from rlm_local.cli.ask import ask
from rlm_local.cli.doctor import doctor
from rlm_local.cli.models_list import list_models
from rlm_local.cli.pull import pull
from rlm_local.cli.rm import rm
from rlm_local.cli.show import show
from rlm_local.cli.trace import trace
from rlm_local.cli.verify import verify
from rlm_local.errors import RlmError

INTERRUPTED = 130  # what shells report for a process that SIGINT ended


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rlm-local", message="%(prog)s %(version)s")
def cli() -> None:
    """Answer questions about documents far longer than any context window, on this machine.

    Exit codes: 0 a confirmed answer, 3 an unconfirmed one, 2 a mistake in what was asked for, 1 a failure.
    """


for command in (ask, pull, list_models, show, rm, verify, trace, doctor):
    cli.add_command(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. Never lets a traceback reach the user for an RlmError."""
    try:
        result = cli.main(args=argv, prog_name="rlm-local", standalone_mode=False)
    except click.exceptions.Abort:
        return _interrupted()
    except KeyboardInterrupt:
        return _interrupted()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except RlmError as error:
        _complain(str(error), error.hint)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain once more while closing stdout.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115, PTH123 (kept open until the process ends)
        return 1
    return result if isinstance(result, int) else 0


def _complain(message: str, hint: str) -> None:
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"\nhint: {hint}", err=True)


def _interrupted() -> int:
    click.echo("\ninterrupted", err=True)
    return INTERRUPTED


def run() -> None:
    """The console script."""
    sys.exit(main())
