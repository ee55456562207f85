"""What `show` and `doctor` tell of a model before it is loaded, from the header of its file alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rlm_local.cli.main import main
from rlm_local.engine.memory import BUFFERS_BYTES
from tests.cli.conftest import Mistake
from tests.engine.toy_gguf import Value, gguf

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
TOY: dict[str, Value] = {
    "general.architecture": "toy",
    "toy.block_count": 2,
    "toy.context_length": 8192,
    "toy.embedding_length": 64,
    "toy.attention.head_count": 4,
    "tokenizer.chat_template": TEMPLATE,
}
CARD = """
name = "{name}"
aliases = []
family = "toy"
profile = "small"
licence = "MIT"
context_tokens = 8192
description = "a header without weights"
sampling = {{}}

[llama]
repo = "someone/toy"
files = [{{ name = "toy.gguf", bytes = {bytes}, sha256 = "{sha256}" }}]
"""


@pytest.fixture
def pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return how to have a model's file here, as `pull` takes one that lies in its place."""
    monkeypatch.setenv("RLM_LOCAL_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("RLM_LOCAL_KV_TOKENS", raising=False)

    def put(name: str = "toy", **more: Value) -> Path:
        (tmp_path / "models").mkdir(exist_ok=True)
        raw = gguf(TOY | more)
        card = CARD.format(name=name, bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
        (tmp_path / "models" / f"{name}.toml").write_text(card)
        file = tmp_path / "weights" / name / "llama" / "toy.gguf"
        file.parent.mkdir(parents=True)
        file.write_bytes(raw)
        assert main(["pull", name]) == 0
        return file

    return put


def test_show_tells_a_cell_the_cells_and_what_is_available(
    pulled: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    size = pulled().stat().st_size
    capsys.readouterr()
    assert main(["show", "toy", "--json"]) == 0
    needs = json.loads(capsys.readouterr().out)["engines"]["llama"]["needs"]
    cell = 2 * 4 * (16 + 16) * 2  # layers, heads, K and V, 16 bits
    available = needs.pop("available_bytes")
    assert needs == {
        "window_tokens": 8192,
        "cells": 2 * 8192,
        "cell_bytes": cell,
        "cells_bytes": 2 * 8192 * cell,
        "shelf_bytes": 2 * 8192 * cell,
        "weights_bytes": size,
        "states_bytes": 0,
        "buffers_bytes": BUFFERS_BYTES,
        "total_bytes": 4 * 8192 * cell + size + BUFFERS_BYTES,
        "fits": True,
        "template_breaks_growth": "",
    }
    assert 0 < available <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    main(["show", "toy"])
    told = capsys.readouterr().out
    assert f"for 16,384 cells of {cell} bytes" in told
    assert "turns: each begins with the whole of the one before it" in told


def test_show_names_a_template_that_breaks_the_growth(
    pulled: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pulled(**{"tokenizer.chat_template": TEMPLATE + "<think>"})
    main(["show", "toy"])
    told = capsys.readouterr().out
    assert "turns: later ones share less, because of the chat template: turn 1 has '<think>" in told


def test_the_environment_sets_the_cells_that_show_and_doctor_reckon_with(
    pulled: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled("qwen2.5-coder-1.5b")  # the default model, which doctor looks at; a user's card replaces ours
    monkeypatch.setenv("RLM_LOCAL_NSJAIL", "/nonexistent")  # spares the jail, which is not what is asked here
    monkeypatch.setenv("RLM_LOCAL_KV_TOKENS", str(1 << 40))
    capsys.readouterr()
    main(["show", "qwen2.5-coder-1.5b"])
    assert "does not fit: qwen2.5-coder-1.5b with 1,099,511,627,776 cells needs 524288." in capsys.readouterr().out
    main(["doctor", "--json"])
    memory = next(check for check in json.loads(capsys.readouterr().out) if check["name"] == "memory")
    assert (memory["ok"], memory["required"]) == (False, False)
    assert "cells fit; lower --kv-tokens" in memory["hint"]
    monkeypatch.setenv("RLM_LOCAL_KV_TOKENS", "9000")
    main(["doctor"])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.split()[1] == "memory")
    assert line.startswith("ok ")
    assert "for 9,000 cells of 512 bytes" in line


def test_a_file_that_is_no_model_is_told_and_the_rest_is_shown(
    toy_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "toy"]) == 0
    assert capsys.readouterr().out.endswith("memory: unknown, because toy.gguf is not a GGUF file\n")
    main(["show", "toy", "--json"])
    assert json.loads(capsys.readouterr().out)["engines"]["llama"]["needs"] is None


def test_ask_refuses_cells_that_do_not_fit_before_it_starts_anything(
    pulled: Callable[..., Path],
    mistake: Callable[..., Mistake],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    pulled()
    capsys.readouterr()
    document = tmp_path / "a.txt"
    document.write_text("A document.")
    told = mistake("ask", "Who?", str(document), "--model", "toy", "--kv-tokens", "99999999999", "-q")
    assert told.exit_code == 2
    assert "toy with 99,999,999,999 cells needs 47684" in told.error
    assert told.hint.endswith("lower --kv-tokens")
