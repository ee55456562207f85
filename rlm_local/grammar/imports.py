"""Hold a turn's imports to a list of modules, which then stand before anything else.

The jail is the boundary, not this: a list keeps a model from spending a turn on a module that is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rlm_local.errors import ConfigError

# Of the standard library, what a cell can use without files, network and processes. grammars/python.grammar has the
# same names, and a test holds the two together.
MODULES = (
    *("ast", "base64", "binascii", "bisect", "calendar", "collections", "collections.abc", "concurrent.futures"),
    *("copy", "csv", "dataclasses", "datetime", "decimal", "difflib", "enum", "fractions", "functools", "hashlib"),
    *("heapq", "html", "io", "itertools", "json", "math", "operator", "pprint", "random", "re", "statistics"),
    *("string", "struct", "textwrap", "time", "typing", "unicodedata", "urllib.parse", "zlib"),
)

STANDARD = "standard"  # stands for MODULES in a list

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\.\*)?", re.ASCII)
_BELOW = ".*"  # at the end of a name: the module and whatever lies below it


def only_imports(rules: str, modules: Iterable[str] = MODULES) -> str:
    """Return the rules of python.lark or python.gbnf with imports of `modules` alone, as first lines of a block.

    modules: names, of which STANDARD stands for all of MODULES, and "numpy.*" for numpy and all that lies below it.
    Where the rules are those of another grammar, or a name is no module's, raises ConfigError.
    """
    names = sorted({name for one in modules for name in (MODULES if one == STANDARD else (one,))})
    for name in names:
        if not _MODULE.fullmatch(name):
            raise ConfigError(f"{name!r} is no module's name")
    if not names:
        raise ConfigError("a list of imports needs one module at least")
    lark = "\nLISTED: " in rules
    if lark:
        listed = "LISTED: /" + "|".join(map(_as_regex, names)) + "/"
    else:
        listed = "LISTED ::= " + " | ".join(map(_as_gbnf, names))
    changes = (
        (r"(?m)^LISTED(:| ::=) .*$", lambda _: listed),
        (r"(?m)^block(:| ::=) .*$", lambda _: ""),
        (r"(?m)^listed[_-]block(:| ::=)", lambda found: f"block{found[1]}"),
        (r" \| imports\b", lambda _: ""),
        (r"\beverything \| ", lambda _: ""),
    )
    for pattern, change in changes:
        rules, count = re.subn(pattern, change, rules)
        if not count:
            raise ConfigError(f"these are not the rules of grammars/python.grammar: no {pattern}")
    return rules


def _as_regex(name: str) -> str:
    below = r"(\.[A-Za-z_][A-Za-z0-9_]*)*" if name.endswith(_BELOW) else ""
    return name.removesuffix(_BELOW).replace(".", r"\.") + below


def _as_gbnf(name: str) -> str:
    below = ' ("." [A-Za-z_] [A-Za-z0-9_]*)*' if name.endswith(_BELOW) else ""
    return f'"{name.removesuffix(_BELOW)}"{below}'
