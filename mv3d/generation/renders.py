"""A multi-view network led by its prior: the photo's solid, rendered along the orbit, as a condition of the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mv3d.core.errors import InputError
from mv3d.generation.photo import PreparedPhoto
from mv3d.generation.plan import GenerationPlan
from mv3d.generation.prior import Lifter, load_lifter
from mv3d.models.components import Autoencoder
from mv3d.models.encode import encode_renders
from mv3d.models.folder import has_prior
from mv3d.models.network import MultiViewUNet
from mv3d.models.prior.renders import rendered_along
from mv3d.render.cameras import Orbit
from mv3d.render.mesh import Mesh


@dataclass(frozen=True, eq=False)
class Guidance:
    """What leads the network along an orbit. views: in the order of the orbit, straight alpha; None where the prior
    found no solid, or is missing; `note` then says so, as a whole sentence."""

    views: Float[np.ndarray, "n h w 4"] | None = None
    solid: Mesh | None = None
    note: str = ""

    def encoded(
        self, vae: Autoencoder, order: list[int], device: torch.device, chunk: int
    ) -> Float[Tensor, "1 frames rendered h w"] | None:
        """The renders as `OrbitConditioning` takes them, in the network's order of views."""
        if self.views is None:
            return None
        views = torch.from_numpy(self.views[order]).to(device)
        return encode_renders(vae, views, chunk=chunk)[None]


def guided_by(lifter: Lifter | None, photo: PreparedPhoto, orbit: Orbit) -> Guidance:
    """The photo's solid along an orbit. A photo without a solid, or a missing prior, is said in `Guidance.note`."""
    if lifter is None:
        return Guidance(
            note="the model is led by a 3D prior, and its folder has none: the views are made without"
        )
    try:
        solid, views = rendered_along(lifter.solid(photo), orbit, photo.rgba.shape[0])
    except InputError as error:
        return Guidance(note=f"the 3D prior does not lead the views ({error})")
    return Guidance(views, solid)


def load_guide(plan: GenerationPlan, unet: MultiViewUNet) -> Lifter | None:
    """The prior of a planned model whose network takes renders, where the folder has one. Errors as in `load_lifter`."""
    return load_lifter(plan) if unet.render_channels and has_prior(plan.model.folder) else None
