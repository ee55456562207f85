"""How figures are spread over the tasks of a run."""

from __future__ import annotations

from collections.abc import Sequence

QUANTILES = (25, 50, 75, 95)


def quantile(values: Sequence[float], percent: float) -> float:
    """Return a quantile, between two values where it falls between them; 0 of none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the usual quantiles by name: p25, p50, p75, p95."""
    return {f"p{percent}": round(quantile(values, percent), 3) for percent in QUANTILES}
