"""One client for every engine that speaks OpenAI's API: ours behind a unix socket, vLLM behind a URL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn, Self
from uuid import uuid4

import httpx

from rlm_local.engine.transport import CleanTransport
from rlm_local.errors import EngineRefused, EngineUnavailable, WindowExceeded
from rlm_local.ports import CallCancelled
from rlm_local.types import Completion, EngineInfo, JsonObject, Reply, ReplyStop, Usage

# A long prompt on a slow processor takes minutes before the first byte, so reading has no limit; the run's
# own limits cancel the request.
_TIMEOUT = httpx.Timeout(None, connect=10.0, write=60.0)
_RETRYABLE = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS)
_CHAT = "/v1/chat/completions"
CANCEL_S = 0.5  # for the engine to say what a cancelled request has cost; then it goes uncounted
_HEALTH_S = 10.0
_JSON = {"Content-Type": "application/json"}
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_STOPS = {"stop": ReplyStop.COMPLETE, "length": ReplyStop.LENGTH}


class HttpEngine:
    """An engine that is already running, as ports.Engine. Use `connect`, and close() it.

    Raises EngineUnavailable when nobody answers or the answer makes no sense, and EngineRefused, with the
    engine's own words, for what the engine will not do.
    """

    def __init__(self, client: httpx.AsyncClient, info: EngineInfo) -> None:
        self._client = client
        self._info = info
        self.notes: tuple[str, ...] = ()  # what the engine was found to do, sentences for the user

    @classmethod
    async def connect(
        cls,
        model: str,
        *,
        socket: Path | None = None,
        base_url: str = "http://engine",
        grammar_dialect: str = "lark",
        ours: bool = False,
        key: str = "",
    ) -> Self:
        """Ask the engine what it serves and return a client for `model`.

        socket: a unix socket; base_url is then only a name for messages.
        ours: it is the CPU engine, which serves more than others: closed replies, scopes, depths, and what a
        cancelled request has cost.
        key: that the engine asks for.
        Raises EngineUnavailable when nobody answers, EngineRefused when `model` is not served there.
        """
        client = _client(base_url, socket, key)
        try:
            listing = await _exchange(client, "GET", "/v1/models")
            info = EngineInfo(model, _window(listing, model), grammar_dialect, can_close=ours, tells_spent=ours)
        except BaseException:
            await client.aclose()
            raise
        return cls(client, info)

    @property
    def info(self) -> EngineInfo:
        return self._info

    async def complete(self, completion: Completion) -> Reply:
        """See ports.Engine. Cancelling closes the connection, by which the engine knows."""
        body = self._request(completion)
        if self._info.tells_spent:
            answer = await self._cancellable(body)
        else:
            answer = await _exchange(self._client, "POST", _CHAT, body)
        try:
            choice, usage = answer["choices"][0], answer["usage"]
            if (ended := choice["finish_reason"]) not in _STOPS:  # vLLM: error, abort
                raise EngineUnavailable(f"the engine gave a reply up with finish_reason {ended!r}")
            return Reply(
                text=choice["message"]["content"] or "",
                stop=ReplyStop.CLOSED if "closed_text" in choice else _STOPS[choice["finish_reason"]],
                closed_text=choice.get("closed_text", ""),
                logprobs=_logprobs(completion, choice.get("choice_probabilities")),
                usage=_usage(usage),
            )
        except (KeyError, IndexError, TypeError) as error:
            raise EngineUnavailable(f"the engine's reply lacks {error}: {str(answer)[:200]}") from error

    async def _cancellable(self, body: dict[str, Any]) -> dict[str, Any]:
        """Exchange; when cancelled, ask the engine what was spent before the connection goes."""
        body["request_id"] = request_id = uuid4().hex
        exchange = asyncio.ensure_future(_exchange(self._client, "POST", _CHAT, body))
        try:
            return await asyncio.shield(exchange)
        except asyncio.CancelledError:
            with contextlib.suppress(EngineUnavailable, EngineRefused, TimeoutError):
                async with asyncio.timeout(CANCEL_S):
                    answer = await _exchange(self._client, "POST", "/cancel", {"request_id": request_id})
                raise CallCancelled(_usage(answer["usage"])) from None
            raise
        finally:
            exchange.cancel()
            await asyncio.gather(exchange, return_exceptions=True)

    async def count_tokens(self, text: str) -> int:
        """See ports.Engine."""
        body = {"model": self._info.model, "prompt": text, "add_special_tokens": False}
        answer = await _exchange(self._client, "POST", "/tokenize", body)
        count = answer.get("count")
        if not isinstance(count, int):
            raise EngineUnavailable(f"the engine counted no tokens: {str(answer)[:200]}")
        return count

    async def chat(self, body: JsonObject) -> JsonObject:
        """See ports.ChatEngine."""
        return await _exchange(self._client, "POST", _CHAT, body)

    @asynccontextmanager
    async def chat_stream(self, body: JsonObject) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """See ports.ChatEngine."""
        async with _opened(self._client, _CHAT, {**body, "stream": True}) as response:
            yield _pieces(response)

    async def close(self) -> None:
        await self._client.aclose()

    async def is_healthy(self) -> bool:
        """Tell whether the engine says that it can answer. One whose client was closed says nothing."""
        return await self._health() == httpx.codes.OK

    async def _health(self) -> int:
        """Return the status that /health is answered with; 0 for no answer."""
        try:
            return (await self._client.get("/health", timeout=_HEALTH_S)).status_code
        except httpx.TransportError:
            return 0
        except RuntimeError:  # of httpx, when the client was closed meanwhile, as by who replaces a dead engine
            if self._client.is_closed:
                return 0
            raise

    async def exchange(self, path: str, body: object) -> dict[str, Any]:
        """Return what the engine answers to a POST. Raises what complete() raises."""
        return await _exchange(self._client, "POST", path, body)

    @staticmethod
    def usage(said: dict[str, Any]) -> Usage:
        return _usage(said)

    def _request(self, completion: Completion) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._info.model,
            "messages": [{"role": m.role.value, "content": m.content} for m in completion.messages],
            "max_tokens": completion.max_tokens,
            "temperature": completion.sampling.temperature,
            "top_p": completion.sampling.top_p,
            "seed": completion.sampling.seed,
        }
        if completion.sampling.top_k:
            body["top_k"] = completion.sampling.top_k
        if held := _held(completion):
            body["structured_outputs"] = held
        if completion.scope:
            body["cache_salt"] = completion.scope
        if self._info.tells_spent and completion.depth:
            body["depth"] = completion.depth
        if self._info.tells_spent and completion.public_messages:
            body["public_messages"] = completion.public_messages
        if completion.close_at_limit:
            body["close_at_limit"] = True
        return body


async def served_models(base_url: str, *, key: str = "") -> tuple[str, ...]:
    """Return the names that an engine serves. Raises EngineUnavailable when nobody answers."""
    async with _client(base_url, None, key) as client:
        listing = await _exchange(client, "GET", "/v1/models")
    return tuple(str(card["id"]) for card in listing.get("data", []) if isinstance(card, dict) and "id" in card)


def _client(base_url: str, socket: Path | None, key: str) -> httpx.AsyncClient:
    # How many may be under way is the caller's business: where a bound were reached here, nobody could be told.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    transport = CleanTransport(httpx.AsyncHTTPTransport(uds=str(socket) if socket else None, limits=limits))
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # trust_env off: an HTTP proxy from the environment must never see a prompt.
    return httpx.AsyncClient(transport=transport, base_url=base_url, timeout=_TIMEOUT, trust_env=False, headers=headers)


def _held(completion: Completion) -> dict[str, Any]:
    """Return what a reply is held to, in the words of the protocol; {} for nothing."""
    if completion.choices:
        return {"choice": list(completion.choices)}
    if completion.regex:
        return {"regex": completion.regex}
    if completion.json_schema:
        return {"json": completion.json_schema}
    return {} if completion.grammar is None else {"grammar": completion.grammar}


def _logprobs(completion: Completion, scored: list[dict[str, Any]] | None) -> tuple[float, ...]:
    """Return the log-probability of each choice, in the order of the request; () where they were not scored."""
    if not scored:
        return ()
    by_choice = {one["choice"]: float(one["logprob"]) for one in scored}
    return tuple(by_choice[_text(choice)] for choice in completion.choices)


def _usage(said: dict[str, Any]) -> Usage:
    return Usage(
        prompt_tokens=said["prompt_tokens"],
        cached_tokens=(said.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        completion_tokens=said["completion_tokens"],
    )


async def _exchange(client: httpx.AsyncClient, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Return the JSON object that the engine answers with."""
    try:
        response = await client.request(method, path, content=_encoded(body), headers=_JSON)
    except httpx.TransportError as error:
        raise _silent(f"{method} {path}", error) from error
    answer = _json(response, path)
    if response.status_code != httpx.codes.OK:
        _fail(response.status_code, answer)
    if not isinstance(answer, dict):
        raise EngineUnavailable(f"the engine answered {path} with {str(answer)[:200]}")
    return answer


@asynccontextmanager
async def _opened(
    client: httpx.AsyncClient, path: str, body: Mapping[str, Any]
) -> AsyncGenerator[httpx.Response, None]:
    """Yield a response whose head has said that the engine takes the request; close it on the way out."""
    request = client.build_request("POST", path, content=_encoded(body), headers=_JSON)
    try:
        response = await client.send(request, stream=True)
    except httpx.TransportError as error:
        raise _silent(f"POST {path}", error) from error
    try:
        if response.status_code != httpx.codes.OK:
            try:
                await response.aread()
            except httpx.TransportError as error:
                raise _silent(f"POST {path}", error) from error
            _fail(response.status_code, _json(response, path))
        yield response
    finally:
        await response.aclose()


async def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in response.aiter_raw():
            yield piece
    except httpx.TransportError as error:
        raise _silent("the rest of a stream", error) from error


def _json(response: httpx.Response, path: str) -> object:
    try:
        return response.json()
    except ValueError as error:
        raise EngineUnavailable(f"the engine answered {path} with {response.status_code} and no JSON") from error


def _silent(asked: str, error: httpx.TransportError) -> EngineUnavailable:
    # httpx says nothing for a connection that was cut, so its class has to.
    return EngineUnavailable(f"the engine did not answer {asked}: {str(error) or type(error).__name__}")


def _encoded(body: object) -> bytes:
    """Return JSON. Half a surrogate pair, as a model's escapes may leave it, has no UTF-8 and becomes U+FFFD."""
    return b"" if body is None else _text(json.dumps(body, ensure_ascii=False)).encode()


def _text(text: str) -> str:
    return _HALF_PAIR.sub("\ufffd", text)


def _fail(status: int, answer: object) -> NoReturn:
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    message = error.get("message") if isinstance(error, dict) else None
    said = str(message or error)
    if 400 <= status < 500 and status not in _RETRYABLE:
        code = error.get("code") if isinstance(error, dict) else None
        # vLLM has no code for it, only words.
        is_window = code == "context_length_exceeded" or "maximum context length" in said
        raise WindowExceeded(said) if is_window else EngineRefused(said)
    raise EngineUnavailable(f"the engine failed with {status}: {said}")


def _window(listing: dict[str, Any], model: str) -> int:
    served = {card.get("id"): card.get("max_model_len") for card in listing.get("data", []) if isinstance(card, dict)}
    if model not in served:
        raise EngineRefused(f"this engine serves {', '.join(map(str, served)) or 'no model'}, not {model}")
    window = served[model]
    if not isinstance(window, int):
        raise EngineUnavailable(f"the engine does not say how many tokens {model} takes (max_model_len)")
    return window
