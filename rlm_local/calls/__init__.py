"""Typed calls: what code and commands can ask of a sub-model beside a plain prompt, held to its form by the engine."""

from rlm_local.calls.caller import Caller, FreeCaller
from rlm_local.calls.classify import classify as classify_all
from rlm_local.calls.fan import in_order
from rlm_local.calls.form import ReplyForm, form_of
from rlm_local.calls.serve import TypedCalls, check_arguments, judge_of, reader_of

__all__ = [
    "Caller",
    "FreeCaller",
    "ReplyForm",
    "TypedCalls",
    "check_arguments",
    "classify_all",
    "form_of",
    "in_order",
    "judge_of",
    "reader_of",
]
