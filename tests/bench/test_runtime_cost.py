"""What the runtime costs is measured of real turns, sub-calls and documents; how much it is, no test can say."""

from __future__ import annotations

import pytest

from bench.runtime_cost import CALLS, DOCUMENTS, measure

pytestmark = pytest.mark.jail


async def test_each_cost_is_measured(nsjail: None) -> None:
    found = await measure(turns=4, batches=2, tokens=100_000)
    assert found.turn.times == 3  # from one to the next
    assert 0 < found.turn.cpu_ms < 1_000
    low, high = found.turn.wall_quartiles_ms
    assert low <= found.turn.wall_ms <= high
    assert set(found.subcall) == set(CALLS)
    assert all(timed.wall_ms > 0 and timed.cpu_ms > 0 for timed in found.subcall.values())
    assert {timed.times for timed in found.subcall.values()} == {2}
    assert set(found.documents) == set(DOCUMENTS)
    for held in found.documents.values():
        assert held.document_mib > 0.2
        assert held.above_mib > held.document_mib  # the host's own Python, and the jail's
        assert held.host_resident_mib > 0
