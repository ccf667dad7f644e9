"""Line charts with Pillow, so that no plotting library is needed.

Lines differ in colour (Okabe and Ito 2008, safe for colour-blind readers) and in the shape of their markers.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from mv3d.core.errors import InputError

SCALE = 2
"""Pixels for each unit of width and height; 2 keeps text sharp on dense screens."""
_LEFT, _RIGHT, _TOP, _BOTTOM, _ROW = 64, 20, 30, 44, 18
_INK, _GRID = "#222222", "#dddddd"
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_FONT_SIZE, _MARK = 12, 3.5


@dataclass(frozen=True)
class Line:
    """label: for the legend; a single line with an empty label has none. points: (x, y), joined in this order."""

    label: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """low, high: the range. ticks: values with a grid line and a number. log: logarithmic scale."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Position of a value: 0 at low, 1 at high."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x: str,
    y: str = "",
    log_x: bool = False,
    log_y: bool = False,
    x_ticks: Sequence[float] | None = None,
    width: int = 720,
    height: int = 380,
) -> Image.Image:
    """A chart of width·SCALE × height·SCALE pixels, RGB.

    title, y: the heading, "title: y". x: the label of the x axis. x_ticks: ticks of the x axis, which then spans from the
    first to the last. Raises InputError without a point, for values that are not finite, and for values of 0 or less
    on a logarithmic axis.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        raise InputError(f"chart '{title}': expected at least one point, got none")
    across = (
        Axis(x_ticks[0], x_ticks[-1], tuple(x_ticks), log_x)
        if x_ticks is not None
        else axis_of([p[0] for p in points], log=log_x, name=f"chart '{title}', {x}")
    )
    up = axis_of([p[1] for p in points], log=log_y, name=f"chart '{title}', {y or 'ordinate'}")

    page = Image.new("RGB", (width * SCALE, height * SCALE), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(_FONT_SIZE * SCALE)
    heading = f"{title}: {y}" if title and y else title or y
    draw.text((_LEFT * SCALE, 8 * SCALE), heading, fill=_INK, font=font)
    top = (_TOP + _legend(draw, lines, font, width)) * SCALE
    left, right, bottom = _LEFT * SCALE, (width - _RIGHT) * SCALE, (height - _BOTTOM) * SCALE

    def at(px: float, py: float) -> tuple[float, float]:
        return left + (right - left) * across.share(px), bottom - (bottom - top) * up.share(py)

    for tick in up.ticks:
        _, row = at(across.low, tick)
        draw.line([left, row, right, row], fill=_GRID, width=SCALE)
        draw.text((left - 6 * SCALE, row), tick_text(tick), fill=_INK, font=font, anchor="rm")
    for tick in across.ticks:
        column, _ = at(tick, up.low)
        draw.line([column, top, column, bottom], fill=_GRID, width=SCALE)
        draw.text((column, bottom + 6 * SCALE), tick_text(tick), fill=_INK, font=font, anchor="ma")
    draw.text((width / 2 * SCALE, (height - 18) * SCALE), x, fill=_INK, font=font, anchor="ma")
    for index, line in enumerate(lines):
        places = [at(*point) for point in line.points]
        if len(places) > 1:
            draw.line(places, fill=_color(index), width=2 * SCALE, joint="curve")
        for place in places:
            _mark(draw, place, index)
    return page


def chart_png(page: Image.Image) -> bytes:
    """The PNG file of a chart, reduced to 48 colours (10 to 30 KB)."""
    stream = io.BytesIO()
    page.quantize(48, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def axis_of(values: Sequence[float], *, log: bool, name: str) -> Axis:
    """An axis that spans the values. Raises InputError, with `name`, for values that it cannot show."""
    if not all(math.isfinite(value) for value in values):
        raise InputError(f"{name}: expected finite values, got NaN or infinity")
    if not log:
        low, high, step = nice_range(min(values), max(values))
        low = max(low, 0.0) if min(values) >= 0 else low
        return Axis(low, high, tuple(low + n * step for n in range(round((high - low) / step) + 1)))
    if min(values) <= 0:
        raise InputError(f"{name}: expected values above 0 on a logarithmic axis, got {min(values):g}")
    low, high = min(values) / 1.1, max(values) * 1.1
    return Axis(low, high, log_ticks(low, high), log=True)


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Three to eight round values from low to high, evenly spaced on a logarithmic axis where round values allow it."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        ticks = [m * 10.0**d for d in decades for m in mantissas]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            every = math.ceil(len(ticks) / 8)
            return tuple(ticks[::every])
    start, end, step = nice_range(low, high)
    ticks = [start + n * step for n in range(round((end - start) / step) + 1)]
    return tuple(tick for tick in ticks if low <= tick <= high)


def nice_range(low: float, high: float) -> tuple[float, float, float]:
    """(low, high, step): round limits around a range, and a step of 1, 2 or 5 times a power of ten; at most seven ticks."""
    spread = max(high - low, 1e-6, 1e-3 * abs(high))
    base = 10.0 ** math.floor(math.log10(spread / 3))
    step = next(factor * base for factor in (1, 2, 5, 10) if spread / (factor * base) <= 5)
    start = math.floor(low / step - 1e-9) * step
    end = math.ceil(high / step + 1e-9) * step
    return start, max(end, start + step), step


def tick_text(value: float) -> str:
    """A number in at most six digits; from 10,000 on with k or M (150k, 2M)."""
    if abs(value) < 1e-12:
        return "0"
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size and abs(value) >= 1e4:
            return f"{value / size:.6g}{letter}"
    return f"{value:.6g}"


def _legend(
    draw: ImageDraw.ImageDraw,
    lines: Sequence[Line],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width: int,
) -> int:
    """Draw the legend under the title, in as many rows as needed. Returns their height."""
    if len(lines) == 1 and not lines[0].label:
        return 0
    column, row = float(_LEFT), float(_TOP)
    for index, line in enumerate(lines):
        needed = 34 + draw.textlength(line.label, font=font) / SCALE
        if column + needed > width - _RIGHT and column > _LEFT:
            column, row = float(_LEFT), row + _ROW
        y = (row + _FONT_SIZE / 2) * SCALE
        draw.line([column * SCALE, y, (column + 20) * SCALE, y], fill=_color(index), width=2 * SCALE)
        _mark(draw, ((column + 10) * SCALE, y), index)
        draw.text(((column + 26) * SCALE, y), line.label, fill=_INK, font=font, anchor="lm")
        column += needed + 8
    return round(row) - _TOP + _ROW + 6


def _color(index: int) -> str:
    return _COLORS[index % len(_COLORS)]


def _mark(draw: ImageDraw.ImageDraw, place: tuple[float, float], index: int) -> None:
    """Draw a marker. The shapes repeat after four: circle, square, triangle, diamond."""
    (x, y), r = place, _MARK * SCALE
    form = index % 4
    if form == 0:
        draw.ellipse([x - r, y - r, x + r, y + r], fill=_color(index))
    elif form == 1:
        draw.rectangle([x - r, y - r, x + r, y + r], fill=_color(index))
    elif form == 2:
        draw.polygon([(x, y - 1.3 * r), (x - 1.2 * r, y + r), (x + 1.2 * r, y + r)], fill=_color(index))
    else:
        draw.polygon(
            [(x, y - 1.4 * r), (x + 1.4 * r, y), (x, y + 1.4 * r), (x - 1.4 * r, y)], fill=_color(index)
        )
