"""A measurement that is ended from outside leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.processes import below
from bench.provenance import ROOT
from bench.run_commands import INTERRUPTED

BEGUN_S = 60.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_neither_processes_nor_files_stay(number: signal.Signals, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-m", "bench", "hidden"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as asked:
        until = time.monotonic() + BEGUN_S
        while not list(tmp_path.glob("rlm-hidden-*/*")) and time.monotonic() < until:
            time.sleep(0.05)
        begun = list(below(asked.pid))
        asked.send_signal(number)
        _, said = asked.communicate(timeout=BEGUN_S)
    assert asked.returncode == INTERRUPTED, said
    assert list(tmp_path.iterdir()) == []
    assert not [pid for pid in begun if Path(f"/proc/{pid}").exists()]
