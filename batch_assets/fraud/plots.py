"""Small plots as SVG inside Markdown, drawn in microseconds, so that each of many days has one."""

import base64
from collections.abc import Sequence
from math import log1p

from dagster import MarkdownMetadataValue

WIDTH, HEIGHT, MARGIN = 480, 160, 36
Point = tuple[float | str, float]


def bar_plot(title: str, bars: Sequence[Point], log: bool = False) -> MarkdownMetadataValue:
    """Bars with their labels below the axis.

    Args:
        log: heights are logarithmic, for counts of which some are a thousand times others.
    """
    most = max((value for _, value in bars), default=0) or 1
    heights = [log1p(value) if log else value for _, value in bars]
    top = max(heights, default=0) or 1
    step = (WIDTH - 2 * MARGIN) / max(1, len(bars))
    shapes = [
        f'<rect x="{MARGIN + i * step + 1:.1f}" y="{_y(height, 0, top):.1f}" '
        f'width="{step - 2:.1f}" height="{HEIGHT - MARGIN - _y(height, 0, top):.1f}" '
        f'fill="#4f43dd"/>'
        for i, height in enumerate(heights)
    ]
    every = max(1, len(bars) // 10)
    labels = [
        _text(MARGIN + (i + 0.5) * step, HEIGHT - MARGIN + 14, str(label))
        for i, (label, _) in enumerate(bars)
        if i % every == 0
    ]
    return _markdown(title, [*shapes, *labels, _text(MARGIN - 4, MARGIN, f"{most:,.0f}", "end")])


def line_plot(title: str, points: Sequence[Point]) -> MarkdownMetadataValue:
    """A line through the points, evenly spaced, with the range of values at the axis."""
    values = [value for _, value in points]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    high = high if high > low else low + 1
    step = (WIDTH - 2 * MARGIN) / max(1, len(points) - 1)
    path = " ".join(f"{MARGIN + i * step:.1f},{_y(v, low, high):.1f}" for i, v in enumerate(values))
    every = max(1, len(points) // 6)
    labels = [
        _text(MARGIN + i * step, HEIGHT - MARGIN + 14, str(label))
        for i, (label, _) in enumerate(points)
        if i % every == 0
    ]
    line = f'<polyline points="{path}" fill="none" stroke="#4f43dd" stroke-width="2"/>'
    ends = [
        _text(MARGIN - 4, MARGIN + 4, f"{high:.3g}", "end"),
        _text(MARGIN - 4, HEIGHT - MARGIN, f"{low:.3g}", "end"),
    ]
    return _markdown(title, [line, *labels, *ends])


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - MARGIN - (value - low) / (high - low) * (HEIGHT - 2 * MARGIN)


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_safe(text)}</text>'


def _safe(text: object) -> str:
    return str(text).replace("&", "&amp;").replace("<", "&lt;")


def _markdown(title: str, shapes: Sequence[str]) -> MarkdownMetadataValue:
    axis = HEIGHT - MARGIN
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="10" fill="#444">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        f'<line x1="{MARGIN}" y1="{axis}" x2="{WIDTH - MARGIN}" y2="{axis}" stroke="#999"/>'
        f"{_text(WIDTH / 2, 16, title)}{''.join(shapes)}</svg>"
    )
    data = base64.b64encode(svg.encode()).decode()
    return MarkdownMetadataValue(f"![{title}](data:image/svg+xml;base64,{data})")
