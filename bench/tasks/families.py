"""All families of tasks, by name."""

from __future__ import annotations

from bench.tasks import absent, charts, code, contracts, mixed, multihop, needles, pairs, studies, windows
from bench.tasks.task import Family

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *needles.FAMILIES,
        *windows.FAMILIES,
        pairs.FAMILY,
        code.FAMILY,
        multihop.FAMILY,
        contracts.FAMILY,
        charts.FAMILY,
        studies.FAMILY,
        absent.FAMILY,
        mixed.FAMILY,
    )
}
