"""The loop of a run. Knows the three ports and nobody who is plugged into them."""

from rlm_local.controller.direct import answer_directly, direct_tokens
from rlm_local.controller.past import Past, PastCell, timeless
from rlm_local.controller.run import Ports, run_node
from rlm_local.controller.tree import Cite, Opened, Validate

__all__ = [
    "Cite",
    "Opened",
    "Past",
    "PastCell",
    "Ports",
    "Validate",
    "answer_directly",
    "direct_tokens",
    "run_node",
    "timeless",
]
