"""Distances between samples of two surfaces, and the overlap of two solids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError, UsageError
from mv3d.evaluation.surfaces import Samples, occupancy
from mv3d.render.mesh import Mesh
from mv3d.views.metrics import overlap


def surface_distances(
    pred: Samples, gt: Samples, thresholds: Sequence[float] = (0.01, 0.02, 0.05)
) -> dict[str, Any]:
    """Distances between two sampled surfaces, by exact nearest neighbours, in the samples' unit.

    accuracy: mean distance from pred to gt. completeness: from gt to pred.
    chamfer: the mean of the two. chamfer_squared: the mean of the two mean squared distances.
    f_score, precision, recall: at each threshold, which is the dictionary's key; precision is the share of pred
    within the threshold of gt, recall the reverse, the F-score their harmonic mean (Tatarchenko et al., CVPR 2019).
    normal_consistency: mean |cosine| of the normals at nearest neighbours, mean of the two directions (Occupancy
    Networks, arXiv 1812.03828), 0 to 1.

    Raises InputError for empty samples, UsageError for thresholds that are not above 0.
    """
    if not len(pred) or not len(gt):
        raise InputError(f"samples: expected points on both sides, got {len(pred)} and {len(gt)}")
    if any(not t > 0 for t in thresholds):
        raise UsageError(
            f"thresholds: expected lengths above 0, got {', '.join(f'{t:g}' for t in thresholds)}"
        )
    from scipy.spatial import KDTree  # noqa: PLC0415 - slow to import

    there, near_gt = KDTree(gt.points).query(pred.points)
    back, near_pred = KDTree(pred.points).query(gt.points)
    precision = {f"{t:g}": float((there <= t).mean()) for t in thresholds}
    recall = {f"{t:g}": float((back <= t).mean()) for t in thresholds}
    along = np.abs((pred.normals * gt.normals[near_gt]).sum(1)).mean()
    across = np.abs((gt.normals * pred.normals[near_pred]).sum(1)).mean()
    return {
        "chamfer": float(there.mean() + back.mean()) / 2,
        "chamfer_squared": float((there**2).mean() + (back**2).mean()) / 2,
        "accuracy": float(there.mean()),
        "completeness": float(back.mean()),
        "f_score": {key: harmonic(precision[key], recall[key]) for key in precision},
        "precision": precision,
        "recall": recall,
        "normal_consistency": float(along + across) / 2,
    }


def harmonic(a: float, b: float) -> float:
    """Harmonic mean; 0 if both are 0."""
    return 2 * a * b / (a + b) if a + b > 0 else 0.0


def thinned(samples: Samples, voxel: float) -> Samples:
    """One point for each cube of side `voxel` that holds any: the mean of its points and of their normals."""
    cell = np.floor(samples.points / voxel).astype(np.int64)
    _, label, count = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    label = label.reshape(-1)

    def mean(values: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "m 3"]:
        return np.stack([np.bincount(label, values[:, k]) for k in range(3)], 1) / count[:, None]

    normals = mean(samples.normals)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return Samples(mean(samples.points), normals / np.maximum(length, 1e-30))


def volume_iou(pred: Mesh, gt: Mesh, *, resolution: int = 128) -> float:
    """Intersection over union of the solids, on one grid with `resolution` samples along the longest side of both.

    A point is inside if a ray to it crosses the surface an odd number of times, which is defined for closed meshes only
    (`surfaces.nearly_closed`). 0 to 1; 1 if no sample lies inside either. Raises UsageError for a resolution out of
    range.
    """
    if not 8 <= resolution <= 512:
        raise UsageError(f"--iou-resolution: expected 8 to 512, got {resolution}")
    corners = np.concatenate([m.vertices[np.unique(m.faces)] for m in (pred, gt)]).astype(np.float64)
    low, high = corners.min(0), corners.max(0)
    spacing = float((high - low).max()) / resolution
    counts = [int(n) for n in np.maximum(1, np.ceil((high - low) / spacing - 1e-9))]
    shape = (counts[0], counts[1], counts[2])
    low = (low + high) / 2 - spacing * np.array(shape) / 2
    a, b = (occupancy(mesh, low, spacing, shape) for mesh in (pred, gt))
    return overlap(a, b)
