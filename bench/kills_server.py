"""The server that `python -m bench kills` kills: all of it is real but the engine, which knows the answers.

python -m bench.kills_server FOLDER

It listens on FOLDER/s, keeps its records in FOLDER/state, and appends to FOLDER/asked the digest of every request
that its engine is asked, before it answers.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from rlm_local.cards import find_card, load_cards
from rlm_local.controller.remember import request_digest
from rlm_local.errors import EngineRefused
from rlm_local.jail import JailPool
from rlm_local.prompts import load_profile
from rlm_local.runtime import JAILS_AHEAD, Runtime
from rlm_local.server.app import application
from rlm_local.server.database import Database, claim
from rlm_local.server.desk import Desk
from rlm_local.server.files import Files
from rlm_local.server.keys import Keys
from rlm_local.server.listen import listen_unix
from rlm_local.server.runs import Runs
from rlm_local.server.serve import serve
from rlm_local.server.settings import Settings
from rlm_local.testing import AnsweringEngine
from rlm_local.types import Completion, JsonObject, Reply, Role

MODEL = "smollm2-135m"
LOTS = 24
ANSWER_S = 0.02  # of the engine, for one request
# A cell that asks many at once, one that asks one after the other, and the sum of what they were told.
_TURNS = (
    'ask = question.rpartition(" ")[2]\n'
    'many = llm_query_batched([f"price of lot {n} at {ask}" for n in range(16)])\nprint(many)',
    'one = [llm_query(f"price of lot {n} at {ask}") for n in range(16, 24)]\n'
    "total = sum(map(int, many + one))\nprint(total)",
)


def expected(auction: int) -> int:
    """Return what all lots of an auction cost."""
    return sum(_price(lot, auction) for lot in range(LOTS))


def _price(lot: int, auction: int) -> int:
    return lot * lot + auction


class Ledger(AnsweringEngine):
    """An engine that writes down what it is asked before it answers."""

    def __init__(self, path: Path) -> None:
        super().__init__(_answer, tokens_each=10, window_tokens=32_000)
        self._fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)

    async def complete(self, completion: Completion) -> Reply:
        os.write(self._fd, f"{request_digest(completion)}\n".encode())
        await asyncio.sleep(ANSWER_S)
        return await super().complete(completion)

    async def chat(self, body: JsonObject) -> JsonObject:
        raise EngineRefused(f"this engine plays runs only, no {', '.join(body)}")

    def chat_stream(self, body: JsonObject) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        raise EngineRefused(f"this engine plays runs only, no {', '.join(body)}")


def _answer(completion: Completion) -> str:
    """Play root and sub-model: what is said depends on the request alone."""
    last = completion.messages[-1].content
    if asked := re.fullmatch(r"price of lot (\d+) at (\d+)", last):
        return str(_price(int(asked[1]), int(asked[2])))
    worked = sum(message.role is Role.ASSISTANT for message in load_profile("small").worked)
    turn = sum(message.role is Role.ASSISTANT for message in completion.messages) - worked
    return f"```repl\n{_TURNS[turn]}\n```" if turn < len(_TURNS) else "FINAL_VAR(total)"


@asynccontextmanager
async def _runtime(engine: Ledger) -> AsyncIterator[Runtime]:
    card = find_card(MODEL, load_cards())
    async with JailPool(JAILS_AHEAD) as jails:
        yield Runtime(card, load_profile("small"), engine, "0" * 64, jails=jails)


def main(folder: Path, files_of: Callable[[Database, Settings], Files] = Files) -> None:
    """files_of: how the records of files are opened."""
    state = folder / "state"
    claim(state)
    database = Database(state)
    desk = Desk(find_card(MODEL, load_cards()), Settings())
    files = files_of(database, desk.settings)
    runs = Runs(desk, database, files)
    app = application(desk, Keys(database), files, runs)

    def go_on(_: Runtime) -> None:
        runs.go_on()

    asyncio.run(serve(app, desk, _runtime(Ledger(folder / "asked")), listen_unix(folder / "s"), go_on))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
