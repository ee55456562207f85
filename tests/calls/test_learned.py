"""What the items of a call teach of each other."""

from __future__ import annotations

import random

import pytest

from rlm_local.calls.learned import Learned
from rlm_local.calls.prior import Prior, Scores, normalised
from rlm_local.calls.words import READ_CHARS, Words

EVEN = Prior((0.0, 0.0))


def noisy(truth: int, draw: random.Random, *, apart: float) -> Scores:
    return normalised([apart * (truth == 0) + draw.gauss(0, 1), apart * (truth == 1) + draw.gauss(0, 1)])


def test_a_text_that_a_model_cannot_tell_takes_the_label_of_those_that_share_its_words() -> None:
    said = {f"who wrote {n}": (0.9, 0.1) for n in range(5)} | {f"when was {n}": (0.1, 0.9) for n in range(5)}
    words = Words.of(said | {"who wrote it": (0.5, 0.5)})
    assert words.after("who wrote it", (0.5, 0.5))[0] > 0.7
    assert words.after("when was it", (0.5, 0.5))[1] > 0.7  # of no text that was learned from
    assert words.after("the price", (0.4, 0.6)) == pytest.approx((0.4, 0.6))  # no word of it was seen


def test_a_text_is_judged_without_what_it_said_itself() -> None:
    words = Words.of({"a b c": (0.9, 0.1), "x y z": (0.2, 0.8)})
    assert words.after("a b c", (0.6, 0.4)) == pytest.approx((0.6, 0.4))


def test_a_word_that_was_never_seen_speaks_for_no_label_however_rare() -> None:
    words = Words.of({f"a {n}": (0.99, 0.01) for n in range(50)} | {"b": (0.01, 0.99)})
    assert words.after("unseen", (0.5, 0.5)) == pytest.approx((0.5, 0.5))


def test_words_that_tell_nothing_are_not_heard() -> None:
    """Each set of words stands in a text of either label."""
    draw = random.Random(4)
    said: dict[str, Scores] = {}
    for number in range(150):
        words = " ".join(word for word in "abcdefghij" if draw.random() < 1 / 3)
        said |= {f"{words} {2 * number}": (0.95, 0.05), f"{words} {2 * number + 1}": (0.05, 0.95)}
    assert Words.of(said).weight < 0.01


def test_of_a_long_text_the_beginning_is_read() -> None:
    words = Words.of({f"{n} {'word ' * READ_CHARS}the end": (0.5, 0.5) for n in range(3)})
    assert "word word" in words.counts
    assert "end" not in words.counts
    assert {len(text) for text in words.own} == {READ_CHARS}


def test_examples_say_what_words_mean_where_there_are_few_items() -> None:
    examples = {f"win {n}": 0 for n in range(10)} | {f"see you {n}": 1 for n in range(10)}
    learned = Learned.of(EVEN, {"win it": normalised([0.0, 0.1])}, examples, {})
    assert learned.chances("win it", normalised([0.0, 0.1]))[0] > 0.7


def test_what_a_model_says_of_one_label_corrects_what_it_says_of_another() -> None:
    """It takes many texts of the second label for the first; how likely it finds the third tells which."""
    draw = random.Random(6)
    centres = ([3.0, 0.0, 0.0], [2.0, 1.0, 2.0], [0.0, 0.0, 7.0])

    def seen(label: int) -> Scores:
        shared = draw.gauss(0, 1.5)  # moves the first and the third together
        return normalised([x + d for x, d in zip(centres[label], (shared, draw.gauss(0, 0.5), shared), strict=True)])

    truth = {f"text {number}": number % 3 for number in range(300)}
    items = {text: seen(label) for text, label in truth.items()}
    known = {f"example {number}": seen(number % 3) for number in range(30)}
    labels = {text: at % 3 for at, text in enumerate(known)}
    start = Prior.of_examples(list(known.values()), list(labels.values()), labels=3)
    learned = Learned.of(start, items, labels, known)

    def right(made: dict[str, Scores]) -> float:
        return sum(max(range(3), key=chances.__getitem__) == truth[text] for text, chances in made.items()) / 300

    assert right({text: start.posterior(scores) for text, scores in items.items()}) < 0.82
    assert right({text: learned.chances(text, scores) for text, scores in items.items()}) > 0.95


def test_examples_of_each_label_alike_do_not_even_out_a_rare_one() -> None:
    """One item in ten has the second label, but half of the examples have it."""
    draw = random.Random(8)
    truth = {f"item {number}": int(number % 10 == 0) for number in range(400)}
    items = {text: noisy(label, draw, apart=2.5) for text, label in truth.items()}
    labels = {f"example {number}": number % 2 for number in range(30)}
    known = {text: noisy(label, draw, apart=2.5) for text, label in labels.items()}
    start = Prior.of_examples(list(known.values()), list(labels.values()), labels=2)
    learned = Learned.of(start, items, labels, known)
    said = {text: learned.chances(text, scores)[1] > 0.5 for text, scores in items.items()}
    assert sum(said[text] == bool(label) for text, label in truth.items()) / 400 > 0.96
    assert 25 <= sum(said.values()) <= 50
