"""From messages to tokens, by the chat template that the weights carry.

Contents are documents that nobody vouched for. They never pass through Jinja and never become control
tokens: the template is rendered around a placeholder for each content, only the template's own text is
tokenized with control tokens, and each content is tokenized as plain text. So "<|im_end|>" in a document is
ten characters, and the tokens of a longer conversation begin with those of the shorter one.

What this costs: a template that trims, splits or re-orders contents does so to the placeholder, and a content
that begins with a line break is not merged with the break before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rlm_local.errors import EngineRefused
from rlm_local.types import Message, Role

_PLACEHOLDER = "@rlm-local-content-{}@"
_PLACEHOLDERS = re.compile("@rlm-local-content-([0-9]+)@")
_TURNS = 3  # of the conversation that a template is tried with


class Tokenizer(Protocol):
    def __call__(self, text: str, *, special: bool) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Part:
    text: str
    message: int | None = None  # whose content it is; None: written by the template

    @property
    def ours(self) -> bool:
        return self.message is None


class ChatTemplate:
    """A compiled template. Raises EngineRefused when the template cannot be used at all.

    source: Jinja, from the weights; it runs in Jinja's immutable sandbox.
    bos, eos: the texts that templates call bos_token and eos_token.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,  # as Hugging Face renders chat templates
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols"],
        )
        environment.globals["raise_exception"] = _refuse
        if _PLACEHOLDERS.search(source):
            raise EngineRefused("the chat template holds a placeholder of ours; use other weights")
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise EngineRefused(f"the chat template of these weights does not compile: {error}") from error
        self._special = {"bos_token": bos, "eos_token": eos}

    def parts(self, messages: Sequence[Message]) -> list[Part]:
        """Return the conversation up to where the assistant's next reply begins.

        Raises EngineRefused when the template refuses these roles or leaves a message out.
        """
        pieces = _PLACEHOLDERS.split(
            self._render([message.role for message in messages])
        )  # template, number, template, number, ..., template
        used = {int(number) for number in pieces[1::2]}
        for i, message in enumerate(messages):
            if i not in used:
                raise EngineRefused(f"the chat template leaves out message {i} ({message.role})")
        parts = [
            Part(messages[int(piece)].content, int(piece)) if i % 2 else Part(piece) for i, piece in enumerate(pieces)
        ]
        return [part for part in parts if part.text]

    def breaks_growth(self) -> str:
        """Return how a turn's request fails to begin with the turn's before it, or "" when it always does.

        Where it fails, what was computed for the earlier turn is shared only up to there. Tried with a
        conversation such as a run's: a system message, then turns.
        """
        roles, before = [Role.SYSTEM, Role.USER], ""
        for turn in range(_TURNS):
            try:
                text = self._render(roles)
                self.parts([Message(role, "x") for role in roles])
            except EngineRefused as error:
                return str(error)
            if not text.startswith(before):
                at = next((i for i, (a, b) in enumerate(zip(text, before, strict=False)) if a != b), len(text))
                return f"turn {turn} has {_shown(before[at:])} where turn {turn + 1} has {_shown(text[at:])}"
            before = text + _PLACEHOLDER.format(len(roles))  # the reply stands where the request ended
            roles += [Role.ASSISTANT, Role.USER]
        return ""

    def _render(self, roles: Sequence[Role]) -> str:
        """Return a conversation's text, with a placeholder for each content."""
        stand_ins = [{"role": role.value, "content": _PLACEHOLDER.format(i)} for i, role in enumerate(roles)]
        try:
            return self._template.render(messages=stand_ins, add_generation_prompt=True, **self._special)
        except jinja2.TemplateError as error:
            raise EngineRefused(f"the chat template refuses these messages: {error}") from error


def _shown(text: str) -> str:
    """Return the beginning of a template's own text, as a reader of the template would write it."""
    own = _PLACEHOLDERS.sub("(content)", text)
    return repr(own[:30]) if own else "its end"


def public_parts(parts: Sequence[Part], messages: int) -> int:
    """Return how many first parts hold the contents of so many first messages, and of no other.

    Fewer, where a template sets contents in another order.
    """
    size = 0
    for at, part in enumerate(parts, start=1):
        if part.message is not None:
            if part.message >= messages:
                break
            size = at
    return size


def encode(parts: Sequence[Part], tokenize: Tokenizer, *, bos: int | None = None) -> list[int]:
    """Return the tokens of `parts`, control tokens only where the text is the template's own.

    bos: a token that the model must see first; added unless the template wrote it.
    """
    tokens: list[int] = []
    for part in parts:
        tokens += tokenize(part.text, special=part.ours)
    if bos is not None and tokens[:1] != [bos]:
        tokens.insert(0, bos)
    return tokens


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
