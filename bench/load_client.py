"""One caller of `python -m bench load`: what he sends, and how what comes back is judged."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.load_report import Ended, Outcome
from bench.load_requests import Shot, Tenant, chat_body, foreign, own_word, run_body

RUNS, CHAT, FILES = "/v1/rlm/runs", "/v1/chat/completions", "/v1/files"
BOUND_S = 1_800.0  # in which every request must have ended
_COME_AGAIN = (429, 503)  # with Retry-After: it is full, or its engine is being replaced
_MOST_TRIES = 60


@dataclass
class Caller:
    """Asks for all tenants, over connections that they share."""

    http: httpx.AsyncClient
    model: str
    tenants: list[Tenant]
    files: dict[int, str] = field(default_factory=dict)  # by tenant: the document that he keeps
    runs: dict[str, int] = field(default_factory=dict)  # accepted ones, by id: the tenant's number

    async def fire(self, shot: Shot) -> Outcome:
        tenant, began = self.tenants[shot.tenant], time.perf_counter()
        seen = _Seen()
        try:
            async with asyncio.timeout(BOUND_S):
                while (wait_s := await self._once(shot, tenant, seen)) is not None:  # noqa: ASYNC110 as it was told
                    await asyncio.sleep(wait_s)
        except TimeoutError:
            seen.ended, seen.detail = Ended.UNANSWERED, f"nothing after {BOUND_S} s"
        except (httpx.TransportError, ValueError, LookupError, TypeError) as error:
            seen.ended, seen.detail = Ended.WRONG, f"{type(error).__name__}: {str(error)[:200]}"
        return Outcome(
            kind=shot.kind,
            ended=seen.ended,
            seconds=time.perf_counter() - began,
            detail=seen.detail,
            turned_away=tuple(seen.turned_away),
            crossed=tuple(foreign(seen.text, tenant, self.tenants)),
            has_own=tenant.canary in seen.text.lower(),
        )

    async def _once(self, shot: Shot, tenant: Tenant, seen: _Seen) -> float | None:
        """Ask once and note how it ended; return how many seconds to wait when it is to be asked again."""
        if shot.kind == "file":
            return await self._file(tenant, seen)
        if shot.kind in ("another's", "no key"):
            return await self._stranger(shot, tenant, seen)
        if "accepted" in shot.kind:
            return await self._accepted(shot, tenant, seen)
        body = chat_body(shot, tenant, self.model)
        if shot.is_stream:
            return await self._stream(shot, tenant, body, seen)
        response = await self.http.post(CHAT, json=body, headers=tenant.headers)
        if (wait_s := seen.told(response)) is not None or seen.ended is not Ended.ANSWERED:
            return wait_s
        said = response.json()["choices"][0]["message"]["content"]
        if shot.kind.endswith("schema") and json.loads(said) != own_word(shot, tenant):
            seen.ended, seen.detail = Ended.WRONG, f"the answer of another request: {said[:100]!r}"
        return None

    async def _stream(self, shot: Shot, tenant: Tenant, body: dict[str, Any], seen: _Seen) -> float | None:
        async with self.http.stream("POST", CHAT, json=body, headers=tenant.headers) as response:
            if response.status_code != httpx.codes.OK:
                await response.aread()
                return seen.told(response)
            text, pieces = "", 0
            async for piece in response.aiter_text():
                text, pieces = text + piece, pieces + 1
                if shot.is_dropped and pieces > shot.number % 4:
                    seen.ended, seen.text = Ended.DROPPED, text
                    return None
        seen.text = text
        last = text.rstrip("\n").rpartition("\n\n")[2].removeprefix("data: ")
        if last == "[DONE]":
            seen.ended = Ended.ANSWERED
        else:
            seen.error(json.loads(last), 503)
        return None

    async def _accepted(self, shot: Shot, tenant: Tenant, seen: _Seen) -> float | None:
        file_id = self.files[shot.tenant] if shot.kind.endswith("followed") else None
        # A name of its own: where the answer to this does not come, asking again starts no second run.
        headers = tenant.headers | {"Idempotency-Key": f"note-{shot.number}"}
        response = await self.http.post(RUNS, json=run_body(tenant, file_id), headers=headers)
        if (wait_s := seen.told(response, 202)) is not None or seen.ended is not Ended.ANSWERED:
            return wait_s
        run = response.json()["id"]
        self.runs[run] = shot.tenant
        if shot.kind.endswith("followed"):
            async with self.http.stream("GET", f"{RUNS}/{run}/events", headers=tenant.headers) as events:
                seen.text += (await events.aread()).decode()
        while (told := (await self.http.get(f"{RUNS}/{run}", headers=tenant.headers)).json())["ended_at"] is None:
            if shot.kind.endswith("followed"):
                raise ValueError(f"the events of {run} ended before it")
            await asyncio.sleep(0.5)
        seen.text += json.dumps(told)
        if told["status"] == "failed":
            seen.error(told, told["error"]["code"])
        elif told["status"] != "done" or told["answer"] is None:
            seen.ended, seen.detail = Ended.WRONG, f"the run ended as {told['status']}"
        return None

    async def _file(self, tenant: Tenant, seen: _Seen) -> float | None:
        file_id = await self.upload(tenant)
        content = await self.http.get(f"{FILES}/{file_id}/content", headers=tenant.headers)
        deleted = await self.http.delete(f"{FILES}/{file_id}", headers=tenant.headers)
        seen.text = content.text
        is_right = content.text == tenant.document and deleted.status_code == httpx.codes.OK
        seen.ended = Ended.ANSWERED if is_right else Ended.WRONG
        seen.detail = "" if is_right else f"read as {content.text[:80]!r}, deleted with {deleted.status_code}"
        return None

    async def upload(self, tenant: Tenant) -> str:
        form = {"file": ("harbour.txt", tenant.document.encode())}
        response = await self.http.post(FILES, data={"purpose": "user_data"}, files=form, headers=tenant.headers)
        return str(response.json()["id"])

    async def _stranger(self, shot: Shot, tenant: Tenant, seen: _Seen) -> float | None:
        """Ask for what is another's, or without a key: nothing of it may come."""
        dice = random.Random(shot.number)
        others = [number for number in self.files if self.tenants[number] is not tenant]
        run = next((run for run, owner in self.runs.items() if self.tenants[owner] is not tenant), None)
        path = f"{RUNS}/{run}" if run and dice.random() < 0.5 else f"{FILES}/{self.files[dice.choice(others)]}/content"
        has_key = shot.kind != "no key"
        response = await self.http.get(path, headers=tenant.headers if has_key else {})
        seen.told(response, 404 if has_key else 401)
        if seen.ended is Ended.ANSWERED:
            seen.ended = Ended.REFUSED
        return None


@dataclass
class _Seen:
    """What came back for one request."""

    ended: Ended = Ended.WRONG
    detail: str = ""
    text: str = ""
    turned_away: list[int] = field(default_factory=list)  # by which statuses

    def told(self, response: httpx.Response, wanted: int = 200) -> float | None:
        """Note a whole answer; return how many seconds to wait where the server says come again."""
        self.text += f"{response.headers} {response.text}"
        if response.status_code == wanted:
            self.ended = Ended.ANSWERED
            return None
        if response.status_code in _COME_AGAIN and len(self.turned_away) < _MOST_TRIES:
            wait_s = float(response.headers["Retry-After"])
            self.turned_away.append(response.status_code)
            return wait_s
        self.error(response.json(), response.status_code)
        return None

    def error(self, body: Any, status: int | str) -> None:
        told = body["error"]
        is_clear = set(told) == {"message", "type", "param", "code"} and told["message"]
        # In a stream and in a run there is no status; a word of ours is then as good.
        is_told = status in _COME_AGAIN or isinstance(status, str)
        self.ended = Ended.ERROR if is_clear and is_told else Ended.WRONG
        self.detail = f"{status}: {str(told)[:300]}"
