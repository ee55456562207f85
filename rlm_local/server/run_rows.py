"""A run as the server's records hold it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rlm_local.server.database import Database
from rlm_local.types import JsonObject

COLUMNS = "id, tenant, model, question, state, attempt, began, created, started, ended, outcome"


class RunState(StrEnum):
    QUEUED = "queued"  # also after a restart, until its turn comes again
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        return self not in (RunState.QUEUED, RunState.RUNNING)


@dataclass(frozen=True, slots=True)
class Run:
    id: str
    tenant: str
    model: str
    question: str
    state: RunState
    attempt: int  # 1, and one more for each time that a server ended before the run did
    began: int  # the attempt with which its events begin; those behind it have gone on from there
    created: float
    started: float | None
    ended: float | None
    outcome: JsonObject  # {"answer": ...} or {"error": ...} once it has ended

    def as_object(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "rlm.run",
            "status": self.state.value,
            "model": self.model,
            "question": self.question,
            "attempt": self.attempt,
            "created_at": int(self.created),
            "started_at": None if self.started is None else int(self.started),
            "ended_at": None if self.ended is None else int(self.ended),
            "answer": self.outcome.get("answer"),
            "error": self.outcome.get("error"),
        }


def read_runs(database: Database, states: Sequence[str], most: int) -> list[Run]:
    """Return runs of all tenants that are in one of these states, the newest first. For the owner of the folder."""
    marks = ", ".join("?" * len(states))
    query = f"SELECT {COLUMNS} FROM runs WHERE state IN ({marks}) ORDER BY created DESC, id DESC LIMIT ?"
    return [run_of(row) for row in database.rows(query, *states, most)]


def tenant_of_run(database: Database, run_id: str) -> str | None:
    """Return whose a run is; None where there is none. For the owner of the folder."""
    found = database.rows("SELECT tenant FROM runs WHERE id = ?", run_id)
    return str(found[0]["tenant"]) if found else None


def run_of(row: sqlite3.Row) -> Run:
    fields: dict[str, Any] = dict(row)
    outcome = fields.pop("outcome")
    return Run(**fields | {"state": RunState(fields["state"]), "outcome": json.loads(outcome) if outcome else {}})
