"""What `python -m bench` refuses before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.__main__ import bench
from bench.tasks.families import FAMILIES
from rlm_local.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["engine", "--out", "out"], "nothing is named that is to be measured"),
        (["run", "niah", "--data", "/nope"], "--data is '/nope', but no folder is there"),
        (["run", "niah", "--max-seconds", "nan"], "--max-seconds is nan, but must be above 0 and finite"),
        (["run", "niah", "--max-tokens", "0"], "--max-tokens is 0, but must be at least 1"),
        (["tune", "profile", "--data", "/nope", "--out", "out"], "--data is '/nope', but no folder is there"),
        (["tune", "route", "--max-seconds", "0", "--out", "out"], "--max-seconds is 0.0, but must be above 0"),
        (["grammar-effect", "--max-turns", "1"], "--max-turns is 1, but a run needs at least 2"),
        (["grammar-effect", "--data", "/nope"], "--data is '/nope', but no folder is there"),
    ],
)
def test_a_mistake_is_told_before_an_engine_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RLM_LOCAL_HOME", str(tmp_path / "home"))  # where no model is
    with pytest.raises(ConfigError) as caught:
        bench.main(arguments, standalone_mode=False)
    assert str(caught.value).startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_tasks_that_are_made_of_installed_code_need_no_data() -> None:
    FAMILIES["code"].check_data(Path("/nope"))
