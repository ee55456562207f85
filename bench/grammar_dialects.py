"""Do all dialects of the turn language accept the same texts, and what do they cost? Rules only, not the condition.

llguidance and llama.cpp run here. xgrammar needs torch, so it runs in an environment of its own (`make xgrammar`).
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import llama_cpp.llama_cpp as api
import llguidance
import numpy as np

from bench.gbnf import Gbnf
from grammars.build import ROOM
from grammars.derive import Deriver
from grammars.language import read_language
from rlm_local.engine.llama.binding import Model
from rlm_local.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
XGRAMMAR_PYTHON = ROOT / ".venv-xgrammar" / "bin" / "python"
SIDE = Path(__file__).with_name("xgrammar_side.py")
TURN = "prose{0,4} block"
_INSERTED = "()[]{}'\"`:,.=+-*#\\\n\n    ifnot lambda0x_aé"


def texts(count: int, seed: int) -> Iterator[str]:
    """Yield random turns and as many turns that were damaged in one to three places."""
    random = Random(seed)
    deriver = Deriver(read_language(), random)
    for number in range(count):
        block = deriver.sentence("block", random.choice((2, 3, 5, 10)))
        yield block if number % 2 else _damaged(block, random)


def _damaged(block: str, random: Random) -> str:
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len("```repl\n"), len(block))
        length = random.choice((0, 1, 1, 2, 5))
        new = "".join(random.choice(_INSERTED) for _ in range(random.choice((0, 0, 1, 1, 2))))
        copied = block[at : at + 4] if random.random() < 0.2 else ""
        block = block[:at] + new + copied + block[at + length :]
    return block


def lark_judge() -> Callable[[str], bool]:
    tokenizer = llguidance.LLTokenizer("byte")
    rules = (ROOM / "python.lark").read_text(encoding="utf-8")
    start = llguidance.LLMatcher(tokenizer, llguidance.LLMatcher.grammar_from_lark(f"start: {TURN}\n{rules}"))

    def accepts(text: str) -> bool:
        matcher = start.deep_copy()
        tokens = tokenizer.tokenize_str(text)
        return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())

    return accepts


def gbnf_judge() -> Gbnf:
    return Gbnf(f"root ::= {TURN}\n{(ROOM / 'python.gbnf').read_text(encoding='utf-8')}")


class GbnfSampler:
    """llama.cpp's own grammar sampler on a vocabulary, to be timed."""

    def __init__(self, model: Model) -> None:
        rules = (ROOM / "python.gbnf").read_text(encoding="utf-8")
        began = time.perf_counter()
        self._start = api.llama_sampler_init_grammar(
            api.llama_model_get_vocab(model.handle), f"root ::= {TURN}\n{rules}".encode(), b"root"
        )
        self.ready_s = time.perf_counter() - began
        if not self._start:
            raise AssertionError("llama.cpp does not read python.gbnf")
        self._model = model

    def speed(self, cells: list[str]) -> dict[str, Any]:
        """Return microseconds of checking one token, and of 10 tokens of the vocabulary at once.

        A whole mask has 15,000 times as many and takes minutes, so that it is not made.
        """
        times: dict[str, list[float]] = {"check": [], "check of 10": [], "advance": []}
        some = list(range(0, self._model.vocab_size, self._model.vocab_size // 10))[:10]
        for cell in cells:
            sampler = api.llama_sampler_clone(self._start)
            for token in self._model.tokenize(f"```repl\n{cell}\n```", special=False):
                stamps = [time.perf_counter()]
                self._check(sampler, [token])
                stamps.append(time.perf_counter())
                self._check(sampler, some)
                stamps.append(time.perf_counter())
                api.llama_sampler_accept(sampler, token)
                stamps.append(time.perf_counter())
                for name, before, after in zip(times, stamps, stamps[1:], strict=False):
                    times[name].append((after - before) * 1e6)
            api.llama_sampler_free(sampler)
        return {"ready_s": self.ready_s} | {f"{name}_us": percentiles(each) for name, each in times.items()}

    def _check(self, sampler: Any, tokens: list[int]) -> None:
        entries = (api.llama_token_data * len(tokens))(*(api.llama_token_data(token, 1.0, 0.0) for token in tokens))
        candidates = api.llama_token_data_array(entries, len(tokens), -1, False)
        api.llama_sampler_apply(sampler, ctypes.byref(candidates))


def percentiles(times: list[float]) -> dict[str, float]:
    if not times:
        return {"tokens": 0}
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1), "tokens": len(times)}


def xgrammar_side(request: dict[str, Any], python: Path) -> dict[str, Any]:
    """Ask xgrammar, in its own environment. Raises ConfigError when there is none."""
    if not python.is_file():
        raise ConfigError(f"no xgrammar at {python}", hint="make xgrammar")
    rules = (ROOM / "python.gbnf").read_text(encoding="utf-8")
    asked = json.dumps({"grammar": f"root ::= {TURN}\n{rules}"} | request)
    done = subprocess.run([python, SIDE], input=asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"xgrammar in {python} failed: {done.stderr.strip()[-300:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def agreement(
    random_texts: int,
    cells: dict[bool, list[str]],
    xgrammar: Path | None,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Return how many texts the dialects judge alike, and those that they do not.

    cells: those that must be accepted and those that must not. xgrammar: None leaves it out.
    """
    wanted: dict[str, bool | None] = {
        f"```repl\n{cell}\n```": verdict for verdict, each in cells.items() for cell in each
    }
    drawn = dict.fromkeys(texts(random_texts, seed))
    asked = [*wanted, *drawn]
    verdicts: dict[str, dict[str, bool]] = {"lark": dict(zip(asked, map(lark_judge(), asked), strict=True))}
    if xgrammar is not None:
        say("xgrammar")
        said = xgrammar_side({"texts": asked}, xgrammar)["accepted"]
        verdicts["xgrammar"] = dict(zip(asked, said, strict=True))
    say("llama.cpp")
    judge = gbnf_judge()
    verdicts["gbnf"] = {text: judge.accepts(text) for text in asked}
    judge.close()
    apart = [text for text in asked if len({each[text] for each in verdicts.values() if text in each}) > 1]
    return {
        name: {
            "cells": sum(text in wanted for text in each),
            "cells judged wrong": sum(each[text] is not verdict for text, verdict in wanted.items() if text in each),
            "random texts": sum(text in drawn for text in each),
            "of them accepted": sum(each[text] for text in drawn if text in each),
        }
        for name, each in verdicts.items()
    } | {"judged apart": len(apart), "for instance": [text[-300:] for text in apart[:10]]}
