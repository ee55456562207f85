"""What a load asks of a server: many tenants, each with a canary in all that he brings, and a deck of requests."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass
from typing import Any

CANARY_DIGITS = 12
SEEN_DIGITS = 8  # of a canary: as many of another's are a crossing
MOST_TOKENS = 24  # of a direct answer
# Of a run. The smallest model seldom ends a cell of itself: a bound on what it writes lets two cores serve a hundred.
BOUNDS = {"max_turns": 2, "max_subcalls": 4, "max_completion_tokens": 300, "max_seconds": 600}
_FILLER = "Boats are moored at their owners' risk. The harbour master may move any of them without notice."
QUESTION = "What is the code of the vault?"
# How many of each kind there are among a hundred.
DECK = {
    "direct": 43,
    "direct, stream": 21,
    "direct, stream, dropped": 9,
    "direct, schema": 12,
    "run": 1,
    "run, stream": 1,
    "run, stream, dropped": 1,
    "run, accepted and followed": 1,
    "run, accepted and asked for": 1,
    "file": 4,
    "another's": 4,
    "no key": 2,
}
HAND = sum(DECK.values())


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    key: str
    canary: str  # hexadecimal digits that stand in everything that he sends

    @property
    def document(self) -> str:
        """A text that is long enough to be a document, with the canary somewhere in it."""
        lines = [f"{number}. {_FILLER}" for number in range(1, 31)]
        lines.insert(17, f"The code of the vault is {self.canary}.")
        return "\n".join(lines)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


def new_canary() -> str:
    return secrets.token_hex(CANARY_DIGITS // 2)


@dataclass(frozen=True, slots=True)
class Shot:
    kind: str
    tenant: int
    number: int

    @property
    def is_dropped(self) -> bool:
        return self.kind.endswith("dropped")

    @property
    def is_stream(self) -> bool:
        return "stream" in self.kind


def deal(requests: int, tenants: int, seed: int) -> list[Shot]:
    """Return requests in the order in which they are sent: every hundred has each kind as often as DECK says."""
    dice = random.Random(seed)
    kinds: list[str] = []
    while len(kinds) < requests:
        hand = [kind for kind, count in DECK.items() for _ in range(count)]
        dice.shuffle(hand)
        kinds += hand
    return [Shot(kind, dice.randrange(tenants), number) for number, kind in enumerate(kinds[:requests])]


def chat_body(shot: Shot, tenant: Tenant, model: str) -> dict[str, Any]:
    """Return the body of a chat."""
    if shot.kind.startswith("run"):
        said = [{"role": "user", "content": tenant.document}, {"role": "user", "content": QUESTION}]
        body: dict[str, Any] = {"model": model, "messages": said, "rlm": BOUNDS}
    else:
        said = [
            {"role": "user", "content": f"Note {shot.number}. The code of the vault is {tenant.canary}. {QUESTION}"}
        ]
        body = {"model": f"{model}:direct", "messages": said, "max_tokens": MOST_TOKENS, "temperature": 0}
    if shot.kind.endswith("schema"):
        form = {"name": "code", "schema": {"enum": [own_word(shot, tenant)]}}
        # Its only answer holds the canary and the request's number: whose else it is shows at once.
        body |= {"response_format": {"type": "json_schema", "json_schema": form}, "max_tokens": 64}
    return body | ({"stream": True} if shot.is_stream else {})


def own_word(shot: Shot, tenant: Tenant) -> str:
    return f"{tenant.canary} of note {shot.number}"


def run_body(tenant: Tenant, file_id: str | None) -> dict[str, Any]:
    """Return the body of a run that is accepted; file_id: his document, where it was brought before."""
    document = {"name": "harbour.txt", "text": tenant.document} if file_id is None else {"file_id": file_id}
    return {"question": QUESTION, "documents": [document], "limits": BOUNDS}


def foreign(text: str, own: Tenant, tenants: list[Tenant]) -> list[str]:
    """Return the names of other tenants whose canary, or the first SEEN_DIGITS digits of it, stand in a text."""
    lower = text.lower()
    return [each.name for each in tenants if each.name != own.name and each.canary[:SEEN_DIGITS] in lower]
