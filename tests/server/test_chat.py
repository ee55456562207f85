"""/v1/chat/completions: through a run, alone, and by the engine itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rlm_local.errors import EngineUnavailable
from rlm_local.server.desk import scope_of
from rlm_local.server.files import Files
from rlm_local.types import JsonObject, Sampling
from tests.server.scripted import FINAL, LEASE, LOOK, MODEL, PausedEngine, Served, chat_body, until

Serve = Callable[..., Any]


async def test_an_answer_comes_with_its_citations_its_turns_and_what_the_whole_tree_cost(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    answer = await served.chat()
    (choice,) = answer["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("ninety days", "stop")
    assert "turn 1" in choice["message"]["reasoning_content"]
    (annotation,) = choice["message"]["annotations"]
    cited = annotation["file_citation"]
    assert (annotation["type"], cited["filename"], cited["line"]) == ("file_citation", "message 1", 1)
    assert LEASE[cited["start"] : cited["end"]] == cited["quote"]
    usage, completions = answer["usage"], served.engine.completions
    assert usage["completion_tokens"] == 10 * len(completions)
    assert 0 < usage["prompt_tokens_details"]["cached_tokens"] < usage["prompt_tokens"]
    assert answer["rlm"]["confirmed"]
    (asked,) = served.runtime.asked
    assert [document.text for document in asked.request.documents] == [LEASE]
    assert asked.request.question == "How long is the notice period?"
    assert asked.scope == scope_of("local")


async def test_a_stream_tells_turns_as_reasoning_then_the_answer_then_citations_and_usage(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    *pieces, last = await served.events(stream_options={"include_usage": True})
    deltas = [piece["choices"][0]["delta"] for piece in pieces]
    assert deltas[0]["role"] == "assistant"
    said = [name for delta in deltas[1:] for name in delta]
    assert said == ["reasoning_content"] * (len(said) - 2) + ["content", "annotations"]
    assert "".join(delta.get("content", "") for delta in deltas) == "ninety days"
    assert 'print(search("notice"))' in "".join(delta.get("reasoning_content", "") for delta in deltas)
    assert pieces[-1]["choices"][0]["finish_reason"] == "stop"
    assert pieces[-1]["rlm"]["confirmed"]
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 20)
    assert len({piece["id"] for piece in pieces}) == 1


async def test_a_conversation_without_a_document_is_answered_by_the_engine_and_says_so(serve: Serve) -> None:
    served = await serve(["Hello!", "Hello again!"])
    messages = [{"role": "user", "content": "Hi"}]
    answer = await served.chat(messages=messages)
    message = answer["choices"][0]["message"]
    assert (message["content"], answer["rlm"]) == ("Hello!", {"route": "engine"})
    assert message["reasoning_content"].startswith("No document came")
    first, *rest = await served.events(messages=messages)
    assert first["choices"][0]["delta"]["reasoning_content"] == message["reasoning_content"]
    assert [piece["choices"][0]["delta"]["content"] for piece in rest] == ["Hello", "again!"]
    assert served.runtime.asked == []


async def test_an_answer_without_a_document_keeps_to_the_bounds_of_the_run_that_was_meant(serve: Serve) -> None:
    served = await serve(["Hello!"])
    asked: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    await served.chat(**asked, max_tokens=9, rlm={"max_completion_tokens": 7})
    assert served.engine.bodies[0]["max_tokens"] == 7

    async def never(body: JsonObject) -> JsonObject:
        await asyncio.sleep(60)
        raise AssertionError

    @asynccontextmanager
    async def one_word(body: JsonObject) -> AsyncIterator[AsyncIterator[bytes]]:
        async def pieces() -> AsyncIterator[bytes]:
            yield b'data: {"choices": [{"index": 0, "delta": {"content": "Well"}}]}\n\n'
            await never(body)

        yield pieces()

    served.engine.chat, served.engine.chat_stream = never, one_word
    asked["rlm"] = {"max_seconds": 0.2}
    late = await served.client.post("/v1/chat/completions", json=asked)
    assert (late.status_code, late.json()["error"]["code"]) == (408, "time_limit")
    assert "within 0.2 seconds; raise rlm.max_seconds" in late.json()["error"]["message"]
    streamed = await served.client.post(
        "/v1/chat/completions", json={**asked, "stream": True, "rlm": {"max_seconds": 0.2}}
    )
    assert '"content": "Well"' in streamed.text
    assert "within 0.2 seconds" in streamed.text.rstrip().splitlines()[-1]
    await until(lambda: served.desk.direct.running == 0)


async def test_the_engine_itself_gets_the_request_as_it_is_with_a_scope_of_ours(serve: Serve) -> None:
    served = await serve(["{}", "a b"])
    schema = {"type": "object", "properties": {"days": {"type": "integer"}}}
    form = {"type": "json_schema", "json_schema": {"name": "lease", "schema": schema, "strict": True}}
    answer = await served.chat(model=f"{MODEL}:direct", response_format=form, max_tokens=9, n=1, frequency_penalty=0)
    assert answer["choices"][0]["message"]["content"] == "{}"
    (body,) = served.engine.bodies
    assert body.pop("cache_salt") == scope_of("local")
    assert [message["content"] for message in body.pop("messages")] == [LEASE, "How long is the notice period?"]
    assert body == {"model": MODEL, "max_tokens": 9, "n": 1, "structured_outputs": {"json": schema}}
    pieces = await served.events(model="SmolLM2:direct")
    assert [piece["choices"][0]["delta"]["content"] for piece in pieces] == ["a", "b"]
    await until(lambda: served.desk.direct.running == 0)


async def test_what_a_request_names_replaces_the_cards_sampling_and_the_usual_limits(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    await served.chat(temperature=0.5, seed=3, rlm={"max_turns": 4, "max_seconds": 60, "grammar": "python"})
    (asked,) = served.runtime.asked
    assert asked.sampling == Sampling(temperature=0.5, seed=3)
    limits = asked.request.limits
    assert (limits.max_turns, limits.wall_s, asked.request.grammar.value) == (4, 60.0, "python")


async def test_max_tokens_bounds_what_the_whole_run_writes(serve: Serve) -> None:
    served = await serve([LOOK, FINAL, LOOK, FINAL, "Hello!"])
    answer = await served.chat(max_tokens=1024, max_completion_tokens=2048)
    limits = served.runtime.asked[0].request.limits
    assert (limits.max_completion_tokens, limits.turn_tokens, limits.answer_tokens) == (1024, 256, 128)
    # As many sub-calls at once as half of it holds.
    assert (limits.subcall_tokens, limits.max_concurrency) == (64, 8)
    assert answer["usage"]["completion_tokens"] <= 1024
    await served.chat(max_completion_tokens=4096, rlm={"max_completion_tokens": 512})
    assert served.runtime.asked[1].request.limits.max_completion_tokens == 512
    # Without a document the engine answers alone, and heeds it itself.
    await served.chat(messages=[{"role": "user", "content": "Hi"}], max_tokens=5)
    assert served.engine.bodies[-1]["max_tokens"] == 5


async def test_a_typed_answer_comes_as_json(serve: Serve) -> None:
    served = await serve([LOOK, "FINAL(90)"])
    served.runtime.printed = "The notice period is 90 days.\n"
    form = {"type": "json_schema", "json_schema": {"name": "days", "schema": {"type": "integer"}}}
    answer = await served.chat(response_format=form)
    assert json.loads(answer["choices"][0]["message"]["content"]) == answer["rlm"]["value"] == 90


async def test_a_limit_ends_in_an_answer_that_says_so(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    answer = await served.chat(rlm={"max_turns": 2})
    assert answer["choices"][0]["finish_reason"] == "length"
    assert (answer["rlm"]["confirmed"], answer["rlm"]["stop"]) == (False, "turn_limit")


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"tools": []}, 400, "not served: tools"),
        ({"cache_salt": "x", "user": "me"}, 400, "not served: cache_salt, user"),
        ({"max_tokens": 5}, 400, "the run may write 5 tokens, but needs at least 256"),
        ({"max_tokens": 0}, 400, "max_tokens: "),
        ({"n": 2}, 400, "smollm2-135m:direct"),
        ({"messages": []}, 400, "messages: "),
        ({"messages": None}, 400, "messages: "),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages[0].content"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, 400, "the last message must be the user's"),
        ({"messages": [{"role": "user", "content": " "}]}, 400, "holds no question"),
        ({"messages": [{"role": "user", "content": "x" * 3000}]}, 400, "3000 characters and no short last paragraph"),
        ({"temperature": "warm"}, 400, "temperature: "),
        ({"frequency_penalty": 0.5}, 400, "frequency_penalty: "),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options goes with stream"),
        ({"rlm": {"max_turns": 3, "max_tokens": 5}}, 400, "max_tokens is 5"),
        ({"rlm": {"max_cost": 2}}, 400, "max_cost is 2, but the card of smollm2-135m has no price list"),
        (
            {"rlm": {"max_cost": 2}, "messages": [{"role": "user", "content": "Hello!"}]},
            400,
            "rlm.max_cost bounds a run, and without a document there is none",
        ),
        (
            {"rlm": {"max_tokens": 1_000}, "messages": [{"role": "user", "content": "Hello!"}]},
            400,
            "rlm.max_tokens bounds a run, and without a document there is none",
        ),
        ({"rlm": {"deep": 3}}, 400, "not served: rlm.deep"),
        ({"model": f"{MODEL}:direct", "rlm": {}}, 400, "rlm goes with"),
        ({"response_format": {"type": "json_schema"}}, 400, "response_format.json_schema is missing"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "colour"}}}},
            400,
            "colour",
        ),
        ({"model": "gpt-4o"}, 404, "'gpt-4o' is not served here"),
    ],
)
async def test_what_is_not_served_is_refused_by_its_name(
    serve: Serve, fields: dict[str, Any], status: int, said: str
) -> None:
    served = await serve()
    error = (await served.chat(status=status, **fields))["error"]
    assert said in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert served.engine.completions == []


async def test_more_than_the_places_and_the_queue_hold_is_told_when_to_come_again(serve: Serve) -> None:
    served = await serve(PausedEngine([LOOK, FINAL] * 3), max_runs=1, max_queue=1)
    first, second = (asyncio.create_task(served.chat()) for _ in range(2))
    await until(lambda: served.desk.runs.waiting == 1)
    refused = await served.client.post("/v1/chat/completions", json=chat_body())
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error"]["code"] == "queue_full"
    served.engine.go.set()
    for answer in await asyncio.gather(first, second):
        assert answer["choices"][0]["message"]["content"]
    assert (served.desk.runs.running, served.desk.runs.waiting) == (0, 0)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", [MODEL, f"{MODEL}:direct"])
async def test_a_caller_who_hangs_up_ends_what_was_done_for_him(serve: Serve, model: str, stream: bool) -> None:
    served = await serve(PausedEngine([LOOK, FINAL]))
    asking = asyncio.create_task(served.client.post("/v1/chat/completions", json=chat_body(model=model, stream=stream)))
    await until(lambda: served.engine.held == 1)
    asking.cancel()
    await until(lambda: not served.engine.held and not served.runtime.open_jails)
    await until(lambda: not served.desk.runs.running + served.desk.direct.running)


async def test_a_caller_who_hangs_up_in_the_queue_leaves_it(serve: Serve) -> None:
    served = await serve(PausedEngine([LOOK, FINAL]), max_runs=1, max_queue=1)
    first = asyncio.create_task(served.chat())
    await until(lambda: served.engine.held == 1)
    second = asyncio.create_task(served.chat())
    await until(lambda: served.desk.runs.waiting == 1)
    second.cancel()
    await until(lambda: served.desk.runs.waiting == 0)
    served.engine.go.set()
    assert (await first)["rlm"]["confirmed"]


async def test_a_reader_who_stops_reading_is_cut_off(serve: Serve) -> None:
    served = await serve(["word " * 100_000], stalled_s=0.1)
    _, writer = await asyncio.open_unix_connection(served.socket, limit=1024)  # which takes in no more by itself
    body = json.dumps(chat_body(model=f"{MODEL}:direct", stream=True)).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    await until(lambda: served.engine.completions)
    await until(lambda: not served.desk.direct.running)
    writer.close()


async def test_an_engine_that_is_gone_is_a_503_and_in_a_stream_an_error(serve: Serve) -> None:
    gone = EngineUnavailable("the engine was killed")
    served = await serve([gone, LOOK, gone, gone])
    response = await served.client.post("/v1/chat/completions", json=chat_body())
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    *pieces, last = await served.events()
    assert len(pieces) > 2
    assert last["error"]["message"] == "the engine was killed"
    refused = await served.client.post("/v1/chat/completions", json=chat_body(model=f"{MODEL}:direct", stream=True))
    assert refused.status_code == 503


async def test_a_server_that_stops_ends_its_runs_with_a_clear_error_and_takes_no_more(serve: Serve) -> None:
    served = await serve(PausedEngine([LOOK, FINAL]))
    whole = asyncio.create_task(served.chat(status=503))
    stream = asyncio.create_task(served.events())
    await until(lambda: served.engine.held == 2)
    await served.desk.stop(0.01)
    assert (await whole)["error"]["code"] == "stopping"
    assert (await stream)[-1]["error"]["code"] == "stopping"
    assert served.engine.held == 0
    assert (await served.chat(status=503))["error"]["code"] == "stopping"
    assert (await served.client.get("/ready")).status_code == 503


async def test_a_stream_of_the_engine_itself_has_the_time_that_is_given_to_what_is_under_way(serve: Serve) -> None:
    engine = PausedEngine(["ninety days"])
    served = await serve(engine)
    stream = asyncio.create_task(served.events(model=f"{MODEL}:direct"))
    await until(lambda: engine.held)
    stopping = asyncio.create_task(served.desk.stop(60))
    await asyncio.sleep(0.05)
    assert not stopping.done()
    engine.go.set()
    words = [one["choices"][0]["delta"].get("content") for one in await stream]
    assert words == ["ninety", "days"]
    await asyncio.wait_for(stopping, 10)


async def uploaded(served: Served) -> str:
    """Return the id of the lease as a file of the server's."""
    form = {"files": {"file": ("lease.txt", LEASE)}, "data": {"purpose": "user_data"}}
    return (await served.client.post("/v1/files", **form)).json()["id"]


def over_file(file_id: str) -> dict[str, Any]:
    """Return the fields of a chat about a file."""
    parts = [{"type": "file", "file": {"file_id": file_id}}, {"type": "text", "text": "How long?"}]
    return {"messages": [{"role": "user", "content": parts}]}


async def test_files_are_read_when_the_turn_of_a_chat_has_come(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = PausedEngine([LOOK, FINAL] * 2)
    served = await serve(engine, max_runs=1, max_queue=1)
    read, documents = [], Files.documents
    monkeypatch.setattr(Files, "documents", lambda self, *asked: (read.append(asked), documents(self, *asked))[1])
    asked = over_file(await uploaded(served))
    chats = [asyncio.create_task(served.chat(**asked)) for _ in range(2)]
    await until(lambda: engine.held and served.desk.runs.waiting)
    await served.chat(status=429, **asked)
    assert len(read) == 1
    engine.go.set()
    for chat in chats:
        assert (await chat)["choices"][0]["message"]["content"] == "ninety days"
    assert len(read) == 2


async def test_a_file_that_is_deleted_while_its_chat_waits_is_told(serve: Serve) -> None:
    engine = PausedEngine([LOOK, FINAL])
    served = await serve(engine, max_runs=1)
    file_id = await uploaded(served)
    first = asyncio.create_task(served.chat())
    await until(lambda: engine.held)
    waiting = asyncio.create_task(served.chat(status=404, **over_file(file_id)))
    await until(lambda: served.desk.runs.waiting)
    await served.client.delete(f"/v1/files/{file_id}")
    engine.go.set()
    await first
    assert (await waiting)["error"]["message"] == "there is no such file"
    await until(lambda: not served.desk.runs.running)
