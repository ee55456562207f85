"""The corpus is what it says: payloads by the hundred, each of its own; a user's own is read strictly."""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

from rlm_local.attack import groups, load_payloads, read_payloads
from rlm_local.attack.payloads import toolkit
from rlm_local.errors import ConfigError

PAYLOADS = load_payloads()
# sandbox.md's classes of attack, and the group that holds each
CLASSES = {
    "network": {"tcp", "udp", "every-family", "netlink", "abstract-stream", "uring-socket", "name-lookup"},
    "files": {"host-file", "write-the-library", "write-by-mapping", "set-user-id"},
    "processes": {"fork", "exec", "spawn", "memory-program", "preload"},
    "code": {"writable-executable", "old-gate", "x32"},
    "exhaustion": {"hoard", "disk", "inodes", "descriptors"},
    "time_limits": {"long-c-call", "deaf-signal", "slow-pattern"},
    "output": {"flood", "terminal-title", "hidden-order", "lone-surrogates"},
    "channel": {"huge-length", "half-frame", "query-replayed", "queries-over-budget", "other-descriptors"},
    "interpreter": {"kill-others", "debugger", "process-memory"},
    "kernel": {"mount", "setns", "devices", "bpf", "keys", "perf", "userfault", "modules"},
    "leaks": {"environment", "process-files", "page-cache"},
    "parsing": {"pickle", "deep-answer", "file-in-tmp"},
    "covert_files": {"flock", "leases", "write-hints", "cached-pages"},
    "covert_kernel": {"futex", "keys", "timers-of-a-user"},
}


def test_every_class_of_attack_has_its_payloads() -> None:
    ids = defaultdict(set)
    for payload in PAYLOADS:
        ids[payload.group].add(payload.id)
    assert set(groups()) == set(CLASSES)
    for group, some in CLASSES.items():
        assert some <= ids[group]
    assert len(PAYLOADS) >= 250
    assert len({payload.name for payload in PAYLOADS}) == len(PAYLOADS)


def test_no_two_payloads_try_the_same() -> None:
    plain = [(payload.name, re.sub(r"\s+", " ", payload.code + payload.receiver)) for payload in PAYLOADS]
    alike = [
        (one, other)
        for index, (one, code) in enumerate(plain)
        for other, second in plain[index + 1 :]
        if 0.8 < len(code) / len(second) < 1.25 and difflib.SequenceMatcher(None, code, second).quick_ratio() > 0.985
        if difflib.SequenceMatcher(None, code, second).ratio() > 0.985
    ]
    assert alike == []


def test_each_payload_is_a_program_with_an_aim() -> None:
    for payload in PAYLOADS:
        for code, function in ((payload.code, "send"), (payload.receiver, "receive")):
            tree = ast.parse(code, payload.name)
            defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert not payload.receiver or function in defined, payload.name
        assert payload.aim
        assert not payload.aim.endswith(".")


def test_no_line_that_a_traceback_may_quote_holds_the_forbidden_word() -> None:
    assert "PWN" not in toolkit()
    assert not [payload.name for payload in PAYLOADS if "PWN" in payload.code + payload.receiver]


def test_a_file_of_the_room_stays_readable() -> None:
    assert sum(payload.group == "channel" for payload in PAYLOADS) > 40
    room = Path(__file__).parents[2] / "sandbox" / "attacks"
    assert [path.name for path in room.glob("*.py") if len(path.read_text().splitlines()) > 300] == []


def test_a_group_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="no group of attacks is named 'nets'; there are channel, code"):
        load_payloads("nets")


def written(path: Path, *lines: object) -> Path:
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


def test_payloads_of_a_users_own_are_read(tmp_path: Path) -> None:
    path = written(
        tmp_path / "own.jsonl", {"id": "a", "code": "1"}, b"", {"id": "b", "code": "2", "must_not_print": "X"}
    )
    one, two = read_payloads(path)
    assert (one.id, one.code, one.must_not_print, one.needs_toolkit) == ("a", "1", "PWN", False)
    assert (two.id, two.must_not_print) == ("b", "X")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (["id", "code"], "an object with id, code and"),
        ({"id": "b"}, "an object with id, code and"),
        ({"id": "b", "code": "1", "group": "x"}, "an object with id, code and"),
        ({"id": 1, "code": "1"}, "id is 1, but must be a text that is not empty"),
        ({"id": "b", "code": ""}, 'code is "", but must be a text'),
        ({"id": "b", "code": "1", "must_not_print": None}, "must_not_print is null"),
        ({"id": "a", "code": "1"}, "the id 'a' is there twice"),
        ({"id": "b" * 101, "code": "1"}, "the id has 101 characters, but at most 100"),
        ({"id": "b", "code": "#" * (1 << 20) + "#"}, "the code has 1048577 bytes, but at most 1048576"),
    ],
)
def test_a_line_that_is_no_payload_is_named_by_its_number(tmp_path: Path, line: object, complaint: str) -> None:
    path = written(tmp_path / "own.jsonl", {"id": "a", "code": "1"}, b"", line)
    with pytest.raises(ConfigError, match=r"own\.jsonl, line 3: ") as caught:
        read_payloads(path)
    assert complaint in str(caught.value)


def test_a_file_without_payloads_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no payload"):
        read_payloads(written(tmp_path / "own.jsonl", b"\n"))
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_payloads(tmp_path / "gone.jsonl")
