"""The seam of multi-view generators: a photo and an orbit in, frames out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Float

from mv3d.core.progress import Progress
from mv3d.generation.photo import PreparedPhoto
from mv3d.generation.plan import GenerationPlan, SamplerSettings
from mv3d.models.folder import PRIOR, ModelInfo
from mv3d.render.cameras import Cameras, Orbit
from mv3d.render.mesh import Mesh


@dataclass(frozen=True, eq=False)
class Frames:
    """What a generator made of one photo, in the order of the orbit.

    images: float32 in [0, 1], colours on white; a fourth channel is alpha. Without one the frames are cut out by their
    background. cameras: one per frame, of the images' size. seconds: by stage. warnings: whole sentences for the user.
    solid: what a 3D prior saw in the photo, in the world of the cameras.
    """

    images: Float[np.ndarray, "n h w channels"]
    cameras: Cameras
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    solid: Mesh | None = None


OnFrame = Callable[[int, int, Float[np.ndarray, "h w channels"]], None]
"""(index of a frame, how many there will be, the frame as in `Frames.images`)"""


class MultiViewGenerator(Protocol):
    """A loaded model that makes the views of one photo."""

    @property
    def info(self) -> ModelInfo:
        """What it takes (`camera`, `takes_elevation`) and its limits (`num_frames`, `elevations_deg`, `size`)."""
        ...

    def generate(
        self,
        photo: PreparedPhoto,
        orbit: Orbit,
        settings: SamplerSettings,
        on_progress: Progress | None = None,
        on_frame: OnFrame | None = None,
    ) -> Frames:
        """The frames of an orbit that `plan_orbit` allowed. The same arguments give the same frames.

        on_progress: called with a stage's name and its finished share, 0 to 1. on_frame: with each frame once it is there.
        """
        ...


def _svd(plan: GenerationPlan) -> MultiViewGenerator:
    from mv3d.generation.svd import load_svd  # noqa: PLC0415 - loads diffusers and transformers

    return load_svd(plan)


def _prior(plan: GenerationPlan) -> MultiViewGenerator:
    from mv3d.generation.prior import PriorGenerator, load_lifter  # noqa: PLC0415 - only where it is chosen

    return PriorGenerator(load_lifter(plan), plan.info)


GENERATORS: dict[str, Callable[[GenerationPlan], MultiViewGenerator]] = dict.fromkeys(
    ("svd", "svd_mv", "sv3d_u", "sv3d_p", "tiny", "default"), _svd
) | {PRIOR: _prior}
"""`ModelInfo.kind` → what loads the generator of a plan. Any other kind is the SVD family's under a name of its own."""


def load_generator(plan: GenerationPlan) -> MultiViewGenerator:
    """Load the weights of a planned model. Errors as in the factory: InputError for files that cannot be used."""
    return GENERATORS.get(plan.info.kind, _svd)(plan)
