"""A line chart of a measure against the azimuth, drawn with Pillow: the core needs no plotting library."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from mv3d.errors import InputError
from mv3d.render.mesh_io import image_bytes, write_aside

_WIDTH, _HEIGHT, _SCALE = 720, 280, 2
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 30, 44
_INK, _GRID, _LINE = "#222222", "#dddddd", "#1f5fa8"
_LABELS = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "mask_iou": "mask IoU",
    "mse": "MSE",
    "lpips": "LPIPS",
    "clip_s": "CLIP-S",
}


def azimuth_chart(
    curve: list[dict[str, Any]], keys: tuple[str, ...] = ("psnr", "ssim", "mask_iou")
) -> Image.Image:
    """One panel below the other for each of `keys` that the curve has; the abscissa is the azimuth from the input view.

    curve: rows with azimuth_deg in [0, 360), as `evaluate_views` gives under by_azimuth. The first point is drawn
    again at 360. Raises InputError for a curve without rows.
    """
    if not curve:
        raise InputError(
            "plot: expected views with known azimuths, got none; give views folders with an orbit"
        )
    shown = [key for key in keys if key in curve[0]]
    page = Image.new("RGB", (_WIDTH * _SCALE, _HEIGHT * _SCALE * len(shown)), "white")
    draw = ImageDraw.Draw(page)
    for index, key in enumerate(shown):
        _panel(draw, index * _HEIGHT, curve, key)
    return page


def save_azimuth_chart(curve: list[dict[str, Any]], path: Path) -> Path:
    """Write the chart as PNG, aside first. Raises OutputError where it cannot be written."""
    import numpy as np  # noqa: PLC0415

    write_aside({path: image_bytes(np.asarray(azimuth_chart(curve)))})
    return path


def _panel(draw: ImageDraw.ImageDraw, top: int, curve: list[dict[str, Any]], key: str) -> None:
    values = [float(row[key]) for row in curve]
    low, high, step = nice_range(min(values), max(values))
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(angle: float, value: float) -> tuple[float, float]:
        x = _LEFT + inner_width * angle / 360
        return x * _SCALE, (top + _TOP + inner_height * (high - value) / (high - low)) * _SCALE

    font = ImageFont.load_default(12 * _SCALE)
    for count in range(round((high - low) / step) + 1):
        value = low + count * step
        draw.line([at(0, value), at(360, value)], fill=_GRID, width=_SCALE)
        draw.text(
            (at(0, value)[0] - 6 * _SCALE, at(0, value)[1]), f"{value:.6g}", fill=_INK, font=font, anchor="rm"
        )
    for angle in range(0, 361, 45):
        draw.line([at(angle, low), at(angle, high)], fill=_GRID, width=_SCALE)
        draw.text(
            (at(angle, low)[0], at(angle, low)[1] + 6 * _SCALE), f"{angle}", fill=_INK, font=font, anchor="ma"
        )
    points = [at(row["azimuth_deg"], value) for row, value in zip(curve, values, strict=True)]
    points.append(
        at(curve[0]["azimuth_deg"] + 360, values[0]) if curve[0]["azimuth_deg"] == 0 else points[-1]
    )
    draw.line(points, fill=_LINE, width=2 * _SCALE, joint="curve")
    for x, y in points:
        draw.ellipse([x - 3 * _SCALE, y - 3 * _SCALE, x + 3 * _SCALE, y + 3 * _SCALE], fill=_LINE)
    draw.text((_LEFT * _SCALE, (top + 8) * _SCALE), _LABELS.get(key, key), fill=_INK, font=font)
    label = "azimuth from the input view, degrees"
    draw.text(
        ((_WIDTH / 2) * _SCALE, (top + _HEIGHT - 18) * _SCALE), label, fill=_INK, font=font, anchor="ma"
    )


def nice_range(low: float, high: float) -> tuple[float, float, float]:
    """Round limits around the values, and a step of 1, 2 or 5 times a power of ten, for at most seven lines."""
    spread = max(high - low, 1e-6, 1e-3 * abs(high))
    base = 10.0 ** math.floor(math.log10(spread / 3))
    step = next(factor * base for factor in (1, 2, 5, 10) if spread / (factor * base) <= 5)
    start = math.floor(low / step - 1e-9) * step
    end = math.ceil(high / step + 1e-9) * step
    return start, max(end, start + step), step
