"""`rlm-local attack`: hostile code by the hundred against this machine's own jail."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
from collections import Counter
from pathlib import Path

import click

from rlm_local import __version__
from rlm_local.attack import Outcome, Payload, Report, attack, load_payloads, read_payloads
from rlm_local.cli.packages import jail_packages_option
from rlm_local.cli.streams import Patient, write_lines
from rlm_local.errors import ConfigError
from rlm_local.jail import Packages
from rlm_local.trace import visible


@click.command(name="attack")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an object with every outcome; of --list an array.")
@click.option("--only", metavar="GROUP", help="Run one group of the corpus.")
@click.option("--list", "as_list", is_flag=True, help="Print the payloads and what each aims at; run none.")
@click.option(
    "--corpus",
    metavar="FILE.jsonl",
    type=click.Path(path_type=Path),
    help='Run your own payloads: {"id", "code", "must_not_print"} a line; the last is "PWN" where it is left out.',
)
@jail_packages_option
def attack_command(as_json: bool, only: str | None, as_list: bool, corpus: Path | None, packages: Packages) -> int:
    """Run the attack corpus against the jail that a run on this machine gets.

    A payload is contained when no canary of this run comes out by any way (the host's environment, files, shared
    memory and listeners, another live jail's memory and files), when its own forbidden text does not, and when the
    next cell or a fresh jail works. Exit code 0 when all are contained and nothing is left, else 1.
    """
    if only and corpus:
        raise ConfigError("--only chooses a group of the built-in corpus, so it does not go with --corpus")
    payloads = read_payloads(corpus) if corpus else load_payloads(only)
    if as_list:
        if as_json:
            click.echo(json.dumps([_told(payload) for payload in payloads], indent=1))
            return 0
        write_lines(visible(f"{payload.name}: {payload.aim}") for payload in payloads)
        return 0
    progress = _Progress(len(payloads))
    try:
        report = asyncio.run(attack(payloads, told=progress.count, packages=packages))
    finally:
        progress.clear()
    click.echo(json.dumps(_as_object(report, packages), indent=1) if as_json else _as_text(report))
    return 0 if report.is_clean else 1


class _Progress:
    """One line on a terminal; nothing where stderr is none."""

    def __init__(self, total: int) -> None:
        self._stream = Patient(sys.stderr)
        self._total = total
        self._done = 0
        self._open = 0
        self._show()

    def count(self, outcome: Outcome) -> None:
        self._done += 1
        self._open += not outcome.contained
        self._show()

    def clear(self) -> None:
        if self._stream.isatty():
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _show(self) -> None:
        if self._stream.isatty():
            escaped = f", {self._open} NOT contained" if self._open else ""
            self._stream.write(f"\r\x1b[K{self._done}/{self._total} payloads{escaped}")
            self._stream.flush()


def _as_text(report: Report) -> str:
    lines = []
    for outcome in report.outcomes:
        lines += [f"NOT CONTAINED  {outcome.payload.name}: {breach}" for breach in outcome.breaches]
    lines += [f"LEFT  {left}" for left in report.leftovers]
    counts = _counts(report)
    lines.append("  ".join(f"{group} {contained}/{total}" for group, (contained, total) in counts.items()))
    left = f", {len(report.leftovers)} things left" if report.leftovers else ", nothing left"
    lines.append(f"{report.contained}/{len(report.outcomes)} contained in {report.elapsed_s:.1f} s{left}")
    return visible("\n".join(lines))


def _as_object(report: Report, packages: Packages) -> dict[str, object]:
    return {
        "version": __version__,
        "machine": {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "python": platform.python_version(),
            "root": os.geteuid() == 0,
            "cgroup": report.cgroup_version,
        },
        "jail_packages": list(packages.named),
        "contained": report.contained,
        "of": len(report.outcomes),
        "groups": {group: {"contained": some, "of": total} for group, (some, total) in _counts(report).items()},
        "left": list(report.leftovers),
        "elapsed_s": round(report.elapsed_s, 3),
        "payloads": [_one(outcome.payload, outcome) for outcome in report.outcomes],
    }


def _one(payload: Payload, outcome: Outcome) -> dict[str, object]:
    return {
        **_told(payload),
        "contained": outcome.contained,
        "breaches": list(outcome.breaches),
        "ended": outcome.ended,
        "went_on": outcome.went_on,
        "elapsed_s": round(outcome.elapsed_s, 3),
    }


def _told(payload: Payload) -> dict[str, object]:
    return {"id": payload.id, "group": payload.group, "aim": payload.aim}


def _counts(report: Report) -> dict[str, tuple[int, int]]:
    total = Counter(outcome.payload.group for outcome in report.outcomes)
    contained = Counter(outcome.payload.group for outcome in report.outcomes if outcome.contained)
    return {group: (contained[group], total[group]) for group in total}
