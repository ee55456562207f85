"""Hostile payloads against this machine's real jail, and an oracle that tells whether anything came out."""

from rlm_local.attack.payloads import Payload, groups, load_payloads, read_payloads
from rlm_local.attack.run import Outcome, Report, attack

__all__ = ["Outcome", "Payload", "Report", "attack", "groups", "load_payloads", "read_payloads"]
