"""3D Gaussians out of a `.ply` of 3DGS, as a viewer takes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError

SH_C0 = 0.28209479177387814
"""½·√(1/π): colour = ½ + SH_C0 · f_dc (Kerbl et al. 2023)."""
# Trainings and viewers of 3DGS take a file as x right, y down, z away from the viewer of the front; ours shows the photo's
# side in front. World (x, y, z) = file (-z, x, -y).
_WORLD_FROM_FILE = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])
_FIELDS = ("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")  # fmt: skip
_MOST = 5_000_000


@dataclass(frozen=True, eq=False)
class SplatCloud:
    """In the world. centers: (n, 3). covariances: (n, 3, 3), squared world lengths. colors: (n, 3) in [0, 1], of degree 0.
    opacities: (n, 1) in [0, 1]."""

    centers: Float[np.ndarray, "n 3"]
    covariances: Float[np.ndarray, "n 3 3"]
    colors: Float[np.ndarray, "n 3"]
    opacities: Float[np.ndarray, "n 1"]


def read_splats(path: Path) -> SplatCloud:
    """Read a binary little-endian ply of floats in the layout of 3DGS: opacity as its logit, scales as natural logarithms,
    rotations w x y z. Raises InputError for other files."""
    try:
        head, _, body = path.read_bytes().partition(b"end_header\n")
        lines = head.decode("ascii").split("\n")
        count = int(next(line.split()[2] for line in lines if line.startswith("element vertex ")))
        names = [line.split()[2] for line in lines if line.startswith("property float ")]
        if (
            "format binary_little_endian 1.0" not in lines
            or not 0 < count <= _MOST
            or set(_FIELDS) - set(names)
        ):
            raise ValueError("another layout")
        values = np.frombuffer(body, "<f4", count * len(names)).reshape(count, -1).astype(np.float64)
    except (OSError, ValueError, IndexError, StopIteration) as error:
        raise InputError(f"{path}: expected a ply of 3D Gaussians as 3DGS writes it ({error})") from error
    columns = {name: values[:, place] for place, name in enumerate(names)}
    found = np.stack([columns[name] for name in _FIELDS], 1)
    if not np.isfinite(found).all():
        raise InputError(f"{path}: expected finite numbers, got NaN or infinity")
    w, x, y, z = (
        found[:, 10:14] / np.maximum(np.linalg.norm(found[:, 10:14], axis=1, keepdims=True), 1e-12)
    ).T
    rotation = np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        1,
    )
    axes = _WORLD_FROM_FILE @ rotation * np.exp(np.clip(found[:, None, 7:10], -30, 30))
    return SplatCloud(
        found[:, :3] @ _WORLD_FROM_FILE.T,
        axes @ axes.transpose(0, 2, 1),
        np.clip(0.5 + SH_C0 * found[:, 3:6], 0, 1),
        1 / (1 + np.exp(-np.clip(found[:, 6:7], -30, 30))),
    )
