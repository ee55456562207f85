"""Events as the lines that a person reads, in a live view as in `trace show`.

Pure: an event in, plain lines out, without colour, without wrapping, and without any character of a document or a
model that could act on a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rlm_local.events import (
    ROOT,
    Abandoned,
    Event,
    ItemsReplied,
    NodeEnded,
    NodeStarted,
    PageDone,
    Replied,
    Routed,
    RunEnded,
    RunResumed,
    RunStarted,
    SubCallDone,
    TokensCounted,
    TurnStarted,
    TurnTaken,
    TurnWritten,
    Validated,
)
from rlm_local.trace.visible import visible, visible_line
from rlm_local.types import Answer, CellResult, CellStatus, Citation, DocumentCoverage, Malformed, Page, SubCall

HEAD_LINES = 12  # of a cell's output; the rest is counted
HEAD_CHARS = 1_200
_LINE_CHARS = 100  # of a prompt, a sub-call's answer, a quote's label
_INDENT = "  "
_GUTTER = "  │ "
_FENCE = re.compile(r"^\s*(```|<repl>|</repl>)")

_STATUS = {
    CellStatus.OK: "",
    CellStatus.RAISED: "the cell raised an error",
    CellStatus.TIMEOUT: "the cell ran out of time",
    CellStatus.OUT_OF_MEMORY: "the cell ran out of memory",
    CellStatus.KILLED: "the cell's process died; its names were rebuilt",
}


def event_lines(event: Event) -> list[str]:
    """Return what a person sees of one event; [] when there is nothing new to see."""
    lines = _lines_of(event)
    node = getattr(event, "node", ROOT)
    if node == ROOT:
        return lines
    # Children run side by side: each line says whose it is, as deep as it stands.
    return [f"{_INDENT * node.count('.')}{visible_line(node, _LINE_CHARS)} ┆ {line}".rstrip() for line in lines if line]


def _lines_of(event: Event) -> list[str]:
    match event:
        case RunStarted():
            return _run_header(event)
        case Routed():
            return [f"route: {event.route} ({visible_line(event.reason, 4 * _LINE_CHARS)})"]
        case NodeStarted():
            return _node_header(event)
        case NodeEnded():
            return _indented("answer: " + event.answer.text, "") + summary_lines(event.answer)
        case RunResumed():
            return ["", f"resumed at {visible_line(event.resumed_at, _LINE_CHARS)}"]
        case Replied() | ItemsReplied() | Abandoned() | TokensCounted():
            return []
        case TurnStarted():
            return ["", f"turn {event.number} · {visible_line(event.state, _LINE_CHARS)}"]
        case TurnWritten():
            return _turn_text(event.text)
        case SubCallDone():
            return [_subcall_line(event.subcall)]
        case PageDone():
            return _page_lines(event.page)
        case TurnTaken():
            return _outcome(event)
        case Validated():
            return _note(f"the caller's check: {event.complaint}") if event.complaint else []
        case RunEnded():
            return ["", *_indented("answer: " + event.answer.text, ""), *summary_lines(event.answer)]


def summary_lines(answer: Answer) -> list[str]:
    """Return what stands below an answer: why it is unconfirmed, the passages that it rests on, and what it cost.

    Where it rests on no passage, that is said.
    """
    lines = []
    if not answer.confirmed:
        reason = visible_line(answer.reason, 4 * _LINE_CHARS) or f"the run ended by {answer.stop.value}"
        lines.append(f"unconfirmed: {reason}")
    for citation in answer.citations:
        lines += _citation_lines(citation)
    if answer.value is not None and not answer.citations:
        lines.append("no passage")
    lines += [f"in no document: {visible_line(words, _LINE_CHARS)}" for words in answer.unfound]
    return [*lines, *coverage_lines(answer), totals_line(answer)]


def coverage_lines(answer: Answer) -> list[str]:
    """Return who has read how much: of each document that a model has read in, and of all."""
    if not answer.coverage:
        return []
    read_in = [one for one in answer.coverage if one.read_chars]
    lines = []
    if len(answer.coverage) > 1:
        lines = [
            f"{_INDENT}{visible_line(one.document, _LINE_CHARS)}: {_shares([one])}" for one in read_in[:HEAD_LINES]
        ]
        if len(read_in) > HEAD_LINES:
            lines.append(f"{_INDENT}… and {_count(len(read_in) - HEAD_LINES, 'more document')}")
    return [f"read: {_shares(answer.coverage)}", *lines]


def _shares(covered: Sequence[DocumentCoverage]) -> str:
    chars = sum(one.chars for one in covered) or 1
    told = []
    for name, words in (
        ("printed", "printed"),
        ("given", "by sub-models"),
        ("searched", "only searched by code"),
        ("untouched", "untouched"),
    ):
        size = sum(len(stretch) for one in covered for stretch in getattr(one, name))
        if size:
            told.append(f"{size / chars:.1%} {words}")
    return " · ".join(told)


def totals_line(answer: Answer) -> str:
    usage = answer.usage
    return (
        f"{usage.prompt_tokens:,} prompt tokens ({usage.cached_tokens:,} cached) · "
        f"{usage.completion_tokens:,} completion tokens · {_count(answer.subcalls, 'sub-call')}"
        f"{f' and {answer.remembered:,} from memory' if answer.remembered else ''} · "
        f"{_count(answer.turns, 'turn')} · {answer.wall_s:.1f} s{f' · {answer.cost}' if answer.cost else ''}"
    )


def _run_header(run: RunStarted) -> list[str]:
    chars = sum(document.chars for document in run.documents)
    return [
        *_indented("question: " + run.question, ""),
        f"{_count(len(run.documents), 'document')}, {_count(chars, 'character')} · {visible(run.model)}, "
        f"window {run.engine.window_tokens:,} tokens",
    ]


def _node_header(node: NodeStarted) -> list[str]:
    chars = sum(document.chars for document in node.documents)
    return [
        *_indented("question: " + node.question, ""),
        f"{_count(len(node.documents), 'document')}, {_count(chars, 'character')} · "
        f"up to {node.limits.max_tokens:,} tokens, {_count(node.limits.max_subcalls, 'sub-call')}",
    ]


def _turn_text(text: str) -> list[str]:
    """Return a root's reply: prose indented, what stands inside of fences behind a gutter, without the fences."""
    lines = []
    in_code = False
    for line in visible(text.strip()).split("\n"):
        if _FENCE.match(line):
            in_code = not in_code
        elif in_code:
            lines.append((_GUTTER + line).rstrip())
        elif line.strip():
            lines.append(_INDENT + line.rstrip())
    return lines


def _subcall_line(subcall: SubCall) -> str:
    asked = f"{_INDENT}↳ sub-call: {visible_line(subcall.prompt, _LINE_CHARS)} ({len(subcall.prompt):,} characters)"
    if subcall.refused:
        return f"{asked} → refused: {visible_line(subcall.refused, 2 * _LINE_CHARS)}"
    return f"{asked} → {visible_line(subcall.answer, _LINE_CHARS) or '(empty)'}"


def _page_lines(page: Page) -> list[str]:
    """Return one line for the items of a frame, and one for those that failed: there may be thousands of them."""
    said = [value for value in page.values if value is not None][:3]
    shown = visible_line("; ".join(map(str, said)), _LINE_CHARS) or "(nothing)"
    lines = [f"{_INDENT}↳ {page.kind}: {_count(len(page.items), 'item')} → {shown}"]
    if page.failures:
        why = visible_line(page.failures[0].why, 2 * _LINE_CHARS)
        lines += _note(f"{_count(len(page.failures), 'item')} failed; item {page.failures[0].item}: {why}")
    return lines


def _outcome(taken: TurnTaken) -> list[str]:
    result = taken.turn.result
    closed = taken.turn.closed_text.strip()
    ended = _note(f"its tokens were spent, so it was ended with: {visible_line(closed, _LINE_CHARS)}") if closed else []
    if result is not None:
        return ended + _cell_lines(result)
    if isinstance(taken.turn.action, Malformed):
        return _note(f"not a turn: {taken.turn.action.reason}")
    # A final that was not accepted comes with what the model is told of it.
    return _note(taken.observation) if taken.observation else []


def _cell_lines(result: CellResult) -> list[str]:
    lines = _output_lines(result)
    if result.status is not CellStatus.OK:
        lines += _note(f"{_STATUS[result.status]} after {result.elapsed_s:.1f} s")
    if result.error:
        # A traceback tells most in its last lines.
        lines += _indented("\n".join(result.error.rstrip("\n").split("\n")[-HEAD_LINES:]), _INDENT)
    return lines or _note("no output")


def _output_lines(result: CellResult) -> list[str]:
    stdout = result.stdout.rstrip("\n")
    if not stdout:
        return []
    head = "\n".join(stdout[:HEAD_CHARS].split("\n")[:HEAD_LINES])
    lines = _indented(head, _INDENT)
    if result.truncated_bytes:
        lines += _note(
            f"… {_count(len(stdout), 'character')} and {_count(result.truncated_bytes, 'byte')} more that were cut"
        )
    elif len(head) < len(stdout):
        lines += _note(f"… {_count(len(stdout), 'character')} in all")
    return lines


def _citation_lines(citation: Citation) -> list[str]:
    where = f"{visible_line(citation.document, _LINE_CHARS)}, line {citation.line}:"
    return [where, *_indented(citation.quote, _GUTTER)]


def _note(text: str) -> list[str]:
    first, *rest = visible(text.strip()).split("\n")[:HEAD_LINES]
    return [f"{_INDENT}· {first}", *(f"{_INDENT}  {line}" for line in rest)]


def _indented(text: str, indent: str) -> list[str]:
    return [(indent + line).rstrip() for line in visible(text).split("\n")]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def run_lines(events: Sequence[Event]) -> list[str]:
    """Return a whole run; one that did not come to its end says so."""
    lines = [line for event in _as_a_tree(events) for line in event_lines(event)]
    if not (events and isinstance(events[-1], RunEnded)):
        lines += ["", "the trace stops here: the run did not come to its end"]
    return lines


def _as_a_tree(events: Sequence[Event]) -> Iterator[Event]:
    """Yield the events of each child together, where its parent began it, in place of as they came."""
    of_child: dict[str, list[Event]] = {}
    for event in events:
        node = getattr(event, "node", ROOT)
        if node != ROOT:
            of_child.setdefault(node, []).append(event)

    def whole(event: Event) -> Iterator[Event]:
        yield event
        if isinstance(event, NodeStarted):
            for own in of_child[event.node][1:]:
                yield own
                yield from below(event.node, own)

    def below(parent: str, event: Event) -> Iterator[Event]:
        """Yield the children that a node began in the turn that this event has written."""
        if not isinstance(event, TurnWritten):
            return
        for child in of_child.values():
            started = child[0]
            if isinstance(started, NodeStarted) and (started.parent, started.turn) == (parent, event.number):
                yield from whole(started)

    for event in events:
        if getattr(event, "node", ROOT) == ROOT:
            yield event
            yield from below(ROOT, event)
