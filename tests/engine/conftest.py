"""Small real weights for the engine's tests, one engine process a session, and raw access to it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from rlm_local.config import home
from rlm_local.engine.launch import LlamaEngine, launch_llama
from rlm_local.testing import fake_vllm

# Names of the files as their makers publish them; the store may keep them under their sha256.
_FILES = {
    "smollm2-135m": ("SmolLM2-135M-Instruct.Q4_1.gguf",),
    "qwen2.5-coder-0.5b": (
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
}
WINDOW = 2048


def find_weights(name: str) -> Path:
    """Return the file of a test model; skips the test, saying where it was looked for, when there is none."""
    folders = [home().weights]
    if named := os.environ.get("RLM_LOCAL_TEST_WEIGHTS"):
        folders.insert(0, Path(named))
    for folder in folders:
        for file in _FILES[name]:
            for path in (folder / file, folder / name / "llama" / file):  # a plain folder, or the store
                if path.is_file():
                    return path
    pytest.skip(f"no weights of {name} in {', '.join(map(str, folders))}; set RLM_LOCAL_TEST_WEIGHTS to their folder")


@pytest.fixture(scope="session")
def weights() -> Callable[[str], Path]:
    return find_weights


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def smollm(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LlamaEngine]:
    runtime = tmp_path_factory.mktemp("run")
    # One thread, which leaves the other core of a small machine to whatever tests run beside these.
    async with launch_llama(
        find_weights("smollm2-135m"), "smollm2-135m", window_tokens=WINDOW, runtime_dir=runtime, threads=1
    ) as engine:
        yield engine
    assert list(runtime.iterdir()) == []


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def qwen(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LlamaEngine]:
    async with launch_llama(
        find_weights("qwen2.5-coder-0.5b"),
        "qwen2.5-coder-0.5b",
        window_tokens=WINDOW,
        runtime_dir=tmp_path_factory.mktemp("run"),
    ) as engine:
        yield engine


@pytest_asyncio.fixture(loop_scope="session")
async def raw(smollm: LlamaEngine) -> AsyncIterator[httpx.AsyncClient]:
    """Requests as anyone could send them, past our own client."""
    transport = httpx.AsyncHTTPTransport(uds=str(smollm.socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=120) as client:
        yield client


@pytest.fixture
def fake_server() -> Iterator[str]:
    """The URL of a vLLM that only speaks its API and serves owner/m."""
    handler = type("Serving", (fake_vllm.Handler,), {"model": "owner/m", "window": 4096})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def _until(condition: Callable[[], bool], *, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 what is waited for happens in another process
            await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def until() -> Callable[..., Awaitable[None]]:
    """`await until(condition, within_s=...)` returns as soon as the condition holds, or fails."""
    return _until


@pytest.fixture(scope="session")
def cpu_s() -> Callable[[int], float]:
    """Processor seconds that a process has used: by them a test knows that work is under way."""

    def used(pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    return used
