"""What the environment may say, and what is taken when it says nothing of use."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_local.config import MAX_KV_TOKENS, engine_log, home, kv_tokens
from rlm_local.errors import ConfigError


def test_sockets_lie_in_the_users_runtime_folder_when_it_can_be_written_to(tmp_path: Path) -> None:
    assert home({"HOME": "/h", "XDG_RUNTIME_DIR": str(tmp_path)}).runtime == tmp_path / "rlm-local"


@pytest.mark.parametrize("named", ["/nonexistent", "/etc/passwd", "/proc/self", ""])
def test_a_runtime_folder_that_cannot_be_used_is_passed_over(named: str) -> None:
    assert home({"HOME": "/h", "XDG_RUNTIME_DIR": named}).runtime == Path("/h/.local/state/rlm-local/run")


def test_a_relative_runtime_folder_is_refused() -> None:
    with pytest.raises(ConfigError, match="XDG_RUNTIME_DIR is 'run', but must be an absolute path"):
        home({"HOME": "/h", "XDG_RUNTIME_DIR": "run"})


def test_the_engines_log_is_a_file_by_its_absolute_path(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    assert engine_log({"RLM_LOCAL_LOG": str(log)}) == log
    assert not log.exists()
    assert engine_log({}) is None
    assert engine_log({"RLM_LOCAL_LOG": ""}) is None


@pytest.mark.parametrize(
    ("named", "said"),
    [("debug", "must be an absolute path"), ("/etc", "must be a file"), ("/nonexistent/log", "must be a file")],
)
def test_a_log_that_cannot_be_appended_to_is_refused(named: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"RLM_LOCAL_LOG is '{named}', but {said}"):
        engine_log({"RLM_LOCAL_LOG": named})


@pytest.mark.parametrize("variable", ["RLM_LOCAL_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"])
def test_a_file_in_place_of_a_folder_is_refused_by_the_name_of_its_variable(variable: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ConfigError, match=f"{variable} is '{file}/below', but must be a folder, and {file} is none"):
        home({"HOME": str(tmp_path), variable: f"{file}/below"})
    assert home({"HOME": str(file)}).data == file / ".local/share/rlm-local"  # chosen by nobody, needed by few


def test_the_cells_of_the_engine_are_a_whole_number() -> None:
    assert kv_tokens({"RLM_LOCAL_KV_TOKENS": "40000"}) == 40_000
    assert kv_tokens({}) is None
    for given in ("40k", "-1", "٤", "0", "1000000000000001"):
        with pytest.raises(
            ConfigError, match=rf"RLM_LOCAL_KV_TOKENS is '{given}', but must be .* 1\.\.{MAX_KV_TOKENS}"
        ):
            kv_tokens({"RLM_LOCAL_KV_TOKENS": given})


def test_a_number_that_python_does_not_read_is_told_in_short() -> None:
    with pytest.raises(ConfigError, match=r"RLM_LOCAL_KV_TOKENS is '999+\.\.\.9+', but must be") as refused:
        kv_tokens({"RLM_LOCAL_KV_TOKENS": "9" * 5_000})
    assert len(str(refused.value)) < 120


def test_a_home_of_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match="RLM_LOCAL_HOME is '~nobody1/x', but nobody here has that name"):
        home({"RLM_LOCAL_HOME": "~nobody1/x"})
