"""Prompt profiles: one text file each, in sections.

A profile is a Markdown file in text/. A line `# name` opens a section; the sections are:

    system       rules of the game; the same bytes for every run, so that its KV cache is too
    user / assistant  worked turns in the order they stand: a user message, then the assistant's reply
    program      a question about other lines of fields and the block that answered it; as many as there are
    similar      stands before a question over lines that programs are like; $programs, $places
    program of documents  a question about many other documents, and its block
    similar of documents  follows a question about many documents that programs are like; $programs, $question
    question     the opening of a real run; $question, $documents, $characters, $names, $head,
                 $subcall_tokens, $subcall_characters, $turns are filled in
    observation  what follows a turn; $output, $note
    open         the note of an ordinary turn; $turns_left, $subcalls_left, $tokens_left, $seconds_left
    low          added to the note where less than a quarter of something is left; $what, $left
    look         the note of a turn that may only be a block; filled in as `open` is
    last         the note of a turn that may only answer
    held         the note when a cell gave an answer before anything was seen; $value
    unsupported  the note when no word of an answer was ever printed; $value
    overlooked   the note when no word of it was, and a cell has printed a list just before; $value, $name
    denied       the note when an answer is that the documents do not tell, and no sub-model has read in vain
    denied of documents  the same of a question that programs for each of many documents are like; $program, $question
    empty        the note when an answer was empty
    repeated     the note when the same code was run before
    raised       the note when a cell ended with an error
    long         the note when a cell printed a variable that is too long to be written again; $name
    count        the note when a question asks how many, and no number is in the answer
    circle       added to the note when the run goes round in a circle, once; $why
    typed        follows the question of a run whose answer has a type; $schema
    mistyped     the note when an answer was not of that type; $why
    rejected     the note when the caller's own check did not take an answer, once; $why
    misquoted    the note when a question asks for quotes and an answer is none; $line
    quoted       follows it where a program for quotes is like the question; $program, $question
    closed       the note when a turn's tokens were spent and its end was written for it; $closed
    subcall      the system message of every llm_query

How an answer is said is not in these files but in protocols/, one file for each protocol. A profile says where:
<<small>> or <<large>> is the rule of replies, <<answer LITERAL>> a whole reply with that answer, <<answer with "NAME">>
one with that variable's value, <<reply LITERAL>> an order to reply with a literal (<<Reply ...>> at the beginning of a
sentence), <<reply with a variable>> the same for any value.
<<packages LITERAL>> stands only where code can import more than the standard library; $packages are those modules.
<<name>> is what a worked turn calls a sub-model's answer, without hiding a name that the protocol needs.
"""

from __future__ import annotations

import ast
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

from rlm_local.errors import ConfigError
from rlm_local.prompts.similar import Program
from rlm_local.types import DEFAULT_PROTOCOL, AnswerProtocol, Message, Role

_TEXT = Path(__file__).parent / "text"
_PROTOCOLS = Path(__file__).parent / "protocols"
_MARK = re.compile(r"<<(small|large|name|packages|reply with a variable|answer with|answer|reply|Reply)(?: (.+?))?>>")
_ONCE = (
    "system",
    "question",
    "observation",
    "open",
    "low",
    "look",
    "last",
    "held",
    "unsupported",
    "overlooked",
    "denied",
    "empty",
    "repeated",
    "raised",
    "long",
    "count",
    "circle",
    "typed",
    "mistyped",
    "rejected",
    "misquoted",
    "closed",
    "subcall",
)
_MAYBE = {  # section to field
    "similar": "similar",
    "similar of documents": "similar_of_documents",
    "denied of documents": "denied_of_documents",
    "quoted": "quoted",
}
_LINES, _DOCUMENTS = "program", "program of documents"
_WORKED = {"user": Role.USER, "assistant": Role.ASSISTANT}


@dataclass(frozen=True, slots=True)
class Profile:
    """How a model is led: its texts, how it says an answer, what its code may import, how much output it is shown."""

    name: str  # of the file, and of the protocol where it is not the default one
    protocol: AnswerProtocol
    system: str
    worked: tuple[Message, ...]  # example turns between the system message and the question
    question: str
    observation: str
    open: str
    low: str
    look: str
    last: str
    held: str
    unsupported: str
    overlooked: str
    denied: str
    empty: str
    repeated: str
    raised: str
    long: str
    count: str
    circle: str
    typed: str
    mistyped: str
    rejected: str
    misquoted: str
    closed: str
    subcall: str
    max_output_chars: int  # of a cell's stdout in an observation
    programs: tuple[Program, ...] = ()  # for lines of fields; the likest to a question are shown
    programs_of_documents: tuple[Program, ...] = ()  # for many documents
    similar: str = ""
    similar_of_documents: str = ""
    denied_of_documents: str = ""
    quoted: str = ""
    sha256: str = ""  # of its file, as it is worded
    imports: tuple[str, ...] | None = None  # as grammar.turn_grammar takes them

    @property
    def shows_head(self) -> bool:
        """Whether the question comes with the beginning of the first document."""
        return "$head" in self.question


MAX_OUTPUT_CHARS = {"small": 3_000, "large": 20_000}  # characters; small models drown in more


@cache
def load_profile(name: str, protocol: AnswerProtocol = DEFAULT_PROTOCOL, packages: tuple[str, ...] = ()) -> Profile:
    """Return profile `name`, its answers said by `protocol`. packages: modules that code can import.

    Raises ConfigError for an unknown name or a file with a section missing.
    """
    path = _TEXT / f"{name}.md"
    if name not in MAX_OUTPUT_CHARS or not path.is_file():
        raise ConfigError(f"no prompt profile {name!r}; there are {', '.join(sorted(MAX_OUTPUT_CHARS))}")
    once: dict[str, str] = {}
    worked: list[Message] = []
    programs: dict[str, list[Program]] = {_LINES: [], _DOCUMENTS: []}
    text = _worded(path.read_text(encoding="utf-8"), protocol, packages)
    for heading, body in _sections(text):
        if heading in _WORKED:
            worked.append(Message(_WORKED[heading], body))
        elif heading in programs:
            asked, fence, code = body.partition("```repl\n")
            programs[heading].append(Program(asked.strip().removeprefix("Question: "), fence + code))
        elif heading in (*_ONCE, *_MAYBE) and (field := _MAYBE.get(heading, heading)) not in once:
            once[field] = body
        else:
            raise ConfigError(f"{path.name}: section {heading!r} is unknown or stands twice")
    if missing := [section for section in _ONCE if section not in once]:
        raise ConfigError(f"{path.name}: section {missing[0]!r} is missing")
    title = name if protocol is DEFAULT_PROTOCOL else f"{name}/{protocol.value}"
    chars = MAX_OUTPUT_CHARS[name]
    return Profile(
        name=title,
        protocol=protocol,
        worked=tuple(worked),
        max_output_chars=chars,
        imports=None,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        programs=tuple(programs[_LINES]),
        programs_of_documents=tuple(programs[_DOCUMENTS]),
        **once,
    )


def _worded(text: str, protocol: AnswerProtocol, packages: tuple[str, ...]) -> str:
    """Return a profile's text with its marks replaced by the protocol's words and the packages' names."""
    words = dict(_sections((_PROTOCOLS / f"{protocol.value}.md").read_text(encoding="utf-8")))

    def word(mark: re.Match[str]) -> str:
        key, literal = mark[1], mark[2]
        if literal is None:
            return words[key]
        plain = str(ast.literal_eval(literal))
        if key == "packages":
            return Template(plain).substitute(packages=", ".join(packages)) if packages else ""
        value = plain if key == "answer with" else literal
        said = Template(words[key.lower()]).substitute(value=value, text=plain)
        return said if key.islower() else said[0].upper() + said[1:]

    return _MARK.sub(word, text)


def _sections(text: str) -> list[tuple[str, str]]:
    sections: list[tuple[str, list[str]]] = []
    fenced = False  # a `# comment` inside a code fence is no heading
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        if line.startswith("# ") and not fenced:
            sections.append((line[2:].strip(), []))
        elif sections:
            sections[-1][1].append(line)
    return [(heading, "\n".join(lines).strip()) for heading, lines in sections]
