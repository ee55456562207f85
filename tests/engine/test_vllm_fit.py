"""Whether a model fits, which engine a command means, and what is told where there is no GPU."""

from __future__ import annotations

import ctypes.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlm_local.cards import EngineKind, find_card, load_cards
from rlm_local.cli.engines import choose_engine
from rlm_local.config import home, vllm_python
from rlm_local.engine.vllm.attach import attach, base_of
from rlm_local.engine.vllm.fit import read_shape, require_fit, shards
from rlm_local.engine.vllm.gpus import Gpu, installed_gpus
from rlm_local.engine.vllm.launch import Backend, VllmSettings
from rlm_local.engine.vllm.ways import cpu_ways
from rlm_local.errors import ConfigError, EngineRefused, EngineUnavailable, StoreError
from rlm_local.plan import plan_runtime

GIB = 1 << 30
CONFIG = {"num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128}


def folder(tmp_path: Path, size: int, **more: object) -> Path:
    """Weights that are a hole of this size, and take no disk."""
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **more}))
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(size)
    return tmp_path


def settings(*arguments: str) -> VllmSettings:
    return VllmSettings(Path("/bin/sh"), arguments)


def test_a_token_of_cache_costs_what_the_layers_say(tmp_path: Path) -> None:
    assert read_shape(folder(tmp_path, 100)).kv_bytes_per_token == 2 * 48 * 4 * 128 * 2  # 96 KiB
    mixed = read_shape(folder(tmp_path, 100, layer_types=["linear_attention", "full_attention"] * 24))
    assert (mixed.is_hybrid, mixed.kv_bytes_per_token) == (True, 24 * 4 * 128 * 2 * 2)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config.json does not describe a model"):
        read_shape(tmp_path)


def test_a_model_that_no_gpu_holds_is_refused_with_numbers_and_the_pieces_that_fit(tmp_path: Path) -> None:
    weights, gpus = folder(tmp_path, 57 * GIB), [Gpu("one", 80 * GIB, 48 * GIB)] * 2
    with pytest.raises(ConfigError) as raised:
        require_fit(weights, "m", window_tokens=16_384, gpus=gpus, settings=settings())
    assert str(raised.value) == (
        "m needs 60.5 GiB on a GPU (57.0 GiB of weights, 1.5 GiB of cache for one window of 16384 tokens), "
        "but 48.0 GiB are free"
    )
    assert "--tensor-parallel-size 2" in raised.value.hint
    require_fit(weights, "m", window_tokens=16_384, gpus=gpus, settings=settings("--tensor-parallel-size", "2"))


def test_without_a_gpu_the_machines_memory_counts(tmp_path: Path) -> None:
    weights = folder(tmp_path, 57 * GIB)
    with pytest.raises(ConfigError, match=r"needs 60.5 GiB of memory, for there is no GPU .* but 24.0 GiB are free"):
        require_fit(weights, "m", window_tokens=16_384, gpus=(), settings=settings(), memory_bytes=24 * GIB)


def test_parallelism_is_read_in_every_way_that_it_can_be_written() -> None:
    assert shards(["--tensor-parallel-size=4", "-pp", "2", "--data-parallel-size", "8"]) == 8
    assert shards([]) == 1
    with pytest.raises(ConfigError, match="-tp is 'two'"):
        shards(["-tp", "two"])


def test_gpus_are_none_where_there_is_no_driver() -> None:
    assert installed_gpus("libno-such-driver.so.1") == ()
    if ctypes.util.find_library("nvidia-ml") is None:
        assert installed_gpus() == ()


NVML = """
#include <string.h>
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(long)(index + 1); return 0; }
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *memory) {
    if ((long)device == 2) return 4; /* no permission */
    memory[0] = 1000; memory[1] = 100 * (long)device; memory[2] = 1000 - memory[1]; return 0;
}
int nvmlDeviceGetName(void *device, char *name, unsigned length) { strncpy(name, "A GPU", length); return 0; }
"""


def test_what_the_driver_says_of_each_gpu_is_read_by_its_own_structure(tmp_path: Path) -> None:
    (tmp_path / "nvml.c").write_text(NVML)
    library = tmp_path / "nvml.so"
    made = subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "nvml.c")], check=False)
    assert made.returncode == 0
    assert installed_gpus(str(library)) == (Gpu("A GPU", 1000, 100), Gpu("A GPU", 1000, 300))


def test_without_a_gpu_the_gguf_is_named_where_it_fits_and_a_smaller_model_where_it_does_not() -> None:
    cards = load_cards()
    card = find_card("qwen3-coder", cards)
    assert "rlm-local pull qwen3-coder" in cpu_ways(card, cards, available_bytes=32 * GIB)
    told = cpu_ways(card, cards, available_bytes=8 * GIB)
    assert "its GGUF of 17.3 GiB does not fit the 8.0 GiB" in told
    assert "`--model qwen2.5-coder-1.5b` does" in told


@pytest.mark.parametrize("kind", list(EngineKind))
def test_a_plan_for_a_gpus_model_names_the_ways_of_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: EngineKind
) -> None:
    monkeypatch.setattr("rlm_local.plan.installed_gpus", tuple)
    engine = choose_engine("qwen3-coder", kind, python=Path("/bin/sh") if kind is EngineKind.VLLM else None)
    with pytest.raises(StoreError, match="is not pulled") as raised:
        plan_runtime("qwen3-coder", home({"RLM_LOCAL_HOME": str(tmp_path)}), needs_jail=False, engine=engine)
    assert "GPU" in raised.value.hint


def test_options_that_contradict_each_other_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="runs already"):
        choose_engine("qwen3-coder", "llama", url="http://a:1")
    with pytest.raises(ConfigError, match="goes with --engine vllm"):
        choose_engine("qwen3-coder", "llama", python=Path("/bin/sh"))
    for given in ({"arguments": "-tp 2"}, {"backend": Backend.XGRAMMAR}):
        for kind in ("llama", None):  # by itself the engine is llama for a model that is for nothing else
            with pytest.raises(ConfigError, match=r"^--vllm-(args|grammar) goes with --engine vllm"):
                choose_engine("smollm2", kind, **given)
    for given in ({"arguments": "-tp 2"}, {"python": Path("/bin/sh")}, {"kv_tokens": 7}, {"window_tokens": 8192}):
        with pytest.raises(ConfigError, match=r"^--engine-url names .* heeds no --(vllm-|kv-|window)"):
            choose_engine("qwen3-coder", None, url="http://a:1", **given)
    with pytest.raises(ConfigError, match="--kv-tokens goes with --engine llama"):
        choose_engine("qwen3-coder", "vllm", python=Path("/bin/sh"), kv_tokens=7)
    with pytest.raises(ConfigError, match="No closing quotation"):
        choose_engine("qwen3-coder", "vllm", python=Path("/bin/sh"), arguments="'")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("RLM_LOCAL_VLLM_PYTHON", raising=False)
    with pytest.raises(ConfigError, match="no interpreter of vLLM is known") as raised:
        choose_engine("qwen3-coder", "vllm")
    assert "make vllm-cpu-env" in raised.value.hint
    chosen = choose_engine("qwen3-coder", "vllm", python=Path("/bin/sh"), arguments="-tp 2", backend=Backend.GUIDANCE)
    assert chosen.vllm == VllmSettings(Path("/bin/sh"), ("-tp", "2"), backend=Backend.GUIDANCE)


def test_the_environments_interpreter_is_the_one_named_else_the_newest_that_is_finished(tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    (tmp_path / "rlm-local/vllm-begun").mkdir(parents=True)
    assert vllm_python(cache) is None
    (tmp_path / "rlm-local/vllm-cpu-1").mkdir()
    (tmp_path / "rlm-local/vllm-cpu-1/ready").touch()
    assert vllm_python(cache) == tmp_path / "rlm-local/vllm-cpu-1/bin/python"
    assert vllm_python({**cache, "RLM_LOCAL_VLLM_PYTHON": sys.executable}) == Path(sys.executable)


@pytest.mark.parametrize("url", ["http://a:8000", "http://a:8000/", "http://a:8000/v1", "http://a:8000/v1/"])
def test_an_engines_url_may_have_the_path_of_the_api(url: str) -> None:
    assert base_of(url) == "http://a:8000"


@pytest.mark.parametrize(
    "url", ["a:8000", "ftp://a", "http://a?b=1", "", "http://a:99999", "http://[::1", "http://:80", "http://xn--"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"--engine-url is .*, but must be like http://host:8000"):
        base_of(url)


async def test_nobody_at_a_url_is_told_as_that() -> None:
    with pytest.raises(EngineUnavailable, match="did not answer GET /v1/models"):
        await attach("http://127.0.0.1:9", ("m",), dialect="ebnf")


async def test_an_attached_server_is_known_by_any_name_of_the_card_and_asked_with_the_key(fake_server: str) -> None:
    client = await attach(f"{fake_server}/v1", ("card", "owner/M"), dialect="ebnf", key="secret")
    assert client.info.model == "owner/m"
    assert client.notes[0].startswith("the engine obeys grammars")
    answer = await client.chat({"model": "card", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4})
    assert (answer["seen"]["model"], answer["key"]) == ("owner/m", "Bearer secret")
    await client.close()
    with pytest.raises(EngineRefused, match="serves owner/m, not card"):
        await attach(fake_server, ("card",), dialect="ebnf")
