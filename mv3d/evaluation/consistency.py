"""`mv3d eval consistency`: agreement of views with each other, without ground truth."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from mv3d.core.errors import InputError, UsageError
from mv3d.core.progress import Clock
from mv3d.evaluation.image_sets import image_set
from mv3d.evaluation.silhouettes import silhouette_recall
from mv3d.evaluation.view_metrics import compare_image_sets
from mv3d.recon.config import Quality, ReconConfig
from mv3d.views.metrics import CONVENTION
from mv3d.views.views import Views

Halves = Literal["both", "one", "none"]
_FEWEST = 6


def evaluate_consistency(
    views: Views | str | os.PathLike[str],
    *,
    halves: Halves = "both",
    quality: Quality = "draft",
    device: str = "auto",
    seed: int = 0,
) -> dict[str, Any]:
    """Judge posed views by themselves. Returns a JSON-compatible document.

    `silhouette_recall`: per view, the share of its silhouette that the visual hull of all silhouettes covers (0 to 1);
    `silhouette_recall_mean`. Rendered views reach 1, SV3D's 0.99 (measured on three of its orbits).
    `reprojection`: `mv3d recon` of this quality reconstructs the even views (0, 2, …), renders the result with the
    cameras of the odd ones and compares as `evaluate_views` does; halves "both" repeats this the other way round. Its
    `mean` is over all those views. A view that contradicts its neighbours scores low here, however good it looks.

    views: Views, or any input of `load_views`. Raises InputError for views that cannot be used or reconstructed,
    UsageError for unknown halves.
    """
    if not isinstance(views, Views):
        from mv3d.views.readers import load_views  # noqa: PLC0415 - loads torch

        views = load_views(views)
    if not np.isfinite(views.images).all():
        raise InputError("views: expected finite values, got NaN or infinity")
    if halves not in ("both", "one", "none"):
        raise UsageError(f"--halves: expected both, one or none, got {halves}")
    recall = silhouette_recall(views.images[..., 3], views.cameras)
    document: dict[str, Any] = {
        "count": len(views),
        "size": [views.cameras.width, views.cameras.height],
        "silhouette_recall_mean": float(recall.mean()),
        "silhouette_recall": [float(value) for value in recall],
    }
    if halves == "none":
        return document
    if len(views) < _FEWEST:
        raise InputError(
            f"views: expected at least {_FEWEST} to split into halves, got {len(views)}; use --halves none"
        )
    even, odd = list(range(0, len(views), 2)), list(range(1, len(views), 2))
    splits = [(even, odd), (odd, even)][: 2 if halves == "both" else 1]
    rows = [row for known, held in splits for row in _reproject(views, known, held, quality, device, seed)]
    rows.sort(key=lambda row: row["name"])
    keys = ("psnr", "ssim", "ssim_padded", "mse", "mask_iou")
    document["reprojection"] = {
        "convention": CONVENTION,
        "quality": quality,
        "mean": {key: float(np.mean([row[key] for row in rows])) for key in keys},
        "views": rows,
    }
    return document


def _reproject(
    views: Views, known: list[int], held: list[int], quality: Quality, device: str, seed: int
) -> list[dict[str, Any]]:
    from mv3d.recon.stages import MeshReconstructor  # noqa: PLC0415 - loads torch
    from mv3d.render.raycast import render_views  # noqa: PLC0415

    config = ReconConfig(quality=quality, device=device, seed=seed)
    given, left = views.subset(known), views.subset(held)
    mesh = MeshReconstructor(config).fit(given, Clock()).mesh
    again = render_views(mesh, left.cameras, supersample=2)
    names = tuple(f"{index:03d}" for index in held)
    made, seen = (image_set(v, names, with_alpha=True) for v in (replace(left, images=again), left))
    return compare_image_sets(made, seen)["views"]
