"""Run by test_langchain_client.py in an environment of its own: what LangChain's ChatOpenAI does with our server.

    python langchain_client.py BASE_URL KEY REVOKED_KEY MODEL DOCUMENT

Prints one JSON object: what was seen, by the name of what was tried.
"""

import asyncio
import json
import sys
from importlib.metadata import version
from pathlib import Path

import openai
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

base_url, key, revoked, model = sys.argv[1:5]
document = Path(sys.argv[5]).read_text()
question = "What does mooring cost a night?"
seen = {"version": version("langchain-openai")}


def chat(name, **fields):
    return ChatOpenAI(
        **{"base_url": base_url, "api_key": key, "model": name, "max_retries": 0, "timeout": 900, **fields}
    )


direct = chat(f"{model}:direct", temperature=0, max_tokens=8)
whole = direct.invoke([SystemMessage("You are terse."), HumanMessage("How long is a year?")])
seen["direct"] = {
    "content": bool(whole.content),
    "tokens": 0 < whole.usage_metadata["output_tokens"] <= 8,
    "model": whole.response_metadata["model_name"],
    "finish": whole.response_metadata["finish_reason"],
}
pieces = list(direct.stream([SystemMessage("You are terse."), HumanMessage("How long is a year?")], stream_usage=True))
seen["stream"] = {
    "same": "".join(piece.content for piece in pieces) == whole.content,
    "pieces": len(pieces) > 2,
    "usage": pieces[-1].usage_metadata is not None or any(piece.usage_metadata for piece in pieces),
}
chain = ChatPromptTemplate.from_messages([("user", "How long is a {what}?")]) | direct | StrOutputParser()
seen["batch"] = [bool(text) for text in chain.batch([{"what": "day"}, {"what": "week"}, {"what": "month"}])]
seen["async"] = bool(asyncio.run(chain.ainvoke({"what": "year"})))

schema = {
    "title": "stay",
    "description": "How a stay is counted.",
    "type": "object",
    "properties": {"unit": {"enum": ["day", "week"]}},
    "required": ["unit"],
    "additionalProperties": False,
}
longer = chat(f"{model}:direct", temperature=0, max_tokens=60)
seen["structured"] = longer.with_structured_output(schema, method="json_schema", strict=True).invoke("How long?")[
    "unit"
]

run = chat(model, max_tokens=300)
answer = run.invoke([HumanMessage(document), HumanMessage(question)])
seen["run"] = {
    "content": bool(answer.content),
    "tokens": answer.usage_metadata["total_tokens"]
    == answer.usage_metadata["input_tokens"] + answer.usage_metadata["output_tokens"],
    "cached": answer.usage_metadata["input_token_details"]["cache_read"] >= 0,
    "finish": answer.response_metadata["finish_reason"] in ("stop", "length"),
}
told = "".join(piece.content for piece in run.stream([HumanMessage(document), HumanMessage(question)]))
seen["run_stream"] = bool(told)


def error_of(call):
    try:
        call()
    except openai.APIError as error:
        # Newer versions of LangChain raise classes of their own that are these too.
        return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__.partition(".")[0] == "openai")
    return "no error"


seen["errors"] = {
    "revoked": error_of(lambda: chat(f"{model}:direct", api_key=revoked).invoke("Hi")),
    "model": error_of(lambda: chat("gpt-4o").invoke("Hi")),
    "tools": error_of(lambda: direct.bind_tools([{"title": "stay", **schema}]).invoke("Hi")),
}
print(json.dumps(seen))
