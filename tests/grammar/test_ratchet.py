"""The turn language may grow, its tables may grow, its files may shrink; never the other way."""

from __future__ import annotations

import json
import platform

import pytest

from grammars.build import ROOM
from grammars.language import read_language
from tests.grammar.cells import ACCEPTED, NAMED_TWICE, REFUSED

pytest.importorskip("llguidance", reason="llguidance comes with the extra 'llama'")

from bench.grammar import library_statements
from tests.grammar.test_python_language import accepts

BASELINE = json.loads((ROOM / "baseline.json").read_text(encoding="utf-8"))
STATEMENTS = 300  # of the library, seed 0
REPAIR = "; where that is meant, say why in the commit that changes grammars/baseline.json"


def figures() -> dict[str, int]:
    return {
        "cells accepted": len(ACCEPTED),
        "cells refused": len(REFUSED) + len(NAMED_TWICE),
    }


def sizes() -> dict[str, int]:
    return {
        "rules": len(read_language().rules),
        "bytes of python.lark": (ROOM / "python.lark").stat().st_size,
        "bytes of python.gbnf": (ROOM / "python.gbnf").stat().st_size,
    }


@pytest.mark.parametrize("name", ["cells accepted", "cells refused"])
def test_a_table_of_cells_never_shrinks(name: str) -> None:
    assert figures()[name] >= BASELINE["at least"][name], name + REPAIR


@pytest.mark.parametrize("name", ["rules", "bytes of python.lark", "bytes of python.gbnf"])
def test_a_grammar_never_grows_unseen(name: str) -> None:
    assert sizes()[name] <= BASELINE["at most"][name], name + REPAIR


def test_no_statement_of_the_library_is_lost() -> None:
    version = ".".join(platform.python_version_tuple()[:2])
    most = BASELINE["library statements refused at most, of 300"].get(version)
    if most is None:
        pytest.skip(f"no baseline for the library of Python {version}")
    refused = [text for text in library_statements(STATEMENTS, 0) if not accepts(text)]
    assert len(refused) <= most, f"{[text[:200] for text in refused]}{REPAIR}"
