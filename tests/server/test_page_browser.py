"""The start page in a real browser, by keyboard, over a server whose run is a script that waits for us."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from rlm_local.cards import Card
from rlm_local.events import DocumentInfo, NodeEnded, NodeStarted, PageDone, Replied, RunEnded, SubCallDone
from rlm_local.events import TurnStarted as Began
from rlm_local.events import TurnTaken as Taken
from rlm_local.events import TurnWritten as Wrote
from rlm_local.limits import Limits
from rlm_local.ports import Recorder
from rlm_local.server.desk import Desk
from rlm_local.server.settings import Settings
from rlm_local.testing import ScriptedEngine
from rlm_local.types import (
    Answer,
    CallKind,
    Cell,
    CellResult,
    CellStatus,
    Citation,
    DocumentCoverage,
    Failure,
    Final,
    Page,
    Reply,
    ReplyStop,
    Request,
    StopReason,
    Stretch,
    SubCall,
    Turn,
    Usage,
)
from tests.server.browser import CHROMIUM, WITHIN_S, browsing
from tests.server.browser import Page as Browsed
from tests.server.scripted import ScriptedRuntime, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH; apt-get install chromium"),
]

HOSTILE = '<img src=x onerror="window.pwned = 1"><script>window.pwned = 2</script>'
QUOTE = f"The notice period is ninety days {HOSTILE}."
TEXT = f"Rent is due monthly.\n{'Pets are welcome. ' * 30}\n{QUOTE}\n{'Walls are white. ' * 60}"
QUESTION = f"How long is the notice period? {HOSTILE}"
NAME = f"lease {HOSTILE}.txt"
CODE = 'for part in parts:\n    print(llm_query("How long? " + part))'
LOOKED = f"I look for the period.\n```repl\n{CODE}\n```"


@dataclass
class TellingRuntime(ScriptedRuntime):
    """Its run tells of a tree with a child, sub-calls, a typed call and an error, half of it when it may go on."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, request: Request, recorder: Recorder, **_: Any) -> Answer:
        recorder.write(self.started(request))
        for event in _first_half():
            recorder.write(event)
        await self.go_on.wait()
        answer = _answer()
        for event in (*_second_half(), RunEnded(answer)):
            recorder.write(event)
        return answer


def _first_half() -> list[Any]:
    reply = Reply(LOOKED, ReplyStop.COMPLETE, Usage(900, 600, 40))
    call = SubCall(f"How long? {HOSTILE}", f"ninety days {HOSTILE}", Usage(40, 0, 4))
    page = Page(CallKind.CLASSIFY, {}, ("one", HOSTILE), ("yes", None), (Failure(1, "its reply was cut"),), Usage())
    return [
        Began("0", 1, "first"),
        Replied("0", 1, "0" * 32, reply),
        Wrote("0", 1, LOOKED),
        SubCallDone("0", 1, 1, call),
        PageDone("0", 1, 2, page),
        *(SubCallDone("0", 1, number, SubCall("Again?", "yes", Usage())) for number in range(3, 123)),
        NodeStarted("0.1", "0", 1, f"And the rent? {HOSTILE}", (DocumentInfo("a", 9, "0" * 64),), (), Limits()),
        Began("0.1", 1, "first"),
    ]


def _second_half() -> list[Any]:
    child = Answer("monthly", StopReason.FINAL, confirmed=True)
    result = CellResult(CellStatus.RAISED, f"ninety days {HOSTILE}\n", error=f"ValueError: {HOSTILE}", elapsed_s=1.25)
    return [
        Wrote("0.1", 1, 'FINAL("monthly")'),
        Taken("0.1", 1, Turn('FINAL("monthly")', Final("monthly"), Usage()), ""),
        NodeEnded("0.1", child),
        Taken("0", 1, Turn(LOOKED, Cell(CODE), Usage(900, 600, 40), result), "raised ..."),
        Began("0", 2, "open"),
        Wrote("0", 2, f'FINAL("ninety days {HOSTILE}")'),
        Taken("0", 2, Turn("FINAL(...)", Final("ninety days"), Usage()), ""),
    ]


def _answer() -> Answer:
    start = TEXT.index(QUOTE)
    read = (Stretch(0, 100), Stretch(start, start + len(QUOTE)))
    return Answer(
        f"ninety days {HOSTILE}",
        StopReason.FINAL,
        confirmed=True,
        citations=(Citation(NAME, start, start + len(QUOTE), 3, QUOTE),),
        usage=Usage(940, 600, 44),
        turns=2,
        subcalls=123,
        wall_s=2.0,
        coverage=(DocumentCoverage(NAME, len(TEXT), printed=read),),
    )


async def test_a_run_is_watched_live_by_keyboard_and_no_document_acts_on_the_page(card: Card, tmp_path: Path) -> None:
    runtime = TellingRuntime(card, ScriptedEngine((), window_tokens=32_000))
    shots = Path(os.environ.get("RLM_LOCAL_SCREENSHOTS", tmp_path))
    async with (
        serving(Desk(card, Settings()), runtime, tmp_path, by_tcp=True) as served,
        browsing(tmp_path) as page,
    ):
        secret = served.keys.add("ada", None)[1]
        made = await _start(served.client, secret)
        await _start(served.client, served.keys.add("bob", None)[1])
        await page.go(served.url + "/")

        # A key is wanted; it is typed, and goes no further than this tab.
        await page.until("document.activeElement?.id === 'key'")
        await page.write("rlm-wrong")
        await page.press("Enter")
        await page.until("document.getElementById('refused').textContent.includes('does not know')")
        await page.write(secret)
        await page.press("Enter")
        await page.until("!document.getElementById('main').hidden")
        assert await page.value("[localStorage.length, document.cookie]") == [0, ""]
        assert await page.value("document.querySelectorAll('#runs tbody tr').length") == 1  # bob's is his own
        assert "32,000 tokens" in await page.value("document.getElementById('server').textContent")

        # To the run by keyboard, while it goes on.
        for _ in range(10):
            if await page.value("document.activeElement?.matches('#runs a')"):
                break
            await page.press("Tab")
        await page.press("Enter")
        await page.until(f"location.hash === '#{made['id']}'")
        await page.until("document.querySelector('.child .turns > li')")
        assert await page.value("document.activeElement.id") == "run-title"
        assert await page.value("document.querySelector('.calls > li pre').textContent") == f"How long? {HOSTILE}"
        assert await page.value("document.querySelectorAll('.calls > li').length") == 100
        await page.screenshot(shots / "page-live.png")
        await _press(page, "Open all")
        await page.until("document.querySelectorAll('#run details:not([open])').length === 0")
        shown = await page.value("document.getElementById('run').innerText")
        for text in (
            "And the rent? <img",
            "… and 22 more",
            "123 sub-calls",
            "works …",
            "item 1 failed",
            "running",
            "66.7 %",
            "Cancel",
        ):
            assert text in shown, shown
        await _press(page, "Close all")
        await page.until("document.querySelectorAll('#run details[open]').length === 0")

        # Its end comes by itself.
        runtime.go_on.set()
        await page.until("document.querySelector('.answer')")
        assert await page.value("document.querySelector('.answer').textContent") == f"ninety days {HOSTILE}"
        assert await page.value("document.querySelector('figure mark').textContent") == QUOTE
        around = await page.value("document.querySelector('figure blockquote').textContent")
        assert around in (TEXT[: len(around)], TEXT, TEXT[: TEXT.index(QUOTE) + len(QUOTE) + 600])
        await _press(page, "Open all")
        shown = await page.value("document.getElementById('run').innerText")
        for text in (NAME, "line 3", "confirmed", "the cell raised an error in 1.3 s", "Its answer: monthly", "done"):
            assert text in shown, shown
        assert "Cancel" not in shown
        await page.until("document.querySelector('#runs tbody td.done')")

        # What documents and models said is text: nothing was loaded, run or complained of.
        assert await page.value("[typeof window.pwned, document.images.length, document.scripts.length]") == [
            "undefined",
            0,
            1,
        ]
        assert await page.value("document.querySelectorAll('#main [style], #main script').length") == 0
        assert {url.partition("/page/")[0].partition("/v1/")[0].rstrip("/") for url in page.asked} == {served.url}
        assert [told for told in page.complaints if "401" not in told] == []

        # Light and dark, and narrow without scrolling sideways.
        grounds = []
        for scheme in ("light", "dark"):
            await page.scheme(scheme)
            grounds.append(await page.value("getComputedStyle(document.body).backgroundColor"))
            await page.screenshot(shots / f"page-{scheme}.png")
        assert grounds == ["rgb(255, 255, 255)", "rgb(22, 22, 24)"]
        await page.resize(360, 800, mobile=True)
        assert await page.value("document.documentElement.scrollWidth") <= 360
        await page.screenshot(shots / "page-narrow.png")


async def test_the_browser_itself_refuses_what_a_script_would_make_of_a_text(card: Card, tmp_path: Path) -> None:
    runtime = TellingRuntime(card, ScriptedEngine((), window_tokens=32_000))
    async with (
        serving(Desk(card, Settings()), runtime, tmp_path, by_tcp=True) as served,
        browsing(tmp_path) as page,
    ):
        await page.go(served.url + "/")
        await page.until("document.getElementById('none')?.hidden === false")
        tried = "try { document.body.innerHTML = '<p>'; 'made' } catch (error) { error.name }"
        assert await page.value(tried) == "TypeError"
        foreign = served.url.replace("127.0.0.1", "localhost")
        assert await page.value(f"fetch('{foreign}/health').catch((error) => error.name)") == "TypeError"


async def _press(page: Browsed, name: str) -> None:
    """Press a button of the run by keyboard."""
    await page.value(f"[...document.querySelectorAll('#run button')].find((one) => one.innerText === '{name}').focus()")
    await page.press("Enter")


async def _start(client: httpx.AsyncClient, secret: str) -> dict[str, Any]:
    body = {"question": QUESTION, "documents": [{"name": NAME, "text": TEXT}]}
    response = await client.post(
        "/v1/rlm/runs", json=body, headers={"Authorization": f"Bearer {secret}"}, timeout=WITHIN_S
    )
    assert response.status_code == 202, response.text
    made: dict[str, Any] = response.json()
    return made
