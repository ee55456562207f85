"""What the runtime costs is measured of real turns, sub-calls and documents; how much it is, no test can say."""

from __future__ import annotations

import pytest

from bench.runtime_cost import CALLS, measure

pytestmark = pytest.mark.jail


async def test_each_cost_is_measured(nsjail: None) -> None:
    found = await measure(turns=3, tokens=100_000)
    assert found.turns == 3
    assert 0 < found.turn.cpu_ms < 1_000
    assert set(found.subcall) == set(CALLS)
    assert all(timed.wall_ms > 0 and timed.cpu_ms > 0 for timed in found.subcall.values())
    assert found.document_mib > 0.2
    assert found.above_mib > found.document_mib  # the host's own Python, and the jail's
