from __future__ import annotations

import pytest

from rlm_local.errors import JailUnavailable
from rlm_local.jail import nsjail_binary


@pytest.fixture
def nsjail() -> None:
    """Skips, with the reason, where there is no nsjail."""
    try:
        nsjail_binary()
    except JailUnavailable as error:
        pytest.skip(f"{error} ({error.hint})")
