"""The light of an environment as torch functions of a direction, for rasterisers, which trace no rays.

The integrals are the Embree backend's, differentiable by direction. Shadow and reflected light are what that backend
bakes onto surfaces (`TorchLightMap`), or left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mv3d.render.environment import Environment
from mv3d.render.lightmap import LightMap
from mv3d.render.prefilter import LightField, OctaMap
from mv3d.render.shading import ggx_energy

_LEVELS = 8  # of roughness between 0 and 1, besides 0
DIELECTRIC = 0.04


@dataclass(frozen=True, eq=False)
class TorchLight:
    """Octahedral maps (1, 3, s + 2, s + 2) with a border. diffuse: mean radiance weighted by the cosine.
    glossy: mean radiance weighted by the GGX lobes of roughness 0, 1/8 .. 1. ggx: `shading.ggx_energy`."""

    diffuse: Float[Tensor, "1 3 s s"]
    glossy: tuple[Float[Tensor, "1 3 t t"], ...]
    ggx: Float[Tensor, "1 2 r c"]

    def irradiance(self, normals: Float[Tensor, "p 3"]) -> Float[Tensor, "p 3"]:
        """Irradiance over π at unit normals: what a white matte surface sends back."""
        return _lookup(self.diffuse, normals)

    def reflection(
        self, directions: Float[Tensor, "p 3"], roughness: Float[Tensor, " p"]
    ) -> Float[Tensor, "p 3"]:
        """Radiance from unit directions, blurred as the roughness in [0, 1] does."""
        level = roughness.clamp(0, 1) * _LEVELS
        total = torch.zeros_like(directions)
        for number, table in enumerate(self.glossy):
            weight = (1 - (level - number).abs()).clamp_min(0)
            near = weight.detach() > 0
            if near.any():
                total = total.index_put(
                    (near.nonzero()[:, 0],),
                    weight[near, None] * _lookup(table, directions[near]),
                    accumulate=True,
                )
        return total

    def energy(
        self, roughness: Float[Tensor, " p"], cosine: Float[Tensor, " p"]
    ) -> tuple[Float[Tensor, "p 1"], Float[Tensor, "p 1"]]:
        """Scale and bias on the reflectance, for the cosine between normal and viewer."""
        grid = torch.stack([2 * cosine - 1, 2 * roughness - 1], 1)[None, None]
        found = F.grid_sample(self.ggx, grid, padding_mode="border", align_corners=True)[0, :, 0]
        return found[0][:, None], found[1][:, None]


@dataclass(frozen=True, eq=False)
class TorchLightMap:
    """`mv3d.render.lightmap.LightMap` on a device. order: (f,) which corner is A. across, along, start: (f,) of
    the faces' grids. planes: (2 p, 3), the points of the front, then those of the back."""

    order: Int[Tensor, " f"]
    across: Int[Tensor, " f"]
    along: Int[Tensor, " f"]
    start: Int[Tensor, " f"]
    planes: Float[Tensor, "q 3"]

    def sample(
        self, face: Int[Tensor, " p"], bary: Float[Tensor, "p 3"], back: Bool[Tensor, " p"]
    ) -> Float[Tensor, "p 3"]:
        """Ratio of arriving to unoccluded irradiance at points of faces, bilinear."""
        first = self.order[face][:, None]
        across, along = self.across[face], self.along[face]
        t = (1 - bary.gather(1, first)[:, 0]).clamp(0, 1)
        s = (bary.gather(1, (first + 2) % 3)[:, 0] / t.clamp_min(1e-9)).clamp(0, 1)
        s, t = s * across, t * along
        i = torch.minimum(s.detach().long(), across - 1)
        j = torch.minimum(t.detach().long(), along - 1)
        corner = self.start[face] + j * (across + 1) + i + back * (len(self.planes) // 2)
        s, t = (s - i)[:, None], (t - j)[:, None]
        low = self.planes[corner] * (1 - s) + self.planes[corner + 1] * s
        corner = corner + across + 1
        return low * (1 - t) + (self.planes[corner] * (1 - s) + self.planes[corner + 1] * s) * t


def torch_lightmap(lightmap: LightMap, device: torch.device | str) -> TorchLightMap:
    """Move baked light to a device."""
    grids = lightmap.grids

    def put(array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, dtype=torch.int64, device=device)

    planes = np.moveaxis(lightmap.planes, 1, -1).reshape(-1, 3)
    return TorchLightMap(
        put(grids.order[:, 0]),
        put(grids.across),
        put(grids.along),
        put(grids.start),
        torch.as_tensor(np.ascontiguousarray(planes), dtype=torch.float32, device=device),
    )


def torch_light(environment: Environment, device: torch.device | str) -> TorchLight:
    """Integrate an environment once, for all views."""
    field = LightField(environment)

    def table(source: OctaMap) -> Tensor:
        side = source.size + 2
        return torch.as_tensor(source.planes, dtype=torch.float32, device=device).reshape(1, 3, side, side)

    glossy = tuple(table(field.glossy(level / _LEVELS)) for level in range(_LEVELS + 1))
    ggx = torch.as_tensor(np.stack(ggx_energy()), dtype=torch.float32, device=device)[None]
    return TorchLight(table(field.irradiance), glossy, ggx)


def shade(
    light: TorchLight,
    base: Float[Tensor, "p 3"],
    metallic: Float[Tensor, " p"],
    roughness: Float[Tensor, " p"],
    normals: Float[Tensor, "p 3"],
    toward_viewer: Float[Tensor, "p 3"],
    ratio: Float[Tensor, "p 3"] | None = None,
    *,
    diffuse_only: bool = False,
) -> Float[Tensor, "p 3"]:
    """Linear radiance of a metallic-roughness surface under an environment: what `mv3d.render.shading` computes
    (its sources are named there). Normals are unit, on the seen side. ratio: of the light that arrives to that
    which would if nothing were in the way; by default all does."""
    arriving = light.irradiance(normals)
    if ratio is not None:
        arriving = arriving * ratio
    if diffuse_only:
        return base * arriving
    facing = (normals * toward_viewer).sum(1, keepdim=True)
    mirrored = light.reflection(F.normalize(2 * facing * normals - toward_viewer, dim=1), roughness)
    cosine = facing[:, 0].abs().clamp(1e-3, 1)
    if ratio is not None:
        openness = ratio.mean(1).clamp(0, 1)
        shine = ((cosine + openness) ** torch.exp2(-16 * roughness - 1) - 1 + openness).clamp(0, 1)
        mirrored = mirrored * shine[:, None]
    scale, bias = light.energy(roughness, cosine)
    lost = 1 - scale - bias
    f0 = DIELECTRIC + (base - DIELECTRIC) * metallic[:, None]
    single = f0 * scale + bias
    mean = f0 + (1 - f0) / 21
    multiple = single * mean / (1 - mean * lost).clamp_min(1e-4) * lost
    body = base * (1 - metallic[:, None]) * (1 - single - multiple)
    return single * mirrored + (multiple + body) * arriving


def _lookup(table: Float[Tensor, "1 3 s s"], directions: Float[Tensor, "p 3"]) -> Float[Tensor, "p 3"]:
    """Bilinear samples of an octahedral map (see `OctaMap`) in unit directions."""
    flat = directions[:, :2] / directions.abs().sum(1, keepdim=True).clamp_min(1e-12)
    sign = torch.where(flat < 0, -1.0, 1.0)
    folded = (1 - flat.flip(1).abs()) * sign
    at = torch.where(directions[:, 2:] < 0, folded, flat)
    side = table.shape[-1]
    grid = (at * ((side - 2) / side))[None, None]  # the border lies outside the map's own [-1, 1]
    return F.grid_sample(table, grid, padding_mode="border", align_corners=False)[0, :, 0].T
