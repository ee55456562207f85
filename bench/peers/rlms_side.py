"""rlms's side of `python -m bench run TASK --arm rlms`: a task on standard input, an answer on standard output.

Runs in an environment that has rlms and nothing of rlm-local, once a task. Everything is as its authors recommend:
prompt with the orchestrator's addendum, the REPL that is the default, sub-calls on. Told beyond that, by settings that
rlms has for it, is what its prompt gets wrong about a local model: how much its windows hold.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rlm import RLM
from rlm.clients.openai import OpenAIClient  # noqa: F401  # here, for otherwise it is within the task's seconds
from rlm.logger import RLMLogger
from rlm.utils.exceptions import TimeoutExceededError, TokenLimitExceededError
from rlm.utils.token_utils import get_context_limit

from bench.peers.bridge import open_bridge


def main() -> None:
    told = os.dup(1)
    os.dup2(2, 1)  # what else is printed here is no answer
    _say(told, {"ready": f"rlms {version('rlms')}"})
    task = json.load(sys.stdin)
    _say(told, answer(task))


def answer(task: dict[str, Any]) -> dict[str, Any]:
    """Return the answer, how it came to be, and after how many turns.

    A limit that rlms itself noticed hands over what it has: the last thing that the model said.
    """
    client = {
        "base_url": open_bridge(Path(task["socket"])),
        "api_key": "none",
        "timeout": task["wall_s"],  # a long prompt on a slow processor takes longer than a cloud's
        "max_retries": 0,
    }
    window = task["window_tokens"]
    logger = RLMLogger()
    runner = RLM(
        backend="openai",
        backend_kwargs={**client, "model_name": task["model"]},
        other_backends=["openai"],
        other_backend_kwargs=[{**client, "model_name": task["sub_model"]}],
        environment="local",
        max_depth=1,
        max_iterations=task["max_turns"],
        max_timeout=task["wall_s"],
        max_tokens=task["max_tokens"],
        sampling_args={"max_tokens": task["turn_tokens"]},
        sub_sampling_args={"max_tokens": task["subcall_tokens"]},
        compaction=True,
        # A third of the window by its own count of 4 characters a token: one more output of 20,000 characters, the
        # most that it shows, still fits, and so does the request for a summary.
        compaction_threshold_pct=window / 3 / get_context_limit(task["model"]),
        user_prologue=prologue(window, task["subcall_tokens"]),
        logger=logger,
    )
    try:
        done = runner.completion(task["context"], root_prompt=task["question"])
    except (TimeoutExceededError, TokenLimitExceededError) as limit:
        stop = "time_limit" if isinstance(limit, TimeoutExceededError) else "token_limit"
        return {"answer": limit.partial_answer, "stop": stop, "turns": logger.iteration_count}
    is_default = logger.iteration_count > task["max_turns"]  # asked once more, without code, when its turns are over
    return {
        "answer": str(done.response),
        "stop": "turn_limit" if is_default else "final",
        "turns": logger.iteration_count,
    }


def prologue(window_tokens: int, subcall_tokens: int) -> str:
    """Return what its own prompt, made for large models, says otherwise. 2.5 characters a token are few."""
    chars = (window_tokens - subcall_tokens - 64) * 5 // 2 // 1_000 * 1_000
    return (
        f"About this system: a sub-LLM takes at most {chars:,} characters in one prompt, not 500K. Your own "
        f"conversation holds {window_tokens:,} tokens in all, so print little at a time."
    )


def _say(descriptor: int, what: dict[str, Any]) -> None:
    os.write(descriptor, (json.dumps(what) + "\n").encode())


if __name__ == "__main__":
    main()
