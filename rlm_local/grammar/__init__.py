"""The turn language: which replies of a root are allowed now, and what a reply means."""

from rlm_local.grammar.decode import decode_turn
from rlm_local.grammar.shape import TurnState, turn_grammar

__all__ = ["TurnState", "decode_turn", "turn_grammar"]
