"""The start page, without a browser: what is served, under which policy, and to whom its state belongs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any, get_args

import pytest

from rlm_local.events import Event
from rlm_local.server import start_page
from rlm_local.server.start_page import PAGE_FILES, POLICY
from rlm_local.trace.codec import _snake
from tests.server.scripted import FINAL, LEASE, LOOK, MODEL, until

Serve = Callable[..., Any]
RUNS = "/v1/rlm/runs"
BODY = {"question": "How long is the notice period?", "documents": [{"name": "lease.txt", "text": LEASE}]}
FILES = {path: (Path(start_page.__file__).parent / "page" / name).read_text() for path, name in PAGE_FILES.items()}
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


async def test_the_page_is_there_before_a_key_is_and_lets_in_nothing_but_its_own_files(serve: Serve) -> None:
    served = await serve()
    served.keys.add("ada", None)
    for path, name in PAGE_FILES.items():
        response = await served.client.get(path)
        assert (response.status_code, response.text) == (200, FILES[path])
        assert response.headers["content-type"] == f"{KINDS[name.partition('.')[2]]}; charset=utf-8"
        assert response.headers.get_list("content-security-policy") == [POLICY]
        assert response.headers["x-content-type-options"] == "nosniff"
    assert POLICY.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    assert "unsafe" not in POLICY
    other = await served.client.get("/v1/rlm/state")
    assert other.status_code == 401
    assert other.headers.get_list("content-security-policy") != [POLICY]


def test_the_pages_files_name_nothing_of_elsewhere_and_nothing_inline() -> None:
    folder = Path(start_page.__file__).parent / "page"
    assert sorted(PAGE_FILES.values()) == sorted(path.name for path in folder.iterdir())
    for path, text in FILES.items():
        assert not re.search(r"//[a-z0-9.-]+\.[a-z]|url\(|@import", text), path
    markup = FILES["/"]
    assert "<style" not in markup
    assert not re.search(r"<script(?![^>]* src=)|\s(on\w+|style)=", markup)
    named = set(re.findall(r'(?:src|href)="(/[^"]*)"', markup))
    named |= {f"/page/{name}" for text in FILES.values() for name in re.findall(r'from "\./([^"]+)"', text)}
    assert named | {"/"} == set(PAGE_FILES)


def test_no_text_can_become_markup() -> None:
    """What a browser makes of hostile documents is driven in test_page_browser.py; here no way to markup is there."""
    ways = "innerHTML|outerHTML|insertAdjacentHTML|document.write|setHTML|srcdoc|DOMParser|eval|Function("
    for path, text in FILES.items():
        assert not [way for way in ways.split("|") if way in text], path
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in POLICY  # and no script could make one


def test_each_event_that_is_drawn_is_one_that_a_run_tells() -> None:
    drawn = set(re.findall(r"^  (\w+)(?:: |\(view)", FILES["/page/run.js"].partition("const DRAWN")[2], re.MULTILINE))
    told = {_snake(kind.__name__) for kind in get_args(Event)}
    assert drawn - told == {"restarted", "ended", "error"}
    assert told - drawn == {"routed", "abandoned", "tokens_counted"}


@pytest.mark.skipif(which("node") is None, reason="no node on the PATH, which checks the scripts' syntax")
@pytest.mark.parametrize("path", [path for path in PAGE_FILES if path.endswith(".js")])
def test_a_script_is_read_by_node(path: str) -> None:
    command = ["node", "--input-type=module", "--check"]
    done = subprocess.run(command, input=FILES[path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_the_state_counts_the_callers_own_tokens_only(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    ada, bob = [{"Authorization": f"Bearer {served.keys.add(name, None)[1]}"} for name in ("ada", "bob")]
    await served.client.post(RUNS, json=BODY, headers=ada)
    await until(lambda: len(served.engine.completions) == 2 and not served.desk.runs.running)
    state = (await served.client.get("/v1/rlm/state", headers=ada)).json()
    assert (state["status"], state["models"], state["window_tokens"]) == ("ready", [MODEL, f"{MODEL}:direct"], 32_000)
    assert state["runs"] == {"running": 0, "waiting": 0, "most": 4}
    assert state["usage"]["completion_tokens"] == 20
    other = (await served.client.get("/v1/rlm/state", headers=bob)).json()
    assert other == state | {"usage": other["usage"]}
    assert other["usage"]["total_tokens"] == 0
    assert (await served.client.get(RUNS, headers=bob)).json()["data"] == []
    document = (await served.client.get("/openapi.json", headers=bob)).json()
    assert "/v1/rlm/state" in document["paths"]


async def test_a_citation_is_kept_with_what_stands_around_it(serve: Serve) -> None:
    text = "Rent is due monthly. " * 60 + "The notice period is ninety days. " + "Pets are welcome. " * 60
    served = await serve([LOOK, FINAL])
    body = BODY | {"documents": [{"name": "a.txt", "text": "Nothing here."}, {"name": "lease.txt", "text": text}]}
    run = (await served.client.post(RUNS, json=body)).json()
    await until(lambda: len(served.engine.completions) == 2 and not served.desk.runs.running)
    (citation,) = (await served.client.get(f"{RUNS}/{run['id']}")).json()["answer"]["citations"]
    assert citation["filename"] == "lease.txt"
    around = citation["before"] + citation["quote"] + citation["after"]
    assert (len(citation["before"]), len(citation["after"])) == (600, 600)
    assert text[citation["start"] - 600 : citation["end"] + 600] == around
