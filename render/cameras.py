"""Cameras and the axes of mv3d. The one place where frames are converted.

World: right-handed, Z up. Camera: `c2w` with OpenGL axes (+X right, +Y up, +Z back).
Pixels: (0, 0) is the outer corner of the top-left pixel, so pixel centres are at +0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError, shown

SV3D_FOV_DEG = 33.8
SV3D_RADIUS = 2.0
FOREGROUND_RATIO = 0.917
"""Share of the frame that the object's larger side fills: the framing of the scripts that drive SV3D, and of the 3D prior's
photos in training."""

_FLIP_YZ = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Cameras:
    """A batch of perspective cameras that share one image size.

    c2w: (n, 4, 4) float64, camera to world, rigid, OpenGL axes.
    fl_x, fl_y, cx, cy: (n,) float64, pixels.
    width, height: pixels.
    """

    c2w: Float[np.ndarray, "n 4 4"]
    fl_x: Float[np.ndarray, " n"]
    fl_y: Float[np.ndarray, " n"]
    cx: Float[np.ndarray, " n"]
    cy: Float[np.ndarray, " n"]
    width: int
    height: int

    def __repr__(self) -> str:
        return f"Cameras({len(self.c2w)} of {self.width}x{self.height})"

    def __post_init__(self) -> None:
        c2w = np.array(self.c2w, np.float64)
        if c2w.ndim != 3 or c2w.shape[1:] != (4, 4):
            raise InputError(f"c2w: expected shape (n, 4, 4), got {c2w.shape}")
        if not np.isfinite(c2w).all():
            raise InputError("c2w: expected finite numbers, got NaN or infinity; check the camera file")
        rotation = c2w[:, :3, :3]
        gram = rotation @ rotation.transpose(0, 2, 1)
        rigid = np.abs(gram - np.eye(3)).max((1, 2)) < 1e-3
        rigid &= np.linalg.det(rotation) > 0
        rigid &= np.abs(c2w[:, 3] - [0, 0, 0, 1]).max(1) < 1e-6
        if not rigid.all():
            bad = int(np.flatnonzero(~rigid)[0])
            raise InputError(
                f"c2w of camera {bad}: expected a rigid matrix (orthonormal rotation, determinant 1, "
                "last row 0 0 0 1), got a scaled, sheared or mirrored one; remove the scale from the pose"
            )
        object.__setattr__(self, "c2w", c2w)
        for name in ("fl_x", "fl_y", "cx", "cy"):
            value = np.broadcast_to(np.asarray(getattr(self, name), np.float64), (len(c2w),)).copy()
            if not np.isfinite(value).all() or (name.startswith("fl") and (value <= 0).any()):
                raise InputError(f"{name}: expected finite positive pixels, got {value.min()}..{value.max()}")
            object.__setattr__(self, name, value)
        if self.width < 1 or self.height < 1:
            raise InputError(f"image size: expected at least 1x1, got {self.width}x{self.height}")

    def __len__(self) -> int:
        return len(self.c2w)

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> Cameras:
        """Subset, always a batch: an int gives one camera."""
        keep = [int(index)] if isinstance(index, (int, np.integer)) else index
        return replace(
            self, **{name: getattr(self, name)[keep] for name in ("c2w", "fl_x", "fl_y", "cx", "cy")}
        )

    @property
    def w2c(self) -> Float[np.ndarray, "n 4 4"]:
        """World to camera, OpenGL axes."""
        return invert_rigid(self.c2w)

    @property
    def centers(self) -> Float[np.ndarray, "n 3"]:
        """Camera positions in the world."""
        return self.c2w[:, :3, 3]

    def resized(self, width: int, height: int) -> Cameras:
        """The same cameras for images resampled to width × height."""
        sx, sy = width / self.width, height / self.height
        fl_x, fl_y, cx, cy = self.fl_x * sx, self.fl_y * sy, self.cx * sx, self.cy * sy
        return Cameras(self.c2w, fl_x, fl_y, cx, cy, width, height)

    def project(
        self, points_world: Float[np.ndarray, "p 3"], view: int
    ) -> tuple[Float[np.ndarray, "p 2"], Float[np.ndarray, " p"]]:
        """Pixels (x right, y down) and depth along the optical axis (> 0 in front) in one view.

        float32 points stay float32; the point must not lie in the camera's own plane.
        """
        dtype = points_world.dtype
        w2c = self.w2c[view].astype(dtype)
        cam = points_world @ w2c[:3, :3].T + w2c[:3, 3]
        depth = -cam[:, 2]
        xy = np.empty((len(cam), 2), dtype)
        safe = np.where(np.abs(depth) < 1e-9, dtype.type(1e-9), depth)
        xy[:, 0] = cam[:, 0] / safe * dtype.type(self.fl_x[view]) + dtype.type(self.cx[view])
        xy[:, 1] = -cam[:, 1] / safe * dtype.type(self.fl_y[view]) + dtype.type(self.cy[view])
        return xy, depth

    def rays(
        self, view: int, xy: Float[np.ndarray, "p 2"] | None = None
    ) -> tuple[Float[np.ndarray, "p 3"], Float[np.ndarray, "p 3"]]:
        """Origins and unit directions in the world through pixels `xy`, by default all pixel centres
        row by row."""
        if xy is None:
            ys, xs = np.mgrid[: self.height, : self.width]
            xy = np.stack([xs.ravel() + 0.5, ys.ravel() + 0.5], 1)
        x, y = (xy[:, 0] - self.cx[view]) / self.fl_x[view], -(xy[:, 1] - self.cy[view]) / self.fl_y[view]
        shrink = 1 / np.sqrt(x * x + y * y + 1)
        directions = np.empty((len(xy), 3))
        for axis, (right, up, back) in enumerate(self.c2w[view, :3, :3]):
            directions[:, axis] = (x * right + y * up - back) * shrink
        return np.broadcast_to(self.centers[view], directions.shape).copy(), directions


@dataclass(frozen=True)
class Orbit:
    """Cameras on spheres around the origin, as angles in degrees.

    elevations_deg: from -90 to 90. azimuths_deg: any, as many. radius: positive, in world lengths.
    fov_deg: horizontal field of view, between 0 and 180. input_view: the frame that shows the photo, or None.
    Raises InputError for values beyond these limits.
    """

    elevations_deg: tuple[float, ...]
    azimuths_deg: tuple[float, ...]
    radius: float = SV3D_RADIUS
    fov_deg: float = SV3D_FOV_DEG
    input_view: int | None = None

    def __post_init__(self) -> None:
        count = len(self.azimuths_deg)
        if not count or len(self.elevations_deg) != count:
            raise InputError(
                "orbit: expected as many elevations_deg as azimuths_deg, at least one, "
                f"got {len(self.elevations_deg)} and {count}"
            )
        angles = (*self.elevations_deg, *self.azimuths_deg)
        if not np.isfinite(angles).all() or max(map(abs, self.elevations_deg)) > 90:
            raise InputError("orbit: expected finite angles and elevations from -90 to 90 degrees")
        if not 0 < self.radius < np.inf:
            raise InputError(f"orbit: radius: expected a finite positive number, got {self.radius:g}")
        if not 0 < self.fov_deg < 180:
            raise InputError(f"orbit: fov_deg: expected more than 0 and less than 180, got {self.fov_deg:g}")
        if self.input_view is not None and not 0 <= self.input_view < count:
            raise InputError(f"orbit: input_view: expected 0 to {count - 1}, got {self.input_view}")

    @staticmethod
    def from_dict(document: Any, *, radius: float = SV3D_RADIUS, fov_deg: float = SV3D_FOV_DEG) -> Orbit:
        """The orbit of a JSON document: elevations_deg and azimuths_deg; radius, fov_deg and input_view where known.

        radius, fov_deg: for a document without them. Other keys are ignored. Raises InputError.
        """
        try:
            input_view = document.get("input_view")
            elevations = tuple(float(value) for value in document["elevations_deg"])
            azimuths = tuple(float(value) for value in document["azimuths_deg"])
            radius, fov_deg = float(document.get("radius", radius)), float(document.get("fov_deg", fov_deg))
            input_view = None if input_view is None else int(input_view)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"orbit: expected elevations_deg and azimuths_deg as lists of numbers ({shown(error)})"
            ) from error
        return Orbit(elevations, azimuths, radius, fov_deg, input_view)

    def to_dict(self) -> dict[str, Any]:
        """The document that `from_dict` reads: a JSON object of all five fields."""
        angles = {"elevations_deg": list(self.elevations_deg), "azimuths_deg": list(self.azimuths_deg)}
        return angles | {"radius": self.radius, "fov_deg": self.fov_deg, "input_view": self.input_view}

    def cameras(self, width: int, height: int) -> Cameras:
        lens: dict[str, Any] = {"radius": self.radius, "fov_deg": self.fov_deg}
        return orbit_cameras(self.elevations_deg, self.azimuths_deg, **lens, width=width, height=height)


def invert_rigid(matrix: Float[np.ndarray, "*b 4 4"]) -> Float[np.ndarray, "*b 4 4"]:
    """Inverse of rigid 4×4 matrices."""
    inverse = np.zeros_like(matrix)
    rotation_t = np.swapaxes(matrix[..., :3, :3], -1, -2)
    inverse[..., :3, :3] = rotation_t
    inverse[..., :3, 3] = -(rotation_t @ matrix[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1
    return inverse


def sv3d_azimuths_deg(count: int, sign: int = 1) -> Float[np.ndarray, " n"]:
    """SV3D's order (arXiv 2403.12008): frame i at 360·(i+1)/n, the last one at 0, the input view."""
    return (sign * 360.0 * np.arange(1, count + 1) / count) % 360.0


def sine_orbit(count: int = 21, amplitude_deg: float = 30.0, periods: int = 2) -> Orbit:
    """elevation = amplitude · sin(periods · azimuth): the orbit that SV3D reconstructs from."""
    azimuths = sv3d_azimuths_deg(count)
    elevations = amplitude_deg * np.sin(periods * np.radians(azimuths))
    return Orbit(tuple(elevations.tolist()), tuple(azimuths.tolist()), input_view=count - 1)


def orbit_cameras(
    elevations_deg: float | Sequence[float] | np.ndarray,
    azimuths_deg: Sequence[float] | np.ndarray,
    *,
    radius: float = SV3D_RADIUS,
    fov_deg: float = SV3D_FOV_DEG,
    width: int,
    height: int,
) -> Cameras:
    """Cameras at radius · (cos e cos a, cos e sin a, sin e), looking at the origin, Z up.

    `fov_deg` is the horizontal field of view; pixels are square.
    """
    azimuth = np.radians(np.asarray(azimuths_deg, np.float64))
    elevation = np.broadcast_to(np.radians(np.asarray(elevations_deg, np.float64)), azimuth.shape)
    back = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
    )
    # The derivative of `back` by azimuth points right for every elevation, straight up and down included.
    right = np.stack([-np.sin(azimuth), np.cos(azimuth), np.zeros_like(azimuth)], -1)
    up = np.cross(back, right)
    c2w = np.tile(np.eye(4), (len(azimuth), 1, 1))
    c2w[:, :3, 0], c2w[:, :3, 1], c2w[:, :3, 2], c2w[:, :3, 3] = right, up, back, back * radius
    focal = np.full(len(azimuth), 0.5 * width / np.tan(np.radians(fov_deg) / 2))
    half = np.ones(len(azimuth))
    return Cameras(c2w, focal, focal, half * width / 2, half * height / 2, width, height)


def opencv_from_opengl(c2w: Float[np.ndarray, "*b 4 4"]) -> Float[np.ndarray, "*b 4 4"]:
    """c2w with OpenGL camera axes → c2w with OpenCV camera axes (+Y down, +Z forward)."""
    return c2w @ _FLIP_YZ


def opengl_from_opencv(c2w: Float[np.ndarray, "*b 4 4"]) -> Float[np.ndarray, "*b 4 4"]:
    """The inverse of `opencv_from_opengl`."""
    return c2w @ _FLIP_YZ


def gltf_from_world(vectors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """World (Z up, input view on +X) → glTF (Y up, front along +Z): (x, y, z) → (y, z, x)."""
    return vectors[:, [1, 2, 0]]


def world_from_gltf(vectors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """The inverse of `gltf_from_world`."""
    return vectors[:, [2, 0, 1]]
