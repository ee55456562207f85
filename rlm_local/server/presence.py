"""How commands on this machine find a running server: a file in its folder, and a proof that it is that server's.

The file holds the server's address and a secret, and is for the owner of the folder alone (0600). It is never trusted:
a server that was killed leaves it behind, and its port may be another program's by now. Who listens there is asked to
prove that it knows the secret, before it is told anything; no process is ever signalled for what the file says.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "server.json"
PROOF_PATH = "/v1/rlm/server"
TENANT_HEADER = "rlm-tenant"  # for whom the owner of the folder speaks


@dataclass(frozen=True, slots=True)
class Presence:
    pid: int  # to be shown
    version: str  # of rlm-local
    model: str
    address: str  # unix:PATH, or http(s)://HOST:PORT
    certificate: str  # its file, for https; else empty
    secret: str
    began: float  # seconds since 1970


def new_secret() -> str:
    return secrets.token_urlsafe(32)


def proof_of(secret: str, challenge: str) -> str:
    """Return what only who knows the secret can answer to a challenge."""
    return hmac.new(secret.encode(), challenge.encode(), hashlib.sha256).hexdigest()


def write_presence(folder: Path, presence: Presence) -> None:
    """Tell that a server is there. Whoever reads meanwhile reads the old file or the new one."""
    new = folder / f"{NAME}.new"
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump(asdict(presence), file)
    new.rename(folder / NAME)


def remove_presence(folder: Path) -> None:
    with suppress(OSError):
        (folder / NAME).unlink()


def read_presence(folder: Path) -> Presence | None:
    """Return what the file says, which may be of a server that has gone; None where there is none that can be read."""
    try:
        told = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return Presence(**told)
    except (OSError, ValueError, TypeError):
        return None
