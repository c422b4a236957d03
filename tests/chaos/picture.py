"""Draws a scene as SVG: who knew what when, what clients got, and who answered."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise

from tests.chaos.load import Kind, Record
from tests.chaos.scenes import Scene
from tests.chaos.watching import Change

_LEFT, _RIGHT, _TOP = 150, 24, 46
_WIDTH = 1000
_BAR, _GAP = 9, 3
_DOTS, _SHARES = 96, 70
_FAST, _SLOW = 0.0004, 5.0  # seconds, the ends of the logarithmic scale of answer times
_BIN = 0.1  # seconds
_LONG = 12.0  # seconds from which on the axis has fewer of them
_INK, _SOFT, _PAPER = "#24292f", "#8c959f", "#ffffff"
_READS, _WRITES, _OUT = "#56b4e9", "#0072b2", "#f0c9b8"
_GOOD, _AGAIN, _FAILED = "#b8c1cc", "#e69f00", "#c1121f"
_HUES = ("#5e4fa2", "#009e73", "#f0e442", "#cc79a7", "#999999", "#66c2a5")


def draw(scene: Scene) -> str:
    """The whole picture."""
    body: list[str] = []
    y = _TOP
    body += _marks(scene, y)
    y += 16 * len(scene.marks) + 8
    for endpoint in scene.endpoints if scene.workers else ():
        body += _states(scene, endpoint, y)
        y += len(scene.workers) * (_BAR + _GAP) + 10
    for kind in Kind:
        y += 8
        body += _answers(scene, kind, y)
        y += _DOTS + 10
    y += 8
    body += _shares(scene, y)
    y += _SHARES + 4
    if scene.sessions:
        y += 10
        body += _sessions(scene, y)
        y += _SHARES + 4
    body += _axis(scene, y)
    y += 34
    body += _legend(scene, y)
    height = y + 24
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
        f"<title>{escape(scene.title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="{_PAPER}"/>',
        _text(_LEFT, 24, scene.title, size=15),
        *_verticals(scene, _TOP - 6, y - 34),
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _x(scene: Scene, at: float) -> float:
    share = (min(max(at, scene.begin), scene.end) - scene.begin) / (scene.end - scene.begin)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _verticals(scene: Scene, top: float, bottom: float) -> Iterator[str]:
    for mark in scene.marks:
        x = _x(scene, mark.at)
        yield f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="{_SOFT}" stroke-dasharray="2 3"/>'


def _marks(scene: Scene, y: float) -> Iterator[str]:
    """One line each, so that what happens close together can be read."""
    yield _text(_LEFT - 10, y + 11, "what happened", end=True)
    for number, mark in enumerate(scene.marks):
        after = f" (+{(mark.at - scene.zero) * 1000:.0f} ms)" if number else ""
        x = _x(scene, mark.at)
        yield f'<circle cx="{x:.1f}" cy="{y + 16 * number + 7}" r="3" fill="{_FAILED}"/>'
        yield _text(x + 7, y + 16 * number + 11, mark.text + after, halo=True)


def _states(scene: Scene, endpoint: str, y: float) -> Iterator[str]:
    """A bar for each worker; where the state changes after the fault, how many milliseconds after it."""
    yield _text(_LEFT - 10, y + 14, endpoint, end=True)
    for number, worker in enumerate(scene.workers):
        top = y + number * (_BAR + _GAP)
        mine = [one for one in scene.changes if one.endpoint == endpoint and one.worker == worker]
        spans = _spans(mine, scene.end)
        for change, until in spans:
            if until <= scene.begin:
                continue
            x, right = _x(scene, change.at), _x(scene, until)
            yield f'<rect x="{x:.1f}" y="{top}" width="{right - x:.1f}" height="{_BAR}" fill="{_fill(change)}">'
            yield f"<title>{escape(_word(change))}</title></rect>"
        for change, until in spans:
            # NOTE: only where there is room for words; the rest shows when pointed at.
            words = f"+{(change.at - scene.zero) * 1000:.0f} ms {_word(change)}"
            if change.at >= scene.zero and _x(scene, until) - _x(scene, change.at) > 6 * len(words):
                ink = _PAPER if _fill(change) == _WRITES else _INK
                yield _text(_x(scene, change.at) + 3, top + _BAR - 1.5, words, size=8.5, ink=ink)


def _spans(changes: Sequence[Change], end: float) -> list[tuple[Change, float]]:
    """Changes that can be seen, each until the next one."""
    seen = [*changes[:1], *(one for before, one in pairwise(changes) if _word(before) != _word(one))]
    ends = [one.at for one in seen[1:]] + [end]
    return list(zip(seen, ends, strict=True))


def _word(change: Change) -> str:
    if change.sight.groups:
        return "takes " + " and ".join(f"{group}s" for group in sorted(change.sight.groups))
    if change.sight.reason is None and change.sight.role == "primary":
        return "not used"
    return f"out: {change.sight.reason or 'not used'}"


def _fill(change: Change) -> str:
    if "write" in change.sight.groups:
        return _WRITES
    return _READS if change.sight.groups else _OUT


def _answers(scene: Scene, kind: Kind, y: float) -> Iterator[str]:
    """A dot for each request, at the time it was sent; the higher, the later its answer."""
    yield _text(_LEFT - 10, y + 11, f"{kind}s: answered after", end=True)
    for seconds, words in ((0.001, "1 ms"), (0.01, "10 ms"), (0.1, "100 ms"), (1.0, "1 s")):
        height = _height(seconds, y)
        yield (
            f'<line x1="{_LEFT}" y1="{height:.1f}" x2="{_WIDTH - _RIGHT}" y2="{height:.1f}" '
            f'stroke="{_SOFT}" stroke-width="0.3"/>'
        )
        yield _text(_LEFT - 10, height + 3, words, end=True, size=8.5)
    records = [one for one in scene.records if one.kind is kind and scene.begin <= one.sent < scene.end]
    for one in sorted(records, key=_rank):
        x, height = _x(scene, one.sent), _height(one.seconds, y)
        colour, radius = ((_GOOD, 1.4), (_AGAIN, 2.6), (_FAILED, 2.6))[_rank(one)]
        yield f'<circle cx="{x:.1f}" cy="{height:.1f}" r="{radius}" fill="{colour}"/>'
    counts = Counter(map(_rank, records))
    told = f"{len(records)} {kind}s, {counts[1]} of them run again, {counts[2]} failed"
    yield _text(_WIDTH - _RIGHT, y + 3, told, end=True, size=9.5)


def _rank(record: Record) -> int:
    return 2 if not record.good else 1 if record.attempts > 1 else 0


def _height(seconds: float, y: float) -> float:
    share = math.log(min(max(seconds, _FAST), _SLOW) / _FAST) / math.log(_SLOW / _FAST)
    return y + _DOTS - share * (_DOTS - 8)


def _shares(scene: Scene, y: float) -> Iterator[str]:
    """Who answered the reads sent in each tenth of a second."""
    yield _text(_LEFT - 10, y + 11, "who answered reads", end=True)
    begin = scene.begin
    while begin + _BIN <= scene.end:
        answered = Counter(
            one.endpoint
            for one in scene.records
            if one.kind is Kind.READ and one.good and begin <= one.sent < begin + _BIN
        )
        x, right = _x(scene, begin), _x(scene, begin + _BIN)
        top = y
        for endpoint, hue in zip(scene.endpoints, _HUES, strict=False):
            height = _SHARES * answered[endpoint] / max(1, answered.total())
            yield f'<rect x="{x:.1f}" y="{top:.1f}" width="{right - x - 0.6:.1f}" height="{height:.1f}" fill="{hue}"/>'
            top += height
        begin += _BIN
    for number, (endpoint, hue) in enumerate(zip(scene.endpoints, _HUES, strict=False)):
        yield f'<rect x="{_LEFT - 80}" y="{y + 18 + 12 * number}" width="8" height="8" fill="{hue}"/>'
        yield _text(_LEFT - 68, y + 26 + 12 * number, endpoint, size=9.5)


def _sessions(scene: Scene, y: float) -> Iterator[str]:
    """How many sessions there were, below the line of how many there may be."""
    yield _text(_LEFT - 10, y - 2, "sessions on servers", end=True)
    most = max(scene.cap, *(count for _, count in scene.sessions))

    def height(count: int) -> float:
        return y + _SHARES - count / most * (_SHARES - 8)

    for count, words in ((scene.cap, f"cap {scene.cap}"), (0, "0")):
        yield (
            f'<line x1="{_LEFT}" y1="{height(count):.1f}" x2="{_WIDTH - _RIGHT}" y2="{height(count):.1f}" '
            f'stroke="{_SOFT}" stroke-width="0.5"/>'
        )
        yield _text(_LEFT - 10, height(count) + 3, words, end=True, size=8.5)
    points: list[str] = []
    for at, count in scene.sessions:
        if scene.begin <= at <= scene.end:
            points.append(f"{_x(scene, at):.1f},{height(count):.1f}")
    yield f'<polyline points="{" ".join(points)}" fill="none" stroke="{_WRITES}" stroke-width="1.2"/>'
    seen = max(count for _, count in scene.sessions)
    yield _text(_WIDTH - _RIGHT, y + 3, f"at most {seen} of {scene.cap}", end=True, size=9.5)


def _axis(scene: Scene, y: float) -> Iterator[str]:
    yield f'<line x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}" stroke="{_INK}"/>'
    step = 0.5 if scene.end - scene.begin < _LONG else 2.0
    for number in range(math.ceil((scene.begin - scene.zero) / step), math.floor((scene.end - scene.zero) / step) + 1):
        x = _x(scene, scene.zero + number * step)
        yield f'<line x1="{x:.1f}" y1="{y}" x2="{x:.1f}" y2="{y + 4}" stroke="{_INK}"/>'
        yield _text(x + 10, y + 15, f"{number * step:g} s", end=True)


def _legend(scene: Scene, y: float) -> Iterator[str]:
    states = ((_READS, "takes reads"), (_WRITES, "takes writes"), (_OUT, "out of the rotation"))
    entries = (
        *(states if scene.workers else ()),
        (_GOOD, "answered"),
        (_AGAIN, "run again on another endpoint, answered"),
        (_FAILED, "failed"),
    )
    x = float(_LEFT)
    for colour, words in entries:
        yield f'<rect x="{x:.1f}" y="{y - 8}" width="9" height="9" fill="{colour}"/>'
        yield _text(x + 13, y, words)
        x += 34 + 6.1 * len(words)
    if scene.workers:
        yield _text(_LEFT, y + 16, "Each endpoint has a bar for each worker, as that worker's /health said.", size=9.5)


def _text(
    x: float, y: float, words: str, *, end: bool = False, size: float = 11, ink: str = _INK, halo: bool = False
) -> str:
    anchor = ' text-anchor="end"' if end else ""
    around = f' stroke="{_PAPER}" stroke-width="4" paint-order="stroke"' if halo else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{ink}"{anchor}{around}>{escape(words)}</text>'
