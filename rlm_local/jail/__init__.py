"""Code that nobody vouches for, in a jail: `JailSession` runs it, `probe` tells whether this machine can."""

from rlm_local.jail.checkpoint import Checkpoint
from rlm_local.jail.diagnose import nsjail_binary
from rlm_local.jail.doctor import probe
from rlm_local.jail.leftovers import leftovers
from rlm_local.jail.memory import SealedCorpus, seal
from rlm_local.jail.packages import NO_PACKAGES, Packages, find_packages
from rlm_local.jail.pool import JailPool
from rlm_local.jail.prove import require_imports
from rlm_local.jail.session import JailSession

__all__ = [
    "NO_PACKAGES",
    "Checkpoint",
    "JailPool",
    "JailSession",
    "Packages",
    "SealedCorpus",
    "find_packages",
    "leftovers",
    "nsjail_binary",
    "probe",
    "require_imports",
    "seal",
]
