"""`rlm-local resume` on the engines that `ask` can have: a server that only speaks vLLM's API stands for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rlm_local.cli.main import main
from rlm_local.testing import fake_vllm
from rlm_local.trace import read_trace
from tests.cli.begun import WINDOW, begun


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
