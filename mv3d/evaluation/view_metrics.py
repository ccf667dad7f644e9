"""`mv3d eval views`: images against ground truth, view by view and by azimuth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from mv3d.core.errors import InputError
from mv3d.evaluation.image_sets import (
    ImageSet,
    image_set,
    matched,
    pose_difference_deg,
    read_image_set,
    rendered_image_set,
    resized,
)
from mv3d.evaluation.perceptual import PairMetric
from mv3d.render.loading import MODEL_SUFFIXES
from mv3d.views.metrics import CONVENTION, compare, mask_iou
from mv3d.views.views import Views, composite

_SAME_POSE_DEG = 1.0


def evaluate_views(
    pred: Views | ImageSet | str | os.PathLike[str],
    gt: Views | ImageSet | str | os.PathLike[str],
    *,
    size: int | None = None,
    gt_side: float | None = None,
    extra: dict[str, PairMetric] | None = None,
    missing: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Compare views with ground truth. Returns a JSON-compatible document.

    pred, gt: Views, or paths of views folders or of folders of equally named images; gt also a path of a mesh, which is
    rendered with the cameras of pred (`gt_side`: its largest side, centred; None keeps the file's coordinates).
    size: resize both to size x size pixels first. extra: more metrics by name (`mv3d.evaluation.perceptual`).
    missing: metrics that cannot be computed, each with the reason; they go into the document.

    The document: `convention`, `count`, `size`, `mean` (keys psnr in dB, ssim, mse, mask_iou, …),
    `mean_without_input` if the input view is known, `views` (name, azimuth_deg, elevation_deg, input, and the
    metrics), `by_azimuth` (the same by the angle from the input view, 0 to 360), `worst`, `masks`, `notes`, `missing`.

    Raises InputError for inputs that are missing, damaged or do not fit together.
    """
    left = _image_set(pred)
    if not isinstance(gt, (Views, ImageSet)) and Path(gt).suffix.lower() in MODEL_SUFFIXES:
        right = rendered_image_set(Path(gt), left, side=gt_side)
    else:
        right = _image_set(gt)
    if size is not None:
        left, right = resized(left, size), resized(right, size)
    right = matched(left, right, _label(pred, "pred"), _label(gt, "gt"))
    return compare_image_sets(left, right, extra=extra, missing=missing)


def compare_image_sets(
    pred: ImageSet,
    gt: ImageSet,
    *,
    extra: dict[str, PairMetric] | None = None,
    missing: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The document of `evaluate_views` for two image sets of the same names in the same order."""
    missing = dict(missing or {})
    rows: list[dict[str, Any]] = []
    known = pred if pred.orbit is not None else gt
    input_view = pred.input_view if pred.input_view is not None else gt.input_view
    with_masks = pred.masks is not None and gt.masks is not None
    if not with_masks:
        side = pred if pred.masks is None else gt
        missing["mask_iou"] = f"no masks ({side.masks_from}); give RGBA pictures"
    for index, name in enumerate(pred.names):
        row: dict[str, Any] = {"name": name}
        if known.orbit is not None:
            row["azimuth_deg"] = known.orbit.azimuths_deg[index]
            row["elevation_deg"] = known.orbit.elevations_deg[index]
        if input_view is not None:
            row["input"] = index == input_view
        try:
            row.update(compare(pred.images[index], gt.images[index]))
        except InputError as error:
            raise InputError(f"view {name}: {error}") from error
        del row["mask_iou"]
        if pred.masks is not None and gt.masks is not None:
            row["mask_iou"] = mask_iou(pred.masks[index], gt.masks[index])
        rows.append(row)
    for key, metric in (extra or {}).items():
        values = metric(composite(pred.images), composite(gt.images))
        for row, value in zip(rows, values, strict=True):
            row[key] = float(value)
    keys = [key for key in rows[0] if key not in ("name", "azimuth_deg", "elevation_deg", "input")]
    document: dict[str, Any] = {
        "convention": CONVENTION,
        "count": len(rows),
        "size": [pred.width, pred.height],
        "mean": _mean(rows, keys),
    }
    others = [row for row in rows if not row.get("input")]
    if input_view is not None and others:
        document["mean_without_input"] = _mean(others, keys)
    document["views"] = rows
    if known.orbit is not None:
        start_deg = 0.0 if input_view is None else known.orbit.azimuths_deg[input_view]
        document["by_azimuth"] = azimuth_curve(rows, keys, start_deg=start_deg)
    worst = min(rows, key=lambda row: row["psnr"])
    document["worst"] = {key: worst[key] for key in ("name", "azimuth_deg", "psnr", "ssim") if key in worst}
    document["masks"] = {"pred": pred.masks_from, "gt": gt.masks_from}
    document["notes"] = _notes(pred, gt)
    document["missing"] = missing
    return document


def azimuth_curve(
    rows: list[dict[str, Any]], keys: list[str], *, start_deg: float = 0.0
) -> list[dict[str, Any]]:
    """The rows by azimuth from `start_deg` on, counter-clockwise, 0 to 360; equal azimuths as their mean."""
    groups: dict[float, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(round((row["azimuth_deg"] - start_deg) % 360.0, 3) % 360.0, []).append(row)
    return [
        {"azimuth_deg": angle, "views": len(groups[angle]), **_mean(groups[angle], keys)}
        for angle in sorted(groups)
    ]


def _mean(rows: list[dict[str, Any]], keys: list[str]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in keys}


def _notes(pred: ImageSet, gt: ImageSet) -> list[str]:
    of_files = [*pred.notes, *gt.notes]
    if pred.cameras is None or gt.cameras is None:
        return of_files
    angle = pose_difference_deg(pred.cameras, gt.cameras)
    note = f"the stored poses of pred and gt differ by up to {angle:.1f} degrees"
    return of_files + ([note] if angle > _SAME_POSE_DEG else [])


def _image_set(source: Views | ImageSet | str | os.PathLike[str]) -> ImageSet:
    if isinstance(source, ImageSet):
        return source
    return image_set(source) if isinstance(source, Views) else read_image_set(source)


def _label(source: Views | ImageSet | str | os.PathLike[str], fallback: str) -> str:
    return fallback if isinstance(source, (Views, ImageSet)) else str(source)
