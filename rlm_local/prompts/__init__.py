"""What the models read, byte for byte."""

from rlm_local.prompts.profile import Profile, load_profile
from rlm_local.prompts.render import (
    Situation,
    denied_note,
    observation_message,
    opening_messages,
    quoted_note,
    shown_head,
    subcall_messages,
)

__all__ = [
    "Profile",
    "Situation",
    "denied_note",
    "load_profile",
    "observation_message",
    "opening_messages",
    "quoted_note",
    "shown_head",
    "subcall_messages",
]
