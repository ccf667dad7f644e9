"""A chart of metrics against the azimuth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mv3d.core.errors import InputError
from mv3d.core.files import write_files
from mv3d.core.plots import SCALE, Line, line_chart
from mv3d.render.mesh_io import image_bytes

_WIDTH, _HEIGHT = 720, 280
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
    """One panel for each of `keys` that the curve has, over the azimuth from the input view.

    curve: rows with azimuth_deg in [0, 360), as `evaluate_views` gives under by_azimuth. The first point is drawn
    again at 360. Raises InputError for a curve without rows.
    """
    if not curve:
        raise InputError(
            "plot: expected views with known azimuths, got none; give views folders with an orbit"
        )
    shown = [key for key in keys if key in curve[0]]
    page = Image.new("RGB", (_WIDTH * SCALE, _HEIGHT * SCALE * len(shown)), "white")
    for index, key in enumerate(shown):
        points = [(float(row["azimuth_deg"]), float(row[key])) for row in curve]
        if points[0][0] == 0:
            points.append((360.0, points[0][1]))
        panel = line_chart(
            [Line("", points)],
            title=_LABELS.get(key, key),
            x="azimuth from the input view, degrees",
            x_ticks=range(0, 361, 45),
            width=_WIDTH,
            height=_HEIGHT,
        )
        page.paste(panel, (0, index * _HEIGHT * SCALE))
    return page


def save_azimuth_chart(curve: list[dict[str, Any]], path: str | os.PathLike[str]) -> Path:
    """Write the chart as PNG, by an atomic rename. Raises OutputError if it cannot be written."""
    path = Path(path)
    write_files({path: image_bytes(np.asarray(azimuth_chart(curve)))})
    return path
