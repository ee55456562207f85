"""A headless Chromium, driven over a pipe by its own protocol: nothing beside the browser is needed."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WITHIN_S = 240.0  # generous: the machine may be busy
_FLAGS = ("--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage")
# The sandbox wants a user namespace; pages here are our own.
_QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
_KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), " ": (32, " ")}


class Page:
    """One page of the browser."""

    def __init__(self, reader: asyncio.StreamReader, out: int) -> None:
        self.asked: list[str] = []  # every URL that it wanted
        self.complaints: list[str] = []  # errors of scripts, and what the policy has stopped
        self._reader = reader
        self._out = out
        self._session: str | None = None
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def read(self) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                message = json.loads((await self._reader.readuntil(b"\0"))[:-1])
                if waiting := self._waiting.pop(message.get("id"), None):
                    waiting.set_result(message)
                self._hear(message.get("method"), message.get("params", {}))
        for waiting in self._waiting.values():
            waiting.set_exception(AssertionError("the browser has ended"))

    def _hear(self, method: str | None, told: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return what the browser answers; raises AssertionError for its errors."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        waiting = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        os.write(self._out, json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(WITHIN_S):
            answer = await waiting
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    async def open(self) -> None:
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        self._session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.resize(1100, 1500)

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:
        """Return what JavaScript makes of it."""
        told = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until it is true, or there."""
        try:
            async with asyncio.timeout(WITHIN_S):
                while not await self.value(f"Boolean({expression})"):  # noqa: ASYNC110 the page tells nobody
                    await asyncio.sleep(0.05)
        except TimeoutError:
            shown = await self.value("document.body.innerText")
            raise AssertionError(f"{expression} never came; {self.complaints}; the page shows:\n{shown}") from None

    async def press(self, key: str) -> None:
        code, text = _KEYS[key]
        fields = {"key": key, "windowsVirtualKeyCode": code}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **fields)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **fields)

    async def write(self, text: str) -> None:
        await self.call("Input.insertText", text=text)

    async def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        await self.call("Emulation.setDeviceMetricsOverride", **size)

    async def scheme(self, name: str) -> None:
        """Let the page be `light` or `dark`."""
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    async def screenshot(self, path: Path) -> None:
        shot = await self.call("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))


@asynccontextmanager
async def browsing(folder: Path) -> AsyncIterator[Page]:
    """A fresh page in a fresh profile; the browser ends with it."""
    assert CHROMIUM is not None
    commands, out = os.pipe()
    back, answers = os.pipe()
    flags = [*_FLAGS, *_QUIET, f"--user-data-dir={folder / 'profile'}"]
    shell = f'exec "$@" 3<&{commands} 4>&{answers}'
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", shell, "bash", CHROMIUM, *flags),
        pass_fds=(commands, answers),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(commands)
    os.close(answers)
    reader = asyncio.StreamReader(limit=64 << 20)  # a screenshot is one message
    file = os.fdopen(back, "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), file
    )
    page = Page(reader, out)
    reading = asyncio.create_task(page.read())
    try:
        await page.open()
        yield page
    finally:
        os.close(out)  # it ends by that
        try:
            async with asyncio.timeout(30):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        transport.close()
