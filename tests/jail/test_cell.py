"""What a cell finds without having imported it, and what is shown of its last expression."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.worker.cell import Cell
from sandbox.worker.corpus import Corpus
from sandbox.worker.search import Search


def run(code: str, **variables: object) -> dict[str, Any]:
    Cell(1, code).run(variables)
    return variables


@pytest.mark.parametrize(
    ("code", "x"),
    [
        ("x = Counter('aab').most_common(1)", [("a", 2)]),
        ("x = re.sub('a', 'b', 'aa')", "bb"),
        ("def f():\n    return list(combinations([1, 2, 3], 2))\nx = f()", [(1, 2), (1, 3), (2, 3)]),
        ("x = [math.floor(y) for y in (1.5, 2.5)]", [1, 2]),
        ("x = datetime.strptime('2024-05-31', '%Y-%m-%d').month", 5),
        ("x = datetime.datetime(2024, 5, 31).month", 5),
    ],
)
def test_what_code_takes_for_granted_is_there(code: str, x: object) -> None:
    assert run(code)["x"] == x


@pytest.mark.parametrize(
    "code",
    [
        "x = y.Counter",  # an attribute is no name
        "for Counter in [3]:\n    x = Counter",
        "def f(re):\n    return re\nx = f(3)",
        "from fractions import Fraction as mean\nx = int(mean(3))",
    ],
)
def test_a_name_that_a_cell_gives_itself_is_its_own(code: str) -> None:
    class Y:
        Counter = 3

    variables = run(code, y=Y)
    assert variables["x"] == 3
    assert variables.get("Counter", 3) == 3
    assert "re" not in variables


def test_a_variable_of_an_earlier_cell_stays() -> None:
    assert run("x = Counter", Counter=3)["x"] == 3


def test_another_name_is_still_not_there() -> None:
    with pytest.raises(NameError, match="name 'subprocess' is not defined"):
        run("subprocess.run")


def test_the_last_expression_may_need_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    run("Counter('aa')")
    assert capsys.readouterr().out == "Counter({'a': 2})\n"


def test_passages_that_were_not_printed_are_shown_where_they_stand_last(capsys: pytest.CaptureFixture[str]) -> None:
    text = "The fee is 30 euros."
    search = Search(Corpus(text, ["rules.txt"], [0], [len(text)]), lambda spans: None)
    run("search('fee', show=False)", search=search)
    assert capsys.readouterr().out == "rules.txt, line 1:\nThe fee is 30 euros.\n"
    run("search('fee')", search=search)
    assert capsys.readouterr().out.count("30 euros") == 1
    run("x = search('fee', show=False)", search=search)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "x = [d for d in [text] if 'Gout X' in d.lower()]",
            "line 1: 'Gout X' has capitals, and what .lower.. returns",
        ),
        ("\nif 'A' not in text.casefold():\n    x = 1", "line 2: 'A' has capitals.*write 'a', or for a document"),
        ("x = 'gout' == text.upper()", "'gout' has small letters.*write 'GOUT'"),
    ],
)
def test_what_can_never_be_found_is_refused_with_the_repair(code: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run(code, text="gout x")


@pytest.mark.parametrize(
    "code", ["x = 'gout' in text.lower()", "x = 'Gout' in text", "x = text.lower() in 'Gout X gout x'"]
)
def test_and_what_can_is_run(code: str) -> None:
    assert "x" in run(code, text="gout x")
