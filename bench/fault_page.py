"""The page of a result that is good where it has no fault: of the soak and of the load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.provenance import Provenance


def fault_page(
    name: str,
    setting: Mapping[str, Any],
    made: Provenance,
    *,
    faults: Sequence[str],
    rows: Sequence[tuple[str, str]],
    note: Sequence[str],
    kinds: Sequence[str],
) -> str:
    """Return the page as Markdown. note: lines on how it was measured; kinds: a table of requests, with its head."""
    facts = [*made.facts(), *((each, str(value)) for each, value in setting.items())]
    return "\n".join(
        [
            f"# {name}, {setting['model']}: {'no fault' if not faults else f'{len(faults)} faults'}",
            "",
            *(f"- {fault}" for fault in faults),
            *([""] if faults else []),
            "| found | |",
            "| --- | --- |",
            *(f"| {each} | {value} |" for each, value in rows),
            "",
            *note,
            "",
            *kinds,
            "",
            "| made with | |",
            "| --- | --- |",
            *(f"| {each} | {value} |" for each, value in facts),
            "",
        ]
    )
