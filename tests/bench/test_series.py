"""A series of runs is made a share at a time, goes on where it was, and says what could not be made."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.run_commands import INTERRUPTED
from bench.series import Planned, Series, make, read_series, series_command
from rlm_local.errors import ConfigError

HEAD = 'model = "toy"\nseed = 1\n'
NIAH = '[[runs]]\ntask = "niah"\ntokens = 1000\ntasks = 3\narms = ["rlm", "rag"]\nmax_seconds = 60\n'
# In the place of `python -m bench run`: writes a row for each task, or ends like an arm that cannot be made ready.
RUN = """
import pathlib, sys
arm, tasks, out = (sys.argv[sys.argv.index(name) + 1] for name in ("--arm", "--tasks", "--out"))
print(arm, tasks, file=open(pathlib.Path(out).parent / "log", "a"))
if arm == "rag":
    sys.exit(2)
rows = pathlib.Path(out) / "rows"
rows.mkdir(parents=True, exist_ok=True)
for at in range(int(tasks)):
    (rows / f"{at}.json").touch()
"""


def test_every_run_has_a_quarter_of_its_tasks_before_any_has_all() -> None:
    asked = (("niah", 20, "rlm"), ("pairs", 3, "rag"), ("code", 1, "rlm"))
    runs = tuple(Planned(task, 8_192, tasks, arm, 60) for task, tasks, arm in asked)
    pieces = [(run.task, tasks) for run, tasks in Series("toy", 1, runs).pieces()]
    assert pieces == [("niah", 5), ("pairs", 1), ("code", 1), ("niah", 10), ("pairs", 2), ("niah", 20), ("pairs", 3)]


def test_the_series_of_the_report_is_one() -> None:
    series = read_series(Path(__file__).parents[2] / "bench" / "series.toml")
    assert {run.task for run in series.runs} > {"niah", "oolong-trec", "pairs", "contracts", "charts", "multihop"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + NIAH + 'color = "red"\n', r"runs\[0\].color is no field here"),
        (HEAD + NIAH.replace("niah", "nothing"), r"runs\[0\].task is 'nothing', but must be one of"),
        (HEAD + NIAH.replace('"rag"', '"rags"'), r"runs\[0\].arms holds 'rags'"),
        (HEAD + NIAH + NIAH, "two runs have the same"),
        (HEAD, "runs is missing"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "series.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_series(path)


def test_a_series_goes_on_and_tells_what_could_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, out = tmp_path / "series.toml", tmp_path / "out"
    file.write_text(HEAD + NIAH)
    out.mkdir()
    real = Series.command
    monkeypatch.setattr(Series, "command", lambda *asked: [sys.executable, "-c", RUN, *real(*asked)[4:]])
    asked = [str(file), "--out", str(out)]
    run = CliRunner().invoke(series_command, [*asked, "--hours", "0"], standalone_mode=False)
    assert (run.return_value, "0 of 6 tasks are done" in run.output) == (0, True)
    run = CliRunner().invoke(series_command, asked, standalone_mode=False)
    assert run.return_value == 1
    assert "3 of 6 tasks are done" in run.output
    assert "niah-1000-rag: ended with exit code 2" in run.output
    assert (out / "log").read_text().splitlines() == ["rlm 1", "rag 1", "rlm 2", "rlm 3"]
    CliRunner().invoke(series_command, asked, standalone_mode=False)
    assert (out / "log").read_text().splitlines()[4:] == ["rag 1"]  # what is done is not made again


def test_a_run_without_a_task_is_not_reported(tmp_path: Path) -> None:
    file, out = tmp_path / "series.toml", tmp_path / "out"
    file.write_text(HEAD + NIAH)
    (out / "niah-1000-rlm").mkdir(parents=True)
    (out / "niah-1000-rlm" / "result.json").write_text("{}")
    run = CliRunner().invoke(series_command, [str(file), "--out", str(out), "--hours", "0"], standalone_mode=False)
    assert (run.return_value, run.exception) == (0, None)
    assert not (out / "report.md").exists()


def test_a_command_that_takes_too_long_is_ended_and_one_that_does_not_is_not() -> None:
    sleeps = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit({})); time.sleep(60)"
    began = time.monotonic()
    assert make([sys.executable, "-c", sleeps.format(INTERRUPTED)], 1.0) is None
    assert make([sys.executable, "-c", sleeps.format(3)], 1.0) == 3
    assert time.monotonic() - began < 50
    assert make([sys.executable, "-c", "raise SystemExit(4)"], 60.0) == 4
