"""llm_query with a form, and llm_classify and its relatives, from a cell of a real jail to the host and back."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from rlm_local.calls import TypedCalls, form_of
from rlm_local.calls.caller import FreeCaller
from rlm_local.jail.session import JailSession
from rlm_local.limits import Limits
from rlm_local.ports import QueryHandler
from rlm_local.testing import AnsweringEngine
from rlm_local.types import CallForm, CallKind, CellResult, CellStatus, Completion, SubCall, Usage

pytestmark = pytest.mark.jail
Run = Callable[..., Awaitable[CellResult]]


def reply(completion: Completion) -> str:
    """Do what each kind of call asks for, by rules that a test can foresee."""
    text = completion.messages[-1].content
    if "fail" in text:
        return "neither JSON nor a label"
    if completion.choices:
        wanted = "spam" if "prize" in text else "yes" if "cat" in text else ""
        return wanted if wanted in completion.choices else completion.choices[-1]
    if completion.json_schema:
        return json.dumps({"words": len(text.split())})
    return text.upper()


def serve(engine: AnsweringEngine) -> QueryHandler:
    """Serve cells as a run does, without its budget."""
    typed = TypedCalls(FreeCaller(engine, reply_tokens=64))

    async def query(texts: Sequence[str], form: CallForm) -> Sequence[SubCall]:
        if form.kind is not CallKind.QUERY:
            return await typed(texts, form)
        shape = form_of(form.args, reply_tokens=64)
        return [SubCall(text, f"{shape.choices}{shape.regex}", Usage()) for text in texts]

    return query


@pytest.fixture
def query() -> QueryHandler:
    return serve(AnsweringEngine(reply))


async def test_a_query_takes_a_form(run: Run, query: QueryHandler) -> None:
    result = await run("print(llm_query('a', choices=('x', 'y')), llm_query_batched(['b'], regex='[ab]'))", query=query)
    assert result.stdout == "('x', 'y') ['()[ab]']\n"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("llm_query('a', choices='yes')", "ValueError: choices must be a list of texts"),
        ("llm_query('a', choices=[])", "ValueError: there are 0 choices"),
        ("llm_query('a', schema={'type': 'int'})", "ValueError: the schema has the type 'int'"),
        ("llm_query('a', schema=int)", "ValueError: an argument of llm_query is no plain value"),
        ("llm_query('a', regex='(')", "ValueError: regex '(' does not compile"),
        (
            "llm_query('a', max_tokens=10**6)",
            "ValueError: max_tokens is 1000000, but must be a whole number from 1 to 64",
        ),
        ("llm_query('a', temperature=0)", "TypeError: Calls.llm_query() got an unexpected keyword argument"),
        ("llm_classify(['a'], ['x'])", "ValueError: there are 1 labels"),
        ("llm_classify(['a'], ['x', 'X'])", "which are one; name each once"),
        ("llm_classify('abc', ['x', 'y'])", "TypeError: llm_classify() takes a list of texts, not str"),
        ("llm_classify([1], ['x', 'y'])", "TypeError: llm_classify() takes text, not int"),
        ("llm_classify(['a'], ['x', 'y'], examples=[('a', 'z')])", "example 1 has the label 'z'"),
        ("llm_extract(['a'], 'number')", "must be an object such as"),
        ("llm_map(['a'], '')", "ValueError: instruction is empty"),
        ("llm_map(['x' * 4_000_000], 'read')", "ValueError: llm_map(): item 0 has 4,000,000 characters"),
        ("llm_filter({'a': 1}, 'x')", "TypeError: llm_filter() takes a list of texts, not dict"),
    ],
)
async def test_a_misused_call_says_how_it_is_used(run: Run, query: QueryHandler, code: str, error: str) -> None:
    result = await run(code, query=query)
    assert result.status is CellStatus.RAISED
    assert error in result.error
    assert (await run("1 + 1", query=query)).stdout == "2\n"


async def test_labels_are_texts_with_a_confidence(run: Run, query: QueryHandler) -> None:
    result = await run(
        """
        from collections import Counter
        labels = llm_classify(['win a prize', 'see you', 'a prize'], {'spam': 'advertising', 'ham': 'all else'})
        print(labels, Counter(labels)['spam'], labels[0] == 'spam', 0.5 < labels[0].confidence <= 1)
        """,
        query=query,
    )
    assert result.stdout == "['spam', 'ham', 'spam'] 2 True True\n", result.error


async def test_plain_values_go_in_and_out_and_generators_too(run: Run, query: QueryHandler) -> None:
    result = await run(
        """
        print(llm_map((word for word in ['a', 'b']), 'shout'))
        print(llm_extract(['one two', 'three'], {'type': 'object'}))
        print(llm_filter({'cats': 1}.keys(), 'about cats'), llm_filter(['cat', 'dog', 'cats'], 'about cats'))
        print(llm_reduce(['a', 'b'], 'join'))
        print(llm_map(documents, 'shout')[1][:11])
        """,
        query=query,
    )
    assert result.stdout.splitlines() == [
        "['A', 'B']",
        "[{'words': 2}, {'words': 1}]",
        "['cats'] ['cat', 'cats']",
        "A",
        "",
        "B",
        "DEAR TENANT",
    ], result.error


async def test_no_items_are_no_values_and_no_call(run: Run) -> None:
    code = (
        "[llm_classify([], ['a', 'b']), llm_extract([], {}), llm_map([], 'x'), llm_filter([], 'x'), "
        "llm_reduce([], 'x'), llm_query_batched([])]"
    )
    assert (await run(code, query=nobody)).stdout == "[[], [], [], [], '', []]\n"


async def test_an_item_that_fails_is_none_in_its_place_and_named(run: Run, query: QueryHandler) -> None:
    result = await run("print(llm_extract(['one', 'fail', 'two'], {'type': 'object'}))", query=query)
    first, second = result.stdout.splitlines()
    assert first.startswith("llm_extract: 1 of 3 items failed and are None; the first of them, item 1: the reply is no")
    assert second == "[{'words': 1}, None, {'words': 1}]"


async def test_a_filter_keeps_what_it_could_not_read(run: Run) -> None:
    async def refuse(texts: Sequence[str], form: CallForm) -> list[SubCall]:
        return [SubCall(t, "", Usage(), "too long" if t == "b" else "", typed=True, value=t == "c") for t in texts]

    result = await run("print(llm_filter(['a', 'b', 'c'], 'x'))", query=refuse)
    assert result.stdout.splitlines()[-1] == "['b', 'c']"
    assert "1 of 3 items failed and are kept unread" in result.stdout


async def test_calls_from_threads_each_get_their_own_values(run: Run, query: QueryHandler) -> None:
    result = await run(
        """
        from concurrent.futures import ThreadPoolExecutor
        def work(n): return llm_map([f'{n}a', f'{n}b'], 'shout')
        with ThreadPoolExecutor(16) as pool:
            made = list(pool.map(work, range(40)))
        made == [[f'{n}A', f'{n}B'] for n in range(40)]
        """,
        query=query,
    )
    assert result.stdout == "True\n", result.error


async def test_a_hundred_thousand_items_come_back_once_and_in_order(
    start: Callable[..., Awaitable[object]], limits: Limits
) -> None:
    sizes: list[int] = []

    async def parity(texts: Sequence[str], form: CallForm) -> list[SubCall]:
        sizes.append(len(texts))
        assert form.behind + len(texts) + form.ahead == 100_000
        return [
            SubCall(t, "", Usage(), typed=True, value={"label": "odd" if int(t) % 2 else "even", "confidence": 1.0})
            for t in texts
        ]

    session = await start(limits=replace(limits, max_subcalls=100_000, cell_s=300.0, cell_cpu_s=300.0))
    code = (
        "labels = llm_classify(map(str, range(100_000)), ['odd', 'even'])\n"
        "print(len(labels), all(label == ('odd' if n % 2 else 'even') for n, label in enumerate(labels)))"
    )
    result = await session.execute(code, wall_s=300, query=parity)  # type: ignore[attr-defined]
    assert result.stdout == "100000 True\n", result.error
    assert sum(sizes) == 100_000
    assert max(sizes) <= 2048  # so that no frame is over its bound


async def test_an_item_of_a_megabyte_is_one_item(run: Run, query: QueryHandler) -> None:
    result = await run(
        "made = llm_map(['a', 'x' * 1_000_000, 'b'], 'shout')\nprint(len(made), made[0], made[2])", query=query
    )
    assert result.stdout == "3 A B\n", result.error


async def test_a_rebuilt_session_has_its_values_without_an_engine(run: Run, query: QueryHandler) -> None:
    await run(
        "kept = llm_classify(['a prize', 'x'], ['spam', 'ham'])\nnumber = llm_extract(['a b'], {'type': 'object'})",
        query=query,
    )
    await run("import os; os._exit(1)")

    assert (await run("kept, number", query=nobody)).stdout == "(['spam', 'ham'], [{'words': 2}])\n"


async def test_a_shadowed_call_is_back_in_the_next_cell(run: Run, query: QueryHandler) -> None:
    await run("llm_map = 3", query=query)
    assert (await run("llm_map(['a'], 'shout')", query=query)).stdout == "['A']\n"


async def test_facts_are_variables_that_are_new_before_each_cell(run: Run, session: JailSession) -> None:
    first = await session.execute(
        "LIMITS['calls'], SHOW_VARS()", wall_s=20, query=nobody, facts={"LIMITS": {"calls": 3}}
    )
    assert first.stdout == "no variables yet\n(3, [])\n", first.error
    second = await session.execute("LIMITS", wall_s=20, query=nobody, facts={"LIMITS": {"calls": 2}})
    assert second.stdout == "{'calls': 2}\n"


async def nobody(*_: object) -> list[SubCall]:
    raise AssertionError("nothing is to be asked")
