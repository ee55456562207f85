"""What a server must not forget, in one SQLite file: keys, files and runs."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from pathlib import Path
from typing import TypeAlias

from rlm_local.errors import ConfigError, RlmError

Value: TypeAlias = str | int | float | bytes | None
# What makes a file of version n out of one of version n - 1.
_STEPS = (
    """
CREATE TABLE keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, tenant TEXT NOT NULL, hash BLOB NOT NULL UNIQUE,
    created INTEGER NOT NULL, revoked INTEGER
);
CREATE TABLE files (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, purpose TEXT NOT NULL,
    bytes INTEGER NOT NULL, created INTEGER NOT NULL
);
CREATE INDEX files_of ON files (tenant, created DESC, id);
CREATE TABLE runs (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, model TEXT NOT NULL, question TEXT NOT NULL, state TEXT NOT NULL,
    attempt INTEGER NOT NULL, created REAL NOT NULL, started REAL, ended REAL, outcome TEXT, body TEXT NOT NULL
);
CREATE INDEX runs_of ON runs (tenant, created DESC, id);
CREATE INDEX runs_in ON runs (state, created);
""",
    # The attempt with which a run's trace begins: later ones have gone on from it.
    "ALTER TABLE runs ADD COLUMN began INTEGER NOT NULL DEFAULT 0; UPDATE runs SET began = attempt",
    # What a caller calls his request, so that asked twice it is one run.
    "ALTER TABLE runs ADD COLUMN request TEXT; CREATE UNIQUE INDEX runs_by_request ON runs (tenant, request)",
    # What a key may take, and what it has taken; and of a run's body, which is kept until its end, the digest.
    """
ALTER TABLE keys ADD COLUMN max_runs INTEGER;
ALTER TABLE keys ADD COLUMN tokens_a_day INTEGER;
ALTER TABLE keys ADD COLUMN max_document_bytes INTEGER;
ALTER TABLE runs ADD COLUMN key TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN digest TEXT NOT NULL DEFAULT '';
CREATE TABLE spent (key TEXT NOT NULL, day INTEGER NOT NULL, tokens INTEGER NOT NULL, PRIMARY KEY (key, day))
""",
    # What ended otherwise than in an answer kept its documents.
    "UPDATE runs SET body = '' WHERE ended IS NOT NULL",
    # A key that opens /metrics, and nothing else.
    "ALTER TABLE keys ADD COLUMN watches INTEGER NOT NULL DEFAULT 0",
)
VERSION = len(_STEPS)
RECORDS = "server.db"


class Database:
    """One connection for all threads. A write is on the disk when it returns. Raises RlmError for what SQLite cannot.

    folder: made with mode 0700 where it is not; everything that a server keeps is below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = folder / RECORDS
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # its companions get the mode that it has
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._prepare(path)
        except (OSError, sqlite3.Error) as error:
            raise RlmError(f"the server's records in {folder} cannot be opened: {error}") from error

    def write(self, statement: str, *values: Value) -> int:
        """Do one statement and return how many rows it changed."""
        with self._lock:
            try:
                return self._connection.execute(statement, values).rowcount
            except sqlite3.Error as error:
                raise RlmError(f"the server's records cannot be written: {error}") from error

    def rows(self, query: str, *values: Value) -> list[sqlite3.Row]:
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise RlmError(f"the server's records cannot be read: {error}") from error

    def page(
        self, table: str, columns: str, tenant: str, most: int, *, after: str | None, newest_first: bool, **only: Value
    ) -> list[sqlite3.Row]:
        """Return at most so many of a tenant's rows by age, those behind the row with the id `after`.

        only: what a column must be; None for anything. Names of tables and columns are ours, never a caller's.
        """
        order, behind = ("DESC", "<") if newest_first else ("ASC", ">")
        wanted = {name: value for name, value in only.items() if value is not None}
        query = f"SELECT {columns} FROM {table} WHERE tenant = ?" + "".join(f" AND {name} = ?" for name in wanted)
        values: list[Value] = [tenant, *wanted.values()]
        if after is not None:
            query += f" AND (created, id) {behind} (SELECT created, id FROM {table} WHERE id = ?)"
            values.append(after)
        return self.rows(f"{query} ORDER BY created {order}, id {order} LIMIT ?", *values, most)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _prepare(self, path: Path) -> None:
        self._connection.execute("BEGIN IMMEDIATE")  # of two that begin at once, one makes the tables
        (found,) = self._connection.execute("PRAGMA user_version").fetchone()
        for step in _STEPS[found:]:
            for statement in step.split(";"):
                self._connection.execute(statement)
        if found < VERSION:
            self._connection.execute(f"PRAGMA user_version = {VERSION}")
        self._connection.execute("COMMIT")
        if found > VERSION:
            raise RlmError(f"{path} has version {found}, this build reads {VERSION}; use the rlm-local that wrote it")


def claim(folder: Path) -> int:
    """Return a descriptor that keeps other servers off this folder for as long as it is open.

    Raises ConfigError when another server has it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / "server.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ConfigError(
            f"another server keeps its files and runs in {folder}", hint="stop it, or name another folder with --state"
        ) from error
    return lock
