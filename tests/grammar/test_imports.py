"""Where imports are held to a list, listed modules stand first and no other import anywhere."""

from __future__ import annotations

import importlib
import re
from functools import cache

import pytest

from grammars.build import ROOM
from grammars.language import read_language
from rlm_local.errors import ConfigError
from rlm_local.grammar.imports import MODULES, only_imports

llguidance = pytest.importorskip("llguidance", reason="llguidance comes with the extra 'llama'")

BYTES = llguidance.LLTokenizer("byte")
LARK = (ROOM / "python.lark").read_text(encoding="utf-8")
GBNF = (ROOM / "python.gbnf").read_text(encoding="utf-8")
HELD = only_imports(LARK)


@cache
def start(rules: str):
    matcher = llguidance.LLMatcher(BYTES, f"start: block\n{rules}")
    assert not matcher.get_error()
    return matcher


def accepts(rules: str, code: str) -> bool:
    matcher = start(rules).deep_copy()
    tokens = BYTES.tokenize_str(f"```repl\n{code}\n```")
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("code", "listed", "free"),
    [
        ("import re\nx = 1", True, True),
        ("import re, json as j\nfrom collections import (Counter,\n  deque as d)\n\n# so\nx = 1", True, True),
        ("from collections.abc import Iterable\nx = 1", True, True),
        ("x = 1", True, True),
        ("import os\nx = 1", False, True),
        ("import re, os\nx = 1", False, True),
        ("from os import path\nx = 1", False, True),
        ("from math import *\nx = 1", False, True),
        ("x = 1\nimport re", False, True),
        ("def f():\n    import re", False, True),
        ("x = 1; import re", False, True),
    ],
)
def test_a_list_of_imports_holds(code: str, listed: bool, free: bool) -> None:
    assert accepts(HELD, code) is listed
    assert accepts(LARK, code) is free


def test_a_list_can_be_ones_own() -> None:
    own = only_imports(LARK, ["os", "os.path"])
    assert accepts(own, "import os.path\nx = 1")
    assert not accepts(own, "import re\nx = 1")
    assert 'LISTED ::= "os" | "os.path"' in only_imports(GBNF, ["os", "os.path"])


def test_a_list_may_name_a_module_with_all_that_lies_below_it() -> None:
    below = only_imports(LARK, ["re", "numpy.*"])
    for code, may in (
        ("import numpy as np\nx = 1", True),
        ("import numpy.linalg, re\nx = 1", True),
        ("from numpy.linalg import inv\nx = 1", True),
        ("import numpyx\nx = 1", False),
        ("import re.x\nx = 1", False),
    ):
        assert accepts(below, code) is may, code
    assert 'LISTED ::= "numpy" ("." [A-Za-z_] [A-Za-z0-9_]*)* | "re"' in only_imports(GBNF, ["re", "numpy.*"])


def test_both_dialects_lose_the_same_alternatives() -> None:
    for rules in (LARK, GBNF):
        held = only_imports(rules)
        assert not re.search(r"\| imports\b|everything \|", held)
        assert len(re.findall(r"(?m)^block(?::| ::=)", held)) == 1


@pytest.mark.parametrize(("rules", "modules"), [(LARK, ["o s"]), (LARK, ['"']), (LARK, []), ("start: x", ["re"])])
def test_what_cannot_be_a_list_is_refused(rules: str, modules: list[str]) -> None:
    with pytest.raises(ConfigError):
        only_imports(rules, modules)


def test_the_default_list_is_the_sources_and_every_module_of_it_exists() -> None:
    assert read_language().lexemes["LISTED"].regex == "|".join(name.replace(".", r"\.") for name in MODULES)
    for name in MODULES:
        importlib.import_module(name)
