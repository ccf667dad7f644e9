"""The single-photo 3D prior as a generator: the photo becomes a solid, and the solid is rendered along the orbit."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from mv3d.core.errors import InputError
from mv3d.core.progress import Clock, Progress
from mv3d.generation.elevation import ElevationEstimate
from mv3d.generation.generator import Frames, OnFrame
from mv3d.generation.photo import PreparedPhoto
from mv3d.generation.plan import GenerationPlan, SamplerSettings
from mv3d.models.folder import ModelInfo, has_prior
from mv3d.models.prior.folder import load_prior, read_prior_settings
from mv3d.models.prior.lean import lean_of
from mv3d.models.prior.lift import predict, solid_of
from mv3d.models.prior.network import Prediction, PriorNetwork
from mv3d.models.prior.normals import VisibleNormals, visible_normals
from mv3d.models.prior.solid import Solid
from mv3d.models.prior.surface import SurfaceConfig, placed, solid_mesh
from mv3d.render.cameras import Cameras, Orbit
from mv3d.render.mesh import Mesh
from mv3d.render.raycast import RayScene, render_view
from mv3d.views.views import composite

Sight = tuple[Prediction, tuple[float, float, float]]
"""A prediction and the crop of the photo that it is of, as `predict` gives them."""
_SUPERSAMPLE = 2
_COARSE = SurfaceConfig(columns=96, step=0.04, faces=4_000, texture_size=16)
_HIGHEST_DEG = 85.0  # of an estimate: orbits end below 89


@dataclass(frozen=True, eq=False)
class Lifter:
    """A prior's network in memory. side: pixels of its input. What it saw in the last photo is kept: the elevation and
    the solid come from one run of the network."""

    network: PriorNetwork
    side: int
    _last: list[tuple[PreparedPhoto, Sight]] = field(default_factory=list, init=False, repr=False)

    def sight(self, photo: PreparedPhoto) -> Sight:
        """What the network sees in a photo. Errors as in `predict`."""
        if not self._last or self._last[0][0] is not photo:
            self._last[:] = [(photo, predict(self.network, photo.rgba, side=self.side))]
        return self._last[0][1]

    def elevation(self, photo: PreparedPhoto) -> ElevationEstimate:
        """The elevation of the photo's camera as the network sees it. Errors as in `predict`."""
        return estimate_of(self.sight(photo)[0])

    def solid(self, photo: PreparedPhoto) -> Solid:
        """The solid in a photo. Errors as in `predict`."""
        made, crop = self.sight(photo)
        return solid_of(made, photo.rgba, crop)

    def normals(self, photo: PreparedPhoto) -> VisibleNormals:
        """The normals of what a photo shows, at its size, in its camera's axes. Errors as in `predict`."""
        return visible_normals(self.solid(photo), photo.rgba.shape[0])

    def lift(
        self,
        photo: PreparedPhoto,
        camera: Cameras | None,
        radius: float,
        config: SurfaceConfig | None = None,
    ) -> tuple[Mesh, ElevationEstimate]:
        """The photo's solid as a mesh in the world of its camera, which is `radius` away.

        camera: None for that of an orbit at the estimated elevation. Raises InputError for a photo without a solid.
        """
        estimate = self.elevation(photo)
        if camera is None:
            height, width = photo.rgba.shape[:2]
            camera = Orbit((estimate.elevation_deg,), (0.0,), radius, input_view=0).cameras(width, height)
        solid = self.solid(photo)
        return placed(solid_mesh(solid, config), camera, radius, lean=lean_of(solid)), estimate

    def reach(self, photo: PreparedPhoto, orbit: Orbit) -> float:
        """How far the photo's solid reaches in the views of an orbit, as a share of the frame's half side: more than 1
        where a view cuts it off. Errors as in `predict`."""
        height, width = photo.rgba.shape[:2]
        cameras = orbit.cameras(width, height)
        assert orbit.input_view is not None
        solid, _ = self.lift(photo, cameras[orbit.input_view], orbit.radius, _COARSE)
        pixels = np.stack([cameras.project(solid.vertices, view)[0] for view in range(len(cameras))])
        return float(np.abs(pixels / [width / 2, height / 2] - 1).max())


@dataclass(frozen=True, eq=False)
class PriorGenerator:
    """A `MultiViewGenerator`."""

    lifter: Lifter
    info: ModelInfo

    def generate(
        self,
        photo: PreparedPhoto,
        orbit: Orbit,
        settings: SamplerSettings,
        on_progress: Progress | None = None,
        on_frame: OnFrame | None = None,
    ) -> Frames:
        """As in `MultiViewGenerator`; `settings` change nothing. Raises InputError for a photo without a solid."""
        clock = Clock(on_progress)
        height, width = photo.rgba.shape[:2]
        cameras = orbit.cameras(width, height)
        assert orbit.input_view is not None  # plan_orbit always says which
        with clock.stage("lift"):
            solid, _ = self.lifter.lift(photo, cameras[orbit.input_view], orbit.radius)
        frames = np.empty((len(cameras), height, width, 4), np.float32)
        with clock.stage("render") as on_share:
            scene = RayScene(solid.vertices, solid.faces)
            for view in range(len(cameras)):
                seen = render_view(solid, cameras, view, supersample=_SUPERSAMPLE, scene=scene)
                frames[view] = np.concatenate([composite(seen), seen[..., 3:]], -1)
                if on_frame:
                    on_frame(view, len(cameras), frames[view])
                on_share((view + 1) / len(cameras))
        return Frames(frames, cameras, clock.seconds, solid=solid)


def load_lifter(plan: GenerationPlan) -> Lifter:
    """The prior of a planned model, where and as the plan says. Raises InputError where there is none, or a broken one."""
    folder = plan.model.folder
    if not has_prior(folder):
        raise InputError(
            f"model {plan.config.model}: expected a 3D prior in it, found none; give another --model"
        )
    network = load_prior(folder).to(plan.device, getattr(torch, plan.dtype))
    return Lifter(network, read_prior_settings(folder).side)


def estimate_of(made: Prediction) -> ElevationEstimate:
    """The elevation that a prediction of one photo holds, to a tenth of a degree."""
    elevation_deg = float(made.elevation_deg[0].clamp(-_HIGHEST_DEG, _HIGHEST_DEG))
    return ElevationEstimate(round(elevation_deg, 1), round(float(made.elevation_log_std[0].exp()), 1))
