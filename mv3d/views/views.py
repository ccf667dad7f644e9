"""The value that stages hand on: posed RGBA views of one object."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError
from mv3d.render.cameras import Cameras, Orbit
from mv3d.render.mesh import Mesh


@dataclass(frozen=True, eq=False)
class Views:
    """Posed views.

    images: (n, h, w, 4) float32 in [0, 1], sRGB, straight alpha.
    cameras: n cameras of the same size.
    orbit: the angles, where known. input_view: the index of the photo, where there is one.
    solid: the object as a 3D prior saw it in the photo, where one led the views, in their world.
    warnings: whole sentences about what was doubtful when they were read. reading: what was changed then (lenses made
    straight, a world moved and scaled), for records: values that JSON has.
    """

    images: Float[np.ndarray, "n h w 4"]
    cameras: Cameras
    orbit: Orbit | None = None
    input_view: int | None = None
    solid: Mesh | None = None
    warnings: tuple[str, ...] = ()
    reading: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[-1] != 4:
            raise InputError(f"images: expected shape (n, h, w, 4), got {self.images.shape}")
        if len(self.images) != len(self.cameras):
            raise InputError(f"views: {len(self.images)} images but {len(self.cameras)} cameras")
        if self.images.shape[1:3] != (self.cameras.height, self.cameras.width):
            raise InputError(
                f"images: expected {self.cameras.width}x{self.cameras.height} as the cameras say, "
                f"got {self.images.shape[2]}x{self.images.shape[1]}"
            )
        object.__setattr__(self, "images", np.ascontiguousarray(self.images, np.float32))

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        known = {"orbit": self.orbit, "solid": self.solid, "warnings": self.warnings}
        more = [f"input_view={self.input_view}"] if self.input_view is not None else []
        more += [f"with {name}" for name, value in known.items() if value]
        return f"Views({', '.join([f'{len(self)} of {self.cameras.width}x{self.cameras.height}', *more])})"

    def subset(self, keep: list[int]) -> Views:
        """Only these views, in this order, with their angles."""
        position = keep.index(self.input_view) if self.input_view in keep else None
        orbit = self.orbit
        if orbit is not None:
            elevations, azimuths = (
                tuple(angles[i] for i in keep) for angles in (orbit.elevations_deg, orbit.azimuths_deg)
            )
            orbit = Orbit(elevations, azimuths, orbit.radius, orbit.fov_deg, position)
        return replace(
            self, images=self.images[keep], cameras=self.cameras[keep], orbit=orbit, input_view=position
        )

    def save(self, out: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write a views folder (transforms.json, images/, contact.png, orbit.mp4)."""
        from mv3d.views.folder import save_views  # noqa: PLC0415

        return save_views(self, out, overwrite=overwrite)  # pyright: ignore[reportArgumentType]

    def to_colmap(
        self, out: str | os.PathLike[str], *, mesh: Mesh | None = None, overwrite: bool = False
    ) -> Path:
        """Write a COLMAP model as text with images and masks (see `handing_on.to_colmap`)."""
        from mv3d.views.handing_on import to_colmap  # noqa: PLC0415

        return to_colmap(self, out, mesh=mesh, overwrite=overwrite)  # pyright: ignore[reportArgumentType]

    def to_nerfstudio(
        self, out: str | os.PathLike[str], *, mesh: Mesh | None = None, overwrite: bool = False
    ) -> Path:
        """Write transforms.json with images and masks (see `handing_on.to_nerfstudio`)."""
        from mv3d.views.handing_on import to_nerfstudio  # noqa: PLC0415

        return to_nerfstudio(self, out, mesh=mesh, overwrite=overwrite)  # pyright: ignore[reportArgumentType]

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Views:
        """Read a views folder, a folder with cameras, or an orbit video (see `readers.load_views`)."""
        from mv3d.views.readers import load_views  # noqa: PLC0415

        return load_views(path)  # pyright: ignore[reportReturnType]


def composite(images: Float[np.ndarray, "*b 4"], background: float = 1.0) -> Float[np.ndarray, "*b 3"]:
    """Straight-alpha RGBA over a grey of `background`, in sRGB values as viewers do it."""
    alpha = images[..., 3:]
    return images[..., :3] * alpha + background * (1 - alpha)
