"""xgrammar's side of `python -m bench grammar`: a request on standard input, an answer on standard output, in JSON.

Runs in an environment that has xgrammar and nothing of rlm-local. A request has a grammar, and either texts to judge,
or a vocabulary (pieces in hexadecimal, and its end tokens) and tokenized cells to time.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import xgrammar
from xgrammar.testing import _get_matcher_from_grammar


def judge(grammar: str, texts: list[str]) -> dict[str, Any]:
    matcher = _get_matcher_from_grammar(xgrammar.Grammar.from_ebnf(grammar))
    accepted = []
    for text in texts:
        matcher.reset()
        accepted.append(bool(matcher.accept_string(text) and matcher.is_completed()))
    return {"accepted": accepted}


def measure(grammar: str, pieces: list[str], ends: list[int], cells: list[list[int]], seconds: float) -> dict[str, Any]:
    vocabulary = [bytes.fromhex(piece) for piece in pieces]
    tokenizer = xgrammar.TokenizerInfo(
        vocabulary, vocab_type=xgrammar.VocabType.RAW, vocab_size=len(vocabulary), stop_token_ids=ends
    )
    began, worked = time.perf_counter(), time.process_time()
    compiled = xgrammar.GrammarCompiler(tokenizer, max_threads=1).compile_grammar(grammar)
    ready_s, ready_cpu_s = time.perf_counter() - began, time.process_time() - worked
    bits = xgrammar.allocate_token_bitmask(1, len(vocabulary))
    times: dict[str, list[float]] = {"mask": [], "advance": []}
    until = time.perf_counter() + seconds
    for cell in cells:
        matcher = xgrammar.GrammarMatcher(compiled)
        for token in cell:
            before = time.perf_counter()
            if before > until:
                break
            matcher.fill_next_token_bitmask(bits)
            between = time.perf_counter()
            if not matcher.accept_token(token):
                raise ValueError(f"xgrammar refuses {vocabulary[token]!r}")
            times["mask"].append((between - before) * 1e6)
            times["advance"].append((time.perf_counter() - between) * 1e6)
    return {
        "xgrammar": version("xgrammar"),
        "ready_s": ready_s,
        "ready_cpu_s": ready_cpu_s,
    } | {
        f"{name}_us": {
            "p50": round(float(np.percentile(each, 50)), 1),
            "p99": round(float(np.percentile(each, 99)), 1),
            "tokens": len(each),
        }
        for name, each in times.items()
    }


def main() -> None:
    request = json.load(sys.stdin)
    answer = judge(**request) if "texts" in request else measure(**request)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
