"""What is learned from the items of a call where examples say what the labels mean: their clouds and their words.

Scores and words are two views of a text. In each round the clouds of the scores are laid anew by the chances so far,
words by the clouds' chances, and both together give the chances of the next. Few rounds: what the model itself says
fades with each, and with it what the labels mean.
Sources: co-training, Blum and Mitchell 1998; expectation and maximisation on texts, Nigam et al. 2000.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rlm_local.calls.prior import Prior, Scores, shows_clouds
from rlm_local.calls.words import Words

ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Learned:
    """Turns the scores of a text into the chances of its labels."""

    prior: Prior
    words: Words | None = None  # None where nothing is learned from items

    @classmethod
    def of(
        cls, start: Prior, items: Mapping[str, Scores], labels: Mapping[str, int], known: Mapping[str, Scores]
    ) -> Learned:
        """Learn from the scores of texts, and from examples.

        labels: of each example its label's number. known: of some of them their scores, without themselves before them.
        """
        truth = {text: tuple(float(at == label) for at in range(len(start.bias))) for text, label in labels.items()}
        clear = [(scores, truth[text]) for text, scores in known.items()]
        chances = {text: start.posterior(scores) for text, scores in items.items()}
        if not shows_clouds(len(items), len(start.bias)) or not clear:
            return cls(start, Words.of(chances | truth))
        found = cls(start)
        for _ in range(ROUNDS):
            prior = Prior.of_clouds([(scores, chances[text]) for text, scores in items.items()], clear)
            said = {text: prior.posterior(scores) for text, scores in items.items()}
            found = cls(prior, Words.of(said | truth))
            chances = {text: found.chances(text, scores) for text, scores in items.items()}
        return found

    def chances(self, text: str, scores: Scores) -> Scores:
        """Return the chance of each label of a text; they sum to 1."""
        said = self.prior.posterior(scores)
        return self.words.after(text, said) if self.words else said
