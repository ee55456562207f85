"""Intervals and tests over paired scores, beside figures worked out by other means."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from bench.__main__ import bench
from bench.compare import Finished, compare_runs, comparison_line, read_run
from bench.pages import html, markdown, write_report
from bench.paired import EXACT_UP_TO, _share_at_most, bootstrap, compare, mcnemar, wilcoxon
from bench.spread import spread
from rlm_local.errors import ConfigError


def test_mcnemar_is_the_sign_test_over_tasks_that_differ() -> None:
    assert mcnemar([1] * 8 + [-1] * 2 + [0] * 10) == pytest.approx(0.109375)  # 2 * (1 + 10 + 45) / 1024
    assert mcnemar([1] * 6) == pytest.approx(0.03125)
    assert mcnemar([0.0] * 5) == 1.0


def test_wilcoxon_is_exact_for_few_pairs() -> None:
    differences = [0.3, 0.5, -0.1, 0.7, 0.2, 0.0, 0.4]
    apart = [each for each in differences if each]
    ranks = [sorted(map(abs, apart)).index(abs(each)) + 1 for each in apart]
    least = sum(rank for rank, each in zip(ranks, apart, strict=True) if each < 0)
    sums = [sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign) for signs in product((0, 1), repeat=6)]
    assert wilcoxon(differences) == pytest.approx(2 * sum(total <= least for total in sums) / 64)


def test_wilcoxon_of_many_pairs_is_near_the_exact_figure() -> None:
    many = [0.01 * n * (-1 if n % 3 == 0 else 1) for n in range(1, EXACT_UP_TO + 8)]
    below = sum(at for at in range(1, len(many) + 1) if at % 3 == 0)  # the ranks are 1, 2, 3 ...
    exact = 2 * _share_at_most([float(at) for at in range(1, len(many) + 1)], below)
    assert 0.01 < exact < 0.5
    assert wilcoxon(many) == pytest.approx(exact, rel=0.05)


def test_the_interval_holds_the_mean_and_a_seed_gives_it_again() -> None:
    differences = [1.0, 0.0, 0.5, -0.25, 0.0, 1.0, 0.75, 0.0]
    low, high = bootstrap(differences, 1)
    assert low < sum(differences) / len(differences) < high
    assert bootstrap(differences, 1) == (low, high)
    assert bootstrap([0.5] * 4, 1) == (0.5, 0.5)


def test_binary_scores_are_tested_by_mcnemar_and_others_by_wilcoxon() -> None:
    assert compare([0, 1, 0], [1, 1, 0]).test == "McNemar, exact"
    found = compare([0, 0.5, 0], [1, 1, 0])
    assert (found.test, found.better, found.worse, found.difference) == ("Wilcoxon, signed ranks", 2, 0, 0.5)


def test_scores_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="2 scores cannot be paired with 1"):
        compare([1, 0], [1])


def test_quantiles_lie_between_values() -> None:
    assert spread([4, 1, 3, 2]) == {"p25": 1.75, "p50": 2.5, "p75": 3.25, "p95": 3.85}
    assert spread([]) == {"p25": 0, "p50": 0, "p75": 0, "p95": 0}


# --- runs ---------------------------------------------------------------------------------------------------


def finished(name: str, arm: str, scores: dict[str, float], tokens: int = 8_192) -> Finished:
    quantiles = {"p25": 1.0, "p50": 2.0, "p75": 3.0, "p95": 9.0}
    summary = {
        "done": len(scores),
        "score": sum(scores.values()) / len(scores),
        "right": 1,
        "answered": len(scores),
        "refused": 0,
        "failed": 0,
        "prompt_tokens": 100,
        "cached_tokens": 85,
        "labelled": 9,
        "labelled_right": 8,
        "spread": {"total_tokens": quantiles, "subcalls": quantiles, "wall_s": quantiles},
        "floors": {"regular expressions": 0.6},
        "score_by_kind": {"count": 0.5, "a | b": 1.0},
    }
    made = {"command": f"python -m bench run --arm {arm}", "began": "2026-01-01", "commit": "abc"}
    result = {
        "task": "oolong-trec",
        "tokens": tokens,
        "seed": 1,
        "tasks": len(scores),
        "arm": arm,
        "model": "small",
        "profile": "",
        "profile_sha256": "",
        "grammar": "off",
        "grammar_sha256": "",
        "weights_sha256": "1" * 64,
        "data_sha256": {"trec": "2" * 64},
        "provenance": made,
        "summary": summary,
        "rows": [{"sha256": digest, "score": score} for digest, score in scores.items()],
    }
    return Finished(name, result)


DIRECT = finished("a", "direct", {"x": 0.0, "y": 0.5, "z": 1.0})
RLM = finished("b", "rlm", {"z": 1.0, "x": 1.0, "w": 0.0, "y": 1.0})


def test_runs_are_paired_by_the_digest_of_their_tasks() -> None:
    found = compare_runs(DIRECT, RLM)
    assert (found.tasks, found.first, found.second, found.better) == (3, 0.5, 1.0, 2)
    assert comparison_line(DIRECT, RLM, found).startswith("rlm, small against direct, small: 1.000 against 0.500 on 3")


def test_runs_of_other_tasks_are_not_compared() -> None:
    with pytest.raises(ConfigError, match="a has tokens 8192, c has 131072"):
        compare_runs(DIRECT, finished("c", "rlm", {"x": 1.0}, tokens=131_072))
    with pytest.raises(ConfigError, match="have no task in common"):
        compare_runs(DIRECT, finished("d", "rlm", {"other": 1.0}))


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"result\.json cannot be read"):
        read_run(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps({"arm": "rlm", "rows": [{"number": 1}]}), encoding="utf-8")
    with pytest.raises(ConfigError, match="before its tasks had digests"):
        read_run(tmp_path)


def test_the_commands_compare_and_report(tmp_path: Path) -> None:
    for run in (DIRECT, RLM):
        (tmp_path / run.name).mkdir()
        (tmp_path / run.name / "result.json").write_text(json.dumps(run.result), encoding="utf-8")
    folders = [str(tmp_path / run.name) for run in (DIRECT, RLM)]
    compared = CliRunner().invoke(bench, ["compare", *folders, "--json"])
    assert compared.exit_code == 0, compared.output
    assert json.loads(compared.output)["better"] == 2
    reported = CliRunner().invoke(bench, ["report", *folders, "--out", str(tmp_path / "report")])
    assert reported.exit_code == 0, reported.output
    assert (tmp_path / "report/report.md").read_text(encoding="utf-8") == markdown([DIRECT, RLM])


def test_a_report_has_every_arm_its_floor_and_the_comparison() -> None:
    page = markdown([DIRECT, RLM, finished("c", "rlm", {"x": 0.5}, tokens=131_072)])
    assert "## oolong-trec, 131,072 tokens, seed 1" in page
    assert "| direct | small | **0.500** | 3 |" in page
    assert "- floor, regular expressions: 0.600" in page
    assert "- rlm, small against direct, small: 1.000 against 0.500 on 3 tasks" in page
    assert "| a \\| b | 1.000 | 1.000 |" in page


def test_the_html_page_needs_no_network_and_its_plots_are_whole(tmp_path: Path) -> None:
    runs = [DIRECT, RLM, finished("c", "rlm", {"x": 0.5}, tokens=131_072)]
    write_report(runs, tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text == html(runs)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    plots = [f"<svg{part.split('</svg>')[0]}</svg>" for part in text.split("<svg")[1:]]
    assert len(plots) == 5  # score against length, then two costs for each of two lengths
    assert all(ET.fromstring(plot).tag.endswith("svg") for plot in plots)


def test_a_report_tells_of_other_benches_and_begins_with_what_a_person_has_noted(tmp_path: Path) -> None:
    for name in ("rlm", "speed", "kills"):
        (tmp_path / name).mkdir()
    (tmp_path / "rlm/result.json").write_text(json.dumps(RLM.result), encoding="utf-8")
    (tmp_path / "speed/report.md").write_text("# The engine\n\n![times](time.svg)\n\n## Fan-out\n\n33 s\n")
    (tmp_path / "kills/result.json").write_text(json.dumps({"lost": 0}), encoding="utf-8")
    out = tmp_path / "report"
    out.mkdir()
    (out / "notes.md").write_text("Why <b> lost: it was cut.\n", encoding="utf-8")
    folders = [str(tmp_path / name) for name in ("rlm", "speed", "kills")]
    reported = CliRunner().invoke(bench, ["report", *folders, "--out", str(out)])
    assert reported.exit_code == 0, reported.output
    page = (out / "report.md").read_text(encoding="utf-8")
    assert page.startswith("# Arms side by side\n\nWhy <b> lost: it was cut.\n\n## oolong-trec")
    assert "### speed\n\n#### The engine\n\n##### Fan-out\n\n33 s\n" in page
    assert '### kills\n\n```json\n{\n "lost": 0\n}\n```' in page
    site = (out / "report.html").read_text(encoding="utf-8")
    assert "<pre>Why &lt;b&gt; lost: it was cut.</pre>" in site
    assert "<h3>speed</h3>\n<pre>#### The engine" in site
    reported = CliRunner().invoke(bench, ["report", str(tmp_path), "--out", str(out)], standalone_mode=False)
    assert isinstance(reported.exception, ConfigError)
