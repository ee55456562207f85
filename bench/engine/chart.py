"""A bar chart as SVG, by hand: some panels of labelled bars, each with a line for the floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, BAR, GAP, TITLE, LABEL, VALUE = 720, 22, 8, 34, 150, 70
INK, OURS, OTHERS, FLOOR = "#1f2933", "#1b7f5c", "#9aa5b1", "#c2410c"


@dataclass(frozen=True, slots=True)
class Bar:
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars on a scale of their own; the first is drawn in the colour of our own."""

    title: str
    unit: str
    bars: Sequence[Bar]
    floor: float | None = None  # a line across the bars

    @property
    def height(self) -> int:
        return TITLE + len(self.bars) * (BAR + GAP) + GAP


def svg(panels: Sequence[Panel]) -> str:
    """Return the panels, one below the other, as the text of an SVG file."""
    height = sum(panel.height for panel in panels) + GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    top = GAP
    for panel in panels:
        lines += _panel(panel, top)
        top += panel.height
    return "\n".join([*lines, "</svg>", ""])


def _panel(panel: Panel, top: int) -> list[str]:
    room = WIDTH - LABEL - VALUE - 2 * GAP
    unit = room / max([bar.value for bar in panel.bars] + [panel.floor or 0.0])
    floor = f", floor {panel.floor:.1f} {panel.unit}" if panel.floor else ""
    lines = [f'<text x="{GAP}" y="{top + 18}" font-weight="bold">{escape(panel.title)}{floor}</text>']
    for i, bar in enumerate(panel.bars):
        y = top + TITLE - 6 + i * (BAR + GAP)
        width = bar.value * unit
        middle = y + BAR / 2 + 4.5
        lines += [
            f'<text x="{LABEL}" y="{middle}" text-anchor="end">{escape(bar.name)}</text>',
            f'<rect x="{LABEL + GAP}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{OTHERS if i else OURS}"/>',
            f'<text x="{LABEL + GAP + width + 6:.1f}" y="{middle}">{bar.value:.1f} {panel.unit}</text>',
        ]
    if panel.floor:
        x = LABEL + GAP + panel.floor * unit
        bottom = top + TITLE - 6 + len(panel.bars) * (BAR + GAP)
        lines.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + TITLE - 10}" y2="{bottom}" stroke="{FLOOR}" '
            'stroke-width="2" stroke-dasharray="4 3"/>'
        )
    return lines
