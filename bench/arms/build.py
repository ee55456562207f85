"""The arms by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.arms.codeact import CodeAct
from bench.arms.peer import PEERS, PeerArm
from bench.arms.plain import PlainArm, Reading
from bench.arms.rlm import RlmArm, without_subcalls
from bench.arms.summary import SummaryAgent
from bench.rows import Arm
from rlm_local.limits import Limits
from rlm_local.runtime import Runtime
from rlm_local.types import GrammarMode

ARMS: dict[str, str] = {
    "rlm": "the whole runtime, one level of sub-calls",
    "rlm-2": "the same, and code may give a question to a child with sub-calls of its own",
    "rlm-0": "the same without sub-calls, and no word of them in the prompt",
    "direct": "one completion over the whole text; refused above the window",
    "direct-cut": "the same, the middle of the text cut out where the window is too small",
    "rag": "one completion over the passages that BM25 finds",
    "summary": "reads the text in parts and keeps notes, then answers from them",
    "codeact": "turns of Python with BM25 as a tool, the text in the prompt where it fits",
    "closed": "one completion over the question alone",
    "rlms": "the reference implementation as installed from PyPI, by `make bench-rlms`",
}
RLM_ARMS = ("rlm", "rlm-0", "rlm-2")


def build_arm(
    name: str, runtime: Runtime, limits: Limits, traces: Path | None, *, grammar: GrammarMode, typed: bool
) -> Arm:
    """Return the arm. typed: answers are held to the task's schema, where the arm can hold them (CodeAct cannot)."""
    engine, sampling = runtime.engine, runtime.card.sampling
    match name:
        case "rlm":
            return RlmArm(runtime, replace(limits, max_depth=1), traces, grammar=grammar, typed=typed)
        case "rlm-2":
            return RlmArm(runtime, replace(limits, max_depth=2), traces, grammar=grammar, typed=typed)
        case "rlm-0":
            alone = replace(runtime, profile=without_subcalls(runtime.profile))
            none = replace(limits, max_depth=1, max_subcalls=0)
            return RlmArm(alone, none, traces, grammar=grammar, typed=typed)
        case "summary":
            return SummaryAgent(engine, limits, sampling, traces, typed=typed)
        case "codeact":
            return CodeAct(engine, limits, sampling, traces)
        case _ if name in PEERS:
            return PeerArm(PEERS[name], engine, limits, sampling, traces)
        case _:
            return PlainArm(Reading(name), engine, limits, sampling, traces, typed=typed)


def profile_of(name: str, runtime: Runtime) -> tuple[str, str]:
    """Return what an arm's root is told, in words, and a digest of it; of a peer its settings, and of its side.

    Both are empty for an arm without such. Raises ConfigError for a peer that is not installed.
    """
    if name in PEERS:
        peer = PEERS[name]
        return f"{peer.package} {peer.version}: {peer.settings}", peer.side_sha256
    if name not in RLM_ARMS:
        return "", ""
    return runtime.profile.name, (without_subcalls(runtime.profile) if name == "rlm-0" else runtime.profile).sha256
