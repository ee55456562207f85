"""The names that a cell finds in place, and the module that it runs in."""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Mapping, Sequence

from sandbox.worker.asking import Children
from sandbox.worker.calls import Calls
from sandbox.worker.channel import CellOverError, Channel
from sandbox.worker.corpus import Corpus
from sandbox.worker.reading import reading_tools
from sandbox.worker.values import Json, to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from sandbox.worker.search import Span

_SPANS_PER_CELL = 4096  # the host refuses more


class Finished(BaseException):  # not an error: it ends a cell that has answered
    """Raised by FINAL to end its cell. A BaseException, so that `except Exception` lets it pass."""


class Names:
    """The cell's names and what they do. One instance a session; `cell_id` says which cell is running."""

    def __init__(self, corpus: Corpus, channel: Channel, notes: Mapping[str, Json]) -> None:
        self._channel = channel
        self._corpus = corpus
        self._spans = 0
        self.cell_id = 0
        self.final: dict[str, Json] | None = None  # {"value": ..., "sources": ...} once the cell has answered
        self.module = types.ModuleType("__main__")
        self.answer: dict[str, object] = {"content": "", "ready": False}
        calls, children = Calls(self._ask), Children(corpus, self._recurse)
        self._fixed: dict[str, object] = {
            "context": corpus.context,
            "documents": corpus.documents,
            **reading_tools(corpus, calls, self._report, self.variables.get),
            "llm_query": calls.llm_query,
            "llm_query_batched": calls.llm_query_batched,
            "llm_classify": calls.llm_classify,
            "llm_extract": calls.llm_extract,
            "llm_map": calls.llm_map,
            "llm_filter": calls.llm_filter,
            "llm_reduce": calls.llm_reduce,
            "rlm_query": children.rlm_query,
            "rlm_query_batched": children.rlm_query_batched,
            "SHOW_VARS": self.show_vars,
            "FINAL": self.finish,
            "FINAL_VAR": self.finish_with_variable,
            "SUBMIT": self.submit,
            "exit": _exit,
            "quit": _exit,
        }
        self._kept = {**vars(self.module), "__builtins__": builtins, **self._fixed}
        self.variables.update(self._kept, answer=self.answer, **notes)
        self._not_user = frozenset({*self._kept, "answer", *notes})
        # dataclasses, typing and pickle look a class's module up by name.
        sys.modules["__main__"] = self.module
        builtins.input = _no_input

    @property
    def variables(self) -> dict[str, Any]:
        return vars(self.module)

    def begin(self, cell_id: int, facts: Mapping[str, Json]) -> None:
        """Set what a cell begins with. facts: variables that are new before each cell."""
        self.cell_id, self.final, self._spans = cell_id, None, 0
        self.variables.update(facts)
        self._not_user |= facts.keys()

    def end(self) -> list[str]:
        """Take answer["ready"] for an answer, and put back every fixed name that the cell had used for its own.

        Returns the tools among them. `answer` is not put back: a cell that says `answer = ...` means it, and may name
        it in FINAL_VAR later.
        """
        answer = self.variables.get("answer")
        if self.final is None and isinstance(answer, dict) and answer.get("ready"):
            self.final = {"value": to_json(answer.get("content", "")), "sources": []}
            answer["ready"] = False  # the host may ask for more, and a later cell has not answered by itself
        taken = [name for name, tool in self._fixed.items() if self.variables.get(name, tool) is not tool]
        self.variables.update(self._kept)
        self.variables.pop("print", None)
        self.variables.setdefault("answer", self.answer)
        return taken

    def _recurse(self, asks: Sequence[Mapping[str, object]]) -> list[dict[str, Json]]:
        if not self.cell_id:
            raise CellOverError("no cell is running, so no question can be asked")
        return self._channel.recurse(self.cell_id, asks)

    def _ask(
        self, texts: Sequence[str], kind: str, args: Mapping[str, object], behind: int, ahead: int
    ) -> list[dict[str, Json]]:
        if not self.cell_id:
            raise CellOverError("no cell is running, so no sub-call can be made")
        return self._channel.query(self.cell_id, texts, kind, args, behind=behind, ahead=ahead)

    def show_vars(self) -> list[str]:
        """Print the variables that cells have made, with kind and size, and return their names."""
        names = self.user_names()
        print("\n".join(f"{name}: {_describe(self.variables[name])}" for name in names) or "no variables yet")
        return names

    def user_names(self) -> list[str]:
        return [name for name in self.variables if name not in self._not_user and not name.startswith("_")]

    def finish(self, value: object = "", *, sources: object = None) -> NoReturn:
        """Answer with value and end the cell. sources: the passages, or the quotes, that the answer rests on."""
        # Kept before it is raised: a bare `except:` around FINAL swallows the ending, not the answer.
        self.final = {"value": to_json(value), "sources": self._sources(sources)}
        raise Finished

    def _sources(self, given: object) -> list[Json]:
        if given is None:
            return []
        from sandbox.worker.sources import sources_of  # few answers name any, and `re` takes a while to import

        return sources_of(self._corpus, given)

    def submit(self, *values: object, **named: object) -> NoReturn:
        """Answer as FINAL does, with one value or with named ones; several named ones are a dict."""
        if len(values) + bool(named) != 1:
            raise TypeError("SUBMIT() takes one value, or values with names: SUBMIT(answer=...)")
        self.finish(values[0] if values else next(iter(named.values())) if len(named) == 1 else named)

    def finish_with_variable(self, name: object, *, sources: object = None) -> NoReturn:
        """Answer with the variable of this name; a value that is no name is the answer itself."""
        if not isinstance(name, str):
            self.finish(name, sources=sources)
        stripped = name.strip()
        if stripped not in self.variables:
            if not stripped.isidentifier():
                self.finish(name, sources=sources)
            known = ", ".join(self.user_names()) or "none yet"
            raise NameError(f"FINAL_VAR({name!r}): no variable of that name; variables: {known}")
        value = self.variables[stripped]
        self.finish(value.get("content", "") if value is self.answer else value, sources=sources)

    def _report(self, spans: Sequence[Span]) -> None:
        room = _SPANS_PER_CELL - self._spans
        if (taken := list(spans)[:room]) and self.cell_id:
            self._spans += len(taken)
            self._channel.send({"op": "spans", "cell_id": self.cell_id, "spans": taken})


def _describe(value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, str):
        return f"str, {len(value)} characters"
    if isinstance(value, list | tuple | set | frozenset | dict):
        return f"{kind}, {len(value)} items"
    if callable(value):
        return kind
    text = repr(value)
    return f"{kind}, {text if len(text) <= 80 else text[:77] + '...'}"


def _exit(code: object = None) -> NoReturn:
    raise SystemExit(code)


def _no_input(prompt: object = "") -> NoReturn:
    raise RuntimeError("input() has nobody to answer it here; work from context, documents and search()")
