"""The elevation of a photo: by trial before the views are made, or measured on the views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError
from mv3d.generation.generator import MultiViewGenerator
from mv3d.generation.matting import apply_matting
from mv3d.generation.photo import PreparedPhoto
from mv3d.generation.plan import DEFAULT_ELEVATION_DEG, GenerationPlan, plan_orbit
from mv3d.render.cameras import Orbit
from mv3d.views.elevation import estimate_elevation, hull_recall

_TRIAL_STEPS = 8
_TRIAL_ELEVATIONS_DEG = (-10.0, 0.0, 10.0, 20.0, 30.0, 45.0)
_LEAST_RECALL = 0.5


@dataclass(frozen=True)
class ElevationTrial:
    """recalls: (elevation in degrees, share of the silhouettes that the hull of all views covers), best first.
    Elevations whose views could not be cut out are left out."""

    recalls: tuple[tuple[float, float], ...]

    @property
    def found(self) -> bool:
        """Whether the best elevation makes the views fit together at all."""
        return bool(self.recalls) and self.recalls[0][1] >= _LEAST_RECALL

    @property
    def elevation_deg(self) -> float:
        """The best elevation, or the default where none fits."""
        return self.recalls[0][0] if self.found else DEFAULT_ELEVATION_DEG

    def __str__(self) -> str:
        """One sentence: what was chosen, and how sure that is."""
        if not self.found:
            return f"--elevation auto: no elevation fits; {DEFAULT_ELEVATION_DEG:g} degrees are taken"
        (best, share), *others = self.recalls
        text = f"--elevation auto: {best:g} degrees, where the silhouettes agree to {share:.1%}"
        return text + "".join(f"; the runner-up, {e:g} degrees, has {c:.1%}" for e, c in others[:1])

    def details(self) -> dict[str, Any]:
        """Figures for the record."""
        return {"chosen_deg": self.elevation_deg, "hull_recall": dict(self.recalls)}


@dataclass(frozen=True)
class ElevationEstimate:
    """The elevation of a photo as a 3D prior sees it. std_deg: the standard deviation that it expects of its error."""

    elevation_deg: float
    std_deg: float

    found = True

    def __str__(self) -> str:
        """One sentence: what was chosen, and how sure that is."""
        return (
            f"elevation: {self.elevation_deg:g} degrees as the 3D prior sees the photo, give or take "
            f"{self.std_deg:.0f}; set another with --elevation"
        )

    def details(self) -> dict[str, Any]:
        """Figures for the record."""
        return {"chosen_deg": self.elevation_deg, "std_deg": self.std_deg}


def find_elevation(
    photo: PreparedPhoto,
    plan: GenerationPlan,
    generator: MultiViewGenerator,
    on_share: Callable[[float], None],
) -> ElevationTrial:
    """Make a quick static orbit (8 steps) at each of a few elevations within the model's range, and rank them by how well
    the silhouettes fit together under their own cameras: a wrong elevation contradicts the photo.

    on_share: called with the finished share, 0 to 1.
    """
    quick = replace(plan.config, trajectory="static", elevation=None)
    sampling = plan.sampling
    if plan.info.distilled_steps is None:  # a student is quick as it is, and makes no other steps
        sampling = replace(sampling, steps=_TRIAL_STEPS, sampler="dpmpp_2m")
    low, high = plan.info.elevations_deg
    candidates = [e for e in _TRIAL_ELEVATIONS_DEG if low <= e <= high] or [0.5 * (low + high)]
    found: list[tuple[float, float]] = []
    for number, elevation_deg in enumerate(candidates):
        orbit = plan_orbit(quick, plan.info, elevation_deg)
        made = generator.generate(photo, orbit, sampling)
        images, failed_views = apply_matting(made.images, alpha_threshold=plan.info.alpha_threshold)
        images[orbit.input_view] = photo.rgba
        if not set(failed_views) - {orbit.input_view}:
            found.append((elevation_deg, hull_recall(images[..., 3], made.cameras)))
        on_share((number + 1) / len(candidates))
    return ElevationTrial(tuple(sorted(found, key=lambda pair: -pair[1])))


def measure_elevation(
    images: Float[np.ndarray, "n h w 4"], orbit: Orbit, *, skip: list[int]
) -> tuple[Orbit, str]:
    """The orbit at the elevation of its silhouettes, for a model that chooses the elevation by itself.

    skip: views whose alpha is unknown. Returns a sentence instead of "", and the orbit unchanged, where it fails.
    """
    keep = [i for i in range(len(images)) if i not in skip]
    try:
        if len(keep) < 3:
            raise InputError("too few views could be cut out")
        azimuths = np.asarray(orbit.azimuths_deg)[keep]
        found = estimate_elevation(images[keep][..., 3], azimuths, radius=orbit.radius, fov_deg=orbit.fov_deg)
    except InputError as error:
        return orbit, (
            f"the elevation of the views could not be measured ({error}); their cameras have "
            f"{orbit.elevations_deg[0]:g} degrees, set another with --elevation"
        )
    return replace(orbit, elevations_deg=(round(found.elevation_deg, 2),) * len(images)), ""
