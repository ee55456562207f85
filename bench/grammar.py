"""`python -m bench grammar`: what the turn grammar lets through, what it refuses, and what it costs."""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from bench.provenance import provenance
from grammars.derive import Deriver
from grammars.language import read_language
from rlm_local.config import home
from rlm_local.engine.llama.binding import Model
from rlm_local.engine.llama.mask import Constraint, Dialect, Grammars, Mask
from rlm_local.errors import ConfigError
from rlm_local.grammar import TurnState, turn_grammar
from rlm_local.types import GrammarMode

OPEN, CLOSE = b"```repl\n", b"```"
WALK_TOKENS = 200  # a walk that has not ended by then is given up
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
_REPEATED = re.compile("duplicate argument|keyword argument repeated")
_LIBRARY_SKIPPED = {"site-packages", "test", "tests", "lib2to3", "idlelib", "turtledemo"}


def measure(
    derivations: int, walks: int, statements: int, vocabulary: str, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return all counts and times. Raises ConfigError when the vocabulary's weights are not here."""
    model = Model(_weights(vocabulary), vocab_only=True)
    began = time.perf_counter()
    tokenizer = model.grammar_tokenizer()
    tokenizer_s = time.perf_counter() - began
    grammars = Grammars(lambda: tokenizer, ends=model.ends, vocab_size=model.vocab_size)
    source = turn_grammar(TurnState.FIRST, "lark", GrammarMode.PYTHON)
    if source is None:
        raise AssertionError("the mode python has a grammar")
    constraint = Constraint(Dialect.GRAMMAR, source)
    began = time.perf_counter()
    grammars.mask(constraint)
    ready_s = time.perf_counter() - began
    random = Random(seed)
    say(f"{derivations} derivations")
    derived = _derivations(derivations, random)
    say(f"{walks} walks")
    walked = _walks(walks, model, lambda: grammars.mask(constraint), seed)
    say(f"{statements} statements of the library")
    texts = [text for _, text in zip(range(statements), _statements(random), strict=False)]
    covered = _coverage(texts, model, lambda: grammars.mask(constraint))
    say("speed")
    speed = _speed(texts[:60], model, lambda: grammars.mask(constraint))
    return {
        "unsound": derived["unsound"] + walked["unsound"],
        "derivations": derived,
        "walks": walked,
        "coverage": covered,
        "speed": {"vocabulary": model.vocab_size, "tokenizer_s": tokenizer_s, "ready_s": ready_s} | speed,
        "provenance": asdict(provenance(" ".join(["python -m bench", *sys.argv[1:]]))),
    }


def complaint(code: str) -> str:
    """Return why a block does not compile; empty when it does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `1 is 1` is odd, and Python
        try:
            compile(code, "<cell>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            return f"{type(error).__name__}: {error}"
    return ""


def _derivations(count: int, random: Random) -> dict[str, Any]:
    deriver = Deriver(read_language(), random)
    said: Counter[str] = Counter()
    characters = repeated = 0
    for _ in range(count):
        block = deriver.sentence("block", random.choice((3, 10, 30, 80)))
        code = block.encode()[len(OPEN) : -len(CLOSE)].decode()
        characters += len(code)
        if why := complaint(code):
            repeated += bool(_REPEATED.search(why))
            said[why.partition("(")[0]] += not _REPEATED.search(why)
    unsound = sum(said.values())
    return {"count": count, "characters": characters, "unsound": unsound, "a name given twice": repeated, "why": +said}


def _walks(count: int, model: Model, start: Callable[[], Mask], seed: int) -> dict[str, Any]:
    """Walk the mask until `count` walks have closed their block."""
    chance = np.random.default_rng(seed)
    pieces = [model.piece(token) for token in range(model.vocab_size)]
    closing = np.array([token for token, text in enumerate(pieces) if re.fullmatch(rb"[\s)\]}\"'`]{1,8}", text)])
    said: Counter[str] = Counter()
    ended = begun = repeated = 0
    while ended < count:
        begun += 1
        text = _walk(start(), model, pieces, closing, chance)
        if not text.endswith(CLOSE):
            continue
        ended += 1
        if why := complaint(text.partition(OPEN)[2][: -len(CLOSE)].decode()):
            repeated += bool(_REPEATED.search(why))
            said[why] += not _REPEATED.search(why)
    return {
        "begun": begun,
        "ended": ended,
        "unsound": sum(said.values()),
        "a name given twice": repeated,
        "why": +said,
    }


def _walk(mask: Mask, model: Model, pieces: list[bytes], closing: Any, chance: np.random.Generator) -> bytes:
    text = b""
    for token in model.tokenize(OPEN.decode(), special=False):
        mask.advance(token)
        text += pieces[token]
    free = int(chance.choice((3, 10, 30, 60)))  # tokens before the walk turns to closing what is open
    for step in range(WALK_TOKENS):
        if mask.finished:
            break
        allowed = mask.allowed().copy()
        allowed[list(model.ends)] = False
        wanted = closing[allowed[closing]] if step > free or chance.random() < 0.3 else closing[:0]
        token = int(chance.choice(wanted if len(wanted) else np.flatnonzero(allowed)))
        mask.advance(token)
        text += pieces[token]
    return text


def _statements(random: Random) -> Iterator[str]:
    """Yield top-level statements of this Python's library that need no form which the language leaves out."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [file for file in library.rglob("*.py") if not _LIBRARY_SKIPPED & set(file.parts)]
    random.shuffle(files)
    for file in files:
        try:
            body = ast.parse(file.read_text(encoding="utf-8")).body
        except (SyntaxError, UnicodeDecodeError):
            continue
        for statement in body:
            if not any(isinstance(node, LEFT_OUT) for node in ast.walk(statement)):
                yield ast.unparse(statement)


def _coverage(texts: list[str], model: Model, start: Callable[[], Mask]) -> dict[str, Any]:
    refused: Counter[str] = Counter()
    for text in texts:
        mask, read = start(), b""
        for token in model.tokenize(f"```repl\n{text}\n```", special=False):
            if not mask.allows(token):
                refused[(read[-30:] + b" >>> " + model.piece(token)).decode("utf-8", "replace")] += 1
                break
            mask.advance(token)
            read += model.piece(token)
    accepted = len(texts) - sum(refused.values())
    share = accepted / len(texts) if texts else 1.0
    return {"statements": len(texts), "accepted": accepted, "share": share, "refused at": dict(refused.most_common(20))}


def _speed(texts: list[str], model: Model, start: Callable[[], Mask]) -> dict[str, Any]:
    times: dict[str, list[float]] = {"check": [], "mask": [], "advance": []}
    for text in texts:
        mask = start()
        for token in model.tokenize(f"```repl\n{text}\n```", special=False):
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
    return {
        f"{name}_us": {
            "p50": float(np.percentile(each, 50)),
            "p99": float(np.percentile(each, 99)),
            "tokens": len(each),
        }
        for name, each in times.items()
        if each
    }


def _weights(name: str) -> Path:
    folder = home().weights / name / "llama"
    found = sorted(folder.glob("*.gguf"))
    if not found:
        raise ConfigError(f"no weights of {name} in {folder}", hint=f"rlm-local pull {name}")
    return found[0]
