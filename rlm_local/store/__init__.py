"""The weights on this machine: pulled from several sources, trusted for their sha256 and nothing else."""

from rlm_local.store.check import FileCheck, pull_command
from rlm_local.store.manifest import FileRecord, Manifest
from rlm_local.store.progress import SILENT, Progress
from rlm_local.store.source import Origin, Source, SourceFailed, Wanted
from rlm_local.store.store import Installed, Store, default_sources

__all__ = [
    "SILENT",
    "FileCheck",
    "FileRecord",
    "Installed",
    "Manifest",
    "Origin",
    "Progress",
    "Source",
    "SourceFailed",
    "Store",
    "Wanted",
    "default_sources",
    "pull_command",
]
