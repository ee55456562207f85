"""The whole corpus against the real jail: as whoever we are and as a plain user, with and without cgroups."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from rlm_local.attack import load_payloads
from tests.attack.elsewhere import can_delegate, run_elsewhere

pytestmark = pytest.mark.jail
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it takes another id, or covers /sys/fs/cgroup")
delegates = pytest.mark.skipif(not can_delegate(), reason="no cgroup v1 here that could be handed to a plain user")

# How Python ends a program that has a mistake in it. A payload that ends so has not tried what it says.
MISTAKES = ("NameError", "AttributeError", "TypeError", "SyntaxError", "ImportError", "IndexError", "UnboundLocalError")


def report_of(*options: str, as_user: bool = False, cgroups: str = "as they are") -> dict[str, Any]:
    done = run_elsewhere(
        ["-m", "rlm_local", "attack", "--json", *options], as_user=as_user, cgroups=cgroups, timeout=1500
    )
    assert done.stderr == ""
    report: dict[str, Any] = json.loads(done.stdout)
    assert [(one["id"], one["breaches"]) for one in report["payloads"] if not one["contained"]] == []
    assert (report["contained"], report["left"], done.returncode) == (report["of"], [], 0)
    assert [
        one["id"] for one in report["payloads"] if one["ended"].startswith(tuple(f"raised {m}" for m in MISTAKES))
    ] == []
    return report


def test_the_whole_corpus_is_contained(real_jail: None) -> None:
    report = report_of()
    assert report["of"] == len(load_payloads()) >= 250
    assert report["machine"]["root"] is (os.geteuid() == 0)
    assert {one["went_on"] for one in report["payloads"]} <= {"next cell", "fresh jail"}


@is_root
def test_the_whole_corpus_is_contained_as_a_plain_user_without_cgroups(real_jail: None) -> None:
    report = report_of(as_user=True)
    assert report["of"] == len(load_payloads())
    assert (report["machine"]["root"], report["machine"]["cgroup"]) == (False, None)


@pytest.mark.parametrize("group", ["exhaustion", "processes"])
@is_root
def test_what_cgroups_bound_is_contained_as_root_without_them(real_jail: None, group: str) -> None:
    report = report_of("--only", group, cgroups="none")
    assert (report["machine"]["root"], report["machine"]["cgroup"]) == (True, None)


@pytest.mark.parametrize("group", ["exhaustion", "processes"])
@delegates
def test_what_cgroups_bound_is_contained_as_a_plain_user_with_a_group_of_his_own(real_jail: None, group: str) -> None:
    report = report_of("--only", group, as_user=True, cgroups="delegated")
    assert (report["machine"]["root"], report["machine"]["cgroup"]) == (False, 1)


@pytest.mark.parametrize("group", ["code", "files"])
def test_what_packages_could_open_is_contained_with_them(real_jail: None, group: str) -> None:
    pytest.importorskip("numpy")
    report = report_of("--only", group, "--jail-packages", "numpy")
    assert [name.partition("==")[0] for name in report["jail_packages"]] == ["numpy"]
