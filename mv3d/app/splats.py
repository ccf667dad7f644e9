"""3D Gaussians out of their files, as a viewer takes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError
from mv3d.recon.splats.cloud import matrix_from_quaternion
from mv3d.recon.splats.files import load_splats

SPLAT_SUFFIXES = (".ply", ".splat", ".spz")
_MOST = 5_000_000
_HEAD_BYTES = 4096


@dataclass(frozen=True, eq=False)
class SplatCloud:
    """In the world. centers: (n, 3). covariances: (n, 3, 3), squared world lengths. colors: (n, 3) in [0, 1], of degree 0.
    opacities: (n, 1) in [0, 1]."""

    centers: Float[np.ndarray, "n 3"]
    covariances: Float[np.ndarray, "n 3 3"]
    colors: Float[np.ndarray, "n 3"]
    opacities: Float[np.ndarray, "n 1"]


def holds_splats(path: Path) -> bool:
    """Whether a file is one of 3D Gaussians: by its suffix, a `.ply` by the colours that its header names."""
    if path.suffix.lower() != ".ply":
        return path.suffix.lower() in SPLAT_SUFFIXES
    with path.open("rb") as file:
        return b"property float f_dc_0" in file.read(_HEAD_BYTES)


def read_splats(path: Path) -> SplatCloud:
    """Read a file of 3D Gaussians, `.ply`, `.splat` or `.spz`. Raises InputError as `load_splats`, and for none or too
    many of them."""
    splats = load_splats(path)
    if not 0 < len(splats) <= _MOST:
        raise InputError(f"{path}: expected 1 to {_MOST} 3D Gaussians, got {len(splats)}")
    rotations = matrix_from_quaternion(splats.rotations.astype(np.float64))
    axes = rotations * splats.scales.astype(np.float64)[:, None]
    return SplatCloud(
        splats.means.astype(np.float64),
        axes @ axes.transpose(0, 2, 1),
        splats.colors.astype(np.float64),
        splats.opacities.astype(np.float64)[:, None],
    )
