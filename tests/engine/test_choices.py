"""Choices: each has the probability of all its tokens, and many requests are scored together."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rlm_local.engine.llama.choices import ChoiceTree
from rlm_local.engine.llama.interrupt import Aborted
from tests.engine.list_memory import VOCAB, Bench, Letters


def test_choices_get_the_probability_of_every_token_of_theirs() -> None:
    bench = Bench()
    tokens = [(1,), (2, 3), (2, 3, 4), (2, 5, 6, 7)]

    def logprobs(*said: int) -> NDArray[np.float64]:
        seed = hash((8, 9, *said)) % 2**32
        logits = np.random.default_rng(seed).normal(size=VOCAB).astype(np.float32).astype(np.float64)
        return logits - np.log(np.exp(logits).sum())

    expected = [sum(logprobs(*t[:i])[t[i]] for i in range(len(t))) for t in tokens]
    expected[1] += logprobs(2, 3)[0]  # "bc" also begins "bcd": it counts where the reply ends there
    reply = bench.generate([8, 9], choices=ChoiceTree("abcd", tokens, Letters.ends))
    assert reply.choices is not None
    assert [c.logprob for c in reply.choices] == pytest.approx(expected, abs=1e-4)
    assert sum(c.probability for c in reply.choices) == pytest.approx(1)
    assert reply.text == bytes(96 + t for t in tokens[int(np.argmax(expected))]).decode()
    assert bench.memory.computed == 2 + 2 + 3  # the prompt; b, c; b, e, f
    assert len(bench.memory.calls) == 3  # the prompt's head, its last token, the choices
    bench.check()


def test_one_token_choices_need_no_more_than_the_prompt() -> None:
    bench = Bench()
    bench.generate([8, 9], choices=ChoiceTree("ab", [(1,), (2,)], Letters.ends))
    assert bench.memory.computed == 2


def test_the_choices_of_many_requests_are_scored_together_and_each_as_if_alone() -> None:
    tokens = [(1, 2), (1, 3), (4,)]
    prompts = [[8, i] for i in range(4)]
    alone = [Bench().generate(prompt, choices=ChoiceTree("abc", tokens, Letters.ends)).choices for prompt in prompts]
    bench = Bench()
    requests = [bench.submit(prompt, choices=ChoiceTree("abc", tokens, Letters.ends)) for prompt in prompts]
    bench.run()
    assert [r.result.result(0).choices for r in requests] == alone
    assert bench.memory.calls[-1] == 4  # one place each, in one computation
    bench.check()


def test_a_request_that_is_cancelled_while_choices_are_scored_takes_no_other_with_it() -> None:
    bench = Bench()
    tree = ChoiceTree("abc", [(1, 2), (1, 3), (4,)], Letters.ends)
    requests = [bench.submit([8, i], choices=tree) for i in range(3)]

    def cancel_once() -> None:
        scoring = [n for n in bench.scheduler._scratch if bench.memory.sequences.get(n)]
        if scoring and not requests[1].cancel.is_set:
            bench.scheduler.interrupt(requests[1])

    bench.memory.before = cancel_once
    bench.run()
    with pytest.raises(Aborted):
        requests[1].result.result(0)
    expected = Bench().generate([8, 2], choices=tree).choices
    assert requests[2].result.result(0).choices == expected
    bench.check()
