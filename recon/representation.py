"""The seam of the reconstruction: views in, a representation out.

A new method is a module of its own and one entry of METHODS. Loads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from mv3d.core.progress import Clock
    from mv3d.recon.config import ReconConfig
    from mv3d.render.cameras import Cameras
    from mv3d.render.mesh import Mesh
    from mv3d.views.views import Views


class Representation(Protocol):
    """An object in the world of its views."""

    def render(self, cameras: Cameras) -> Float[np.ndarray, "n h w 4"]:
        """Views of it: sRGB in [0, 1], straight alpha."""
        ...

    def to_mesh(self) -> Mesh | None:
        """A closed mesh, or None where only views can be written."""
        ...

    def details(self) -> dict[str, Any]:
        """Figures of the fit for recon.json."""
        ...


class Reconstructor(Protocol):
    """makes_mesh: whether `to_mesh` of the result gives a mesh."""

    makes_mesh: bool

    def fit(self, views: Views, clock: Clock) -> Representation:
        """Fit the views; each stage of the work is one of the clock's.

        Raises InputError for views that cannot be used, EmptyHullError if they have no object in common.
        """
        ...


def _mesh(config: ReconConfig) -> Reconstructor:
    from mv3d.recon.stages import MeshReconstructor  # noqa: PLC0415 - loads torch

    return MeshReconstructor(config)


def _nerf(config: ReconConfig) -> Reconstructor:
    from mv3d.recon.stages import FieldReconstructor  # noqa: PLC0415 - loads torch

    return FieldReconstructor(config)


METHODS: dict[str, Callable[[ReconConfig], Reconstructor]] = {"mesh": _mesh, "nerf": _nerf, "splats": _mesh}
"""Factory by `--method`. Each takes resolved settings. Splats begin as a mesh; they are
fitted where files are written."""
