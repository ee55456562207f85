"""The engine as a process: it starts or says why not, survives one crash, and never outlives us."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from rlm_local.engine import backoff
from rlm_local.engine.client import HttpEngine
from rlm_local.engine.launch import Launch, LlamaEngine, launch_llama
from rlm_local.engine.llama.gguf import model_shape
from rlm_local.engine.memory import BUFFERS_BYTES, footprint
from rlm_local.engine.process import EngineProcess
from rlm_local.errors import ConfigError, EngineRefused, EngineUnavailable
from rlm_local.types import Completion, Message, Role

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

Until = Callable[..., Awaitable[None]]
LONG = Completion((Message(Role.USER, "Write a long story about a lighthouse."),), 60)
SHORT = Completion((Message(Role.USER, "Hello."),), 2)


def launch(weights: Path, runtime: Path, **more):
    return launch_llama(weights, "m", window_tokens=1024, runtime_dir=runtime, threads=1, **more)


async def test_a_killed_engine_is_started_again_and_the_request_answered(
    weights, tmp_path: Path, until: Until, cpu_s
) -> None:
    async with launch(weights("smollm2-135m"), tmp_path) as engine:
        expected = await engine.complete(LONG)
        async with asyncio.TaskGroup() as group:
            replies = [group.create_task(engine.complete(completion)) for completion in (LONG, SHORT)]
            first, start = engine.pid, cpu_s(engine.pid)
            await until(lambda: cpu_s(first) > start + 0.2, within_s=60)
            os.kill(first, signal.SIGKILL)
        assert replies[0].result().text == expected.text
        # The first process had all but one token; in the new one the short request may have left the head.
        assert replies[0].result().usage.cached_tokens < expected.usage.prompt_tokens - 1
        assert engine.pid != first
    assert entries(tmp_path) == []


async def test_a_second_crash_is_an_error_that_names_the_signal(weights, tmp_path: Path, until: Until) -> None:
    async with launch(weights("smollm2-135m"), tmp_path) as engine:
        request = asyncio.create_task(engine.complete(LONG))
        first = engine.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: engine.pid != first, within_s=60)
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineUnavailable, match="killed by SIGKILL"):
            await request
        with pytest.raises(EngineUnavailable, match="not started again for"):
            await engine.complete(SHORT)
    assert entries(tmp_path) == []


async def test_a_restart_that_fails_is_told_and_tried_again_when_its_cause_may_have_gone(
    weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "FIRST_S", 30.0)
    copy = tmp_path / "copy.gguf"
    shutil.copyfile(weights("smollm2-135m"), copy)
    async with launch(copy, tmp_path / "run") as engine:
        copy.unlink()
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineUnavailable, match="did not start"):
            await engine.complete(SHORT)
        for _ in range(2):
            with pytest.raises(EngineUnavailable, match=r"did not start.*not started again") as raised:
                await engine.complete(SHORT)
            assert "RLM_LOCAL_LOG" in raised.value.hint
        shutil.copyfile(weights("smollm2-135m"), copy)
        monkeypatch.setattr(engine._backoff, "_not_before", 0.0)
        assert (await engine.complete(SHORT)).usage.completion_tokens
    assert entries(tmp_path / "run") == []


async def test_what_the_engine_says_is_logged_and_its_warnings_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    said = "warning: every prompt is computed anew\nwarned of nothing else\n"
    process = EngineProcess(Saying(tmp_path / said, "m", 1024, 1024, 0, 1, tmp_path / "run", log))
    try:
        with pytest.raises(EngineUnavailable, match="ended with status 3: warned of nothing else"):
            await process.ready()
        assert list(process.warnings) == ["every prompt is computed anew"]
        assert log.read_text() == said
    finally:
        await process.stop()


class Saying(Launch):
    """An engine that says the name of its weights and ends."""

    def argv(self, socket: Path, lifeline_fd: int) -> list[str]:
        return [sys.executable, "-c", "import sys; sys.stderr.write(sys.argv[1]); sys.exit(3)", self.weights.name]


async def test_an_engine_whose_parent_is_killed_is_gone_within_two_seconds(
    weights, tmp_path: Path, until: Until
) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from rlm_local.engine.launch import launch_llama\n"
        "async def main():\n"
        "    async with launch_llama(Path(sys.argv[1]), 'm', window_tokens=512, runtime_dir=Path(sys.argv[2]),"
        " threads=1) as engine:\n"
        "        print(engine.pid, flush=True); await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script, str(weights("smollm2-135m")), str(tmp_path)]
    parent = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert len(entries(tmp_path)) == 1
    parent.kill()
    await parent.wait()
    await until(lambda: not _lives(pid), within_s=2)
    assert entries(tmp_path) == []


async def test_a_cancelled_request_frees_the_engine_at_once(smollm: LlamaEngine, until: Until, cpu_s) -> None:
    endless = Completion((Message(Role.USER, "Count. " * 500),), 900, grammar="start: /[a-z ]{20000}/")
    for wait_s in (0.05, 1.0):  # within the prompt, and perhaps within the reply
        start = cpu_s(smollm.pid)
        request = asyncio.create_task(smollm.complete(endless))
        await until(lambda start=start, wait_s=wait_s: cpu_s(smollm.pid) > start + wait_s, within_s=60)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        before = cpu_s(smollm.pid)
        await smollm.complete(SHORT)
        assert cpu_s(smollm.pid) < before + 3  # the endless reply would have taken far more


async def test_ctrl_c_while_loading_leaves_nothing(weights, tmp_path: Path, until: Until) -> None:
    file = weights("smollm2-135m")

    async def use() -> None:
        async with launch(file, tmp_path):
            pytest.fail("it was cancelled before")

    starting = asyncio.create_task(use())
    await until(lambda: bool(entries(tmp_path)), within_s=5)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert entries(tmp_path) == []


async def test_the_socket_is_ours_alone_and_its_path_is_never_too_long(weights, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    async with launch(weights("smollm2-135m"), deep) as engine:
        assert len(os.fsencode(engine.socket)) <= 107
        assert stat.S_IMODE(engine.socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(engine.socket.parent.stat().st_mode) == 0o700
    assert not engine.socket.parent.exists()


async def test_truncated_weights_are_one_sentence(weights, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with weights("smollm2-135m").open("rb") as whole:
        cut.write_bytes(whole.read(50_000_000))
    log = tmp_path / "engine.log"
    with pytest.raises(EngineUnavailable, match=r"ended with status 1: cut.gguf is truncated or damaged") as raised:
        async with launch(cut, tmp_path / "run", log=log):
            pass
    assert "\n" not in str(raised.value)
    assert "truncated" in log.read_text()


async def test_weights_larger_than_memory_are_refused_with_numbers_before_anything_is_started(
    weights, tmp_path: Path
) -> None:
    large = tmp_path / "large.gguf"
    shutil.copyfile(weights("smollm2-135m"), large)
    os.truncate(large, 1 << 42)  # a hole takes no disk
    with pytest.raises(ConfigError, match=r"needs 4096\.\d GiB of memory \(4096\.0 GiB of weights") as raised:
        async with launch(large, tmp_path / "run"):
            pass
    assert raised.value.hint == "take a smaller model"
    assert not (tmp_path / "run").exists()


async def test_an_engine_takes_no_more_memory_than_was_told_before_it_was_started(weights, tmp_path: Path) -> None:
    file = weights("smollm2-135m")
    async with launch(file, tmp_path, kv_tokens=20_000) as engine:
        transport = httpx.AsyncHTTPTransport(uds=str(engine.socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=120) as client:
            cells = next(
                x for x in (await client.get("/metrics")).text.splitlines() if x.startswith("rlm_engine_cells ")
            )
            assert float(cells.split()[1]) >= 20_000
            body = {"prompt": "river stone " * 400, "max_tokens": 8, "n": 8, "temperature": 1}
            assert (await client.post("/v1/completions", json=body)).status_code == 200
        told = footprint(model_shape(file), 20_000).total_bytes
        assert told - BUFFERS_BYTES < _peak_bytes(engine.pid) < told


def _peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/chat/completions", b"{", 400, "not JSON"),
        ("/v1/chat/completions", b"[]", 400, "must be an object"),
        ("/v1/chat/completions", b'{"messages":[{"role":"user","content":"\\ud800"}]}', 400, "not Unicode"),
        ("/v1/chat/completions", b'{"model":"other","messages":[]}', 404, "'other'"),
        ("/v1/chat/completions", b'{"messages":[{"role":"user","content":"a"}],"tools":[]}', 400, "tools"),
        ("/tokenize", b'{"prompt":1}', 400, "prompt is a int"),
        ("/nowhere", b"{}", 404, "Not Found"),
        ("/health", b"{}", 405, "Not Allowed"),
    ],
)
async def test_a_bad_request_gets_openais_error_shape(
    raw: httpx.AsyncClient, path: str, body: bytes, status: int, said: str
) -> None:
    response = await raw.post(path, content=body)
    error = response.json()["error"]
    assert (response.status_code, set(error)) == (status, {"message", "type", "code"})
    assert said in error["message"]


async def test_text_completion_goes_on_without_a_template(raw: httpx.AsyncClient) -> None:
    prompt = "one two three four five"
    count = (await raw.post("/tokenize", json={"prompt": prompt})).json()["count"]
    body = {"prompt": prompt, "max_tokens": 4, "temperature": 0}
    answer = (await raw.post("/v1/completions", json=body)).json()
    assert answer["choices"][0]["text"]
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["total_tokens"]) == (count, count + usage["completion_tokens"])


async def test_a_client_asks_for_a_model_by_its_name(smollm: LlamaEngine) -> None:
    with pytest.raises(EngineRefused, match="serves smollm2-135m, not gpt"):
        await HttpEngine.connect("gpt", socket=smollm.socket)
    with pytest.raises(EngineUnavailable, match="did not answer"):
        await HttpEngine.connect("gpt", socket=smollm.socket.with_name("nobody"))


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
