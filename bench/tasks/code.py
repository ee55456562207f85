"""Questions over the code of packages that are installed here, with gold from `ast`; nothing of it is run.

The documents are a random choice of files of this interpreter's libraries, so the same seed gives the same tasks only
with the same packages: their digest is in the result. Gold holds for the files of the task alone. A search by pattern
finds most answers, as it should; no model has to understand what code does.
"""

from __future__ import annotations

import ast
import hashlib
import random
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from bench.haystack import CountTokens
from bench.tasks import scoring
from bench.tasks.asked import Asked, task_of_kinds
from bench.tasks.fill import fill, shuffled
from bench.tasks.task import Family, Maker, Sources, Task, characters
from rlm_local.errors import ConfigError
from rlm_local.types import Document, JsonValue

PACKAGES = ("click", "httpx", "huggingface-hub", "rich")  # what rlm-local itself needs, so it is here
_LIBRARY_SKIPPED = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__"}
CHOICES = "ABCD"
INTEGER: JsonValue = {"type": "integer"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What one file defines."""

    name: str
    classes: tuple[tuple[str, tuple[str, ...]], ...]  # name, bases by their last name
    raised: tuple[str, ...]  # names of exceptions in `raise` statements
    defaults: tuple[tuple[str, str, str], ...]  # function, parameter, literal
    summaries: tuple[tuple[str, str], ...]  # function, first line of its docstring


@cache
def library() -> tuple[Document, ...]:
    """Return the files of the packages, then those of the standard library."""
    found: list[Document] = []
    for name, path in (*_of_packages(), *_of_library()):
        try:
            found.append(Document(name, path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError):
            continue
    return tuple(found)


def _of_packages() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        try:
            files = distribution(package).files or []
        except PackageNotFoundError:
            continue
        for file in sorted(files):
            if file.suffix == ".py":
                yield str(file), Path(str(file.locate()))


def _of_library() -> Iterator[tuple[str, Path]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        within = path.relative_to(root)
        if not _LIBRARY_SKIPPED & set(within.parts):
            yield f"lib/{within.as_posix()}", path


@cache
def facts(document: Document) -> Facts:
    """Return what a file defines, read by `ast`; nothing for one that is no Python of this version."""
    try:
        tree = ast.parse(str(document.text))
    except (SyntaxError, ValueError, RecursionError):
        return Facts(document.name, (), (), (), ())
    classes: list[tuple[str, tuple[str, ...]]] = []
    raised: list[str] = []
    defaults: list[tuple[str, str, str]] = []
    summaries: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef():
                classes.append((node.name, tuple(name for base in node.bases if (name := _last_name(base)))))
            case ast.Raise(exc=ast.expr() as said):
                called = said.func if isinstance(said, ast.Call) else said
                raised += [name] if (name := _last_name(called)) else []
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                defaults += _defaults(node)
                summary = (ast.get_docstring(node) or "").partition("\n")[0].strip()
                if len(summary) > 30:
                    summaries.append((node.name, summary))
            case _:
                pass
    return Facts(document.name, tuple(classes), tuple(raised), tuple(defaults), tuple(summaries))


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):  # Generic[T]
        node = node.value
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _defaults(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[tuple[str, str, str]]:
    arguments = [*node.args.posonlyargs, *node.args.args]
    given = list(zip(arguments[len(arguments) - len(node.args.defaults) :], node.args.defaults, strict=True))
    given += [
        (one, said) for one, said in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if said is not None
    ]
    return [
        (node.name, argument.arg, ast.unparse(said))
        for argument, said in given
        if isinstance(said, ast.Constant) and said.value not in (None, True, False, "", 0)
    ]


def _unique(names: Sequence[str]) -> list[str]:
    return sorted(name for name, number in Counter(names).items() if number == 1)


def _locate(files: Sequence[Facts], draw: random.Random) -> Asked | None:
    names = _unique([name for one in files for name, _ in one.classes])
    if len(files) < len(CHOICES) or not names:
        return None
    wanted = draw.choice(names)
    home = next(one.name for one in files if any(name == wanted for name, _ in one.classes))
    others = draw.sample([one.name for one in files if one.name != home], len(CHOICES) - 1)
    offered = shuffled([home, *others], draw)
    listed = " ".join(f"{letter}) {name}" for letter, name in zip(CHOICES, offered, strict=True))
    text = f"Which file defines the class {wanted}? {listed} Answer with the letter alone."
    return Asked(text, CHOICES[offered.index(home)], scoring.choice, {"enum": list(CHOICES)}, "A")


def _subclasses(files: Sequence[Facts], draw: random.Random) -> tuple[str, list[str]] | None:
    bases: dict[str, list[str]] = {}
    for one in files:
        for name, own in one.classes:
            for base in set(own):
                bases.setdefault(base, []).append(name)
    several = sorted(base for base, names in bases.items() if 2 <= len(names) <= 30 and len(set(names)) == len(names))
    return (base, sorted(bases[base])) if several and (base := draw.choice(several)) else None


def _count_subclasses(files: Sequence[Facts], draw: random.Random) -> Asked | None:
    if (found := _subclasses(files, draw)) is None:
        return None
    text = f"How many classes name {found[0]} directly as a base class? Answer with the number."
    return Asked(text, len(found[1]), scoring.count, INTEGER, 3)


def _list_subclasses(files: Sequence[Facts], draw: random.Random) -> Asked | None:
    if (found := _subclasses(files, draw)) is None:
        return None
    text = f"List the names of all classes that name {found[0]} directly as a base class, a name a line."
    schema: JsonValue = {"type": "array", "items": {"type": "string"}}
    return Asked(text, list(found[1]), scoring.set_f1, schema, [])


def _count_raises(files: Sequence[Facts], draw: random.Random) -> Asked | None:
    counts = Counter(name for one in files for name in one.raised)
    several = sorted(name for name, number in counts.items() if 2 <= number <= 60)
    if not several:
        return None
    name = draw.choice(several)
    text = f"How many `raise` statements in the code raise {name} (the name itself, called or not)?"
    return Asked(f"{text} Answer with the number.", counts[name], scoring.count, INTEGER, 5)


def _default(files: Sequence[Facts], draw: random.Random) -> Asked | None:
    all_of = [each for one in files for each in one.defaults]
    unique = set(_unique([f"{function} {parameter}" for function, parameter, _ in all_of]))
    fit = sorted(each for each in all_of if f"{each[0]} {each[1]}" in unique)
    if not fit:
        return None
    function, parameter, value = draw.choice(fit)
    text = f"What is the default value of the parameter `{parameter}` of the function or method `{function}`?"
    return Asked(f"{text} Answer with the value as it stands in the code.", value, scoring.literal, None, "None")


def _summary(files: Sequence[Facts], draw: random.Random) -> Asked | None:
    all_of = [each for one in files for each in one.summaries]
    unique = set(_unique([summary for _, summary in all_of]))
    fit = sorted(each for each in all_of if each[1] in unique)
    if not fit:
        return None
    name, summary = draw.choice(fit)
    text = f'Which function or method is described by a docstring that begins "{summary}"? Answer with its bare name.'
    return Asked(text, name, scoring.literal, None, "main")


KINDS: dict[str, Callable[[Sequence[Facts], random.Random], Asked | None]] = {
    "locate a class": _locate,
    "count subclasses": _count_subclasses,
    "default value": _default,
    "list subclasses": _list_subclasses,
    "count raises": _count_raises,
    "find by docstring": _summary,
}


async def plan(sources: Sources, tokens: int, seed: int, count: CountTokens) -> Maker:
    files = library()
    digest = hashlib.sha256("\0".join(f"{one.name}\0{one.text}" for one in files).encode())
    sources.sha256["code of installed packages"] = digest.hexdigest()
    sample = max(files[: len(files) // 2], key=lambda one: len(one.text)).text
    chars = await characters(tokens, str(sample), count)
    fitting = [one for one in files if len(one.text) <= chars // 4]
    if len(fitting) < len(CHOICES):
        raise ConfigError(f"--tokens is {tokens}, but four files of code do not fit into it")

    def make(index: int) -> Task:
        draw = random.Random(f"code {seed} {index}")
        documents = fill((), shuffled(fitting, draw), chars, draw)
        known = [facts(document) for document in documents]
        task = task_of_kinds("code", index, documents, KINDS, lambda ask: ask(known, draw), counted="files")
        if task is None:
            raise ConfigError(f"--tokens is {tokens}, but its {len(documents)} files of code hold nothing to ask about")
        return task

    return make


FAMILY = Family("code", "classes, defaults and raises in real packages", plan, reads_data=False)
