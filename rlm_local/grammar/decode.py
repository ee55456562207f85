"""From the text of a turn to what it asks for."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

from rlm_local.grammar.parsed import parsed
from rlm_local.types import (
    DEFAULT_PROTOCOL,
    Action,
    AnswerProtocol,
    Cell,
    Final,
    FinalVar,
    JsonValue,
    Malformed,
    ReplyStop,
)

_OPENING = re.compile(r" {0,3}```(repl|python3?|py)?[ \t]*", re.IGNORECASE)
_OTHER_OPENING = re.compile(r" {0,3}```[^`]*")  # ```json, say: neither code nor a final stands in it
_FINAL = re.compile(r"[ \t]*(?P<form>FINAL_VAR|FINAL|SUBMIT)\(")
_NAME = re.compile(r"\s*[\"']?(?P<name>[A-Za-z_]\w*)[\"']?\s*\)")

MAX_LITERAL_CHARS = 20_000  # of a FINAL(...); a longer answer belongs into a variable
_CLOSING = {")": "(", "]": "[", "}": "{"}
_WHAT_TO_WRITE = {
    AnswerProtocol.FINAL: "Reply with one ```repl block, FINAL(...) or FINAL_VAR(...).",
    AnswerProtocol.PLAIN_FINAL: "Reply with one ```repl block, FINAL(...) or FINAL_VAR(...).",
    AnswerProtocol.ANSWER: 'Reply with one ```repl block; to answer, set answer["content"] and answer["ready"] = True.',
    AnswerProtocol.FINAL_CALL: "Reply with one ```repl block; to answer, call FINAL(...) in it.",
    AnswerProtocol.SUBMIT: "Reply with one ```repl block; to answer, call SUBMIT(...) in it.",
}
_ANSWERING = re.compile(r"\s*(FINAL|SUBMIT|answer)\b")
_F_STRING = re.compile(r"[fF][rR]?[\"']")


def decode_turn(text: str, stop: ReplyStop, protocol: AnswerProtocol = DEFAULT_PROTOCOL) -> Action:
    """Return what a turn asks for: a Cell, a Final, a FinalVar, or Malformed with a sentence for the model.

    The first block wins over a final that stands after it: code whose output was not seen supports nothing.
    Text from an engine without a grammar is read with the same rules, so it is tolerant: ```python and bare
    fences count as blocks, a block that a complete reply left open ends with the reply, what follows a final is
    passed over, and a final outside of code is one in every protocol. The protocol says what may stand in FINAL(...),
    and what a reply that is nothing of the kind is told. Takes time in proportion to the text, whatever stands in it.
    """
    rest = []
    lines = iter(text.split("\n"))
    for line in lines:
        if _OPENING.fullmatch(line.rstrip("\r")):
            code, is_closed = _block(lines)
            if not is_closed and stop is ReplyStop.LENGTH:
                break
            code = code if is_closed else code.rstrip().removesuffix("```")
            code = code.replace("\r\n", "\n").rstrip()
            return Cell(code) if code.strip() else Malformed("The block was empty. Write Python between the fences.")
        if _OTHER_OPENING.fullmatch(line.rstrip("\r")):
            _block(lines)
            rest.append("")
        else:
            rest.append(line)
    if stop is ReplyStop.LENGTH:
        return Malformed("Your reply was cut because it was too long. Write a shorter one.")
    for number, line in enumerate(rest):
        if found := _FINAL.match(line):
            source = "\n".join([line[found.end() :], *rest[number + 1 :]])
            takes_text = protocol is AnswerProtocol.PLAIN_FINAL and found["form"] == "FINAL"
            return _plain(source) if takes_text else _final(found["form"], source)
    return Malformed(_WHAT_TO_WRITE[protocol])


def is_written_out(action: Action) -> bool:
    """Say whether an action is an answer that was written down, not computed: by itself, or as all that a cell does."""
    if not isinstance(action, Cell):
        return isinstance(action, Final)
    code = action.code
    if len(code) > MAX_LITERAL_CHARS or not _ANSWERING.match(code) or _F_STRING.search(code):
        return False
    tree = parsed(code)
    try:
        return tree is not None and all(map(_is_literal_answer, tree.body))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


def _is_literal_answer(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(ast.Call(ast.Name("FINAL" | "SUBMIT"), args, keywords)):
            values = [*args, *(keyword.value for keyword in keywords)]
        case ast.Assign([ast.Subscript(ast.Name("answer"), ast.Constant("content" | "ready"))], value):
            values = [value]
        case _:
            return False
    for value in values:
        ast.literal_eval(value)
    return True


def _block(lines: Iterator[str]) -> tuple[str, bool]:
    """Take the lines up to the closing fence; say whether there was one."""
    code: list[str] = []
    for line in lines:
        if line.startswith("```"):
            return "\n".join(code), True
        code.append(line)
    return "\n".join(code), False


def _plain(source: str) -> Action:
    """Return the final whose bare text `source` begins with: a literal alone on its line, else all to the last `)`."""
    end = _end_of_arguments(source[: MAX_LITERAL_CHARS + 1])
    if end is not None and not source[end + 1 :].partition("\n")[0].strip():
        literal = _final("FINAL", source)
        if isinstance(literal, Final):
            return literal
    lines = source.split("\n")
    last = next((at for at in reversed(range(len(lines))) if lines[at].rstrip().endswith(")")), None)
    if last is None:
        return Malformed("FINAL( was not closed. Write FINAL(your answer) on a line of its own.")
    text = "\n".join(lines[: last + 1]).rstrip().removesuffix(")").strip()
    return Final(text) if len(text) <= MAX_LITERAL_CHARS else _too_long("FINAL", len(text))


def _final(form: str, source: str) -> Action:
    """Return the final whose arguments `source` begins with; what follows them is passed over."""
    if form == "FINAL_VAR":
        name = _NAME.match(source)
        return FinalVar(name["name"]) if name else Malformed("FINAL_VAR(...) takes the name of one variable.")
    end = _end_of_arguments(source[: MAX_LITERAL_CHARS + 1])
    if end is None and len(source) > MAX_LITERAL_CHARS:
        return _too_long(form, len(source))
    if end is None:
        return _not_a_literal(form)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" is an odd escape, and a literal
            value = _value(source[:end].strip(), takes_names=form == "SUBMIT")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return _not_a_literal(form)
    return Final(_as_json(value))


def _too_long(form: str, characters: int) -> Malformed:
    return Malformed(
        f"{form}(...) holds {characters} characters, but at most {MAX_LITERAL_CHARS} may stand there. "
        "Put the answer into a variable and reply FINAL_VAR(name)."
    )


def _not_a_literal(form: str) -> Malformed:
    return Malformed(f'{form}(...) takes a Python literal, such as {form}("text") or {form}(42).')


def _end_of_arguments(source: str) -> int | None:
    """Return where the bracket that stands before `source` is closed; None where it is not, or after an f-string.

    An f-string is no literal, and CPython 3.11 parses one with many fields in quadratic time.
    """
    brackets: list[str] = []
    quote = ""
    at = 0
    while at < len(source):
        char = source[at]
        if quote:
            if char == "\\":
                at += 1
            elif source.startswith(quote, at):
                at += len(quote) - 1
                quote = ""
        elif char in "\"'":
            if "f" in source[max(0, at - 2) : at].lower():
                return None
            quote = char * 3 if source.startswith(char * 3, at) else char
            at += len(quote) - 1
        elif char in "([{":
            brackets.append(char)
        elif char in _CLOSING:
            if not brackets:
                return at if char == ")" else None
            if brackets.pop() != _CLOSING[char]:
                return None
        at += 1
    return None


def _value(source: str, *, takes_names: bool) -> object:
    """Return the value of arguments: one literal, or with names (`SUBMIT(a=1, b=2)`) a dict unless there is one."""
    if not takes_names:
        return ast.literal_eval(source)
    call = ast.parse(f"f({source})", mode="eval").body
    if not isinstance(call, ast.Call) or len(call.args) + bool(call.keywords) != 1:
        raise ValueError("neither one value nor names with values")
    if call.args:
        return ast.literal_eval(call.args[0])
    by_name = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    return next(iter(by_name.values())) if len(by_name) == 1 else by_name


def _as_json(value: object) -> JsonValue:
    """Return a literal's value in JSON's types; what JSON lacks (bytes, sets, complex) becomes its text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    return str(value)
