"""API keys: shown once, kept as a hash, each speaking for a tenant."""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
import time
from dataclasses import astuple, dataclass

from rlm_local.errors import ConfigError
from rlm_local.server.database import Database
from rlm_local.server.quotas import KeyLimits

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_PREFIX = "rlm-"
_COLUMNS = "id, name, tenant, created, revoked, max_runs, tokens_a_day, max_document_bytes, watches"
UNLIMITED = KeyLimits()


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key; nobody can make the key itself of it."""

    id: str
    name: str
    tenant: str
    created: int  # seconds since 1970, as everywhere here
    revoked: int | None
    limits: KeyLimits = KeyLimits()
    watches: bool = False  # opens /metrics, which sums up all tenants, and nothing else


class Keys:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, name: str, tenant: str | None, limits: KeyLimits = UNLIMITED, *, watches: bool = False
    ) -> tuple[Key, str]:
        """Make a key and return it with its secret, which nobody can tell again. tenant: by default its name."""
        tenant = name if tenant is None else tenant
        for what, value in (("name", name), ("tenant", tenant)):
            if not _NAME.fullmatch(value):
                raise ConfigError(
                    f"the {what} is {value!r}, but must be 1 to 64 letters, digits and . _ @ -, a letter or digit first"
                )
        # 256 random bits: a plain hash of them is as hard to turn back as they are to guess.
        secret = _PREFIX + secrets.token_urlsafe(32)
        key = Key(f"key-{secrets.token_hex(6)}", name, tenant, int(time.time()), None, limits, watches)
        self._database.write(
            "INSERT INTO keys (id, name, tenant, hash, created, watches, max_runs, tokens_a_day, max_document_bytes) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(key.id, name, tenant, _hash(secret), key.created, watches, *astuple(limits)),
        )
        return key, secret

    def all(self) -> list[Key]:
        """Return every key that was ever made, the oldest first."""
        return [_key(row) for row in self._database.rows(f"SELECT {_COLUMNS} FROM keys ORDER BY created, rowid")]

    def revoke(self, key_id: str) -> None:
        """End a key; it is refused from now on. Raises ConfigError when there is no such key."""
        revoked = self._database.write(
            "UPDATE keys SET revoked = coalesce(revoked, ?) WHERE id = ?", int(time.time()), key_id
        )
        if not revoked:
            raise ConfigError(f"no key has the id {key_id!r}", hint="`rlm-local keys list` shows all of them")

    def of(self, secret: str) -> Key | None:
        """Return the key that a secret is; None for one that is unknown or revoked."""
        query = f"SELECT {_COLUMNS} FROM keys WHERE hash = ? AND revoked IS NULL"
        found = self._database.rows(query, _hash(secret))
        return _key(found[0]) if found else None

    def exist(self) -> bool:
        """Tell whether a key was ever made. Revoking the last one does not open the server."""
        return bool(self._database.rows("SELECT 1 FROM keys LIMIT 1"))


def _key(row: sqlite3.Row) -> Key:
    limits = KeyLimits(row["max_runs"], row["tokens_a_day"], row["max_document_bytes"])
    return Key(row["id"], row["name"], row["tenant"], row["created"], row["revoked"], limits, bool(row["watches"]))


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
