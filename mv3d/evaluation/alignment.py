"""Alignment of a predicted mesh with the true one, step by step, with a record of each step.

The choice of alignment alone can move a Chamfer distance from .020 to .033, so it is always recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import UsageError
from mv3d.evaluation.surfaces import moved, normalizing, sample_surface
from mv3d.render.mesh import Mesh
from mv3d.render.raycast import mesh_colors

STEPS = ("none", "scale", "azimuth-search", "rotation-search", "icp", "icp-scale")
_SEARCH_POINTS = 3000
_ALIKE = 1.03  # of the least distance: what 3000 samples cannot tell apart
_ICP_POINTS = 20_000
_ICP_ROUNDS = 60


@dataclass(frozen=True, eq=False)
class Alignment:
    """matrix: 4x4 similarity, pred → frame of gt. record: one entry for each step, for the output."""

    matrix: Float[np.ndarray, "4 4"]
    record: list[dict[str, Any]] = field(default_factory=list)


def align(pred: Mesh, gt: Mesh, steps: tuple[str, ...], rng: np.random.Generator) -> Alignment:
    """Apply the steps in their order.

    none: nothing. scale: centre pred's bounding box on gt's and make its largest side the same.
    azimuth-search: turn about the vertical to the least Chamfer distance (every 5 degrees, then down to 0.1 degree).
    rotation-search: likewise over the 24 turns of a cube, each with six turns of 15 degrees. Both scale and centre
    every turned candidate anew where `scale` came before, as the bounding box turns with it. Among turns of almost the
    same distance, as a cube has, the one whose colours agree best is taken.
    icp: rigid, point to point (Besl and McKay 1992); icp-scale: with one scale (Umeyama 1991).

    Raises UsageError for an unknown step.
    """
    check_steps(steps)
    if "none" in steps and len(steps) > 1:
        raise UsageError(f"--align: none stands alone, got {','.join(steps)}")
    matrix, record, scaled = np.eye(4), [], False
    for step in steps if steps != ("none",) else ():
        here = moved(pred, matrix)
        if step == "scale":
            matrix, scaled = _onto_box(here, gt) @ matrix, True
            record.append({"step": step, "scale": _scale_of(matrix)})
            continue
        searching = step in ("azimuth-search", "rotation-search")
        change, entry = (
            _search(here, gt, step, scaled, rng) if searching else _icp(here, gt, step == "icp-scale", rng)
        )
        matrix = change @ matrix
        record.append({"step": step, **entry})
    return Alignment(matrix, record)


def check_steps(steps: tuple[str, ...]) -> None:
    """Raise UsageError for an unknown step."""
    for step in steps:
        if step not in STEPS:
            raise UsageError(f"--align: expected some of {', '.join(STEPS)}, got {step}")


def rotation_z(angle_deg: float) -> Float[np.ndarray, "4 4"]:
    """A rotation about the vertical, counter-clockwise seen from above."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    matrix = np.eye(4)
    matrix[:2, :2] = [[c, -s], [s, c]]
    return matrix


def cube_rotations() -> list[Float[np.ndarray, "4 4"]]:
    """The 24 rotations that take a cube onto itself, the identity first."""
    found = []
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        for signs in np.ndindex(2, 2, 2):
            matrix = np.eye(4)
            matrix[:3, :3] = np.eye(3)[list(order)] * (1 - 2 * np.array(signs))[:, None]
            if np.linalg.det(matrix) > 0:
                found.append(matrix)
    return found


def similarity_between(
    source: Float[np.ndarray, "n 3"], target: Float[np.ndarray, "n 3"], *, with_scale: bool
) -> Float[np.ndarray, "4 4"]:
    """The rotation, translation and, with `with_scale`, scale of least squared error (Umeyama 1991, equations 38 to 43)."""
    mean_source, mean_target = source.mean(0), target.mean(0)
    a, b = source - mean_source, target - mean_target
    u, values, vt = np.linalg.svd(b.T @ a / len(a))
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((values * sign).sum() / max((a**2).sum(1).mean(), 1e-30)) if with_scale else 1.0
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation
    matrix[:3, 3] = mean_target - scale * rotation @ mean_source
    return matrix


def _onto_box(pred: Mesh, gt: Mesh) -> Float[np.ndarray, "4 4"]:
    return np.linalg.inv(normalizing(gt)) @ normalizing(pred)


def _scale_of(matrix: Float[np.ndarray, "4 4"]) -> float:
    return float(np.cbrt(np.linalg.det(matrix[:3, :3])))


def _search(
    pred: Mesh, gt: Mesh, step: str, scaled: bool, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "4 4"], dict[str, Any]]:
    centre = np.linalg.inv(normalizing(gt))[:3, 3]
    to_centre = np.eye(4)
    to_centre[:3, 3] = -centre
    distance, color_difference = _compared_under(pred, gt, rng)

    def candidate(turn: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
        matrix = np.linalg.inv(to_centre) @ turn @ to_centre
        return _onto_box(moved(pred, matrix), gt) @ matrix if scaled else matrix

    before = distance(np.eye(4))
    coarse: Iterator[tuple[Any, float]]
    if step == "azimuth-search":
        coarse = ((np.eye(4), float(angle)) for angle in range(0, 360, 5))
    else:
        coarse = ((base, float(angle)) for base in cube_rotations() for angle in range(0, 90, 15))
    scored = [(distance(candidate(rotation_z(angle) @ base)), angle, base) for base, angle in coarse]
    least = min(scored, key=lambda entry: entry[0])[0]
    alike = [entry for entry in scored if entry[0] <= _ALIKE * least]
    value, angle, base = min(
        alike, key=lambda entry: color_difference(candidate(rotation_z(entry[1]) @ entry[2]))
    )
    width = 2.5 if step == "azimuth-search" else 7.5
    while width > 0.08:
        for near in (angle - width, angle + width):
            found = distance(candidate(rotation_z(near) @ base))
            if found < value:
                value, angle = found, near
        width /= 2
    turn = rotation_z(angle) @ base
    entry: dict[str, Any] = {"chamfer_before": before, "chamfer_after": value}
    if step == "azimuth-search":
        entry["azimuth_deg"] = round((angle + 180) % 360 - 180, 3)
    else:
        entry["rotation"] = turn[:3, :3].round(6).tolist()
    return candidate(turn), entry


def _compared_under(
    pred: Mesh, gt: Mesh, rng: np.random.Generator
) -> tuple[Callable[[np.ndarray], float], Callable[[np.ndarray], float]]:
    """Chamfer distance of a few samples, and mean difference of their colours, by the similarity that moves pred."""
    of_pred, of_gt = (sample_surface(mesh, _SEARCH_POINTS, rng) for mesh in (pred, gt))
    a, b = of_pred.points, of_gt.points
    assert of_pred.hits is not None and of_gt.hits is not None  # of a surface
    every = np.ones(_SEARCH_POINTS, bool)
    color_a, color_b = mesh_colors(pred, of_pred.hits, every), mesh_colors(gt, of_gt.hits, every)
    from scipy.spatial import KDTree  # noqa: PLC0415 - slow to import

    tree_a, tree_b = KDTree(a), KDTree(b)

    def distance(matrix: Float[np.ndarray, "4 4"]) -> float:
        # The tree of pred stays where it is: gt is taken back, and its distances scaled.
        back = np.linalg.inv(matrix)
        there = tree_b.query(a @ matrix[:3, :3].T + matrix[:3, 3])[0].mean()
        return float(there + _scale_of(matrix) * tree_a.query(b @ back[:3, :3].T + back[:3, 3])[0].mean()) / 2

    def color_difference(matrix: Float[np.ndarray, "4 4"]) -> float:
        nearest = tree_b.query(a @ matrix[:3, :3].T + matrix[:3, 3])[1]
        return float(np.abs(color_a - color_b[nearest]).mean())

    return distance, color_difference


def _icp(
    pred: Mesh, gt: Mesh, with_scale: bool, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "4 4"], dict[str, Any]]:
    source = sample_surface(pred, _ICP_POINTS, rng).points
    target = sample_surface(gt, 2 * _ICP_POINTS, rng).points
    from scipy.spatial import KDTree  # noqa: PLC0415 - slow to import

    tree = KDTree(target)
    matrix, best, best_error, first, rounds = np.eye(4), np.eye(4), np.inf, 0.0, 0
    for rounds in range(_ICP_ROUNDS):
        here = source @ matrix[:3, :3].T + matrix[:3, 3]
        away, nearest = tree.query(here)
        error = float(np.sqrt((away**2).mean()))
        if rounds == 0:
            first = error
        if not error < best_error * (1 - 1e-4):
            break
        best, best_error = matrix, error
        matrix = similarity_between(here, target[nearest], with_scale=with_scale) @ matrix
    entry = {"rms_before": first, "rms_after": best_error, "rounds": rounds, "scale": _scale_of(best)}
    return best, entry
