"""`python -m bench fuzz-grammar`: whatever bytes come, `accepts` and the decoder answer, and within a second.

Input number N of seed S is always the same. The inputs run in a process of their own, so that a crash or a hang of
native code is seen from outside, and the number of its input told.
"""

from __future__ import annotations

import multiprocessing
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from rlm_local.grammar import MAX_TEXT_BYTES, TurnState, decode_turn, refusal, turn_grammar
from rlm_local.grammar.distinct import DistinctNames
from rlm_local.types import AnswerProtocol, Cell, GrammarMode, ReplyStop

LIMIT_S = 1.0  # of processor time, for one input in one judge
HANGS_S = 120.0  # of wall clock without a finished input
SLICE_S = 5.0  # between two reports of the process
CELLS = Path(__file__).resolve().parent.parent / "tests" / "grammar"
_MODES = (GrammarMode.SKELETON, GrammarMode.PYTHON)
_PIECES = (
    *(b"```repl\n", b"```", b"```\n", b"\n", b"\r\n", b" ", b"    ", b"\t", b"\\\n", b"\\", b"#", b"`", b"\0", b"\xff"),
    *(b"(", b"[", b"{", b")", b"]", b"}", b'"', b"'", b'"""', b"'''", b'f"', b"f'{", b"{x!r:>{y}}", b"rb'", b","),
    *(b"x", b"0", b"1_", b".", b"...", b"=", b":=", b"==", b"**", b"*", b"->", b"@", b";", b":", b"not ", b" if "),
    *(b" and ", b" in ", b" else ", b"lambda x: ", b"def f(a, b=1, *c):\n", b"class A:\n", b"if x:\n", b"try:\n"),
    *(b"for x in y:\n", b"except E as e:\n", b"return ", b"yield ", b"f(a=1, ", b"x = ", b"del ", b"import re\n"),
    *(b"FINAL(", b"FINAL_VAR(", b"SUBMIT(", b'answer["content"] = ', b'answer["ready"] = True'),
    *(b"\xc3\xa9", b"\xf0\x9f\x98\x80", b"\xc3", b"\xe2\x82"),
)


@dataclass(slots=True)
class Fuzzed:
    """What a run found."""

    seed: int
    inputs: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    accepted: int = 0  # by at least one grammar
    slowest_s: float = 0.0
    slowest: str = ""  # which judge, and which input
    faults: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.kinds.items()))
        return [
            f"seed {self.seed}: {self.inputs:,} inputs ({kinds}), {self.accepted:,} of them a turn in some state",
            f"slowest: {self.slowest_s * 1000:.0f} ms, {self.slowest}",
            *(f"FAULT {fault}" for fault in self.faults),
            f"{len(self.faults)} faults",
        ]


def text_of(number: int, seed: int) -> tuple[str, bytes]:
    """Return input `number` of a seed and its kind. At most MAX_TEXT_BYTES long."""
    random = Random(f"{seed}:{number}")
    kind = random.choice(("bytes", "mutated cell", "mutated cell", "cut cell", "pieces", "runs"))
    match kind:
        case "bytes":
            text = random.randbytes(int(2 ** random.uniform(0, 12)))
        case "cut cell":
            turn = _turn(random)
            text = turn[: random.randrange(len(turn))]
        case "mutated cell":
            text = _mutated(_turn(random), random)
        case "pieces":
            text = b"".join(random.choices(_PIECES, k=int(2 ** random.uniform(0, 9))))
        case _:  # a few pieces, each of them many times: what nests, and what a parser may look at again and again
            opening = random.choice((b"", b"```repl\n", b"```repl\nx = ", b"FINAL("))
            runs = (random.choice(_PIECES) * int(2 ** random.uniform(0, 13)) for _ in range(random.randint(1, 3)))
            text = opening + b"".join(runs)
    return kind, text[:MAX_TEXT_BYTES]


def _turn(random: Random) -> bytes:
    return f"```repl\n{random.choice(_cells())}\n```".encode()


_READ: list[str] = []


def _cells() -> list[str]:
    if not _READ:
        names = ("accepted", "turns", "refused", "named_twice")
        texts = ((CELLS / f"cells_{name}.txt").read_text(encoding="utf-8") for name in names)
        _READ.extend(cell.strip("\n") for text in texts for cell in text.split("\n# ---\n") if cell.strip())
    return _READ


def _mutated(text: bytes, random: Random) -> bytes:
    for _ in range(int(2 ** random.uniform(0, 4))):
        at, length = random.randrange(len(text) + 1), int(2 ** random.uniform(0, 4)) - 1
        match random.randrange(5):
            case 0:  # taken out
                text = text[:at] + text[at + length :]
            case 1:  # put in
                text = text[:at] + random.choice(_PIECES) + text[at:]
            case 2:  # changed
                text = text[:at] + random.randbytes(1) + text[at + 1 :]
            case 3:  # doubled
                text = text[:at] + text[at : at + 8 * length] * 2 + text[at + 8 * length :]
            case _:  # the rest of another cell
                other = _turn(random)
                text = text[:at] + other[random.randrange(len(other)) :]
    return text or b"\n"


def judge(number: int, seed: int, found: Fuzzed) -> None:
    """Put one input to both grammars of one state and protocol and to the decoder; note what must not be."""
    kind, text = text_of(number, seed)
    found.inputs += 1
    found.kinds[kind] += 1
    random = Random(number)
    protocol, state = random.choice(tuple(AnswerProtocol)), random.choice(tuple(TurnState))
    name = f"input {number} ({kind}, {len(text):,} bytes)"
    accepted = []
    for mode in _MODES:
        grammar = turn_grammar(state, "lark", mode, protocol=protocol) or ""
        where = f"accepts, {mode.value} {state.value} {protocol.value}, {name}"
        if _timed(partial(refusal, grammar, text), where, found) is None:
            accepted.append(mode)
    decoded = text.decode("utf-8", "replace")
    action = None
    for stop in (ReplyStop.LENGTH, ReplyStop.COMPLETE):
        action = _timed(partial(decode_turn, decoded, stop, protocol), f"decode, {stop.value}, {name}", found)
    found.accepted += bool(accepted)
    if GrammarMode.PYTHON in accepted and isinstance(action, Cell) and DistinctNames().feed(text):
        why = _complaint(action.code)
        if why:
            found.faults.append(f"{name} is accepted, but does not compile: {why}")


def _timed(work: Callable[[], Any], what: str, found: Fuzzed) -> Any:
    began = time.thread_time()
    result: Any = NotImplemented
    try:
        result = work()
    except Exception as error:  # whatever comes out of it is a fault, and the next input goes on
        found.faults.append(f"{what} raised {type(error).__name__}: {error}")
    took_s = time.thread_time() - began
    if took_s > found.slowest_s:
        found.slowest_s, found.slowest = took_s, what
    if took_s > LIMIT_S:
        found.faults.append(f"{what} took {took_s:.2f} s")
    return result


def _complaint(code: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(code, "<cell>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            return f"{type(error).__name__}: {error}"
    return ""


def fuzz(seconds: float, seed: int, say: Callable[[str], None], *, first: int = 0) -> Fuzzed:
    """Judge inputs from number `first` on for so many seconds."""
    context = multiprocessing.get_context("spawn")
    number = context.Value("q", first)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(seconds, seed, first, number, theirs), daemon=True)
    process.start()
    theirs.close()
    found = Fuzzed(seed)
    last = first - 1
    try:
        while True:
            if ours.poll(HANGS_S):
                report: tuple[Fuzzed, bool] = ours.recv()
                found, is_over = report
                say(f"{found.inputs:,} inputs, {len(found.faults)} faults, slowest {found.slowest_s * 1000:.0f} ms")
                if is_over:
                    return found
            elif number.value == last:
                found.faults.append(f"input {last} hung for {HANGS_S:.0f} s")
                return found
            last = number.value
    except EOFError:
        process.join()
        found.faults.append(f"input {number.value} ended the process with exit code {process.exitcode}")
        return found
    finally:
        process.kill()
        process.join()


def _run(seconds: float, seed: int, first: int, number: Any, found_by: Connection) -> None:
    found = Fuzzed(seed)
    until = time.monotonic() + seconds
    told = time.monotonic()
    while (now := time.monotonic()) < until:
        if now - told > SLICE_S:
            found_by.send((found, False))
            told = now
        number.value = first + found.inputs
        judge(number.value, seed, found)
    found_by.send((found, True))
