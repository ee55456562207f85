"""Whether a turn's final is the run's answer, and what the model is told where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

from rlm_local.controller.again import has_run
from rlm_local.controller.denial import has_looked_in_vain, has_printed, is_denial, is_zero, lacks_number
from rlm_local.controller.finish import (
    is_echo,
    is_empty,
    is_offered,
    is_quoted,
    is_supported,
    passed_over,
    telling_words,
)
from rlm_local.controller.printed_value import long_value, plain_value
from rlm_local.controller.quotes import asks_for_quotes
from rlm_local.grammar import AnswerSchema, TurnState, is_written_out
from rlm_local.prompts import Profile, denied_note, quoted_note
from rlm_local.types import Cell, CellStatus, Final, JsonValue, StopReason, Turn

SENT_TO_LOOK = 2  # times that an answer which rests on nothing is answered with a turn of code only


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a turn came to. Without `value_given` the run goes on, and `note` tells the model why."""

    note: str = ""
    look_first: bool = False  # the next turn may only be a block: there was nothing an answer could rest on
    value_given: bool = False
    value: JsonValue = None
    stop: StopReason = StopReason.FINAL
    reason: str = ""  # why the answer is not confirmed; empty when it is
    is_best_so_far: bool = False  # nothing was given: the best of what was seen is the answer


class Judge:
    """Judges the turns of one node, in their order.

    held: a value that was given too early or without support. stuck: the model repeats itself whatever is drawn.
    """

    def __init__(self, profile: Profile, question: str, schema: AnswerSchema | None, *, documents: int = 1) -> None:
        self._profile = profile
        self._denied = denied_note(profile, question, documents)
        self._quoting = quoted_note(profile, question) if asks_for_quotes(question) else ""
        self._question = question
        self._schema = schema
        self.held: JsonValue = None
        self.stuck = False
        self._rejected = False
        self._sent_to_look = 0
        self._asked_for_number = False
        self._worked = "\n".join(message.content for message in profile.worked)
        # What stands below most outputs; other notes hold the model's own words, which it may well say again.
        self._told = "\n".join((profile.raised, profile.repeated, profile.circle, profile.last))

    def judge(
        self, turns: Sequence[Turn], state: TurnState, *, printed: Sequence[str], forced_by: StopReason | None, why: str
    ) -> Verdict:
        """Judge the last of `turns`.

        printed: what cells printed; an answer's support. forced_by: the limit for which this turn could only
        answer, and `why` the sentence for it.
        """
        turn = turns[-1]
        final = final_of(turn)
        if final is None:
            self.stuck = isinstance(turn.action, Cell) and has_run(turn.action, turns[:-1])
            return Verdict(self._profile.repeated if self.stuck else self._told_of(turn))
        if is_empty(final.value) or is_echo(final.value, self._told):
            if forced_by is not None:
                return Verdict(value_given=True, stop=forced_by, reason=why, is_best_so_far=True)
            if any(is_written_out(earlier.action) and final_of(earlier) for earlier in turns[:-1]):
                return Verdict(value_given=True, reason="the model gave an empty answer")
            return Verdict(self._profile.empty)
        if state is TurnState.FIRST:
            self.held = final.value
            return Verdict(fill(self._profile.held, value=_short(final.value)))
        if wrong := self._schema.mismatch(final.value) if self._schema else "":
            if forced_by is not None:
                return Verdict(value_given=True, value=final.value, stop=forced_by, reason=wrong)
            return Verdict(fill(self._profile.mistyped, why=wrong))
        if forced_by is not None:
            return Verdict(value_given=True, value=final.value, stop=forced_by, reason=why)
        if final.unfound:
            return self.reject(
                final.value, f"no document says {_short(final.unfound[0])!r}, which it names as a source"
            )
        if lacks_number(final.value, self._question):
            if self._asked_for_number:
                return Verdict(
                    value_given=True, value=final.value, reason="the question asks how many: it has no number"
                )
            self._asked_for_number = True
            return Verdict(self._profile.count)
        if is_written_out(turn.action) and (chosen := passed_over(final.value, printed, self._question)):
            if self._rejected and not is_offered(final.value, self._question):
                reason = f"the code printed it, but the model answered {_short(final.value)!r}, which is no choice"
                return Verdict(value_given=True, value=chosen, reason=reason)
            return self.reject(
                final.value, f"the code printed {chosen!r}, one of those that the question gives to choose from"
            )
        # What the answering cell computed supports its own answer; a literal must have been seen. One that the
        # question gives to choose from was in no document: it may rest on whatever was found, as "no" on nothing.
        offered = is_offered(final.value, self._question)
        has_telling_words = bool(telling_words(str(final.value)))
        supported = (
            not is_written_out(turn.action)
            or (is_supported(final.value, "\n".join(printed)) and (not offered or has_telling_words))
            or ((is_denial(final.value) or is_zero(final.value) or offered) and has_looked_in_vain(turns))
            or (offered and has_printed(turns))
        )
        if not supported and not self.stuck:
            has_nothing = is_denial(final.value) or offered or is_quoted(final.value, self._worked)
            look_first = has_nothing and self._sent_to_look < SENT_TO_LOOK
            if look_first or self.held != final.value:
                self._sent_to_look += look_first
                self.held = final.value
                return Verdict(self._unsupported(final.value, turns), look_first=look_first)
        reason = "" if supported else "nothing that was printed says so"
        return Verdict(value_given=True, value=final.value, reason=reason)

    def _told_of(self, turn: Turn) -> str:
        """Return the note on a cell that gave no answer."""
        if turn.result is not None and turn.result.status is CellStatus.RAISED:
            return self._profile.raised
        name = long_value(turn)
        return fill(self._profile.long, name=name) if name else ""

    def _unsupported(self, value: JsonValue, turns: Sequence[Turn]) -> str:
        """Return what is told of an answer that nothing supports."""
        if is_denial(value) or is_offered(value, self._question):
            return self._denied
        if name := plain_value(turns):
            return fill(self._profile.overlooked, value=_short(value), name=name)
        return fill(self._profile.unsupported, value=_short(value))

    def reject(self, value: JsonValue, complaint: str) -> Verdict:
        """Judge an answer that the caller's own check, or ours of its sources, does not take: it may be mended once."""
        if self._rejected:
            return Verdict(value_given=True, value=value, reason=f"the answer was not accepted: {complaint}")
        self._rejected, self.held = True, value
        return Verdict(fill(self._profile.rejected, why=complaint))

    def misquoted(self, value: JsonValue, line: str) -> Verdict:
        """Judge an answer with a line that no document has, where the question asks for quotes: as reject() does."""
        if self._rejected:
            reason = f"no document says {_short(line)!r}, and the question asks for what they say word for word"
            return Verdict(value_given=True, value=value, reason=reason)
        self._rejected, self.held = True, value
        note = f"{fill(self._profile.misquoted, line=repr(_short(line)))}\n{self._quoting}".strip()
        return Verdict(note, look_first=bool(self._quoting))


def final_of(turn: Turn) -> Final | None:
    """Return the final that a turn gave, written or called by its cell."""
    if isinstance(turn.action, Final):
        return turn.action
    return turn.result.final if turn.result is not None else None


def fill(template: str, **values: object) -> str:
    return Template(template).substitute(values)


def _short(value: JsonValue, limit: int = 200) -> str:
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
