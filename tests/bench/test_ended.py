"""A measurement that is ended from outside leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.processes import below, lives
from bench.provenance import ROOT
from bench.run_commands import INTERRUPTED

pytestmark = [pytest.mark.jail, pytest.mark.engine]

ENDED_S = 60.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_neither_processes_nor_files_stay(number: signal.Signals, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-m", "bench", "hidden"],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs these tests in the background has it ignored, and that is handed down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as asked:
        # While a process is being started, Python 3.11 may swallow what a signal raises: in a hook of fork.
        assert asked.stderr is not None
        begun_with = asked.stderr.readline()
        begun = list(below(asked.pid))
        asked.send_signal(number)
        said = begun_with + asked.communicate(timeout=ENDED_S)[1]
    assert asked.returncode == INTERRUPTED, said
    assert begun
    assert list(tmp_path.iterdir()) == []
    until = time.monotonic() + ENDED_S  # a jail whose host was killed ends by itself
    while (left := [pid for pid in begun if lives(pid)]) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []
