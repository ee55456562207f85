"""What code takes for granted: a name of the standard library that a cell uses without having imported it.

Small models forget the import more often than anything else, and lose a turn by it, or the run.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

_MODULES = """
bisect collections csv datetime difflib functools heapq itertools json math operator random re statistics string
textwrap unicodedata
"""
_MEMBERS = {
    "collections": "Counter OrderedDict defaultdict deque namedtuple",
    "datetime": "timedelta",
    "functools": "partial reduce",
    "itertools": "accumulate chain combinations groupby islice pairwise permutations product zip_longest",
    "operator": "attrgetter itemgetter",
    "statistics": "mean median",
    "textwrap": "dedent",
}
_USUAL = {name: (name, "") for name in _MODULES.split()} | {
    name: (module, name) for module, names in _MEMBERS.items() for name in names.split()
}


def import_usual(compiled: list[CodeType], code: str, variables: dict[str, Any]) -> None:
    """Import what a cell uses and nobody has defined, before it runs. What a cell defines itself is its own."""
    used = {name for name in _names(compiled) if name in _USUAL and name not in variables}
    if not used:
        return
    for name in used & _only_read(code):
        module, member = _USUAL[name]
        if name == "datetime" and _is_class(code):
            member = "datetime"
        found = __import__(module)
        variables[name] = getattr(found, member) if member else found


def _names(compiled: list[CodeType]) -> set[str]:
    """Return the names of globals and attributes in compiled code and in the functions that it defines."""
    found: set[str] = set()
    pending = list(compiled)
    while pending:
        code = pending.pop()
        found.update(code.co_names)
        pending += [each for each in code.co_consts if isinstance(each, type(code))]
    return found


def _only_read(code: str) -> set[str]:
    """Return the names that a cell reads and nowhere binds."""
    import ast

    read: set[str] = set()
    bound: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                read.add(name)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.alias(name=name, asname=asname):
                bound.add(asname or name.partition(".")[0])
            case _:
                pass
    return read - bound


def _is_class(code: str) -> bool:
    """Say whether `datetime` is used as the class of that name, and not as the module."""
    return not any(f"datetime.{name}" in code for name in ("datetime", "date", "time", "timedelta", "timezone"))
