"""A server with a leak, for `python -m bench hidden` to find: python -m bench.hidden_leak FOLDER TIMES

Whoever asks for another tenant's file is told what he is told for one that never was, but the file is opened and read
before that, so many times.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.kills_server import main
from rlm_local.server.database import Database
from rlm_local.server.files import Files, StoredFile
from rlm_local.server.settings import Settings


class LeakyFiles(Files):
    def __init__(self, database: Database, settings: Settings, times: int) -> None:
        super().__init__(database, settings)
        self._in = database.folder / "files"
        self._times = times

    def find(self, tenant: str, file_id: str) -> StoredFile:
        path = self._in / file_id
        for _ in range(self._times):
            if path.exists():
                path.read_bytes()
        return super().find(tenant, file_id)


if __name__ == "__main__":
    main(Path(sys.argv[1]), lambda database, settings: LeakyFiles(database, settings, int(sys.argv[2])))
