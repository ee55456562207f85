"""The texts and words that tasks are made of, read from the data folder beside the repository."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlm_local.errors import ConfigError

DEFAULT_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
SPEECHES = "haystack/us_presidential_speeches.txt.gz"
ADJECTIVES = "ruler/adjectivelist.txt"
NOUNS = "ruler/nounlist.txt"

# Tokenizers merge nothing across so long a stretch but its two ends: one token of error in about 4,000.
BLOCK_CHARS = 16_000

CountTokens = Callable[[str], Awaitable[int]]

_HEADER = re.compile(r"^##### FILE .*$", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class Haystack:
    """Sentences in the order of their text, white space collapsed, as RULER prepares its essays."""

    name: str
    sha256: str  # of the file that they were read from
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Words:
    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]
    sha256: str  # of both files, adjectives first


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The whole haystack `repeats` times, then its first `rest` sentences, then the beginning of the next one."""

    repeats: int
    rest: int
    beginning: str  # words of the sentence after those, cut as RULER cuts; may be empty
    tokens: int

    def sentences(self, haystack: Haystack) -> list[str]:
        whole = [*haystack.sentences] * self.repeats + [*haystack.sentences[: self.rest]]
        return [*whole, self.beginning] if self.beginning else whole


def read_speeches(data: Path) -> Haystack:
    """Return the speeches of US presidents. Raises ConfigError when the data folder does not hold them."""
    packed = _read(data, SPEECHES)
    text = gzip.decompress(packed).decode("utf-8")
    return Haystack(SPEECHES, _sha256(packed), tuple(split_sentences(_HEADER.sub("", text))))


def read_words(data: Path) -> Words:
    """Return RULER's lists for keys, sorted and each word once, so that file order does not matter.

    Raises ConfigError when the data folder does not hold them.
    """
    adjectives, nouns = _read(data, ADJECTIVES), _read(data, NOUNS)
    return Words(_lines(adjectives), _lines(nouns), _sha256(adjectives + nouns))


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text in order; joined by single spaces they are the text, spaces collapsed."""
    return _SENTENCE_END.split(" ".join(text.split()))


async def cut(sentences: Sequence[str], budget: int, count: CountTokens) -> Excerpt:
    """Return the longest text, repeated from its start when it ends, of at most `budget` tokens.

    Counts with the model's own tokenizer, block by block, and halves the last block and its last sentence until
    the word is found. Raises ConfigError when not even one word fits.
    """
    counts: list[int] = []
    blocks = list(_blocks(sentences))
    for block in blocks:
        counts.append(await count(_joined(block)))
        if sum(counts) > budget:
            break
    repeats, left = divmod(budget, sum(counts))
    rest = 0
    beginning = ""
    for block, tokens in zip(blocks, counts, strict=False):
        if tokens > left:
            fitting, left = await _fitting(block, left, count)
            rest += fitting
            words = block[fitting].split(" ")
            fitting, left = await _fitting(words, left, count)
            beginning = " ".join(words[:fitting])
            break
        left -= tokens
        rest += len(block)
    if repeats == rest == 0 and not beginning:
        raise ConfigError(f"{budget} tokens are left for the text, but its first word has more")
    return Excerpt(repeats, rest, beginning, budget - left)


async def _fitting(pieces: Sequence[str], left: int, count: CountTokens) -> tuple[int, int]:
    """Return how many first pieces, too long all together, fit into `left` tokens, and what is left then."""
    fits, tokens, too_many = 0, 0, len(pieces)
    while too_many - fits > 1:
        half = (fits + too_many) // 2
        counted = await count(_joined(pieces[:half]))
        if counted <= left:
            fits, tokens = half, counted
        else:
            too_many = half
    return fits, left - tokens


def _blocks(sentences: Sequence[str]) -> Iterator[list[str]]:
    block: list[str] = []
    chars = 0
    for sentence in sentences:
        block.append(sentence)
        chars += len(sentence)
        if chars >= BLOCK_CHARS:
            yield block
            block, chars = [], 0
    if block:
        yield block


def _joined(pieces: Sequence[str]) -> str:
    # With the space before it, as it stands in the text: " The" and "The" are different tokens.
    return " " + " ".join(pieces)


def _lines(packed: bytes) -> tuple[str, ...]:
    return tuple(sorted({line.strip() for line in packed.decode("utf-8").splitlines() if line.strip()}))


def _read(data: Path, name: str) -> bytes:
    try:
        return (data / name).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{data / name}: {error.strerror}", hint="--data names the folder that holds haystack/ and ruler/"
        ) from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
