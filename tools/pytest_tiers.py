"""A pytest plugin: the quick tiers run first, so that a broken unit is known before any weights are loaded."""

from __future__ import annotations

import pytest

TIERS = ("jail", "engine", "slow", "vllm")


def tier(markers: frozenset[str]) -> int:
    """Return the tier of a test with these markers: 0 for a unit test; the last tier that it names otherwise."""
    return max((TIERS.index(name) + 1 for name in TIERS if name in markers), default=0)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: tier(frozenset(mark.name for mark in item.iter_markers())))
