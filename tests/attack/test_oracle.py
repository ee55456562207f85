"""The oracle can fail: by each way out there is a test in which something comes out, and is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from rlm_local.attack.canaries import Canaries
from rlm_local.attack.oracle import Heard, agrees, breaches
from rlm_local.attack.payloads import Payload
from rlm_local.types import CallForm, CellResult, CellStatus, Final

SECRET = "canary0123456789"
PAYLOAD = Payload("one", "group", "aim", "line = 1\nraise OSError('P' 'WN')  # PWN\n")


@pytest.fixture
def canaries(tmp_path: Path) -> Canaries:
    (tmp_path / "drop").mkdir()
    (tmp_path / "secret").write_text(SECRET)
    secrets = {"a file of the host": SECRET, "another jail's variable": "canary-of-another"}
    return Canaries(secrets, {}, tmp_path, tmp_path / "drop", cast("Any", None))


def heard(**named: object) -> Heard:
    return Heard([CellResult(CellStatus.OK, **{"stdout": "", **named})])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "way",
    [
        heard(stdout=f"x {SECRET} y"),
        heard(stdout_tail=SECRET),
        heard(error=f"OSError: {SECRET}"),
        heard(final=Final({"deep": [{SECRET: 1}]})),
        heard(final=Final([f"\u202e{SECRET}"])),
        Heard(prompts=["a", f"b{SECRET}"]),
    ],
)
def test_a_canary_is_seen_by_whatever_way_it_comes_out(canaries: Canaries, way: Heard) -> None:
    assert breaches(PAYLOAD, way, canaries) == ["the canary of a file of the host came out"]


@pytest.mark.parametrize(
    "way", [heard(stdout="a\nPWN it\n"), heard(error="OSError: PWN it"), Heard(prompts=["PWN it"])]
)
def test_the_forbidden_text_is_seen_and_shown(canaries: Canaries, way: Heard) -> None:
    assert breaches(PAYLOAD, way, canaries) == ["it printed 'PWN it'"]


def test_a_tracebacks_quote_of_the_payloads_own_line_is_no_breach(canaries: Canaries) -> None:
    error = "Traceback (most recent call last):\n    raise OSError('P' 'WN')  # PWN\nOSError: x"
    assert breaches(PAYLOAD, heard(error=error), canaries) == []


def test_what_was_heard_written_or_changed_on_the_host_is_a_breach_once(canaries: Canaries, tmp_path: Path) -> None:
    canaries.heard.append("a connection reached 127.0.0.1")
    (tmp_path / "drop" / "new").write_text("x")
    (tmp_path / "drop" / "folder").mkdir()
    (tmp_path / "secret").write_text("other")
    found = breaches(PAYLOAD, heard(), canaries)
    assert sorted(found) == [
        "a connection reached 127.0.0.1",
        "a file of the host was changed",
        "folder was made in a folder of the host",
        "new was made in a folder of the host",
    ]
    assert breaches(PAYLOAD, heard(), canaries) == []


def test_bits_that_arrive_are_told_from_noise() -> None:
    sent = [0, 1] * 20
    assert agrees(sent, sent)
    assert agrees(sent, [1 - bit for bit in sent])
    assert agrees(sent, [1 - bit for bit in sent[:3]] + sent[3:])
    assert not agrees(sent, [1 - bit for bit in sent[:4]] + sent[4:])
    assert not agrees(sent, [0] * 40)
    assert not agrees(sent, sent[:39])


async def test_sub_calls_end_as_a_runs_do() -> None:
    way = Heard()
    answered = await way.query(["x"] * 60, CallForm())
    refused = await way.query(["y"] * 10, CallForm())
    assert [call.refused for call in answered] == [""] * 60
    assert ["spent" in call.refused for call in refused] == [False] * 4 + [True] * 6
    assert way.prompts == ["x"] * 60 + ["y"] * 10
