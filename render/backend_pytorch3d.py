"""Rasterisation with PyTorch3D: on a GPU, and differentiable.

PyTorch3D finds which faces lie behind a pixel and where; surface, light and blending are torch code of this
package (`torch_scene`, `torch_light`), the same integrals as the Embree backend's. A rasteriser traces no rays;
shadow and reflected light are baked once an object by that backend, on the CPU. Gradients do not reach them.
On a CPU every pixel is tested against every face, which is for tests; use the Embree backend there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mv3d.core.errors import InputError, MissingPartError, UsageError
from mv3d.render.cameras import Cameras
from mv3d.render.embree import baked_light
from mv3d.render.environment import Environment
from mv3d.render.model import Model
from mv3d.render.renderer import Rendered, RenderSettings
from mv3d.render.torch_light import TorchLight, TorchLightMap, shade, torch_light, torch_lightmap
from mv3d.render.torch_scene import TorchScene, scene_from_model, srgb_from_linear, surface_at

INSTALL = (
    "pip install iopath ninja && pip install --no-build-isolation "
    '"https://github.com/facebookresearch/pytorch3d/archive/refs/heads/main.zip" '
    "(needs a C++ compiler, and nvcc of torch's CUDA version for the GPU; PYTORCH3D_FORCE_NO_CUDA=1 builds for "
    "the CPU)"
)
LAYERS = 8
"""Surfaces behind one pixel that blend, where materials are translucent or edges soft."""


@dataclass(frozen=True)
class Pytorch3dRenderer:
    """See `mv3d.render.renderer.Renderer`.

    device: "cuda", "cuda:1", "cpu" ..., or "auto": the GPU where torch has one. A device that is asked for by
    name and absent is an error. occlusion: bake shadow and reflected light (a second or so an object); without
    it every surface sees the whole environment. RenderSettings.samples is rounded up to a square number; seed
    does not apply (nothing is drawn at random).
    """

    device: str = "auto"
    occlusion: bool = True

    def render(
        self, model: Model, cameras: Cameras, environment: Environment, settings: RenderSettings
    ) -> Rendered:
        """Raises MissingPartError where PyTorch3D is not installed, UsageError for a device that is not there,
        InputError for a model without faces."""
        require_pytorch3d()
        if not len(model.faces):
            raise InputError("model: expected at least one face, got none")
        device = find_device(self.device)
        with torch.no_grad():
            scene, light = scene_from_model(model, device), torch_light(environment, device)
            baked = None
            if self.occlusion:
                baked = torch_lightmap(baked_light(model, cameras, environment, settings), device)
            views = [
                picture_of_view(scene, cameras, view, light, settings, baked).to_numpy()
                for view in range(len(cameras))
            ]
        columns: Any = zip(*views, strict=True)
        rgba, *others = (None if column[0] is None else np.stack(column) for column in columns)
        assert rgba is not None  # always rendered
        return Rendered(rgba, *others)


@dataclass(frozen=True, eq=False)
class TorchPicture:
    """One view. color: linear, premultiplied, not clipped, alpha last. depth: through pixel centres, inf where
    nothing is. normals: world, unit or 0. albedo: linear, premultiplied, alpha last. None where not asked."""

    color: Float[Tensor, "h w 4"]
    depth: Float[Tensor, "h w"] | None = None
    normals: Float[Tensor, "h w 3"] | None = None
    albedo: Float[Tensor, "h w 4"] | None = None

    def to_numpy(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray | None]:
        """(rgba, depth, normals, albedo) as `Rendered` holds them."""

        def host(value: Tensor | None) -> np.ndarray | None:
            return None if value is None else value.detach().float().cpu().numpy()

        albedo = None if self.albedo is None else straight_srgb(self.albedo)[..., :3]
        rgba = straight_srgb(self.color).detach().float().cpu().numpy()
        return rgba, host(self.depth), host(self.normals), host(albedo)


def straight_srgb(premultiplied: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Linear premultiplied → sRGB in [0, 1] with straight alpha; 0 where alpha is 0. Differentiable."""
    alpha = premultiplied[..., 3:].clamp(0, 1)
    color = (premultiplied[..., :3] / alpha.clamp_min(1e-6)).clamp(0, 1)
    return torch.cat([torch.where(alpha > 0, srgb_from_linear(color), 0.0), alpha], -1)


def require_pytorch3d() -> None:
    """Raises MissingPartError with the install line where PyTorch3D or its compiled part is missing."""
    try:
        import pytorch3d._C  # noqa: F401, PLC0415  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPartError(f"renderer pytorch3d: {error}; install it with: {INSTALL}") from error


def find_device(name: str) -> torch.device:
    """A device by name, "auto" for the best one. Raises UsageError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device: {name} cannot be used ({reason}); choose cpu or auto") from error
    return torch.device(name)


def picture_of_view(
    scene: TorchScene,
    cameras: Cameras,
    view: int,
    light: TorchLight,
    settings: RenderSettings,
    baked: TorchLightMap | None = None,
    *,
    softness_px: float = 0.0,
) -> TorchPicture:
    """One view, differentiable by every tensor of the scene (and by the light's).

    baked: the light that arrives at the surface; by default all of the environment's.
    softness_px: 0 gives hard edges, whose place has no gradient; above, faces fade out over about so many
    pixels of the picture around their edges (Liu et al., "Soft Rasterizer", ICCV 2019, eq. 1), so that
    silhouettes pull at vertices. Alpha then dips a little where two faces meet.
    """
    factor = math.isqrt(settings.samples - 1) + 1
    big = cameras.resized(cameras.width * factor, cameras.height * factor)
    blended = _blended(scene, big, view, light, settings, baked, softness_px * factor)
    mean = blended.reshape(cameras.height, factor, cameras.width, factor, 8).mean((1, 3))
    depth = normals = None
    if {"depth", "normals"} & set(settings.outputs):
        depth, normals = _through_centres(scene, cameras, view, settings)
    return TorchPicture(
        mean[..., :4],
        depth if "depth" in settings.outputs else None,
        normals if "normals" in settings.outputs else None,
        mean[..., 4:] if "albedo" in settings.outputs else None,
    )


@dataclass(frozen=True, eq=False)
class _Fragments:
    """What lies behind the pixels of one view: k layers, nearest first. `at` indexes the p covered ones."""

    shape: tuple[int, int, int]
    at: Tensor
    face: Tensor
    bary: Tensor
    depth: Tensor
    coverage: Tensor
    texel_scale: Tensor

    def spread(self, values: Float[Tensor, "p c"]) -> Float[Tensor, "h w k c"]:
        flat = values.new_zeros((math.prod(self.shape), values.shape[1]))
        return flat.index_copy(0, self.at, values).reshape(*self.shape, -1)


def _blended(
    scene: TorchScene,
    cameras: Cameras,
    view: int,
    light: TorchLight,
    settings: RenderSettings,
    baked: TorchLightMap | None,
    softness_px: float,
) -> Float[Tensor, "h w 8"]:
    """Radiance and alpha, base colour and alpha, both premultiplied and linear."""
    fragments = _rasterize(scene, cameras, view, settings, softness_px)
    eye = torch.as_tensor(cameras.centers[view], dtype=torch.float32, device=scene.vertices.device)
    surface, toward = surface_at(
        scene, fragments.face, fragments.bary, fragments.texel_scale, eye, matte=settings.diffuse_only
    )
    radiance = shade(
        light,
        surface.base,
        surface.metallic,
        surface.roughness,
        surface.normals,
        toward,
        None if baked is None else baked.sample(fragments.face, fragments.bary, surface.back),
        diffuse_only=settings.diffuse_only,
    )
    radiance = torch.where(surface.unlit[:, None], surface.base, radiance + surface.emission)
    alpha = (surface.alpha * fragments.coverage)[:, None]
    layers = fragments.spread(torch.cat([radiance * alpha, alpha, surface.base * alpha, alpha], 1))
    through = torch.cumprod(1 - layers[..., 3:4], 2)
    before = torch.cat([torch.ones_like(through[:, :, :1]), through[:, :, :-1]], 2)
    return (layers * before).sum(2)


def _through_centres(
    scene: TorchScene, cameras: Cameras, view: int, settings: RenderSettings
) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w 3"]]:
    """Depth and normal of the first surface that covers at least half of a pixel centre."""
    fragments = _rasterize(scene, cameras, view, settings, 0.0)
    eye = torch.as_tensor(cameras.centers[view], dtype=torch.float32, device=scene.vertices.device)
    surface, _ = surface_at(scene, fragments.face, fragments.bary, fragments.texel_scale, eye)
    solid = (surface.alpha >= 0.5).to(surface.alpha.dtype)[:, None]
    layers = fragments.spread(torch.cat([fragments.depth[:, None], surface.normals, solid], 1))
    first = (layers[..., 4] > 0.5).to(torch.int8).argmax(2)[..., None, None]
    chosen = layers.gather(2, first.expand(-1, -1, 1, 5))[:, :, 0]
    there = chosen[..., 4] > 0.5
    return torch.where(there, chosen[..., 0], math.inf), torch.where(there[..., None], chosen[..., 1:4], 0.0)


def _rasterize(
    scene: TorchScene, cameras: Cameras, view: int, settings: RenderSettings, softness_px: float
) -> _Fragments:
    from pytorch3d.renderer.mesh.rasterize_meshes import (  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
        rasterize_meshes,
    )
    from pytorch3d.structures import Meshes  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

    device = scene.vertices.device
    w2c = torch.as_tensor(cameras.w2c[view], dtype=torch.float32, device=device)
    camera = scene.vertices @ w2c[:3, :3].T + w2c[:3, 3]
    depth = -camera[:, 2]
    # PyTorch3D's device coordinates: +X left, +Y up, the shorter side of the picture from -1 to 1.
    half = min(cameras.width, cameras.height) / 2
    near = 1e-4 * float(depth.detach().max().clamp_min(1e-6))
    safe = depth.clamp_min(near)
    x = float(cameras.fl_x[view]) * camera[:, 0] / safe + float(cameras.cx[view])
    y = -float(cameras.fl_y[view]) * camera[:, 1] / safe + float(cameras.cy[view])
    points = torch.stack([(cameras.width / 2 - x) / half, (cameras.height / 2 - y) / half, depth], 1)
    faces, kept = _visible_faces(scene, cameras, view, settings, depth.detach() > near)
    sigma = (softness_px / half) ** 2
    opaque = all(material.factors.alpha_mode == "opaque" for material in scene.materials)
    layers = 1 if opaque and not sigma else LAYERS
    shape = (cameras.height, cameras.width, layers)
    if not len(faces):
        empty = points.new_zeros(0)
        none = torch.zeros(0, dtype=torch.int64, device=device)
        return _Fragments(shape, none, none, empty.reshape(0, 3), empty, empty, empty)
    face, zbuf, bary, distance = rasterize_meshes(
        Meshes([points], [faces]),
        (cameras.height, cameras.width),
        # Its insides are open: without a hair of blur, centres on the edge of two faces would be holes.
        blur_radius=max(sigma * math.log(1e4), (1e-3 / half) ** 2),
        faces_per_pixel=layers,
        perspective_correct=True,
        clip_barycentric_coords=True,
        max_faces_per_bin=len(faces),  # a fuller bin would drop faces silently
    )
    at = (face.reshape(-1) >= 0).nonzero()[:, 0]
    coverage = points.new_ones(len(at))
    if sigma:
        coverage = torch.sigmoid(-distance.reshape(-1)[at] / sigma)
    return _Fragments(
        shape,
        at,
        kept[face.reshape(-1)[at]],
        bary.reshape(-1, 3)[at],
        zbuf.reshape(-1)[at],
        coverage,
        _texel_scale(scene, torch.stack([x, y], 1).detach()),
    )


def _visible_faces(
    scene: TorchScene, cameras: Cameras, view: int, settings: RenderSettings, ahead: Tensor
) -> tuple[Tensor, Tensor]:
    """The faces wholly in front of the camera and not culled, and their numbers in the scene."""
    keep = ahead[scene.faces].all(1)
    if settings.backfaces == "cull":
        with torch.no_grad():
            corner = scene.vertices[scene.faces]
            normal = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
            eye = torch.as_tensor(cameras.centers[view], dtype=corner.dtype, device=corner.device)
            two_sided = torch.tensor([m.factors.double_sided for m in scene.materials], device=corner.device)
            keep &= ((eye - corner[:, 0]) * normal).sum(1).ge(0) | two_sided[scene.face_material]
    kept = keep.nonzero()[:, 0]
    return scene.faces[kept], kept


def _texel_scale(scene: TorchScene, pixels: Float[Tensor, "v 2"]) -> Float[Tensor, "s f"]:
    """Area of a pixel in units of uv on each face, which decides how far a texture is filtered, per set of uv."""

    def area(points: Tensor) -> Tensor:
        a, b, c = points[scene.faces].unbind(1)
        return ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).abs()

    if not scene.uv:
        return pixels.new_zeros((0, len(scene.faces)))
    return torch.stack([area(uv.detach()) for uv in scene.uv]) / area(pixels).clamp_min(1e-9)
