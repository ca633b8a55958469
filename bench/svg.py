# SPDX-License-Identifier: GPL-2.0-or-later
"""Small charts for the page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from bench.figures import Interval
from bench.report import Distribution

_WIDTH, _HEIGHT, _FOOT = 340, 130, 18
_BAR = 150
_SHOWN = 0.9995
"""Share of the runs that a histogram's axis reaches; what is beyond stands in the last bar."""


def _octaves(parts: Sequence[Distribution]) -> dict[int, int]:
    """Runs by quarters of a power of two of ns."""
    found: Counter[int] = Counter()
    for part in parts:
        for lower, count in part.buckets:
            found[int(math.log2(max(lower, 1)) * 4)] += count
    return dict(found)


def _label(quarter: float) -> str:
    micros = 2 ** (quarter / 4) / 1000
    return f"{micros:.0f}" if micros >= 10 else f"{micros:.1f}" if micros >= 1 else f"{micros:.2f}"


def histogram(parts: Sequence[Distribution], mean_ns: float, p99_us: float | None) -> str:
    """Durations on a logarithmic axis, with their documented mean and 99th percentile as lines."""
    counts = _octaves(parts)
    total = sum(counts.values()) or 1
    first, seen, last = min(counts, default=20), 0, 20
    for quarter in sorted(counts):
        seen, last = seen + counts[quarter], quarter
        if seen >= _SHOWN * total:
            break
    marks = [(math.log2(mean_ns) * 4, "mean", f"their mean {mean_ns / 1000:g}")]
    if p99_us:
        marks.append((math.log2(p99_us * 1000) * 4, "p99", f"p99 {p99_us:.3g}"))
    left = min(first, *(int(at) for at, _kind, _text in marks)) - 2
    right = max(last, *(int(at) for at, _kind, _text in marks)) + 4
    step = _WIDTH / (right - left)
    tallest = max(counts.values(), default=1)
    shown: Counter[int] = Counter()
    for quarter, count in counts.items():
        shown[min(quarter, last)] += count
    parts_of_it = []
    for quarter, count in sorted(shown.items()):
        tall = max(1.5, (_HEIGHT - 24) * count / tallest)
        over = " class=over" if quarter >= math.log2(mean_ns) * 4 else ""
        parts_of_it.append(
            f'<rect{over} x="{(quarter - left) * step:.1f}" y="{_HEIGHT - tall:.1f}" width="{max(step - 1.5, 1):.1f}" '
            f'height="{tall:.1f}" rx="1"><title>{_label(quarter)} µs: {count / total:.2%}</title></rect>'
        )
    for at, kind, text in marks:
        x = (at - left) * step
        near_the_end = x > _WIDTH - 90
        anchor, beside = ("end", x - 4) if near_the_end else ("start", x + 4)
        y = 10 if kind == "mean" else 22
        parts_of_it.append(
            f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 8}" y2="{_HEIGHT}"/>'
            f'<text class="{kind}" x="{beside:.1f}" y="{y}" text-anchor="{anchor}">{text}</text>'
        )
    for quarter in range(-(-left // 8) * 8, right, 8):
        x = (quarter - left) * step
        parts_of_it.append(f'<text x="{x:.1f}" y="{_HEIGHT + 13}" text-anchor="middle">{_label(quarter)}</text>')
    parts_of_it.append(f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>')
    return (
        f'<svg class="histogram" viewBox="0 0 {_WIDTH} {_HEIGHT + _FOOT}" role="img" aria-label="histogram">'
        f"{''.join(parts_of_it)}</svg>"
    )


def bar(ratio: float) -> str:
    """Our mean as a share of theirs; the line is theirs."""
    whole = _BAR * 0.75
    width = min(ratio * whole, _BAR)
    kind = "good" if ratio <= 1 else "bad"
    return (
        f'<svg class="inline" viewBox="0 0 {_BAR} 14" width="{_BAR}" height="14"><rect class="{kind}" x="0" y="3" '
        f'width="{width:.1f}" height="8" rx="2"/><line class="mean" x1="{whole}" x2="{whole}" y1="0" y2="14"/></svg>'
    )


def box(each: Distribution, top_ns: float) -> str:
    """From p50 to p99 on a logarithmic axis from 50 ns on, p90 marked."""
    span = math.log(max(top_ns, 100) / 50)

    def at(nanoseconds: float) -> float:
        return _BAR * max(0.0, math.log(max(nanoseconds, 50) / 50)) / span

    low, high = at(each.p50), at(each.p99)
    return (
        f'<svg class="inline" viewBox="0 0 {_BAR} 14" width="{_BAR}" height="14"><line class="axis" x1="0" x2="{_BAR}" '
        f'y1="7" y2="7"/><rect class="plain" x="{low:.1f}" y="3" width="{max(high - low, 2):.1f}" height="8" rx="2"/>'
        f'<circle cx="{at(each.p90):.1f}" cy="7" r="2.5"/></svg>'
    )


def share(paid: Interval, without: float, top: float) -> str:
    """What is paid as a share of the call, with its interval; the middle is nothing."""
    middle = _BAR / 3
    scale = (_BAR - middle) / max(top, 0.01)

    def at(nanoseconds: float) -> float:
        return min(max(middle + nanoseconds / without * scale, 0.0), float(_BAR))

    low, high = at(paid.low), at(paid.high)
    return (
        f'<svg class="inline" viewBox="0 0 {_BAR} 14" width="{_BAR}" height="14"><line class="axis" x1="{middle:.1f}" '
        f'x2="{middle:.1f}" y1="0" y2="14"/><rect class="plain" x="{low:.1f}" y="5" width="{max(high - low, 1.5):.1f}" '
        f'height="4" rx="2"/><circle cx="{at(paid.median):.1f}" cy="7" r="3.5"/></svg>'
    )


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars: label, size, text."""
    top = max((size for _label, size, _text in rows), default=1.0) or 1.0
    lines = []
    for at, (label, size, text) in enumerate(rows):
        y = at * 26
        lines.append(
            f'<text x="178" y="{y + 16}" text-anchor="end">{label}</text><rect class="plain" x="188" y="{y + 4}" '
            f'width="{max(2.0, 380 * size / top):.1f}" height="16" rx="3"/>'
            f'<text x="{194 + 380 * size / top:.1f}" y="{y + 16}">{text}</text>'
        )
    return f'<svg class="bars" viewBox="0 0 720 {len(rows) * 26 + 4}" role="img">{"".join(lines)}</svg>'
