"""Typed answers: a JSON schema as the grammar of a Python literal, and as the host's check of a value.

Served: type (a name or a list of names), enum, const, anyOf; items, minItems, maxItems of arrays; properties, required,
additionalProperties (true or false) of objects; minimum, maximum, minLength, maxLength. What the grammar does not
say (a bound of a number, a length) the host checks. Every other keyword is refused, never passed over.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rlm_local.errors import ConfigError
from rlm_local.types import JsonValue

_TYPES = ("string", "integer", "number", "boolean", "null", "array", "object")
_NOTES = frozenset({"$schema", "$id", "title", "description", "default", "examples"})
_KEYWORDS = frozenset({"type", "enum", "const", "anyOf", "items", "minItems", "maxItems", "properties", "required"})
_KEYWORDS |= {"additionalProperties", "minimum", "maximum", "minLength", "maxLength"}
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength")
MAX_DEPTH = 16  # of a schema in itself
MAX_ITEMS = 64  # of an array, as far as the grammar counts
MAX_LENGTH = 10**6  # of a text

_FREE_LEVELS = 9  # of brackets in what no schema types; code that nests without end does not compile

_LEXEMES = r"""
TYPED_TEXT: /"([^"\\\x00-\x1f\x7f]|\\["'\\nt])*"/ | /'([^'\\\x00-\x1f\x7f]|\\["'\\nt])*'/
TYPED_INTEGER: /-?(0|[1-9][0-9]{0,29})/
TYPED_NUMBER: /-?(0|[1-9][0-9]{0,29})(\.[0-9]{1,29})?(e[+-]?[0-9]{1,2})?/
"""

# The same for GBNF and xgrammar, which have no lexemes.
_BNF_LEXEMES = r"""
TYPED-TEXT ::= "\"" ([^"\\\x00-\x1f\x7f] | "\\" ["'\\nt])* "\"" | "'" ([^'\\\x00-\x1f\x7f] | "\\" ["'\\nt])* "'"
TYPED-INTEGER ::= "-"? ("0" | [1-9] [0-9]{0,29})
TYPED-NUMBER ::= TYPED-INTEGER ("." [0-9]{1,29})? ("e" [+\-]? [0-9]{1,2})?
"""
_QUOTED_OR_NAME = re.compile(r'"(?:[^"\\]|\\.)*"|\w+')


class AnswerSchema:
    """The type of an answer. Raises ConfigError for a schema that is none, or uses what is not served.

    what: its name in messages.
    """

    def __init__(self, schema: JsonValue, *, what: str = "the answer schema") -> None:
        _check(schema, what, 0)
        self._schema: Any = schema

    @property
    def schema(self) -> JsonValue:
        """The schema as it was given."""
        found: JsonValue = self._schema
        return found

    def mismatch(self, value: JsonValue) -> str:
        """Return in one sentence why a value is not of this type; empty when it is."""
        return _mismatch(self._schema, value, "the answer")

    def lark(self) -> str:
        """Return the rule `answered` and all that it needs, in llguidance's Lark."""
        return "\n".join(f"{name}: {body}" for name, body in self._rules()) + _LEXEMES

    def bnf(self) -> str:
        """Return the rule `answered` and all that it needs, as llama.cpp (GBNF) and xgrammar read it."""
        lines = (f"{_bnf(name)} ::= {_bnf(body)}" for name, body in self._rules())
        return "\n".join(lines) + _BNF_LEXEMES

    def _rules(self) -> list[tuple[str, str]]:
        rules = _Rules()
        return [("answered", rules.of(self._schema)), *rules.bodies, *_free()]


class _Rules:
    def __init__(self) -> None:
        self.bodies: list[tuple[str, str]] = []

    def of(self, schema: Any) -> str:
        """Return the name of the rule for a schema."""
        return self._named(self._body(schema))

    def _body(self, schema: Any) -> str:
        if schema is True:
            return "typed_any"
        if "const" in schema:
            return _literals([schema["const"]])
        if "enum" in schema:
            return _literals(schema["enum"])
        if "anyOf" in schema:
            return " | ".join(self.of(one) for one in schema["anyOf"])
        return " | ".join(self._typed(kind, schema) for kind in _types(schema)) or "typed_any"

    def _typed(self, kind: str, schema: Any) -> str:
        match kind:
            case "array":
                return self._array(schema)
            case "object":
                return self._object(schema)
            case "boolean":
                return '"True" | "False"'
            case "null":
                return '"None"'
            case _:
                return f"TYPED_{'TEXT' if kind == 'string' else kind.upper()}"

    def _array(self, schema: Any) -> str:
        item = self.of(schema.get("items", True))
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if most == 0:
            return '"[]"'
        counted = max(least, 1) - 1
        more = f'(", " {item})' + ("*" if most is None and not counted else f"{{{counted},{_upto(most)}}}")
        return f'"[" {item} {more} "]"' if least else f'"[" ({item} {more})? "]"'

    def _object(self, schema: Any) -> str:
        properties = schema.get("properties", {})
        if not properties:
            return '"{}"' if schema.get("additionalProperties") is False else "typed_dict_0"
        required = set(schema.get("required", ()))
        # tail[is_first] is what may follow the properties up to here; built from the last one.
        tail = {True: '""', False: '""'}
        if schema.get("additionalProperties", True) is not False:
            tail = {True: '(TYPED_TEXT ": " typed_any (", " TYPED_TEXT ": " typed_any)*)?'}
            tail[False] = '(", " TYPED_TEXT ": " typed_any)*'
        for key, of in reversed(properties.items()):
            pair = f"{_quoted(json.dumps(key) + ': ')} {self.of(of)}"
            rest = self._named(tail[False])
            taken = {True: f"{pair} {rest}", False: f'", " {pair} {rest}'}
            tail = (
                taken if key in required else {first: f"{taken[first]} | {self._named(tail[first])}" for first in taken}
            )
        return f'"{{" {self._named(tail[True])} "}}"'

    def _named(self, body: str) -> str:
        name = f"typed_{len(self.bodies)}"
        self.bodies.append((name, body))
        return name


def _free() -> Iterator[tuple[str, str]]:
    """Yield the rules for what no schema types: any literal, of so many levels."""
    for level in range(_FREE_LEVELS + 1):
        deeper = f"typed_any_{level + 1}"
        plain = 'TYPED_TEXT | TYPED_NUMBER | "True" | "False" | "None"'
        nested = "" if level == _FREE_LEVELS else f" | typed_list_{level} | typed_dict_{level}"
        yield f"typed_any{f'_{level}' if level else ''}", plain + nested
        if nested:
            yield f"typed_list_{level}", f'"[" ({deeper} (", " {deeper})*)? "]"'
            pair = f'TYPED_TEXT ": " {deeper}'
            yield f"typed_dict_{level}", f'"{{" ({pair} (", " {pair})*)? "}}"'


def _literals(values: Iterable[Any]) -> str:
    """Return the ways to write these values: text in either kind of quotes."""
    ways = []
    for value in values:
        ways.append(repr(value))
        if isinstance(value, str):
            ways.append(json.dumps(value, ensure_ascii=False))
    return " | ".join(_quoted(way) for way in dict.fromkeys(ways))


def _bnf(rule: str) -> str:
    """Return a rule with its names spelled with hyphens; what stands in quotes stays."""
    return _QUOTED_OR_NAME.sub(lambda found: found[0] if found[0][0] == '"' else found[0].replace("_", "-"), rule)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _upto(most: int | None) -> str:
    return "" if most is None else str(most - 1)


def _types(schema: Mapping[str, Any]) -> tuple[str, ...]:
    kinds = schema.get("type", ())
    return (kinds,) if isinstance(kinds, str) else tuple(kinds)


def _check(schema: JsonValue, where: str, depth: int) -> None:
    if schema is True:
        return
    if not isinstance(schema, dict):
        raise ConfigError(f"{where} is {schema!r}, but must be an object")
    if depth > MAX_DEPTH:
        raise ConfigError(f"{where} stands {depth} levels deep, but at most {MAX_DEPTH} are served")
    if unknown := sorted(set(schema) - _KEYWORDS - _NOTES):
        raise ConfigError(
            f"{where} uses {unknown[0]!r}, which is not served", hint=f"use {', '.join(sorted(_KEYWORDS))}"
        )
    kinds = schema.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind not in _TYPES:
            raise ConfigError(f"{where} has the type {kind!r}, but must have one of {', '.join(_TYPES)}")
    for name in _COUNTS:
        count = schema.get(name, 0)
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= _most_of(name):
            raise ConfigError(f"{where}: {name} is {count!r}, but must be a whole number up to {_most_of(name)}")
    for name in ("minimum", "maximum"):
        bound = schema.get(name, 0)
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            raise ConfigError(f"{where}: {name} is {bound!r}, but must be a finite number")
    _check_bounds(schema, where)
    _check_literals([schema[name] for name in ("const", "enum") if name in schema], where)
    for name in ("enum", "anyOf"):
        if name in schema and not (isinstance(schema[name], list) and schema[name]):
            raise ConfigError(f"{where}: {name} must be a list that is not empty")
    if not isinstance(schema.get("additionalProperties", True), bool):
        raise ConfigError(f"{where}: additionalProperties must be true or false")
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if (
        not isinstance(properties, dict)
        or not isinstance(required, list)
        or not all(one in properties for one in required)
    ):
        raise ConfigError(f"{where}: properties must be an object, and required a list of their names")
    _check(schema.get("items", True), f"{where}.items", depth + 1)
    for key, of in properties.items():
        _check(of, f"{where}.properties.{key}", depth + 1)
    alternatives = schema.get("anyOf", [])
    for number, of in enumerate(alternatives if isinstance(alternatives, list) else []):
        _check(of, f"{where}.anyOf[{number}]", depth + 1)


def _most_of(name: str) -> int:
    return MAX_ITEMS if "Items" in name else MAX_LENGTH


def _check_bounds(schema: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError for bounds that no value can keep."""
    for least, most in (("minItems", "maxItems"), ("minLength", "maxLength"), ("minimum", "maximum")):
        if not {least, most} <= schema.keys():
            continue
        low, high = schema[least], schema[most]
        if _types(schema) == ("integer",):
            low, high = math.ceil(low), math.floor(high)
        if low > high:
            raise ConfigError(f"{where}: {least} is {schema[least]}, {most} is {schema[most]}, and nothing keeps both")


def _check_literals(values: JsonValue, where: str) -> None:
    """Raise ConfigError for what an answer cannot be written as."""
    try:
        json.dumps(values, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise ConfigError(f"{where} names a value that is no number, infinite, or half of a character") from error


def _mismatch(schema: Any, value: JsonValue, where: str) -> str:
    if schema is True:
        return ""
    if "const" in schema and not _same(value, schema["const"]):
        return f"{where} is {_short(value)}, but must be {schema['const']!r}"
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        return f"{where} is {_short(value)}, but must be one of {', '.join(map(repr, schema['enum']))}"
    if "anyOf" in schema and all(_mismatch(one, value, where) for one in schema["anyOf"]):
        return _mismatch(schema["anyOf"][0], value, where)
    kinds = _types(schema)
    if kinds and not any(_is(value, kind) for kind in kinds):
        return f"{where} is {_short(value)}, but must be of type {' or '.join(kinds)}"
    if isinstance(value, str | list):
        least, most = ("minLength", "maxLength") if isinstance(value, str) else ("minItems", "maxItems")
        if not schema.get(least, 0) <= len(value) <= schema.get(most, len(value)):
            return f"{where} has the length {len(value)}, but must keep {least} and {most}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return f"{where} is {value}, but must keep minimum and maximum"
    if isinstance(value, list):
        inner = (_mismatch(schema.get("items", True), one, f"{where}[{at}]") for at, one in enumerate(value))
        return next(filter(None, inner), "")
    return _object_mismatch(schema, value, where) if isinstance(value, dict) else ""


def _object_mismatch(schema: Any, value: dict[str, JsonValue], where: str) -> str:
    properties = schema.get("properties", {})
    if missing := [key for key in schema.get("required", ()) if key not in value]:
        return f"{where} lacks {missing[0]!r}"
    unknown = [key for key in value if key not in properties]
    if unknown and schema.get("additionalProperties") is False:
        return f"{where} has {unknown[0]!r}, which it may not have"
    inner = (_mismatch(properties[key], one, f"{where}[{key!r}]") for key, one in value.items() if key in properties)
    return next(filter(None, inner), "")


def _is(value: JsonValue, kind: str) -> bool:
    if isinstance(value, bool) or value is None:
        return kind == ("boolean" if isinstance(value, bool) else "null")
    if isinstance(value, int | float):
        return kind == "number" or (kind == "integer" and float(value).is_integer())
    return kind == {str: "string", list: "array", dict: "object"}[type(value)]


def _same(value: JsonValue, other: JsonValue) -> bool:
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _short(value: JsonValue) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
