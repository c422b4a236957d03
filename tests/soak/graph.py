"""Draws what was sampled as SVG: one panel a quantity, and a line for each fault."""

from collections.abc import Iterator, Sequence
from html import escape
from math import ceil, log10

from tests.soak.sampling import Series

Mark = tuple[float, str]
"""Seconds since the start, and what was done."""

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP = 1000, 120, 60, 24, 40
_GAP = 36
_INK = "#24292f"
_HUES = {"reload": "#009e73", "worker": "#e69f00", "server": "#c1121f", "network": "#5e4fa2", "rest": "#0072b2"}


def draw(title: str, panels: Sequence[Series], marks: Sequence[Mark], seconds: float) -> str:
    """The whole picture."""
    height = _TOP + len(panels) * (_HEIGHT + _GAP) + 30
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(_LEFT, 22, title, 15),
    ]
    for number, series in enumerate(panels):
        lines += _panel(series, _TOP + number * (_HEIGHT + _GAP) + 14, marks, seconds)
    lines += _axis(height - 34, seconds)
    done = {what.partition(":")[0] for _, what in marks}
    for number, what in enumerate(what for what in _HUES if what in done):
        x, hue = _LEFT + 120 * number, _HUES[what]
        lines += [
            f'<line x1="{x}" y1="{height - 12}" x2="{x + 20}" y2="{height - 12}" stroke="{hue}"/>',
            _text(x + 26, height - 8, what),
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _panel(series: Series, top: float, marks: Sequence[Mark], seconds: float) -> Iterator[str]:
    most = _rounded(max(value for _, value in series.values))
    yield _text(_LEFT, top - 4, f"{series.name}{f', {series.unit}' if series.unit else ''}")
    for share in (0.0, 0.5, 1.0):
        y = top + _HEIGHT * (1 - share)
        yield f'<line x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}" stroke="#d8dee4"/>'
        yield _text(_LEFT - 6, y + 4, f"{most * share:g}", 11, "end")
    for at, what in marks:
        x, hue = _x(at, seconds), _HUES[what.partition(":")[0]]
        yield (
            f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + _HEIGHT}" stroke="{hue}" stroke-opacity="0.45">'
            f"<title>{escape(what)}</title></line>"
        )
    points = " ".join(f"{_x(at, seconds):.1f},{top + _HEIGHT * (1 - value / most):.1f}" for at, value in series.values)
    yield f'<polyline points="{points}" fill="none" stroke="{_INK}" stroke-width="1.3"/>'


def _axis(y: float, seconds: float) -> Iterator[str]:
    for share in range(6):
        at = seconds * share / 5
        yield _text(_x(at, seconds), y, f"{at:.0f} s", 11, "middle")


def _x(at: float, seconds: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * at / seconds


def _rounded(value: float) -> float:
    """The next number with one digit."""
    unit = 10 ** int(log10(max(value, 1)))
    return float(ceil(value / unit) * unit)


def _text(x: float, y: float, text: str, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{_INK}">{escape(text)}</text>'
