"""The bytes that models read are golden: a prompt cannot move unseen.

`RLM_LOCAL_GOLDEN=write pytest tests/prompts` writes them anew.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_local.errors import ConfigError
from rlm_local.prompts import (
    Situation,
    load_profile,
    observation_message,
    opening_messages,
    shown_head,
    subcall_messages,
)
from rlm_local.prompts.profile import MAX_OUTPUT_CHARS
from rlm_local.prompts.render import HEAD_CHARS
from rlm_local.types import AnswerProtocol, Document, Role

GOLDEN = Path(__file__).parent.parent / "golden"
SITUATION = Situation(
    question="Which law governs the $100 contract?",
    document_names=tuple(f"contract-{number}.txt" for number in range(1, 15)),
    context_chars=1_234_567,
    subcall_tokens=15_000,
    subcall_chars=60_000,
    turns=12,
    head="MASTER AGREEMENT of 3 May 2021",
)


@pytest.mark.parametrize("protocol", AnswerProtocol)
@pytest.mark.parametrize("name", sorted(MAX_OUTPUT_CHARS))
def test_the_request_bytes_of_a_profile_are_the_golden_ones(name: str, protocol: AnswerProtocol) -> None:
    profile = load_profile(name, protocol)
    sent = {
        "opening": [[m.role.value, m.content] for m in opening_messages(profile, SITUATION)],
        "observation": observation_message(profile, "37", "3 turns left").content,
        "subcall": [[m.role.value, m.content] for m in subcall_messages(profile, "Is it so?")],
        "notes": [
            profile.open,
            profile.low,
            profile.last,
            profile.held,
            profile.unsupported,
            profile.overlooked,
            profile.misquoted,
            profile.quoted,
            profile.denied_of_documents,
            profile.empty,
            profile.repeated,
            profile.raised,
            profile.circle,
            profile.closed,
        ],
    }
    text = json.dumps(sent, indent=1, ensure_ascii=False) + "\n"
    path = GOLDEN / f"prompts-{profile.name.replace('/', '-')}.json"
    if os.environ.get("RLM_LOCAL_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(MAX_OUTPUT_CHARS))
def test_roles_alternate_after_the_system_message(name: str) -> None:
    roles = [message.role for message in opening_messages(load_profile(name), SITUATION)]
    assert roles[0] is Role.SYSTEM
    assert roles[1::2] == [Role.USER] * len(roles[1::2])
    assert roles[2::2] == [Role.ASSISTANT] * len(roles[2::2])


def test_the_rules_are_the_same_for_every_run() -> None:
    other = Situation("Another?", ("a.txt",), 10, 5, 5, 3)
    small = load_profile("small")
    assert opening_messages(small, SITUATION)[:-1] == opening_messages(small, other)[:-1]


@pytest.mark.parametrize("name", sorted(MAX_OUTPUT_CHARS))
def test_a_model_is_told_of_packages_where_there_are_any_and_only_there(name: str) -> None:
    without, having = load_profile(name), load_profile(name, packages=("numpy", "pandas"))
    assert "import" not in without.system
    (told,) = [line for line in having.system.splitlines() if "numpy, pandas" in line]
    assert "can" in told
    assert "import" in told
    assert having.sha256 != without.sha256
    assert "<<" not in having.system


def test_an_unknown_profile_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'tiny'; there are large, small"):
        load_profile("tiny")


def test_a_small_model_is_shown_how_the_first_document_begins() -> None:
    lines = "".join(
        f"2021-03-{day:02} | anna | The parcel came broken, for the {day}th time.\n" for day in range(1, 29)
    )
    documents = (Document("inbox.txt", lines), Document("other.txt", "not this one"))
    head = shown_head(load_profile("small"), documents)
    assert lines.startswith(head + "\n")  # whole lines
    assert HEAD_CHARS // 2 < len(head) <= HEAD_CHARS
    assert shown_head(load_profile("large"), documents) == ""
    assert shown_head(load_profile("small"), ()) == ""
    assert head in opening_messages(load_profile("small"), replace(SITUATION, head=head))[-1].content


@pytest.mark.parametrize(("text", "cut"), [("word " * 400, "word"), ("x" * 2_000, "x"), ("short\n", "short")])
def test_a_beginning_without_lines_ends_with_a_word(text: str, cut: str) -> None:
    head = shown_head(load_profile("small"), (Document("a.txt", text),))
    assert head.endswith(cut)
    assert text.startswith(head)
    assert len(head) <= HEAD_CHARS
