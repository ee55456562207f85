"""Files become documents, documents become one corpus, and an answer's passages are found in it again."""

from rlm_local.documents.citations import cite
from rlm_local.documents.corpus import join, join_aside, joined_bytes, joined_chars, line_at, locate
from rlm_local.documents.coverage import coverage
from rlm_local.documents.load import Loaded, check_there, load
from rlm_local.documents.names import own_name

__all__ = [
    "Loaded",
    "check_there",
    "cite",
    "coverage",
    "join",
    "join_aside",
    "joined_bytes",
    "joined_chars",
    "line_at",
    "load",
    "locate",
    "own_name",
]
