"""What a grammar costs per token, on replies that a model really writes under it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlm_local.engine.llama.binding import Context, Model
from rlm_local.engine.llama.compute import Part
from rlm_local.engine.llama.mask import Constraint, Dialect, Grammars, Mask
from rlm_local.engine.llama.sampler import Sampler, Settings
from rlm_local.engine.llama.template import ChatTemplate, encode
from rlm_local.errors import ConfigError
from rlm_local.types import Message, Role


class TimedMask:
    """A mask that counts the seconds spent in it."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self.spent_s = 0.0
        self.whole = 0  # times that the whole mask was needed

    def allows(self, token: int) -> bool:
        began = time.perf_counter()
        allowed = self._mask.allows(token)
        self.spent_s += time.perf_counter() - began
        return allowed

    def allowed(self) -> NDArray[np.bool_]:
        began = time.perf_counter()
        allowed = self._mask.allowed()
        self.spent_s += time.perf_counter() - began
        self.whole += 1
        return allowed

    def advance(self, token: int) -> None:
        began = time.perf_counter()
        self._mask.advance(token)
        self.spent_s += time.perf_counter() - began


def constraint_times(weights: Path, grammar: str, task: str, replies: int, out: int) -> dict[str, Any]:
    """Write replies to a task under a grammar, one after another; return what each token's constraint cost."""
    model = Model(weights)
    # One thread: the speed of the model is not what is measured, and threads would wait for each other.
    context = Context(model, cells=2048, sequences=2, threads=1)
    if model.chat_template is None:
        raise ConfigError(f"{weights.name} carries no chat template")
    template = ChatTemplate(model.chat_template, bos=model.special_text("bos"), eos=model.special_text("eos"))
    prompt = encode(template.parts([Message(Role.USER, task)]), model.tokenize, bos=model.bos)
    tokenizer = model.grammar_tokenizer()
    grammars = Grammars(lambda: tokenizer, ends=model.ends, vocab_size=model.vocab_size)
    constraint = Constraint(Dialect.GRAMMAR, grammar)
    times: list[float] = []
    masks = 0
    for seed in range(1, replies + 1):
        mask = grammars.mask(constraint)
        timed = TimedMask(mask)
        sampler = Sampler(Settings(temperature=0.7, seed=seed))
        context.remove(0, 0)
        (logits,) = context.compute([Part(0, 0, prompt, 1)])
        for position in range(len(prompt), len(prompt) + out):
            timed.spent_s = 0.0
            token = sampler.next(logits, timed)
            if token in model.ends:
                break
            timed.advance(token)
            times.append(timed.spent_s * 1e6)
            if mask.finished:
                break
            (logits,) = context.compute([Part(0, position, [token], 1)])
        masks += timed.whole
    context.close()
    vocabulary = model.vocab_size
    model.close()
    p50, p99 = (float(np.percentile(times, share)) for share in (50, 99))
    return {"tokens": len(times), "masks": masks, "p50_us": p50, "p99_us": p99, "vocabulary": vocabulary}
