"""Payloads: what each is, the room's own by group, and a user's own from a JSONL file.

A file of the room is Python in cells: `# %% id: what it aims at [wall SECONDS]` begins each payload. Where a line
`# %% --` divides one, it is two programs for two jails, and the oracle asks whether the second hears the first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlm_local.errors import ConfigError
from rlm_local.rooms import room

WALL_S = 60.0  # of a payload that ends by itself: generous, for a machine that is busy
_CODE_BYTES = 1 << 20
_ID_CHARS = 100
_USER_GROUP = "corpus"
_HEADER = re.compile(r"# %% (?P<id>[a-z0-9-]+): (?P<aim>.+?)(?: \[wall (?P<wall>[0-9.]+)\])?$")
_DIVIDER = "# %% --"


@dataclass(frozen=True, slots=True)
class Payload:
    """One attack. `receiver` is empty but for two programs in two jails."""

    id: str
    group: str
    aim: str
    code: str
    must_not_print: str = "PWN"
    wall_s: float = WALL_S
    receiver: str = ""
    needs_toolkit: bool = False

    @property
    def name(self) -> str:
        return f"{self.group}/{self.id}"


def _room() -> Path:
    return room("sandbox") / "attacks"


def groups() -> tuple[str, ...]:
    """Return the groups of the room's payloads, a file each."""
    return tuple(sorted(path.stem for path in _room().glob("[!_]*.py")))


def toolkit() -> str:
    """Return the code that the room's payloads share; it runs as the first cell of their jail."""
    return (_room() / "_toolkit.py").read_text(encoding="utf-8")


def load_payloads(only: str | None = None) -> tuple[Payload, ...]:
    """Return the room's payloads, all or those of one group. Raises ConfigError for a group that there is not."""
    if only is not None and only not in groups():
        raise ConfigError(f"no group of attacks is named {only!r}; there are {', '.join(groups())}")
    chosen = groups() if only is None else (only,)
    return tuple(payload for group in chosen for payload in _group(group))


def _group(group: str) -> Iterator[Payload]:
    path = _room() / f"{group}.py"
    header: re.Match[str] | None = None
    halves: list[list[str]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line == _DIVIDER and len(halves) == 1:
            halves.append([])
        elif line.startswith("# %%"):
            if header:
                yield _payload(group, header, halves)
            header, halves = _HEADER.fullmatch(line), [[]]
            if header is None:
                raise ConfigError(f"{path.name}, line {number}: {line!r} is no header of a payload")
        elif halves:
            halves[-1].append(line)
    if header:
        yield _payload(group, header, halves)


def _payload(group: str, header: re.Match[str], halves: list[list[str]]) -> Payload:
    code, receiver = ("\n".join(lines).strip() + "\n" for lines in (*halves, [])[:2])
    return Payload(
        header["id"],
        group,
        header["aim"],
        code,
        wall_s=float(header["wall"] or WALL_S),
        receiver=receiver.strip() and receiver,
        needs_toolkit=True,
    )


def read_payloads(path: Path) -> tuple[Payload, ...]:
    """Return the payloads of a JSONL file: one object a line, {"id", "code", "must_not_print"}, the last with default.

    Raises ConfigError, with the line's number, for anything else.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    payloads: dict[str, Payload] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            payload = _read_line(line, f"{path}, line {number}")
            if payload.id in payloads:
                raise ConfigError(f"{path}, line {number}: the id {payload.id!r} is there twice")
            payloads[payload.id] = payload
    if not payloads:
        raise ConfigError(f"{path} holds no payload", hint='a line is {"id": "one", "code": "print(open(...))"}')
    return tuple(payloads.values())


def _read_line(line: bytes, where: str) -> Payload:
    try:
        members = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not JSON: {error}") from error
    if not isinstance(members, dict) or not {"id", "code"} <= set(members) <= {"id", "code", "must_not_print"}:
        raise ConfigError(f"{where}: a payload is an object with id, code and, if you like, must_not_print")
    for name, value in members.items():
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{where}: {name} is {json.dumps(value)[:40]}, but must be a text that is not empty")
    if len(members["id"]) > _ID_CHARS:
        raise ConfigError(f"{where}: the id has {len(members['id'])} characters, but at most {_ID_CHARS} are allowed")
    if (count := len(members["code"].encode("utf-8", "replace"))) > _CODE_BYTES:
        raise ConfigError(f"{where}: the code has {count} bytes, but at most {_CODE_BYTES} are allowed")
    forbidden = members.get("must_not_print", "PWN")
    return Payload(members["id"], _USER_GROUP, "a payload of the user's", members["code"], forbidden)
