"""Lines over a logarithmic axis of lengths, and bars of quantiles, as SVG by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, TOP, BELOW = 720, 300, 60, 40, 50
LEGEND, BAR = 220, 20
COLOURS = ("#1b7f5c", "#c2410c", "#1d4ed8", "#7c3aed", "#a16207", "#be185d", "#0e7490", "#4d7c0f", "#57534e")
INK, FAINT = "#1f2933", "#cbd2d9"


def score_chart(title: str, lines: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Return scores (0 to 1) against tokens, a line for each name. Points of a line are joined by length."""
    lengths = sorted({tokens for points in lines.values() for tokens, _ in points})
    low, high = math.log2(lengths[0]), math.log2(lengths[-1])
    room_x, room_y = WIDTH - LEFT - LEGEND, HEIGHT - TOP - BELOW

    def x(tokens: int) -> float:
        return LEFT + room_x * ((math.log2(tokens) - low) / (high - low) if high > low else 0.5)

    def y(score: float) -> float:
        return TOP + room_y * (1 - score)

    made = [_opened(HEIGHT), _text(LEFT, 22, title, bold=True)]
    for tenth in range(0, 11, 2):
        at_y = f"{y(tenth / 10):.1f}"
        made.append(f'<line x1="{LEFT}" x2="{LEFT + room_x}" y1="{at_y}" y2="{at_y}" stroke="{FAINT}"/>')
        made.append(_text(LEFT - 8, y(tenth / 10) + 4, f"{tenth / 10:.1f}", end=True))
    made += [_text(x(tokens), HEIGHT - BELOW + 20, f"{tokens:,}", middle=True) for tokens in lengths]
    made.append(_text(LEFT + room_x / 2, HEIGHT - 10, "tokens", middle=True))
    for at, (name, points) in enumerate(lines.items()):
        colour = COLOURS[at % len(COLOURS)]
        ordered = sorted(points)
        if len(ordered) > 1:
            path = " ".join(f"{x(tokens):.1f},{y(score):.1f}" for tokens, score in ordered)
            made.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        made += [
            f'<circle cx="{x(tokens):.1f}" cy="{y(score):.1f}" r="4" fill="{colour}"/>' for tokens, score in ordered
        ]
        line_y = TOP + 18 * at
        made.append(f'<rect x="{WIDTH - LEGEND + 20}" y="{line_y}" width="12" height="12" fill="{colour}"/>')
        made.append(_text(WIDTH - LEGEND + 38, line_y + 11, name))
    return "\n".join([*made, "</svg>"])


def cost_chart(title: str, unit: str, spreads: Mapping[str, Mapping[str, float]]) -> str:
    """Return a bar from p25 to p75 for each name, with a mark at p50 and a line to p95."""
    height = TOP + len(spreads) * (BAR + 12) + 20
    room = WIDTH - LEGEND - 120
    most = max([spread["p95"] for spread in spreads.values()] + [1e-9])
    made = [_opened(height), _text(12, 22, f"{title}: p25 to p75, mark at p50, line to p95", bold=True)]
    for at, (name, spread) in enumerate(spreads.items()):
        y, colour = TOP + at * (BAR + 12), COLOURS[at % len(COLOURS)]
        p25, p50, p75, p95 = (LEGEND + room * spread[part] / most for part in ("p25", "p50", "p75", "p95"))
        made += [
            _text(LEGEND - 8, y + 15, name, end=True),
            f'<line x1="{p75:.1f}" x2="{p95:.1f}" y1="{y + BAR / 2}" y2="{y + BAR / 2}" stroke="{colour}"/>',
            f'<rect x="{p25:.1f}" y="{y}" width="{max(1.0, p75 - p25):.1f}" height="{BAR}" fill="{colour}" '
            'fill-opacity="0.5"/>',
            f'<line x1="{p50:.1f}" x2="{p50:.1f}" y1="{y}" y2="{y + BAR}" stroke="{INK}" stroke-width="2"/>',
            _text(max(p75, p95) + 8, y + 15, f"{spread['p50']:,.4g} {unit}"),
        ]
    return "\n".join([*made, "</svg>"])


def _opened(height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">'
    )


def _text(x: float, y: float, said: str, *, bold: bool = False, end: bool = False, middle: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ' text-anchor="middle"' if middle else ""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{anchor}{weight}>{escape(said)}</text>'
