"""Simon Willison's `llm`, unchanged, against the real server: `make release-check`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.clients import DOCUMENT, QUESTION, own_environment, program, serving
from tests.e2e.conftest import MODEL, Installation

pytestmark = [pytest.mark.engine, pytest.mark.jail, pytest.mark.slow]

# As its documentation has it for a server that speaks OpenAI's API.
MODELS = """
- model_id: run
  model_name: {model}
  api_base: {url}
  api_key_name: rlm
- model_id: direct
  model_name: "{model}:direct"
  api_base: {url}
  api_key_name: rlm
  supports_schema: true
"""


class Llm:
    """`llm` with a folder of its own."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self.folder = folder

    def said(self, *words: str, stdin: str = "", code: int = 0) -> str:
        """Return what it printed: its answer, or, with another exit code, its error."""
        done = subprocess.run(
            [str(self._program), *words],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=own_environment(LLM_USER_PATH=str(self.folder)),
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        return (done.stderr if code else done.stdout).strip()


def test_llm_answers_by_the_engine_and_by_a_run_over_what_is_piped_into_it(
    installation: Installation, tmp_path: Path
) -> None:
    llm = Llm(program("llm", "llm"), tmp_path)
    with serving(installation) as server:
        (tmp_path / "extra-openai-models.yaml").write_text(MODELS.format(model=MODEL, url=server.url))
        llm.said("keys", "set", "rlm", "--value", server.key)
        assert f"{MODEL}:direct" not in llm.said("models", "list", "--options")  # it goes by the names in its file
        direct = ("-m", "direct", "-o", "max_tokens", "8", "-o", "temperature", "0")
        streamed = llm.said(*direct, "How long is a year?")
        assert streamed
        assert llm.said(*direct, "--no-stream", "How long is a year?") == streamed
        assert llm.said(*direct, "-c", "And a month?")  # a conversation goes on
        # What comes by a pipe stands before the question, in one message: the document and its last paragraph.
        asked = ("-m", "run", "-o", "max_tokens", "300", QUESTION)
        answer = llm.said(*asked, stdin=DOCUMENT)
        assert answer
        (logged,) = json.loads(llm.said("logs", "-n", "1", "--json", "-m", "run"))
        assert logged["response"].strip() == answer
        assert logged["input_tokens"] > 0
        assert 0 < logged["output_tokens"] <= 300
        schema = json.dumps(
            {"type": "object", "properties": {"unit": {"enum": ["day", "week"]}}, "required": ["unit"]}
            | {"additionalProperties": False}
        )
        told = llm.said("-m", "direct", "-o", "max_tokens", "60", "--schema", schema, "How long?")
        assert json.loads(told)["unit"] in ("day", "week")
        llm.said("keys", "set", "rlm", "--value", server.revoked)
        assert "wants a valid key" in llm.said(*direct, "How long?", code=1)
