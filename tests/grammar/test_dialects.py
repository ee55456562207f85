"""Every dialect written from the source judges the table of cells alike."""

from __future__ import annotations

import pytest

from tests.grammar.cells import ACCEPTED, NAMED_TWICE, REFUSED

pytest.importorskip("llguidance", reason="llguidance comes with the extra 'llama'")

from bench.grammar_dialects import XGRAMMAR_PYTHON, GbnfJudge, xgrammar_side

# llama.cpp's grammar takes 10 ms and more for a token of this one, so it gets short cells, and not all.
SHORT = 40  # characters


@pytest.mark.engine
@pytest.mark.slow
def test_llama_cpp_judges_cells_as_the_table_does() -> None:
    from bench.grammar import weights
    from rlm_local.engine.llama.binding import Model

    judge = GbnfJudge(Model(weights("smollm2-135m"), vocab_only=True))
    table = [(cell, True) for cell in ACCEPTED + NAMED_TWICE] + [(cell, False) for cell in REFUSED]
    table = [(cell, wanted) for cell, wanted in table if len(cell) <= SHORT][::5]
    assert len(table) > 40
    assert [cell for cell, wanted in table if judge.accepts(f"```repl\n{cell}\n```") is not wanted] == []


@pytest.mark.skipif(not XGRAMMAR_PYTHON.is_file(), reason="no .venv-xgrammar; `make xgrammar` makes it")
def test_xgrammar_judges_cells_as_the_table_does() -> None:
    cells = ACCEPTED + NAMED_TWICE + REFUSED
    said = xgrammar_side({"texts": [f"```repl\n{cell}\n```" for cell in cells]}, XGRAMMAR_PYTHON)["accepted"]
    wanted = [cell not in REFUSED for cell in cells]
    assert [cell for cell, one, want in zip(cells, said, wanted, strict=True) if one is not want] == []
