"""/v1/responses: what chat answers, in the shapes and by the events of OpenAI's Responses API."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rlm_local.errors import EngineUnavailable
from rlm_local.server.quotas import KeyLimits
from rlm_local.testing import ScriptedEngine
from rlm_local.types import JsonObject
from tests.server.scripted import FINAL, LEASE, LOOK, MODEL, PausedEngine, Served, until

Serve = Callable[..., Any]
URL = "/v1/responses"
QUESTION = "How long is the notice period?"
TALK = [{"role": "user", "content": LEASE}, {"role": "user", "content": QUESTION}]
DIRECT = f"{MODEL}:direct"


async def respond(served: Served, *, status: int = 200, **body: Any) -> dict[str, Any]:
    response = await served.client.post(URL, json={"model": MODEL, "input": TALK} | body)
    assert response.status_code == status, response.text
    return response.json()


async def events(served: Served, **body: Any) -> list[dict[str, Any]]:
    """Return the events of a stream; each says its own name and place."""
    asked = {"model": MODEL, "input": TALK, "stream": True} | body
    async with served.client.stream("POST", URL, json=asked) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        text = (await response.aread()).decode()
    told = []
    for number, block in enumerate(part for part in text.split("\n\n") if part and not part.startswith(":")):
        name, data = block.split("\n")
        told.append(json.loads(data.removeprefix("data: ")))
        assert (name, told[-1]["sequence_number"]) == (f"event: {told[-1]['type']}", number)
    return told


class CountingEngine(ScriptedEngine):
    """Its streams end as the real engines' do: with a finish_reason and the usage; in pieces that end anywhere."""

    finish = "stop"
    ends: tuple[Any, ...] | list[Any] = ()

    @asynccontextmanager
    async def chat_stream(self, body: JsonObject) -> AsyncGenerator[AsyncIterator[bytes], None]:
        usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
        ends = self.ends or [
            {"choices": [{"delta": {}, "finish_reason": self.finish}]},
            {"choices": [], "usage": usage | {"prompt_tokens_details": {"cached_tokens": 4}}},
        ]
        async with super().chat_stream(body) as pieces:

            async def all_of_it() -> AsyncIterator[bytes]:
                async for piece in pieces:
                    if b"[DONE]" in piece:
                        for end in ends:
                            yield f"data: {json.dumps(end)}\n\n".encode()
                    yield piece[:7]
                    yield piece[7:]

            yield all_of_it()


async def test_a_run_answers_with_its_turns_as_reasoning_and_its_citations(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    told = await respond(served)
    assert (told["object"], told["status"], told["model"], told["store"]) == ("response", "completed", MODEL, False)
    assert (told["error"], told["incomplete_details"], told["previous_response_id"]) == (None, None, None)
    reasoning, message = told["output"]
    assert (reasoning["type"], message["type"], message["role"]) == ("reasoning", "message", "assistant")
    assert "turn 1" in reasoning["content"][0]["text"]
    (part,) = message["content"]
    assert part["text"] == "ninety days"
    (cited,) = part["annotations"]
    assert (cited["type"], cited["filename"], cited["index"], cited["file_id"]) == ("file_citation", "message 1", 0, "")
    assert LEASE[cited["start"] : cited["end"]] == cited["quote"]
    usage = told["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert (
        usage["input_tokens_details"]["cached_tokens"] + usage["input_tokens_details"]["cache_write_tokens"]
        == (usage["input_tokens"])
    )
    assert (told["rlm"]["route"], told["rlm"]["confirmed"]) == ("run", True)


async def test_a_run_streams_typed_events_whose_last_holds_what_they_made(serve: Serve) -> None:
    served = await serve([LOOK, FINAL] * 2)
    whole = await respond(served)
    told = await events(served)
    names = [event["type"].removeprefix("response.") for event in told]
    deltas = names.count("reasoning_text.delta")
    assert deltas > 2
    item = ["output_item.added", "content_part.added"]
    done = ["content_part.done", "output_item.done"]
    assert names == [
        *("created", "in_progress"),
        *(*item, *["reasoning_text.delta"] * deltas, "reasoning_text.done", *done),
        *(*item, "output_text.delta", "output_text.annotation.added", "output_text.done", *done),
        "completed",
    ]
    assert [event["response"]["status"] for event in (told[0], told[1], told[-1])] == ["in_progress"] * 2 + [
        "completed"
    ]
    last = told[-1]["response"]
    assert last["output"] == [event["item"] for event in told if event["type"].endswith("output_item.done")]
    for index in (0, 1):
        pieces = [event["delta"] for event in told if "delta" in event and event["output_index"] == index]
        assert "".join(pieces) == last["output"][index]["content"][0]["text"]
    assert _bare(last) == _bare(whole)


def _bare(response: dict[str, Any]) -> dict[str, Any]:
    """Return it without what differs from one answer to the next: ids, times, and what the cache saved."""
    output = [{**item, "id": "", "content": _texts(item)} for item in response["output"]]
    rlm = response["rlm"] | {"wall_s": 0}
    return response | {"id": "", "created_at": 0, "output": output, "rlm": rlm, "usage": None}


def _texts(item: dict[str, Any]) -> list[Any]:
    if item["type"] == "message":
        return item["content"]
    return [line for line in item["content"][0]["text"].split("\n") if " · " not in line]  # without times


async def test_a_limit_ends_in_a_response_that_is_incomplete(serve: Serve) -> None:
    served = await serve([LOOK, FINAL] * 2)
    told = await respond(served, rlm={"max_turns": 2})
    assert (told["status"], told["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (told["output"][-1]["status"], told["rlm"]["stop"]) == ("incomplete", "turn_limit")
    assert (await events(served, rlm={"max_turns": 2}))[-1]["type"] == "response.incomplete"


async def test_files_instructions_and_what_was_said_before_are_part_of_what_is_asked(serve: Serve) -> None:
    served = await serve([LOOK, FINAL] * 2)
    form = {"data": {"purpose": "user_data"}, "files": {"file": ("lease.txt", LEASE)}}
    file = (await served.client.post("/v1/files", **form)).json()["id"]
    asked = {
        "role": "user",
        "content": [{"type": "input_file", "file_id": file}, {"type": "input_text", "text": QUESTION}],
    }
    first = await respond(served, input=[asked], instructions="Answer in words.", max_output_tokens=1024)
    (cited,) = first["output"][1]["content"][0]["annotations"]
    assert (cited["file_id"], cited["filename"]) == (file, "lease.txt")
    assert (first["instructions"], first["max_output_tokens"]) == ("Answer in words.", 1024)
    request = served.runtime.asked[0].request
    assert (request.question, request.limits.max_completion_tokens) == (f"Answer in words.\n\n{QUESTION}", 1024)
    # The output of a response is input of the next, as clients pass it on.
    await respond(served, input=[asked, *first["output"], {"role": "user", "content": "And in months?"}])
    again = served.runtime.asked[1].request
    assert again.question.endswith("assistant: ninety days\n\nAnd in months?")
    assert "turn 1" not in again.question


async def test_the_engine_itself_answers_with_a_form_and_the_callers_scope(serve: Serve) -> None:
    served = await serve(["{}"])
    schema = {"type": "object", "properties": {"days": {"type": "integer"}}}
    form = {"type": "json_schema", "name": "lease", "schema": schema, "strict": True}
    told = await respond(
        served, model=DIRECT, input="Hi", text={"format": form}, max_output_tokens=9, temperature=0, store=False
    )
    (message,) = told["output"]
    assert (message["content"][0]["text"], told["text"]) == ("{}", {"format": form})
    assert "rlm" not in told
    (body,) = served.engine.bodies
    assert body.pop("cache_salt")
    assert body == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0,
        "max_completion_tokens": 9,
        "structured_outputs": {"json": schema},
    }


@pytest.mark.parametrize(("finish", "status"), [("stop", "completed"), ("length", "incomplete")])
async def test_the_engines_stream_becomes_events_wherever_its_pieces_end(
    serve: Serve, finish: str, status: str
) -> None:
    engine = CountingEngine(["Ninety days."])
    engine.finish = finish
    served = await serve(engine)
    told = await events(served, model=DIRECT, input="How long?")
    assert [event["delta"] for event in told if "delta" in event] == ["Ninety", "days."]
    assert told[-1]["type"] == f"response.{status}"
    last = told[-1]["response"]
    assert last["output"][0]["content"][0]["text"] == "Ninetydays."
    usage = last["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (9, 2, 11)
    assert usage["input_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 5}
    await until(lambda: served.desk.direct.running == 0)


async def test_without_a_document_the_engine_answers_and_says_so(serve: Serve) -> None:
    engine = CountingEngine(["Hello!", "Hello again!"])
    served = await serve(engine)
    told = await respond(served, input="Hi")
    note, message = told["output"]
    assert note["content"][0]["text"].startswith("No document came")
    assert (message["content"][0]["text"], told["rlm"]) == ("Hello!", {"route": "engine"})
    last = (await events(served, input="Hi"))[-1]["response"]
    assert [item["type"] for item in last["output"]] == ["reasoning", "message"]
    assert last["output"][0]["content"] == note["content"]


async def test_an_engine_that_dies_is_told_by_the_status_or_by_the_last_event(serve: Serve) -> None:
    served = await serve([EngineUnavailable("the engine was killed")] * 4)
    assert (await respond(served, status=503))["error"]["message"] == "the engine was killed"
    last = (await events(served))[-1]
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"] == {"code": "server_error", "message": "the engine was killed"}


async def test_an_error_amid_the_engines_stream_is_the_last_event(serve: Serve) -> None:
    engine = CountingEngine(["Ninety days."])
    engine.ends = [{"error": {"message": "the engine was killed", "type": "server_error", "code": 503}}]
    served = await serve(engine)
    *before, last = await events(served, model=DIRECT, input="How long?")
    assert [event["delta"] for event in before if "delta" in event] == ["Ninety", "days."]
    assert last["response"]["error"] == {"code": "server_error", "message": "the engine was killed"}


async def test_who_hangs_up_ends_his_run(serve: Serve) -> None:
    engine = PausedEngine([LOOK, FINAL])
    served = await serve(engine)
    asked = {"model": MODEL, "input": TALK, "stream": True}
    async with served.client.stream("POST", URL, json=asked) as response:
        lines = response.aiter_lines()  # kept: one that is forgotten hangs up
        await anext(lines)
        await until(lambda: engine.held)
    await until(lambda: (engine.held, served.desk.runs.running) == (0, 0))


async def test_a_keys_day_counts_here_too(serve: Serve) -> None:
    served = await serve(CountingEngine(["Ninety days."]))
    key, secret = served.keys.add("ada", None, KeyLimits(tokens_a_day=5))
    served.client.headers["Authorization"] = f"Bearer {secret}"
    await events(served, model=DIRECT, input="How long?")
    assert served.desk.quotas.spent(key.id) == 11
    assert (await respond(served, status=429, input="Hi"))["error"]["code"] == "tokens_a_day"


@pytest.mark.parametrize(
    ("fields", "status", "said", "param"),
    [
        ({"tools": []}, 400, "not served: tools", "tools"),
        ({"previous_response_id": "resp_1"}, 400, "not served: previous_response_id", "previous_response_id"),
        ({"store": True}, 400, "not served: store", "store"),
        ({"background": True}, 400, "not served: background", "background"),
        ({"truncation": "auto"}, 400, "not served: truncation", "truncation"),
        ({"truncation": "middle"}, 400, "truncation: ", "truncation"),
        ({"metadata": {"a": "b"}, "reasoning": {}}, 400, "not served: metadata, reasoning", "metadata"),
        ({"text": {"verbosity": "low"}}, 400, "not served: text.verbosity", "text.verbosity"),
        ({"text": {"format": {"type": "json_schema"}}}, 400, "text.format.schema is missing", "text.format"),
        ({"input": None}, 400, "input", None),
        ({"input": []}, 400, "input", None),
        ({"input": [{"type": "reasoning"}]}, 400, "the input holds no message", "input"),
        ({"input": [{"role": "user", "content": "Hi", "colour": 1}]}, 400, "not served: input[0].colour", None),
        ({"input": [{"type": "function_call_output", "output": "1"}]}, 400, "not served: input[0].output", None),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, 400, "input[0].content", None),
        ({"input": [{"role": "assistant", "content": "Hi"}]}, 400, "the last message must be the user's", "input"),
        (
            {"input": [{"role": "system", "content": [{"type": "input_file", "file_id": "f"}]}]},
            400,
            "input[0] is the system's",
            "input",
        ),
        (
            {"model": DIRECT, "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            400,
            "which only a run reads",
            "input",
        ),
        ({"max_output_tokens": 5}, 400, "the run may write 5 tokens, but needs at least 256", "max_output_tokens"),
        ({"model": "gpt-4o"}, 404, "is not served here", "model"),
        ({"model": DIRECT, "rlm": {}}, 400, "rlm goes with", "rlm"),
    ],
)
async def test_what_is_not_served_is_refused_by_its_name(
    serve: Serve, fields: dict[str, Any], status: int, said: str, param: str | None
) -> None:
    served = await serve()
    error = (await respond(served, status=status, **fields))["error"]
    assert said in error["message"]
    if param is not None:
        assert error["param"] == param
    assert served.engine.bodies == []


async def test_no_response_is_kept(serve: Serve) -> None:
    served = await serve(["Hello!"])
    made = await respond(served, model=DIRECT, input="Hi")
    assert (await served.client.get(f"{URL}/{made['id']}")).status_code == 404
