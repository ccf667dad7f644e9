"""`mv3d eval mesh`: a mesh against the true one, by surface, by volume, and in renders from novel views."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mv3d.core.errors import InputError
from mv3d.core.locking import mend
from mv3d.evaluation.alignment import align
from mv3d.evaluation.distances import surface_distances, thinned, volume_iou
from mv3d.evaluation.image_sets import image_set
from mv3d.evaluation.perceptual import PairMetric
from mv3d.evaluation.protocols import MeshProtocol
from mv3d.evaluation.surfaces import (
    checked_mesh,
    fitting_cameras,
    largest_side,
    moved,
    nearly_closed,
    normalizing,
    sample_surface,
)
from mv3d.evaluation.view_metrics import compare_image_sets
from mv3d.render.cameras import Orbit
from mv3d.render.mesh import Mesh
from mv3d.views.views import Views

_SUPERSAMPLE = 2
# Reconstructions in the truth's frame differ from it by a few percent.
_SIZE_RATIO = 1.5
_CENTRE_OFFSET = 0.5


def evaluate_mesh(
    pred: Mesh | str | os.PathLike[str],
    gt: Mesh | str | os.PathLike[str],
    protocol: MeshProtocol | None = None,
    *,
    extra: dict[str, PairMetric] | None = None,
    missing: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Compare two meshes in the world frame (Z up). Returns a JSON-compatible document.

    extra, missing: more metrics of the renders, as in `evaluate_views`.

    The document: `protocol` (all settings), `alignment` (the steps with their results, the 4x4 matrix from pred to gt
    in the files' units), `unit` (gt's largest side in the file and in the figures), `metrics` (chamfer and its parts,
    f_score by threshold, normal_consistency, iou if both meshes are closed), `renders` (mean and views of
    `evaluate_views`), `warnings` (sizes or centres so different that the figures mean little; what could not be used of
    the files), `missing`.

    Raises InputError for meshes that are missing, damaged or without a surface, UsageError for settings out of range.
    """
    protocol = protocol or MeshProtocol()
    a, b = _mesh(pred, "pred"), _mesh(gt, "gt")
    of_files = [f"{side}: {text}" for side, mesh in (("pred", a), ("gt", b)) for text in mesh.warnings]
    rng = np.random.default_rng(protocol.seed)
    file_side = largest_side(b)
    # One unit for both: this changes lengths, not how the meshes lie to each other.
    unit = np.eye(4) if protocol.side is None else normalizing(b, protocol.side)
    a, b = moved(a, unit), moved(b, unit)
    found = align(a, b, protocol.align, rng)
    a = moved(a, found.matrix)
    sides = [sample_surface(mesh, protocol.samples, rng, outer=protocol.outer) for mesh in (a, b)]
    if protocol.voxel is not None:
        sides = [thinned(samples, protocol.voxel) for samples in sides]
    metrics: dict[str, Any] = surface_distances(sides[0], sides[1], protocol.thresholds)
    missing = dict(missing or {})
    opened = [name for name, mesh in (("pred", a), ("gt", b)) if not nearly_closed(mesh)]
    if opened:
        missing["iou"] = (
            f"{' and '.join(opened)} not closed (edges without a second face): no inside to compare"
        )
    else:
        metrics["iou"] = volume_iou(a, b, resolution=protocol.iou_resolution)
    in_files = np.linalg.inv(unit) @ found.matrix @ unit
    document: dict[str, Any] = {
        "protocol": asdict(protocol),
        "alignment": {"steps": list(protocol.align), "found": found.record, "matrix": in_files.tolist()},
        "unit": {"gt_side_in_file": file_side, "gt_side_here": largest_side(b)},
        "points": {"pred": len(sides[0]), "gt": len(sides[1])},
        "metrics": metrics,
        "warnings": _misalignment(a, b) + of_files,
    }
    if protocol.render_azimuths:
        document["renders"] = compare_renders(a, b, protocol, extra=extra, missing=missing)
        missing = document["renders"].pop("missing")
    return document | {"missing": missing}


def compare_renders(
    pred: Mesh,
    gt: Mesh,
    protocol: MeshProtocol,
    *,
    extra: dict[str, PairMetric] | None = None,
    missing: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Compare unlit renders of both meshes. Returns the document of `evaluate_views` with the cameras' `radius`.

    The cameras stand around gt, at the least distance from which all of gt is in sight.
    """
    from mv3d.render.raycast import render_views  # noqa: PLC0415 - a native library

    count, heights = protocol.render_azimuths, protocol.render_elevations_deg
    azimuths = np.tile((np.arange(count) + 0.5) * 360.0 / count, len(heights))
    elevations = np.repeat(heights, count)
    centring = normalizing(gt, 1.0)
    pred, gt = moved(pred, centring), moved(gt, centring)
    cameras, radius = fitting_cameras(gt, elevations, azimuths, protocol.render_size)
    orbit = Orbit(tuple(elevations.tolist()), tuple(azimuths.tolist()), radius)
    a, b = (
        image_set(
            Views(render_views(mesh, cameras, supersample=_SUPERSAMPLE), cameras, orbit), with_alpha=True
        )
        for mesh in (pred, gt)
    )
    return compare_image_sets(a, b, extra=extra, missing=missing) | {"radius": radius}


def _misalignment(pred: Mesh, gt: Mesh) -> list[str]:
    """One sentence if the aligned meshes differ in size or place as only meshes of different frames do."""
    true_side = largest_side(gt)
    centres = [np.linalg.inv(normalizing(mesh))[:3, 3] for mesh in (pred, gt)]
    ratio, offset = largest_side(pred) / true_side, float(np.linalg.norm(centres[0] - centres[1])) / true_side
    found = []
    if not 1 / _SIZE_RATIO <= ratio <= _SIZE_RATIO:
        found.append(f"pred's largest side is {ratio:.3g} times that of gt")
    if offset > _CENTRE_OFFSET:
        found.append(f"the centres are {offset:.3g} of gt's largest side apart")
    advice = "the figures mean little; --align scale brings pred onto gt"
    return [f"{' and '.join(found)}: {advice}"] if found else []


def _mesh(source: Mesh | str | os.PathLike[str], name: str) -> Mesh:
    """A mesh with a surface. name: of one in memory, for messages."""
    if isinstance(source, Mesh):
        return checked_mesh(source, name)
    from mv3d.render.mesh_io import load_mesh  # noqa: PLC0415

    path = Path(source)
    mend(path, path.parent)
    inside = path / "mesh.glb"
    if path.is_dir() and not inside.is_file():
        raise InputError(f"{path}: expected a mesh file, or a folder with mesh.glb, found none in it")
    return checked_mesh(load_mesh(inside if path.is_dir() else path), str(source))
