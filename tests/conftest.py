from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from rlm_local.errors import JailUnavailable
from rlm_local.jail import nsjail_binary

# These machines are shared: a slow draw is no failure.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


@pytest.fixture
def nsjail() -> None:
    """Skips, with the reason, where there is no nsjail."""
    try:
        nsjail_binary()
    except JailUnavailable as error:
        pytest.skip(f"{error} ({error.hint})")
