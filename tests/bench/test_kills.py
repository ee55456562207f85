"""A server that is killed again and again; `python -m bench kills` does it a hundred times."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.kills import Kills

pytestmark = [pytest.mark.jail, pytest.mark.slow]


def test_after_four_kills_no_accepted_run_is_lost_or_doubled_and_no_reply_is_paid_for_twice(
    nsjail: None, tmp_path: Path
) -> None:
    found = Kills(tmp_path, kills=4, seed=7, say=print).go()
    assert found.accepted >= 4  # those that were under way at the first kill
    assert (found.lost, found.doubled, found.wrong, found.paid_twice) == ([], [], [], [])
    # All that the engine was asked is in the traces, but for what it was at when it died.
    assert found.requests == found.replies + found.under_way
