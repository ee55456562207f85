"""What the command line's tests share: an installation without an engine, and what a mistake looks like."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlm_local.cards import find_card, load_cards
from rlm_local.cli.main import main
from rlm_local.config import home
from rlm_local.store import Store

WEIGHTS = b"no weights"
CARD = f"""
name = "toy"
aliases = ["toy-1b"]
family = "toy"
profile = "small"
licence = "MIT"
context_tokens = 8192
description = "weights that no engine can load"
sampling = {{}}

[llama]
repo = "someone/toy"
files = [{{ name = "toy.gguf", bytes = {len(WEIGHTS)}, sha256 = "{hashlib.sha256(WEIGHTS).hexdigest()}" }}]
"""


@dataclass(frozen=True, slots=True)
class Mistake:
    """What a command said that did not do what it was asked for."""

    exit_code: int
    error: str  # without "error: "
    hint: str  # without "hint: "; empty when there was none


@pytest.fixture
def toy_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home in which the model `toy` is pulled: all is well with it, until an engine reads its weights."""
    root = tmp_path / "home"
    (root / "models").mkdir(parents=True)
    (root / "models" / "toy.toml").write_text(CARD)
    monkeypatch.setenv("RLM_LOCAL_HOME", str(root))
    monkeypatch.delenv("RLM_LOCAL_NSJAIL", raising=False)
    weights = home().weights / "toy" / "llama" / "toy.gguf"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(WEIGHTS)
    Store(home()).pull(find_card("toy", load_cards()), sources=())
    return root


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Callable[..., Mistake]:
    """Return how to run a command that must fail as every one does: one `error:` line, and nothing on stdout."""

    def run(*arguments: str) -> Mistake:
        exit_code = main(arguments)
        out, err = capsys.readouterr()
        lines = err.splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        hints = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
        assert (out, len(errors), lines[0]) == ("", 1, f"error: {errors[0]}"), err
        assert "Traceback" not in err
        return Mistake(exit_code, errors[0], "".join(hints))

    return run
