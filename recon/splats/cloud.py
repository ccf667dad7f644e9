"""The splat value: 3D Gaussians with one colour each, in the world frame (Z up)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError


@dataclass(frozen=True, eq=False)
class Splats:
    """Gaussians of covariance R S Sᵀ Rᵀ (Kerbl et al. 2023, equation 6), all arrays float32.

    means: (n, 3) world. scales: (n, 3) standard deviations along the axes of R, positive, world lengths. rotations:
    (n, 4) unit quaternions w x y z. opacities: (n,) in [0, 1]. colors: (n, 3) sRGB in [0, 1], the same from all sides.
    Raises InputError for values out of range.
    """

    means: Float[np.ndarray, "n 3"]
    scales: Float[np.ndarray, "n 3"]
    rotations: Float[np.ndarray, "n 4"]
    opacities: Float[np.ndarray, " n"]
    colors: Float[np.ndarray, "n 3"]

    def __post_init__(self) -> None:
        count = len(self.means)
        for name, shape in _SHAPES.items():
            value = np.ascontiguousarray(getattr(self, name), np.float32)
            if value.shape != (count, *shape):
                raise InputError(f"splats: {name}: expected shape {(count, *shape)}, got {value.shape}")
            if not np.isfinite(value).all():
                raise InputError(f"splats: {name}: expected finite numbers, got NaN or infinity")
            object.__setattr__(self, name, value)
        if count and self.scales.min() <= 0:
            raise InputError(f"splats: scales: expected positive lengths, got {self.scales.min():g}")
        length = np.linalg.norm(self.rotations, axis=1)
        if count and length.min() < 1e-6:
            raise InputError("splats: rotations: expected unit quaternions, got one of length 0")
        object.__setattr__(self, "rotations", (self.rotations / length[:, None]).astype(np.float32))
        for name in ("opacities", "colors"):
            value = getattr(self, name)
            if count and (value.min() < 0 or value.max() > 1):
                raise InputError(f"splats: {name}: expected 0 to 1, got {value.min():g} to {value.max():g}")

    def __len__(self) -> int:
        return len(self.means)


_SHAPES = {"means": (3,), "scales": (3,), "rotations": (4,), "opacities": (), "colors": (3,)}


def quaternion_product(
    a: Float[np.ndarray, "*n 4"], b: Float[np.ndarray, "*n 4"]
) -> Float[np.ndarray, "*n 4"]:
    """Hamilton's product of quaternions w x y z: first turned by `b`, then by `a`."""
    aw, ax, ay, az = np.moveaxis(a, -1, 0)
    bw, bx, by, bz = np.moveaxis(b, -1, 0)
    parts = (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )
    return np.stack(parts, -1)


def matrix_from_quaternion(q: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 3 3"]:
    """Rotation matrices of unit quaternions w x y z."""
    w, x, y, z = q.T
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, -1) for row in rows], -2)


def quaternion_from_matrix(rotation: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 4"]:
    """Unit quaternions w x y z, w ≥ 0, of rotation matrices."""
    from scipy.spatial.transform import Rotation  # noqa: PLC0415 - slow to load

    q = Rotation.from_matrix(rotation).as_quat()[:, [3, 0, 1, 2]]
    return np.where(q[:, :1] < 0, -q, q)


def turned(splats: Splats, rotation: Float[np.ndarray, "3 3"]) -> Splats:
    """The same splats in a world turned by a rotation matrix."""
    q = quaternion_from_matrix(np.asarray(rotation, np.float64)[None])[0]
    means = splats.means.astype(np.float64) @ np.asarray(rotation, np.float64).T
    rotations = quaternion_product(np.broadcast_to(q, splats.rotations.shape), splats.rotations)
    return replace(splats, means=means, rotations=rotations)


def moved(splats: Splats, offset: Float[np.ndarray, " 3"]) -> Splats:
    """The same splats moved by `offset`; the very same object for zeros."""
    return replace(splats, means=splats.means.astype(np.float64) + offset) if np.any(offset) else splats


def with_large_w(splats: Splats) -> Splats:
    """The same Gaussians with axes named and signed so that the rotation is as small as can be: w ≥ 0.85.

    A Gaussian looks the same after any of the 24 turns of a cube of its own axes, if its scales go along. Formats of
    few bits keep a small rotation best: spz stores x, y, z and takes w = √(1 − x² − y² − z²), which is ill-conditioned
    near w = 0.
    """
    matrices = []
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            turn = np.zeros((3, 3))
            turn[axes, range(3)] = signs
            if np.linalg.det(turn) > 0:
                matrices.append(turn)
    turns = quaternion_from_matrix(np.array(matrices))
    candidates = quaternion_product(splats.rotations.astype(np.float64)[:, None], turns[None])
    best = np.abs(candidates[..., 0]).argmax(1)
    rows = np.arange(len(splats))
    chosen = candidates[rows, best]
    chosen *= np.where(chosen[:, :1] < 0, -1, 1)
    order = np.abs(np.array(matrices)).argmax(1)  # of column k: the old axis that the new axis k is
    scales = np.take_along_axis(splats.scales, order[best], 1)
    return replace(splats, scales=scales, rotations=chosen)
