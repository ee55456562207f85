"""The loop of a run. Knows the three ports and nobody who is plugged into them."""

from rlm_local.controller.node import Cite, Ports, run_node

__all__ = ["Cite", "Ports", "run_node"]
