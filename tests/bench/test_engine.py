from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from xml.etree import ElementTree as ET

import pytest

from bench.engine.chart import Bar, Panel, svg
from bench.engine.equal import gap
from bench.engine.reference import ideal_hits, lru_hits
from bench.engine.report import PAGE, write_report
from bench.engine.rows import Row, Rows
from bench.engine.run import MEASUREMENTS
from bench.engine.servers import PeerFailed, Settings, started
from bench.engine.timing import best_rates, floor_s
from bench.engine.workloads import Work
from bench.provenance import provenance
from tools.peers import Peer

Prompts = list[tuple[int, ...]]


def row(contestant: str, round_: int = 1, **figures: object) -> Row:
    return Row("fan-out", contestant, round_, "m", "0" * 64, 1.0, figures, provenance("python -m bench engine"))


@pytest.mark.parametrize(
    ("prompts", "hits"),
    [
        ([(1, 2, 3)], 0),
        ([(1, 2, 3), (1, 2, 3)], 2),  # the last token is computed again, for its logits
        ([(1, 2, 3), (1, 2, 4, 5), (1, 2, 4, 6)], 2 + 3),
        ([(1, 2), (1, 2, 3, 4), (1, 2, 3, 4, 5)], 2 + 4),
    ],
)
def test_ideal_hits_are_the_longest_common_prefix_with_any_earlier_prompt(prompts: Prompts, hits: int) -> None:
    assert ideal_hits(prompts) == hits


@pytest.mark.parametrize(
    ("prompts", "cells", "hits"),
    [
        ([(1, 2, 3), (4, 5, 6), (1, 2, 3)], 6, 2),  # both fit
        ([(1, 2, 3), (4, 5, 6), (1, 2, 3)], 5, 2),  # the end of the older one gave way, as much as was needed
        ([(1, 2, 3), (4, 5, 6), (1, 2, 3)], 3, 0),
        ([(1, 2, 3), (1, 2, 4), (5, 6), (1, 2, 3)], 5, 2 + 2),  # the shared head outlives the older end
        ([(1, 2), (3, 4), (1, 2), (5, 6), (1, 2)], 4, 1 + 1),  # what was used again is not the oldest
    ],
)
def test_an_ideal_lru_forgets_the_oldest_ends_first(prompts: Prompts, cells: int, hits: int) -> None:
    assert lru_hits(prompts, cells) == hits


def test_an_ideal_lru_agrees_with_one_that_keeps_a_plain_list_of_prefixes() -> None:
    random = Random(7)
    prompts = [tuple(random.choices((1, 2), k=random.randint(2, 6))) for _ in range(300)]
    for cells in (6, 9, 14):
        used: dict[tuple[int, ...], int] = {}
        hits = 0
        for now, prompt in enumerate(prompts):
            prefixes = [prompt[:size] for size in range(1, len(prompt) + 1)]
            hits += min(sum(prefix in used for prefix in prefixes), len(prompt) - 1)
            used |= dict.fromkeys(prefixes, now)
            while len(used) > cells:
                del used[min(used, key=lambda prefix: (used[prefix], -len(prefix)))]
        # Which of two ends that are equally old and long goes is not settled, so the two may differ a little.
        assert abs(lru_hits(prompts, cells) - hits) <= 0.02 * hits


def test_a_prompt_that_fits_no_cache_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match="a prompt of 3 tokens does not fit 2 cells"):
        lru_hits([(1, 2, 3)], 2)


def test_the_floor_takes_each_part_at_the_rate_of_its_batch() -> None:
    work = Work(read=100, written={1: 10, 8: 40})
    assert work.floor_s(50, {1: 5, 8: 20, 64: 40}) == 2 + 2 + 2
    assert work.floor_s(50, {1: 5, 8: 20, 64: 40}, best=True) == 2 + 50 / 40


def test_the_bare_loops_rate_is_the_better_policys_median() -> None:
    rows = [
        row("bare loop", 1, read={"256": 10.0}, written={"8": 4.0}),
        row("bare loop", 2, read={"256": 30.0}, written={"8": 6.0}),
        row("bare loop, spinning briefly", 1, read={"256": 15.0}, written={"8": 9.0}),
    ]
    assert best_rates(rows) == (20.0, {8: 9.0})
    ours = row("ours", wall_s=8.0, work={"read": 40, "written": {"8": 18}})
    assert floor_s([*rows, ours]) == 40 / 20 + 18 / 9


def test_a_difference_is_as_wide_as_the_reference_saw_the_two_tokens_apart() -> None:
    alone = {"tokens": ["a", "b"], "top": [[["a", -0.1], ["x", -3.0]], [["b", -0.5], ["c", -0.75]]]}
    assert gap(alone, {"tokens": ["a", "b"]}) is None
    assert gap(alone, {"tokens": ["a", "c"]}) == 0.25
    assert gap(alone, {"tokens": ["a", "d"]}) == float("inf")


def test_a_row_comes_back_from_its_folder_as_it_went_in(tmp_path: Path) -> None:
    rows = Rows(tmp_path)
    one, other = row("a b/c", wall_s=1.5), row("a b/c", 2, wall_s=2.5)
    rows.add(other)
    rows.add(one)
    assert rows.of("fan-out") == [one, other]
    assert rows.of("trace") == []


DIES = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        print("out of memory", flush=True)
        sys.exit(1)
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).handle_request()
server = http.server.HTTPServer(("127.0.0.1", port), Handler)
server.handle_request()
"""


async def test_a_peer_that_ends_in_the_middle_is_told_of_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(DIES)
    peer = Peer("llama-server", "1", "1", (sys.executable, str(tmp_path / "dies.py")))
    with pytest.raises(PeerFailed, match=r"it said last: .*out of memory"):
        async with started(peer, tmp_path / "weights", Settings("greedy", ""), ends=frozenset()) as server:
            await server.write("Begin", out=1)


def test_the_report_names_the_ratio_to_the_best_peer_and_the_share_of_the_floor(tmp_path: Path) -> None:
    told = {
        "requests": 32,
        "prompt_tokens": 30_752,
        "cached_tokens": 29_016,
        "completion_tokens": 1_024,
        "settings": "-x",
    }
    rows = [
        row("bare loop", read={"256": 100.0}, written={"32": 50.0}),
        row("ours", wall_s=40.0, work={"read": 1_600, "written": {"32": 1_000}}, **told),
        row("llama-server, slots: 8", wall_s=100.0, work={}, **told),
        row("llama-server, slots: 1", wall_s=80.0, work={}, **told),
        row("llama_cpp.server, one slot", wall_s=160.0, work={}, **told | {"cached_tokens": None}),
        row("llama_cpp.server, greedy", failed="no memory", settings="-y", server="llama_cpp.server 1"),
    ]
    write_report(tmp_path, MEASUREMENTS, rows)
    page = (tmp_path / PAGE).read_text()
    assert "Ours / best peer: **0.50** (`llama-server, slots: 1`)" in page
    assert "Ours / `llama_cpp.server, one slot`: 0.25" in page
    assert "Floor at the batch sizes used: 36.0 s, share reached **0.90**" in page
    assert "- `llama_cpp.server, greedy` did not come to the end: no memory" in page
    assert (
        page.index("| ours |") < page.index("| llama-server, slots: 1 |") < page.index("| llama_cpp.server, one slot |")
    )


def test_a_chart_is_xml_and_its_bars_are_as_long_as_their_values() -> None:
    chart = svg([Panel("time <1>", "s", [Bar("ours", 10.0), Bar("peer", 40.0)], floor=8.0)])
    rectangles = ET.fromstring(chart).findall("{http://www.w3.org/2000/svg}rect")[1:]
    ours, peer = (float(each.attrib["width"]) for each in rectangles)
    assert peer == pytest.approx(4 * ours, rel=1e-3)
