"""`python -m bench grammar`: what the turn grammar lets through, what it refuses, and what it costs."""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from bench.grammar_dialects import GbnfSampler, agreement, percentiles, xgrammar_side
from bench.grammar_walks import complaint, model_walks, random_walks
from bench.provenance import provenance
from grammars.build import ROOM
from grammars.derive import Deriver
from grammars.language import read_language
from rlm_local.config import home
from rlm_local.engine.llama.binding import Model
from rlm_local.engine.llama.mask import Constraint, Dialect, Grammars, Mask
from rlm_local.errors import ConfigError
from rlm_local.grammar import TurnState, turn_grammar
from rlm_local.grammar.distinct import DistinctNames
from rlm_local.types import GrammarMode

LEFT_OUT = (
    ast.AsyncFunctionDef,
    ast.AsyncFor,
    ast.AsyncWith,
    ast.Await,
    ast.Global,
    ast.Nonlocal,
    ast.Match,
    ast.TryStar,
)
CELLS = ROOM.parent / "tests" / "grammar"
WALKERS = ("smollm2-135m", "qwen2.5-coder-0.5b")
_REPEATED = re.compile("duplicate argument|keyword argument repeated")
_LIBRARY_SKIPPED = {"site-packages", "test", "tests", "lib2to3", "idlelib", "turtledemo"}
_XGRAMMAR_S = 30.0  # for its masks; one takes tenths of a second
_GBNF_CELLS, _GBNF_CHARS = 5, 80  # short ones, that llama.cpp's grammar is timed on


@dataclass(frozen=True, slots=True)
class Counts:
    """How much of each measurement; 0 leaves it out."""

    derivations: int = 20_000
    walks: int = 2_000
    turns: int = 0  # of each of these models at temperature 1.5
    turns_of: tuple[str, ...] = WALKERS
    statements: int = 3_000  # of this Python's library
    texts: int = 200  # that all dialects judge
    speed: int = 60  # cells that masks are timed on


def measure(
    counts: Counts, vocabulary: str, seed: int, say: Callable[[str], None], xgrammar: Path | None = None
) -> dict[str, Any]:
    """Return all counts and times. xgrammar: the Python of an environment that has it; None leaves it out.

    Raises ConfigError when the vocabulary's weights are not here.
    """
    found: dict[str, Any] = {"provenance": asdict(provenance(" ".join(["python -m bench", *sys.argv[1:]])))}
    turns = _Turns(vocabulary)
    if counts.derivations:
        say(f"{counts.derivations} derivations")
        found["derivations"] = _derivations(counts.derivations, Random(seed))
    if counts.walks:
        say(f"{counts.walks} walks")
        found["walks"] = random_walks(counts.walks, turns.model, turns.mask, seed)
    for name in counts.turns_of if counts.turns else ():
        say(f"{counts.turns} turns of {name}")
        found[f"turns of {name}"] = model_walks(counts.turns, weights(name), name, seed, say)
    found["unsound"] = sum(part.get("unsound", 0) for part in found.values())
    if counts.statements:
        say(f"{counts.statements} statements of the library")
        found["coverage"] = coverage(library_statements(counts.statements, seed), turns)
    accepted = [cell for name in ("accepted", "turns") for cell in cells(name)]
    found["cells"] = coverage(accepted, turns)
    if counts.texts:
        say(f"{counts.texts} texts in every dialect")
        table = {True: accepted, False: cells("refused")}
        found["dialects"] = agreement(counts.texts, table, xgrammar, seed, say)
    if counts.speed:
        say("speed")
        found["speed"] = _speed(accepted[: counts.speed], library_statements(counts.speed, seed), turns, xgrammar)
    return found


def cells(name: str) -> list[str]:
    """Return a table of cells of the tests: accepted, turns, refused."""
    text = (CELLS / f"cells_{name}.txt").read_text(encoding="utf-8")
    return [cell.strip("\n") for cell in text.split("\n# ---\n") if cell.strip()]


class _Turns:
    """The grammar of a first turn on a vocabulary."""

    def __init__(self, vocabulary: str) -> None:
        self.model = Model(weights(vocabulary), vocab_only=True)
        began = time.perf_counter()
        tokenizer = self.model.grammar_tokenizer()
        self.tokenizer_s = time.perf_counter() - began
        self._grammars = Grammars(lambda: tokenizer, ends=self.model.ends, vocab_size=self.model.vocab_size)
        source = turn_grammar(TurnState.FIRST, "lark", GrammarMode.PYTHON)
        if source is None:
            raise AssertionError("the mode python has a grammar")
        self._constraint = Constraint(Dialect.GRAMMAR, source)
        began = time.perf_counter()
        self.mask()
        self.ready_s = time.perf_counter() - began
        began = time.perf_counter()
        self.mask()
        self.cached_s = time.perf_counter() - began

    def mask(self) -> Mask:
        return self._grammars.mask(self._constraint)

    def tokens(self, code: str) -> list[int]:
        return self.model.tokenize(f"```repl\n{code}\n```", special=False)


def _derivations(count: int, random: Random) -> dict[str, Any]:
    """Compile random sentences of the rules. The condition must say no to just those that name something twice."""
    deriver = Deriver(read_language(), random)
    said: Counter[str] = Counter()
    characters = sentences = struck = struck_wrongly = 0
    while sentences < count:
        block = deriver.sentence("block", random.choice((3, 10, 30, 80)))
        why = complaint(block)
        if not DistinctNames().feed(block.encode()):
            struck += 1
            struck_wrongly += not _REPEATED.search(why)
            continue
        sentences += 1
        characters += len(block)
        if why:
            said[f"{why} in {block[-200:]!r}"] += 1
    return {
        "sentences": sentences,
        "characters": characters,
        "unsound": sum(said.values()),
        "why": said,
        "refused because of a name twice": struck,
        "of them compile": struck_wrongly,
    }


def library_statements(count: int, seed: int) -> list[str]:
    """Return top-level statements of this Python's library that need no form which the language leaves out."""
    return [text for text, _ in zip(_statements(Random(seed)), range(count), strict=False)]


def _statements(random: Random) -> Iterator[str]:
    library = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(file for file in library.rglob("*.py") if not _LIBRARY_SKIPPED & set(file.parts))
    random.shuffle(files)
    for file in files:
        try:
            body = ast.parse(file.read_text(encoding="utf-8")).body
        except (SyntaxError, UnicodeDecodeError):
            continue
        for statement in body:
            if not any(isinstance(node, LEFT_OUT) for node in ast.walk(statement)):
                yield ast.unparse(statement)


def coverage(texts: list[str], turns: _Turns) -> dict[str, Any]:
    """Count the texts that a first turn may consist of."""
    refused: Counter[str] = Counter()
    for text in texts:
        mask, read = turns.mask(), b""
        for token in turns.tokens(text):
            piece = turns.model.piece(token)
            if not mask.allows(token):
                refused[(read[-30:] + b" >>> " + piece).decode("utf-8", "replace")] += 1
                break
            mask.advance(token)
            read += piece
        else:
            refused["the end"] += not mask.finished
    refused = +refused
    accepted = len(texts) - sum(refused.values())
    share = accepted / len(texts) if texts else 1.0
    return {"texts": len(texts), "accepted": accepted, "share": share, "refused at": dict(refused.most_common(20))}


def _speed(cells: list[str], statements: list[str], turns: _Turns, xgrammar: Path | None) -> dict[str, Any]:
    model = turns.model
    found: dict[str, Any] = {
        "vocabulary": model.vocab_size,
        "llguidance": {"tokenizer_s": turns.tokenizer_s, "ready_s": turns.ready_s, "cached_s": turns.cached_s}
        | {"cells": _llguidance_times(cells, turns), "library": _llguidance_times(statements, turns)},
        "llama.cpp": GbnfSampler(model).speed([cell for cell in cells if len(cell) < _GBNF_CHARS][:_GBNF_CELLS]),
    }
    if xgrammar is not None:
        request = {
            "pieces": [model.piece(token).hex() for token in range(model.vocab_size)],
            "ends": sorted(model.ends),
            "cells": [turns.tokens(cell) for cell in cells],
            "seconds": _XGRAMMAR_S,
        }
        found["xgrammar"] = xgrammar_side(request, xgrammar)
    return found


def _llguidance_times(texts: list[str], turns: _Turns) -> dict[str, Any]:
    times: dict[str, list[float]] = {"check": [], "mask": [], "advance": []}
    for text in texts:
        mask = turns.mask()
        for token in turns.tokens(text):
            stamps = [time.perf_counter()]
            allowed = mask.allows(token)
            stamps.append(time.perf_counter())
            if not allowed:
                break
            mask.allowed()
            stamps.append(time.perf_counter())
            mask.advance(token)
            stamps.append(time.perf_counter())
            for name, before, after in zip(times, stamps, stamps[1:], strict=False):
                times[name].append((after - before) * 1e6)
    return {f"{name}_us": percentiles(each) for name, each in times.items()}


def weights(name: str) -> Path:
    folder = home().weights / name / "llama"
    found = sorted(folder.glob("*.gguf"))
    if not found:
        raise ConfigError(f"no weights of {name} in {folder}", hint=f"rlm-local pull {name}")
    return found[0]
