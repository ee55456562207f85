"""A run that SIGKILL ends goes on to the same answer and pays for nothing twice; `make killed-runs` has more points."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench.killed import SUBCALLS, Killed, Kills

pytestmark = pytest.mark.jail

RIGHT = Killed(point=7, ended=-9, resumed=0, paid=68, paid_once=68, is_same=True)


def test_64_sub_calls_killed_at_random_points_come_to_the_same_answer_and_none_is_paid_twice(nsjail: None) -> None:
    # A process of its own: this one has started things that a fork would have too.
    command = [sys.executable, "-m", "bench", "killed-runs", "--kills", "4", "--seed", "6"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["requests"] == SUBCALLS + 4
    assert [run["ended"] for run in found["runs"]] == [-9] * 4
    assert {run["paid"] for run in found["runs"]} == {SUBCALLS + 4}


@pytest.mark.parametrize(
    "wrong",
    [
        Killed(point=7, ended=-9, resumed=0, paid=69, paid_once=68, is_same=True),
        Killed(point=7, ended=-9, resumed=0, paid=67, paid_once=67, is_same=True),
        Killed(point=7, ended=-9, resumed=0, paid=68, paid_once=68, is_same=False),
        Killed(point=7, ended=-9, resumed=1, paid=68, paid_once=68, is_same=True),
        Killed(point=7, ended=0, resumed=0, paid=68, paid_once=68, is_same=True),
    ],
)
def test_whatever_is_not_as_it_must_be_is_a_fault(wrong: Killed) -> None:
    assert Kills(90, 68, (RIGHT,)).faults() == []
    assert Kills(90, 68, (RIGHT, wrong)).faults()
