"""Code that nobody vouches for, in a jail: `JailSession` runs it, `probe` tells whether this machine can."""

from rlm_local.jail.diagnose import nsjail_binary
from rlm_local.jail.doctor import probe
from rlm_local.jail.session import JailSession

__all__ = ["JailSession", "nsjail_binary", "probe"]
