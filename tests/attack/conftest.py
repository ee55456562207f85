"""What the attack's tests share."""

from __future__ import annotations

import asyncio

import pytest

from rlm_local.errors import JailUnavailable
from rlm_local.jail import JailSession
from rlm_local.limits import Limits
from rlm_local.types import Corpus, Document


@pytest.fixture(scope="session")
def real_jail() -> None:
    """Skip, with what is missing, where no jail can be started."""

    async def try_one() -> None:
        await (await JailSession.start(Corpus((Document("a", "text"),), "text", (0,)), Limits())).close()

    try:
        asyncio.run(try_one())
    except JailUnavailable as error:
        pytest.skip(f"{error} ({error.hint})")
