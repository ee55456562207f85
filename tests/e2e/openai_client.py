"""Run by test_openai_client.py in an environment of its own: what the official client does with our server.

    python openai_client.py BASE_URL KEY REVOKED_KEY MODEL DOCUMENT

Prints one JSON object: what was seen, by the name of what was tried.
"""

import json
import sys
from pathlib import Path

import openai

base_url, key, revoked, model = sys.argv[1:5]
document = Path(sys.argv[5])
client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=900)
seen = {"version": openai.__version__}
question = "What does mooring cost a night?"
bounds = {"rlm": {"max_turns": 2, "max_seconds": 1200}}


def error_of(call):
    try:
        call()
    except openai.APIError as error:
        return type(error).__name__
    return "no error"


seen["models"] = [each.id for each in client.models.list()]
seen["model"] = client.models.retrieve(model).id

with document.open("rb") as file:
    made = client.files.create(file=file, purpose="user_data")
seen["file"] = [made.object, made.bytes, made.filename]
seen["listed"] = [each.id for each in client.files.list()] == [made.id]
seen["retrieved"] = client.files.retrieve(made.id).id == made.id
seen["content"] = client.files.content(made.id).read() == document.read_bytes()

parts = [{"type": "file", "file": {"file_id": made.id}}, {"type": "text", "text": question}]
whole = client.chat.completions.create(
    model=model, messages=[{"role": "user", "content": parts}], extra_body=bounds, temperature=0
)
message = whole.choices[0].message
seen["whole"] = {
    "has_content": bool(message.content),
    "has_reasoning": bool(message.reasoning_content),
    "finish": whole.choices[0].finish_reason,
    "total": whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 0,
    "cached": whole.usage.prompt_tokens_details.cached_tokens >= 0,
    "cites": [each.file_citation["file_id"] for each in message.annotations[:1]] in ([], [made.id]),
}

text, reasoning, usage, finish = "", "", None, None
for chunk in client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": parts}],
    stream=True,
    stream_options={"include_usage": True},
    extra_body=bounds,
):
    usage = chunk.usage or usage
    for choice in chunk.choices:
        text += choice.delta.content or ""
        reasoning += getattr(choice.delta, "reasoning_content", None) or ""
        finish = choice.finish_reason or finish
seen["stream"] = {
    "same_text": text == message.content,
    "has_reasoning": "turn 1" in reasoning,
    "usage": usage.total_tokens > 0,
    "finish": finish,
}

schema = {
    "type": "object",
    "properties": {"unit": {"enum": ["day", "week"]}},
    "required": ["unit"],
    "additionalProperties": False,
}
form = {"type": "json_schema", "json_schema": {"name": "stay", "schema": schema, "strict": True}}
short = {"model": f"{model}:direct", "messages": [{"role": "user", "content": "How long?"}], "max_tokens": 60}
direct = client.chat.completions.create(**short, response_format=form, temperature=0)
seen["structured"] = sorted(json.loads(direct.choices[0].message.content))
pieces = [c.choices[0].delta.content or "" for c in client.chat.completions.create(**short, stream=True) if c.choices]
seen["direct_stream"] = len([piece for piece in pieces if piece]) > 1

# The Responses API: the same run whole, and by the client's own gathering of its events.
asked = [{"type": "input_file", "file_id": made.id}, {"type": "input_text", "text": question}]
response = client.responses.create(
    model=model, input=[{"role": "user", "content": asked}], extra_body=bounds, temperature=0
)
seen["response"] = {
    "status": response.status,
    "same_text": response.output_text == message.content,
    "items": [item.type for item in response.output] == ["reasoning", "message"],
    "reasoning": "turn 1" in response.output[0].content[0].text,
    "cites": [each.file_id for each in response.output[1].content[0].annotations[:1]] in ([], [made.id]),
    "total": response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 0,
    "cached": response.usage.input_tokens_details.cached_tokens >= 0,
}
kinds, numbers = [], []
with client.responses.stream(
    model=model,
    input=[*[{"role": "user", "content": asked}], *response.output, {"role": "user", "content": question}],
    instructions="Answer in few words.",
    extra_body=bounds,
) as stream:
    for event in stream:
        kinds.append(event.type)
        numbers.append(event.sequence_number)
    gathered = stream.get_final_response() if kinds[-1] == "response.completed" else event.response
seen["response_stream"] = {
    "begins": kinds[:2] == ["response.created", "response.in_progress"],
    "ends": kinds[-1] in ("response.completed", "response.incomplete"),
    "numbered": numbers == list(range(len(numbers))),
    "reasoning": "response.reasoning_text.delta" in kinds,
    "text": bool(gathered.output_text),
}
brief = {"model": f"{model}:direct", "input": "How long?", "max_output_tokens": 60}
text = {"format": {"type": "json_schema", "name": "stay", "schema": schema, "strict": True}}
seen["response_structured"] = sorted(json.loads(client.responses.create(**brief, text=text).output_text))
deltas = [e.delta for e in client.responses.create(**brief, stream=True) if e.type == "response.output_text.delta"]
seen["response_direct_stream"] = len(deltas) > 1

seen["errors"] = {
    "400 response kept": error_of(lambda: client.responses.create(**brief, store=True)),
    "400 response before": error_of(lambda: client.responses.create(**brief, previous_response_id="resp_1")),
    "404 response": error_of(lambda: client.responses.retrieve("resp_1")),
    "400 unknown field": error_of(lambda: client.chat.completions.create(**short, extra_body={"colour": "red"})),
    "400 tools": error_of(lambda: client.chat.completions.create(**short, tools=[])),
    "401 wrong": error_of(lambda: client.with_options(api_key="rlm-wrong").models.list()),
    "401 revoked": error_of(lambda: client.with_options(api_key=revoked).models.list()),
    "404 model": error_of(lambda: client.chat.completions.create(**{**short, "model": "gpt-4o"})),
    "404 file": error_of(lambda: client.files.retrieve("file-0")),
    "413": error_of(
        lambda: client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "x" * (33 << 20)}, {"role": "user", "content": "?"}]
        )
    ),
}
seen["deleted"] = client.files.delete(made.id).deleted
print(json.dumps(seen))
