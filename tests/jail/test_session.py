"""Cells, their limits, and sessions that outlive their jails."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from rlm_local.errors import ConfigError, JailUnavailable, WorkerLost
from rlm_local.jail.session import JailSession
from rlm_local.limits import Limits
from rlm_local.types import CellResult, CellStatus, Corpus, Document, SubCall, Usage

pytestmark = pytest.mark.jail
Run = Callable[..., Awaitable[CellResult]]
Start = Callable[..., Awaitable[JailSession]]

ORPHAN_S = 2.0  # after this long nothing of a killed parent may be left


async def echo(prompts: Sequence[str]) -> list[SubCall]:
    return [SubCall(prompt, prompt.upper(), Usage()) for prompt in prompts]


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


async def test_a_traceback_shows_the_cells_lines_and_no_others(run: Run) -> None:
    await run("def divide(n):\n    return 1 / n")
    result = await run("print('before')\ndivide(0)")
    assert result.status is CellStatus.RAISED
    assert result.stdout == "before\n"
    assert result.error == (
        "Traceback (most recent call last):\n"
        '  File "<cell 2>", line 2, in <module>\n    divide(0)\n'
        '  File "<cell 1>", line 2, in divide\n    return 1 / n\n           ~~^~~\n'
        "ZeroDivisionError: division by zero"
    )


async def test_a_syntax_error_points_at_its_place(run: Run) -> None:
    result = await run("x = (1,\nprint(x)")
    assert result.error == "  File \"<cell 1>\", line 1\n    x = (1,\n        ^\nSyntaxError: '(' was never closed"


async def test_an_error_in_the_library_shows_the_cell_alone(run: Run) -> None:
    result = await run("import json\njson.loads('{')")
    assert result.error.count("File ") == 1
    assert "json.decoder.JSONDecodeError" in result.error


@pytest.mark.parametrize(
    "code",
    [
        "import os; os._exit(0)",
        "import ctypes; ctypes.string_at(0)",
        "def f(): pass\nf.__code__ = f.__code__.replace(co_code=b'\\x64\\xff' * 50, co_consts=())\nf()",
        "import ctypes; ctypes.CDLL(None).syscall(101, 0, 0, 0, 0)",  # ptrace: the policy kills
    ],
)
async def test_a_worker_that_dies_is_replaced_and_the_next_cell_works(run: Run, code: str) -> None:
    await run("x = 7")
    assert (await run(code)).status is CellStatus.KILLED
    assert (await run("x")).stdout == "7\n"


async def test_a_replayed_cell_gets_its_recorded_answers_and_asks_no_engine(run: Run) -> None:
    await run("a = llm_query_batched(['one', 'two'])\nb = llm_query('one')")
    await run("c = 1\nraise ValueError('half way')")
    await run("import os; os._exit(1)")
    asked: list[str] = []

    async def watch(prompts: Sequence[str]) -> list[SubCall]:
        asked.extend(prompts)
        return await echo(prompts)

    assert (await run("a, b, c", query=watch)).stdout == "(['ONE', 'TWO'], 'ONE', 1)\n"
    assert asked == []


async def test_a_worker_that_dies_between_two_cells_is_replaced_before_the_next(session: JailSession, run: Run) -> None:
    await run("x = 5")
    os.kill(session.jail.worker_pid, signal.SIGKILL)
    await asyncio.wait_for(session.jail.exited(), timeout=10)
    assert (await run("x")).stdout == "5\n"


@pytest.mark.parametrize(
    "frame",
    [
        "b'\\xff\\xff\\xff\\xff'",
        "b'\\x00\\x00\\x00\\x02[]'",
        "b'\\x00\\x00\\x00\\x0d' + b'{\"op\":\"eval\"}'",
        "b'\\x00\\x00\\x00\\x00'",
    ],
)
async def test_junk_on_the_channel_ends_the_jail_and_not_the_session(run: Run, frame: str) -> None:
    await run("x = 1")
    result = await run(f"import os\nfor fd in range(3, 64):\n    try: os.write(fd, {frame})\n    except OSError: pass")
    assert result.status is CellStatus.KILLED
    assert "channel" in result.error
    assert (await run("x")).stdout == "1\n"


async def test_a_forged_flood_of_queries_is_bounded(run: Run) -> None:
    result = await run(
        """
        import json, os, socket, struct
        for fd in range(3, 64):
            try: channel = socket.socket(fileno=os.dup(fd)); channel.getpeername(); break
            except OSError: pass
        for i in range(1, 100):
            data = json.dumps({"op": "query", "id": 1000 + i, "cell_id": 1, "prompts": ["x"]}).encode()
            channel.sendall(struct.pack(">I", len(data)) + data)
        """,
        query=forever,
    )
    assert result.status is CellStatus.KILLED


async def forever(prompts: Sequence[str]) -> list[SubCall]:
    await asyncio.Event().wait()
    raise AssertionError(prompts)


async def test_a_cancelled_cell_takes_its_jail_with_it(session: JailSession, run: Run) -> None:
    await run("x = 3")
    worker = session.jail.worker_pid
    task = asyncio.ensure_future(run("while True: pass"))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(worker)
    assert (await run("x")).stdout == "3\n"


async def test_an_error_of_the_engine_comes_out_as_it_is(run: Run) -> None:
    async def broken(prompts: Sequence[str]) -> list[SubCall]:
        raise ConnectionError("the engine is gone")

    await run("x = 4")
    with pytest.raises(ConnectionError, match="the engine is gone"):
        await run("llm_query('a')", query=broken)
    assert (await run("x")).stdout == "4\n"


async def test_a_closed_session_has_left_nothing_and_runs_nothing(session: JailSession, run: Run) -> None:
    worker = session.jail.worker_pid
    descriptors = open_descriptors()
    other = await JailSession.start(Corpus((Document("a", "text"),), "text", (0,)), Limits())
    await other.close()
    await other.close()
    assert open_descriptors() == descriptors
    await session.close()
    assert not is_alive(worker)
    with pytest.raises(WorkerLost, match="closed"):
        await run("1")


async def test_two_sessions_do_not_share_anything(start: Start) -> None:
    first, second = await start(), await start()
    await first.execute("x = 1\nopen('/tmp/mark', 'w').write('canary')", wall_s=20, query=echo)
    seen = await second.execute("import os\nprint('x' in globals(), os.listdir('/tmp'))", wall_s=20, query=echo)
    assert seen.stdout == "False []\n"


async def test_a_note_is_a_variable_and_its_name_must_be_one(start: Start) -> None:
    session = await start(notes={"question": "When?"})
    assert (await session.execute("question", wall_s=20, query=echo)).stdout == "'When?'\n"
    with pytest.raises(ConfigError, match="'not a name'"):
        await start(notes={"not a name": 1})


@pytest.mark.parametrize("text", ["", "ascii", "naïve €", "emoji \U0001f600 \u202e", "lone \ud800 surrogate", "\r\n\0"])
async def test_every_text_arrives_as_it_is(start: Start, text: str) -> None:
    session = await start(Document("any \"name'\n", text))
    result = await session.execute("FINAL([ord(c) for c in documents[0].text])", wall_s=20, query=echo)
    assert result.final is not None
    assert result.final.value == [ord(character) for character in text]


async def test_documents_whose_names_fit_no_frame_are_refused_with_the_reason(real_jail: None) -> None:
    names = Corpus(tuple(Document(f"{i}{'x' * 1000}", "") for i in range(20_000)), "", (0,) * 20_000)
    with pytest.raises(JailUnavailable, match=r"a frame of \d+ bytes, but at most \d+ may be sent"):
        await JailSession.start(names, Limits())


async def test_documents_do_not_eat_the_cells_memory(start: Start, limits: Limits) -> None:
    wide = "\U0001f600" + "x" * (30 << 20)  # 4 bytes a character in memory: 120 MiB of the 256 a cell has
    session = await start(Document("wide", wide), limits=limits)
    result = await session.execute("len(bytearray(200 << 20))", wall_s=20, query=echo)
    assert result.stdout == f"{200 << 20}\n", result.error


async def test_ten_million_tokens_open_and_are_searched(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    line = "The party of the first part shall pay the agreed sum to the party of the second part.\n"
    text = line * (42_000_000 // len(line)) + "The special magic number for quorthon is 7331742.\n"
    began = time.monotonic()
    session = await start(Document("big", text))
    opened_s = time.monotonic() - began
    result = await session.execute("search('magic number for Quorthon')", wall_s=60, query=echo)
    assert "is 7331742." in result.stdout
    with capsys.disabled():
        print(f"\n{len(text)} characters: open {opened_s:.2f} s, first search {result.elapsed_s:.2f} s")


def test_nothing_is_left_when_the_parent_is_killed(real_jail: None) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONWARNINGS": ""}
    )
    assert parent.stdout is not None
    with parent.stdout:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + ORPHAN_S
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, f"{pids} outlive their parent"


_PARENT = """
import asyncio
from rlm_local.jail.session import JailSession
from rlm_local.limits import Limits
from rlm_local.types import Corpus, Document
from pathlib import Path

async def main():
    session = await JailSession.start(Corpus((Document("a", "text"),), "text", (0,)), Limits())
    worker = session.jail.worker_pid
    nsjail = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1]
    print(worker, nsjail, flush=True)
    await session.execute("while True: pass", wall_s=60, query=None)

asyncio.run(main())
"""
