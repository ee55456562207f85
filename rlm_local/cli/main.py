"""`rlm-local`: gathers the commands, and turns every error into one clear line and an exit code."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

import click

from rlm_local import __version__
from rlm_local.cli.ask import ask
from rlm_local.cli.attack import attack_command
from rlm_local.cli.doctor import doctor
from rlm_local.cli.grammar import grammar
from rlm_local.cli.keys import keys
from rlm_local.cli.models_list import list_models
from rlm_local.cli.processes import ps, runs, stop
from rlm_local.cli.pull import pull
from rlm_local.cli.resume import resume
from rlm_local.cli.rm import rm
from rlm_local.cli.serve import serve
from rlm_local.cli.show import show
from rlm_local.cli.streams import Patient, turn_to_null
from rlm_local.cli.trace import trace
from rlm_local.cli.typed import classify, extract, filter_items, map_items
from rlm_local.cli.verify import verify
from rlm_local.errors import ConfigError, RlmError
from rlm_local.trace import visible

INTERRUPTED = 130  # what shells report for a process that SIGINT ended


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rlm-local", message="%(prog)s %(version)s")
def cli() -> None:
    """Answer questions about documents far longer than any context window, on this machine.

    Exit codes: 0 a confirmed answer, 3 an unconfirmed one, 4 a run that waits for your word, 2 a mistake in what was
    asked for, 1 a failure, 130 for Ctrl-C, 143 for SIGTERM, 129 for a closed terminal.
    """


for command in (
    ask,
    resume,
    serve,
    ps,
    runs,
    stop,
    keys,
    classify,
    extract,
    map_items,
    filter_items,
    pull,
    list_models,
    show,
    rm,
    verify,
    trace,
    grammar,
    doctor,
    attack_command,
):
    cli.add_command(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. Never lets a traceback reach the user for an RlmError."""
    try:
        result = cli.main(args=argv, prog_name="rlm-local", standalone_mode=False)
    except click.exceptions.Abort:  # Ctrl-C; click has ended the line that the terminal shows it on
        Patient(sys.stderr).write("interrupted\n")
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        _complain(*_in_our_words(error))
        return error.exit_code
    except RlmError as error:
        _complain(str(error), error.hint)
        return error.exit_code
    except SystemExit as ended:  # click's way to end when whoever read our output has gone
        return int(ended.code or 0)
    except OSError as error:  # a folder of ours that cannot be read, or a full disk behind stdout
        turn_to_null(sys.stdout)
        if error.errno == errno.ENAMETOOLONG:
            _complain(str(error), "name it shorter")
            return ConfigError.exit_code
        _complain(str(error), "make room or mend its permissions, then repeat it")
        return 1
    return result if isinstance(result, int) else 0


def _complain(message: str, hint: str) -> None:
    """Write an error. It may name a file, and a file's name may be anything: nothing of it acts on the terminal."""
    stderr = Patient(sys.stderr)
    stderr.write(f"error: {visible(message)}\n")
    if hint:
        stderr.write(f"\nhint: {visible(hint)}\n")


def _in_our_words(error: click.ClickException) -> tuple[str, str]:
    """Return message and hint of a mistake on the command line that click has found."""
    said = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return said[:1].lower() + said[1:], f"see `{context.command_path} --help`" if context else ""
