"""The loop of a run. Knows the three ports and nobody who is plugged into them."""

from rlm_local.controller.past import Past, PastCell, timeless
from rlm_local.controller.run import Ports, run_node
from rlm_local.controller.tree import Cite, Opened

__all__ = ["Cite", "Opened", "Past", "PastCell", "Ports", "run_node", "timeless"]
