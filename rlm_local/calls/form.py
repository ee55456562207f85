"""What a reply is held to: one of some choices, a regular expression, a JSON schema, or nothing; and its way back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from rlm_local.calls.caller import UnreadableError
from rlm_local.calls.checks import choices_of, max_tokens_of, only, regex_of, schema_of
from rlm_local.grammar import AnswerSchema
from rlm_local.ports import BadCall
from rlm_local.types import Completion, JsonValue, Message, Reply, ReplyStop, Sampling

MAX_VALUE_INT = 1 << 53  # beyond it two JSON readers may see two numbers
MAX_VALUE_DEPTH = 24


@dataclass(frozen=True, slots=True)
class ReplyForm:
    """At most one of choices, regex and schema."""

    max_tokens: int
    choices: tuple[str, ...] = ()
    regex: str = ""
    schema: AnswerSchema | None = None

    @property
    def is_plain(self) -> bool:
        return not (self.choices or self.regex or self.schema)

    def told(self, prompt: str) -> str:
        """Return the prompt with what the model has to know of the form."""
        return f"{prompt}\n\n{self.schema_line}" if self.schema else prompt

    @property
    def schema_line(self) -> str:
        """Tell the schema; the model cannot see what it is held to."""
        return f"Reply with JSON of this schema: {self._schema_text}"

    def completion(self, messages: tuple[Message, ...], *, can_close: bool, sampling: Sampling) -> Completion:
        return Completion(
            messages,
            max_tokens=self.max_tokens,
            sampling=sampling,
            close_at_limit=can_close and bool(self.regex or self.schema),
            choices=self.choices,
            regex=self.regex,
            json_schema=self._schema_text,
        )

    def read(self, reply: Reply) -> JsonValue:
        """Return what a reply says. Raises UnreadableError for one of a form that was cut, or is not of it.

        A cut text says so at its end.
        """
        is_cut = reply.stop is not ReplyStop.COMPLETE
        if self.is_plain:
            cut = f" ... (cut after {self.max_tokens} tokens; ask for less at once)" if is_cut else ""
            return reply.text.strip() + cut
        if is_cut:
            raise UnreadableError(
                f"the reply was cut after {self.max_tokens} tokens; ask for less at once, or raise max_tokens"
            )
        if self.schema is None:
            return reply.text
        try:
            value: JsonValue = json.loads(reply.text)
            _check_plain(value)
        except (ValueError, RecursionError) as error:
            raise UnreadableError(f"the reply is no JSON: {error}") from error
        if wrong := self.schema.mismatch(value):
            raise UnreadableError(wrong)
        return value

    @property
    def _schema_text(self) -> str:
        return json.dumps(self.schema.schema, ensure_ascii=False) if self.schema else ""


def form_of(args: Mapping[str, JsonValue], *, reply_tokens: int) -> ReplyForm:
    """Read the arguments of llm_query. Raises BadCall."""
    only(args, "choices", "schema", "regex", "max_tokens")
    if len(named := sorted(set(args) & {"choices", "schema", "regex"})) > 1:
        raise BadCall(f"{' and '.join(named)} exclude each other; give one of them")
    return ReplyForm(
        max_tokens=max_tokens_of(args.get("max_tokens"), reply_tokens),
        choices=choices_of(args["choices"]) if "choices" in args else (),
        regex=regex_of(args["regex"]) if "regex" in args else "",
        schema=schema_of(args["schema"]) if "schema" in args else None,
    )


def _check_plain(value: JsonValue, depth: int = 0) -> None:
    """Raise ValueError for what JSON text can say and a frame cannot carry."""
    if depth > MAX_VALUE_DEPTH:
        raise ValueError(f"it is nested deeper than {MAX_VALUE_DEPTH} levels")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it holds a number that no float can hold")
    if isinstance(value, int) and abs(value) > MAX_VALUE_INT:
        raise ValueError(f"it holds an integer beyond {MAX_VALUE_INT}")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_plain(inner, depth + 1)
