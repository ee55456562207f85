"""The names that a cell finds in place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest

from rlm_local.types import CellResult, CellStatus, Final, SubCall, Usage

pytestmark = pytest.mark.jail
Run = Callable[..., Awaitable[CellResult]]


async def refuse(prompts: Sequence[str], *_: object) -> list[SubCall]:
    """Refuse what asks for it, echo the rest."""
    return [SubCall(p, p.upper(), Usage(), refused="no budget is left" if "no" in p else "") for p in prompts]


async def test_context_and_documents_are_the_same_text(run: Run) -> None:
    result = await run(
        """
        print(type(context) is str, [d.name for d in documents], len(documents[1]))
        print(all(context[d.start:d.start + len(d)] == d.text for d in documents))
        print(documents[0][3:8], documents[0]["name"], "deposit" in documents[0], "deposit" in documents[1])
        documents[1]
        """
    )
    assert result.stdout.splitlines() == [
        "True ['lease.txt', 'letter.txt'] 64",
        "True",
        "The l lease.txt True False",
        "'letter.txt'",
    ]


async def test_variables_live_on_in_the_next_cell(run: Run) -> None:
    await run("x = 20\ndef double(n): return 2 * n")
    assert (await run("double(x) + 2")).stdout == "42\n"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("1 + 1", "2\n"),
        ("'text'", "'text'\n"),
        ("None", ""),
        ("print(1)", "1\n"),
        ("x = 5", ""),
        ("x = 5; x", "5\n"),
        ("", ""),
        ("# only a comment", ""),
    ],
)
async def test_the_last_expression_is_shown_as_in_a_notebook(run: Run, code: str, shown: str) -> None:
    assert (await run(code)).stdout == shown


async def test_a_search_that_ends_a_cell_is_printed_once(run: Run) -> None:
    assert (await run("search('deposit')")).stdout.count("4,200 euros") == 1


async def test_a_search_reports_the_passages_that_it_printed(run: Run) -> None:
    result = await run("search('deposit', chars=80)\nsearch('heating')")
    assert [span.document for span in result.spans] == [0, 1]
    located = await run("for m in search('heating'):\n    print(documents[1].text[m.start:m.end] == m.text == str(m))")
    assert located.stdout.endswith("True\n")


async def test_a_sub_call_returns_the_answer_and_is_recorded(run: Run) -> None:
    result = await run("print(llm_query('hello'))")
    assert result.stdout == "HELLO\n"
    assert result.subcalls == (SubCall("hello", "HELLO", Usage()),)


async def test_a_batch_keeps_its_order(run: Run) -> None:
    result = await run("llm_query_batched([f'p{i}' for i in range(20)]) == [f'P{i}' for i in range(20)]")
    assert result.stdout == "True\n"
    assert [call.prompt for call in result.subcalls] == [f"p{i}" for i in range(20)]


async def test_sub_calls_from_threads_each_get_their_own_answer(run: Run) -> None:
    result = await run(
        """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(llm_query, [f'q{i}' for i in range(64)]))
        answers == [f'Q{i}' for i in range(64)]
        """
    )
    assert result.stdout == "True\n", result.error
    assert len(result.subcalls) == 64


async def test_a_refused_sub_call_raises_in_the_cell(run: Run) -> None:
    result = await run("llm_query('no')", query=refuse)
    assert result.status is CellStatus.RAISED
    assert result.error.endswith("RuntimeError: no budget is left")
    assert result.subcalls[0].refused


async def test_a_batch_raises_only_when_all_of_it_is_refused(run: Run) -> None:
    some = await run("llm_query_batched(['yes', 'no'])", query=refuse)
    assert some.stdout == "['YES', 'Error: no budget is left']\n"
    assert (await run("llm_query_batched(['no', 'no'])", query=refuse)).status is CellStatus.RAISED


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("llm_query(7)", "TypeError: llm_query() takes text, not int"),
        ("llm_query('a', 'b')", "TypeError: llm_query() takes one text, not 2"),
        ("llm_query_batched('abc')", "TypeError: llm_query_batched() takes a list of texts, not str"),
        ("llm_query('x' * 5_000_000)", "ValueError: the prompts are too long"),
        ("search(3)", "TypeError: search() takes a text or a list of texts, not int"),
        ("search('  ')", "ValueError: search() was given an empty text"),
        ("input('?')", "RuntimeError: input() has nobody to answer it here"),
        ("exit(3)", "SystemExit: 3"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("FINAL_VAR('totl')", "NameError: FINAL_VAR('totl'): no variable of that name; variables: total"),
        ("FINAL('x' * 2_000_000)", "ValueError: the answer is 2000002 bytes"),
    ],
)
async def test_a_misused_name_says_how_it_is_used(run: Run, code: str, error: str) -> None:
    await run("total = 3")
    result = await run(code)
    assert result.status is CellStatus.RAISED
    assert error in result.error
    assert (await run("total")).stdout == "3\n"


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("FINAL('ninety days')", "ninety days"),
        ("FINAL((1, 2.5, None, True))", [1, 2.5, None, True]),
        ("SUBMIT('ninety days')", "ninety days"),
        ("SUBMIT(days=90)", 90),
        ("SUBMIT(days=90, why='so')", {"days": 90, "why": "so"}),
        ("FINAL({'b': {3, 1, 2}, 4: 'x'})", {"b": [1, 2, 3], "4": "x"}),
        ("FINAL(2**60)", str(2**60)),
        ("FINAL(float('nan'))", "nan"),
        ("FINAL(search)", "<search(pattern, limit=None, chars=400, case=False, regex=True, show=True)>"),
        ("days = 90\nFINAL_VAR('days')", 90),
        ("days = 90\nFINAL_VAR(days)", 90),
        ("reply = 'ninety days'\nFINAL_VAR(reply)", "ninety days"),
        ("answer['content'] = 'x'\nanswer['ready'] = True", "x"),
        ("answer = {'content': [1], 'ready': True}", [1]),
        ("answer['content'] = 'y'\nFINAL_VAR('answer')", "y"),
        ("answer = 'z'\nFINAL_VAR('answer')", "z"),
        ("for n in range(3):\n    FINAL(n)", 0),
        ("while True:\n    try:\n        FINAL(1)\n    finally:\n        break", 1),
        ("search = 'ninety'\nFINAL(search)", "ninety"),
        ("try:\n    FINAL(1)\nexcept BaseException:\n    pass\nprint('went on')", 1),
    ],
)
async def test_a_cell_answers(run: Run, code: str, value: object) -> None:
    result = await run(code)
    assert result.status is CellStatus.OK, result.error
    assert result.final == Final(value)


async def test_nothing_after_final_is_executed(run: Run) -> None:
    assert (await run("print(1)\nFINAL(2)\nprint(3)")).stdout == "1\n"


async def test_an_answer_that_is_not_ready_is_no_answer(run: Run) -> None:
    assert (await run("answer['content'] = 'draft'")).final is None


async def test_show_vars_lists_what_cells_have_made(run: Run) -> None:
    await run("rent = 900\nnames = ['a', 'b']\ndef half(n): return n / 2")
    assert (await run("SHOW_VARS()")).stdout == "rent: int, 900\nnames: list, 2 items\nhalf: function\n"


async def test_a_shadowed_name_works_in_its_cell_and_is_back_in_the_next(run: Run) -> None:
    told = (await run("search = 5\ncontext = 'mine'\nprint = None\nsearch")).stdout
    assert told.startswith("5\n\n(context, search belong to this session and are put back now; ")
    assert (await run("print(len(documents), context[:3])\nsearch('deposit')")).stdout.startswith("2 ===\n1 match")


async def test_numbers_are_random_but_the_same_in_every_session(
    run: Run, start: Callable[..., Awaitable[object]]
) -> None:
    code = "import random\n[random.random(), hash('x'), {'a', 'b', 'c'}]"
    first = await run(code)
    other = await start()
    assert (await other.execute(code, wall_s=20, query=refuse)).stdout == first.stdout  # type: ignore[attr-defined]


async def final_with(run: Run, sources: str) -> Final:
    result = await run(f"FINAL('4,200 euros', sources={sources})")
    assert result.final is not None, result.error
    return result.final


@pytest.mark.parametrize(
    "sources",
    [
        "search('deposit', chars=40, show=False)[0]",
        "search('deposit', chars=40, show=False)",
        "[str(search('deposit', chars=40, show=False)[0])]",
        "['\u201c' + str(search('deposit', chars=40, show=False)[0]).replace(' ', '\\n  ') + '\u201d']",
    ],
    ids=["a passage", "what search() gave", "a quote", "a quote in marks, broken into lines"],
)
async def test_an_answer_names_the_passages_that_it_rests_on(run: Run, sources: str) -> None:
    final = await final_with(run, sources)
    (span,) = final.sources
    assert (span.document, final.unfound) == (0, ())
    told = await run(f"print('4,200 euros' in documents[0].text[{span.start}:{span.end}])")
    assert told.stdout == "True\n"


async def test_a_document_says_whether_a_text_stands_in_it_in_whatever_case(run: Run) -> None:
    result = await run('print([d.name for d in documents if d.has("NOTICE Period")], documents[0].has("pets"))')
    assert result.stdout == "['lease.txt'] False\n"


async def test_words_that_no_document_holds_are_no_source(run: Run) -> None:
    final = await final_with(run, "['The deposit is 9,000 euros.', documents[1], 7]")
    assert [(span.document, span.start) for span in final.sources] == [(1, 0)]
    assert final.unfound == ("The deposit is 9,000 euros.", "7")


async def test_too_many_sources_are_refused_with_their_bound(run: Run) -> None:
    result = await run("FINAL(1, sources=['x'] * 65)")
    assert result.final is None
    assert "names 65 passages, but at most 64" in result.error


async def test_final_var_takes_sources_too(run: Run) -> None:
    result = await run("fee = '4,200 euros'\nFINAL_VAR('fee', sources=documents)")
    assert result.final is not None
    assert len(result.final.sources) == 2


async def test_a_piece_of_the_cells_own_text_is_given_to_a_child_as_text(run: Run) -> None:
    result = await run("rlm_query('Who?', chunks('a text of my own', chars=100)[0])")
    assert "StopIteration" not in result.error
