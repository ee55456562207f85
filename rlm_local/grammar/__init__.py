"""The turn language: which replies of a root are allowed now, and what a reply means."""

from rlm_local.grammar.accepts import MAX_TEXT_BYTES, Refusal, refusal
from rlm_local.grammar.answer import AnswerSchema
from rlm_local.grammar.decode import decode_turn, is_written_out
from rlm_local.grammar.parsed import parsed
from rlm_local.grammar.shape import TurnState, turn_grammar

__all__ = [
    "MAX_TEXT_BYTES",
    "AnswerSchema",
    "Refusal",
    "TurnState",
    "decode_turn",
    "is_written_out",
    "parsed",
    "refusal",
    "turn_grammar",
]
