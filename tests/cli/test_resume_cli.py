"""`rlm-local resume` on the engines that `ask` can have: a server that only speaks vLLM's API stands for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rlm_local import __version__
from rlm_local.cards import find_card, load_cards
from rlm_local.cli.main import main
from rlm_local.events import DocumentInfo, Routed, RunStarted
from rlm_local.limits import Limits
from rlm_local.plan import profile_of
from rlm_local.testing import fake_vllm
from rlm_local.texts import text_sha256
from rlm_local.trace import TraceWriter, read_trace
from rlm_local.types import EngineInfo, GrammarMode, Route

LEASE = "The notice period is ninety days.\n"
WINDOW = 32_000  # more than the card of toy allows: an engine that runs already has the one that it was started with


class Reading(fake_vllm.Handler):
    model, window = "toy", WINDOW

    def _chat(self, body: dict[str, Any]) -> tuple[int, object]:
        status, answer = super()._chat(body)
        if "Question:" in body["messages"][-1]["content"]:
            assert isinstance(answer, dict)
            answer["choices"][0]["message"]["content"] = "ninety days"
        return status, answer


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Reading) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def begun(folder: Path, *, window: int = WINDOW, weights: str = "") -> Path:
    """Return the trace of a run on toy that was ended before its first request."""
    lease = folder / "lease.txt"
    lease.write_text(LEASE)
    card = find_card("toy", load_cards())
    profile = profile_of(card)
    with TraceWriter(folder / "run.jsonl") as writer:
        writer.write(
            RunStarted(
                question="How long is the notice period?",
                model="toy",
                weights_sha256=weights,
                profile=profile.name,
                prompts_sha256=profile.sha256,
                sampling=card.sampling,
                documents=(DocumentInfo("lease.txt", len(LEASE), text_sha256(LEASE), str(lease)),),
                limits=Limits(),
                grammar=GrammarMode.PYTHON,
                answer_schema=None,
                require_coverage=0.0,
                engine=EngineInfo("toy", window, "lark"),
                version=__version__,
            )
        )
        writer.write(Routed(Route.DIRECT, "as asked"))
    return writer.path


def test_a_run_on_an_attached_server_goes_on_there(
    nsjail: None, toy_home: Path, tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = begun(tmp_path)
    assert main(["resume", str(trace), "--engine-url", url]) == 0
    assert capsys.readouterr().out == "ninety days\n"
    answer = read_trace(trace).answer
    assert answer is not None
    assert answer.confirmed


def test_another_window_is_refused_with_both_numbers(
    nsjail: None, toy_home: Path, tmp_path: Path, url: str, mistake: Callable[..., Any]
) -> None:
    said = mistake("resume", str(begun(tmp_path, window=16_000)), "--engine-url", url, "-q")
    assert (said.exit_code, said.error) == (2, f"the run had a window of 16000 tokens, and this engine has {WINDOW}")


def test_where_no_engine_is_named_the_options_that_name_it_are_told(
    nsjail: None, toy_home: Path, tmp_path: Path, mistake: Callable[..., Any]
) -> None:
    said = mistake("resume", str(begun(tmp_path, window=8192)))
    assert said.exit_code == 1
    assert "it had those of an engine that ran already, now there is " in said.error
    assert "--engine-url" in said.hint
