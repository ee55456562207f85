"""The oracle: what came out of a jail, and whether any of it may not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlm_local.attack.canaries import Canaries
from rlm_local.attack.payloads import Payload
from rlm_local.types import CellResult, SubCall, Usage

_CALLS = 64  # sub-calls that are answered, as in a run; the others are refused


@dataclass(slots=True)
class Heard:
    """All that a host learns from one jail: the results of its cells, and the prompts of its sub-calls."""

    results: list[CellResult] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)

    async def query(self, prompts: Sequence[str]) -> Sequence[SubCall]:
        """Answer as an engine does whose budget ends; keep what it was asked."""
        room = max(0, _CALLS - len(self.prompts))
        self.prompts += prompts
        return [
            SubCall(prompt, f"about {len(prompt)} characters", Usage())
            if number < room
            else SubCall(prompt, "", Usage(), refused="refused: the sub-calls of this run are spent")
            for number, prompt in enumerate(prompts)
        ]

    def texts(self, code: str) -> list[str]:
        """Return all of it as texts. A traceback's quotes of the payload's own lines say nothing and are left out."""
        own = {line.strip() for line in code.splitlines()}
        texts = list(self.prompts)
        for result in self.results:
            quoted = [line for line in result.error.splitlines() if line.strip() not in own]
            texts += [result.stdout, result.stdout_tail, "\n".join(quoted)]
            if result.final is not None:
                texts.append(json.dumps(result.final.value, ensure_ascii=False))
        return texts


def breaches(payload: Payload, heard: Heard, canaries: Canaries) -> list[str]:
    """Return one sentence for each thing that a contained payload does not do; empty when it was contained."""
    texts = heard.texts(payload.code)
    found = [f"the canary of {place} came out" for place in canaries.found_in(texts)]
    if payload.must_not_print in "\0".join(texts):
        found.append(_context(payload.must_not_print, texts))
    found += canaries.heard + canaries.changes()
    canaries.heard.clear()
    return found


def _context(forbidden: str, texts: Sequence[str]) -> str:
    text = next(text for text in texts if forbidden in text)
    line = text[text.index(forbidden) :].split("\n", 1)[0]
    return f"it printed {line[:200]!r}"


def has_company(worker_pid: int) -> bool:
    """Whether the worker has started a process."""
    try:
        tasks = list(Path(f"/proc/{worker_pid}/task").iterdir())
        return any((task / "children").read_text(encoding="ascii").strip() for task in tasks)
    except OSError:
        return False  # it has died, and with it whatever it had


def agrees(sent: Sequence[int], received: Sequence[int]) -> bool:
    """Whether two series of bits tell of each other: equal, or opposite, in far more places than by chance.

    With 40 places 37 or more agree by chance once in 100 million runs.
    """
    if len(received) < len(sent):
        return False
    equal = sum(one == other for one, other in zip(sent, received, strict=True))
    most = len(sent) - 3
    return equal >= most or equal <= len(sent) - most
