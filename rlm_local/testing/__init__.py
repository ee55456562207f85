"""Shipped fakes, for unit tests of whatever plugs into the ports. Never the ground of a claim."""

from rlm_local.testing.fakes import AnsweringEngine, KeptEvents, QueryingRepl, ScriptedEngine, ScriptedRepl

__all__ = ["AnsweringEngine", "KeptEvents", "QueryingRepl", "ScriptedEngine", "ScriptedRepl"]
