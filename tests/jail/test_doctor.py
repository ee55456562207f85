"""The layers of this machine's jail, as doctor tells them."""

from __future__ import annotations

import pytest

from rlm_local.jail import probe

pytestmark = pytest.mark.jail


async def test_every_required_layer_is_there(real_jail: None) -> None:
    checks = await probe()
    assert [check for check in checks if check.required and not check.ok] == []
    assert {"nsjail", "user namespace", "network namespace", "seccomp stage 2", "cgroup"} <= {c.name for c in checks}


async def test_the_binary_is_named_with_its_hash(real_jail: None) -> None:
    (nsjail,) = [check for check in await probe() if check.name == "nsjail"]
    assert "sha256 " in nsjail.detail
    assert len(nsjail.detail.rpartition(" ")[2]) == 64
