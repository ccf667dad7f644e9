"""A model as torch tensors, and what its surface is at a place: for rasterisers that want gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mv3d.render.model import Material, Model, Wrap


@dataclass(frozen=True, eq=False)
class TorchMaterial:
    """factors: the material whose numbers and modes apply; its textures are these, linear, (c, h, w).

    base_color: RGBA in [0, 1]. surface: roughness and metallic factors. emissive: RGB. normal: in [-1, 1].
    """

    factors: Material
    base_color: Float[Tensor, "4 h w"] | None = None
    surface: Float[Tensor, "2 h w"] | None = None
    emissive: Float[Tensor, "3 h w"] | None = None
    normal: Float[Tensor, "3 h w"] | None = None


@dataclass(frozen=True, eq=False)
class TorchScene:
    """`Model` on a device. Any tensor may require gradients; `dataclasses.replace` puts one's own in. uv: all sets."""

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    normals: Float[Tensor, "v 3"]
    uv: tuple[Float[Tensor, "v 2"], ...]
    colors: Float[Tensor, "v 4"] | None
    face_material: Int[Tensor, " f"]
    materials: tuple[TorchMaterial, ...]


@dataclass(frozen=True, eq=False)
class Surface:
    """What is at p places of a scene. base, emission: linear. alpha: after the alpha mode. normals: unit,
    towards the viewer. back: seen from behind. unlit: places whose base colour is shown as it is."""

    base: Float[Tensor, "p 3"]
    alpha: Float[Tensor, " p"]
    metallic: Float[Tensor, " p"]
    roughness: Float[Tensor, " p"]
    emission: Float[Tensor, "p 3"]
    normals: Float[Tensor, "p 3"]
    back: Bool[Tensor, " p"]
    unlit: Bool[Tensor, " p"]


def scene_from_model(model: Model, device: torch.device | str) -> TorchScene:
    """Move a model to a device; colour textures become linear there."""

    def put(array: object, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.as_tensor(array, dtype=dtype, device=device)

    def texture(pixels: object | None) -> Tensor | None:
        return None if pixels is None else put(pixels).permute(2, 0, 1) / 255

    materials = []
    for material in model.materials:
        base, glow = texture(material.base_color_texture), texture(material.emissive_texture)
        rough, bump = texture(material.metallic_roughness_texture), texture(material.normal_texture)
        materials.append(
            TorchMaterial(
                material,
                None if base is None else torch.cat([linear_from_srgb(base[:3]), base[3:]]),
                None if rough is None else rough[1:3],
                None if glow is None else linear_from_srgb(glow),
                None if bump is None else bump * 2 - 1,
            )
        )
    return TorchScene(
        put(model.vertices),
        put(model.faces, torch.int64),
        put(model.normals),
        tuple(map(put, model.uv_sets)),
        None if model.colors is None else put(model.colors),
        put(model.face_material, torch.int64),
        tuple(materials),
    )


def linear_from_srgb(values: Tensor) -> Tensor:
    """sRGB in [0, 1] → linear: the twin of `mv3d.core.colors.linear_from_srgb`, with finite gradients."""
    return torch.where(values <= 0.04045, values / 12.92, ((values.clamp_min(0.04) + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(values: Tensor) -> Tensor:
    """The inverse of `linear_from_srgb`."""
    return torch.where(
        values <= 0.0031308, values * 12.92, 1.055 * values.clamp_min(0.003) ** (1 / 2.4) - 0.055
    )


def sample_texture(
    texture: Float[Tensor, "c h w"],
    uv: Float[Tensor, "p 2"],
    wrap: tuple[Wrap, Wrap],
    level: Float[Tensor, " p"],
) -> Float[Tensor, "p c"]:
    """Trilinear samples at uv (origin top left, any range): bilinear in the two nearest halvings of the
    texture. `level`: 0 is the texture itself, 1 its half."""
    last = max(0, int(min(texture.shape[1:])).bit_length() - 1)
    level = level.clamp(0, last)
    total = uv.new_zeros((len(uv), len(texture)))
    image = texture[None]
    for number in range(int(level.max().ceil()) + 1 if len(uv) else 0):
        if number:
            image = F.avg_pool2d(image, 2)
        weight = (1 - (level - number).abs()).clamp_min(0)
        rows = (weight > 0).nonzero()[:, 0]
        if len(rows):
            total = total.index_add(0, rows, weight[rows, None] * _bilinear(image, uv[rows], wrap))
    return total


def _bilinear(
    image: Float[Tensor, "1 c h w"], uv: Float[Tensor, "p 2"], wrap: tuple[Wrap, Wrap]
) -> Float[Tensor, "p c"]:
    height, width = image.shape[2:]
    axes = []
    for axis, (rule, size) in enumerate(zip(wrap, (width, height), strict=True)):
        value = uv[:, axis]
        if rule == "repeat":
            value = value - value.floor()
        elif rule == "mirror":
            value = 1 - (1 - value.remainder(2)).abs()
        else:
            value = value.clamp(0, 1)
        axes.append(2 * (value * size + 1) / (size + 2) - 1)
        # A border of one texel: the other side of a repeated texture, else the edge itself.
        pad = (1, 1, 0, 0) if axis == 0 else (0, 0, 1, 1)
        image = F.pad(image, pad, mode="circular" if rule == "repeat" else "replicate")
    grid = torch.stack(axes, 1)[None, None]
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)[0, :, 0].T


def surface_at(
    scene: TorchScene,
    face: Int[Tensor, " p"],
    bary: Float[Tensor, "p 3"],
    texel_scale: Float[Tensor, "s f"],
    eye: Float[Tensor, " 3"],
    *,
    matte: bool = False,
) -> tuple[Surface, Float[Tensor, "p 3"]]:
    """The surface at points of faces, and unit directions from there to the eye.

    texel_scale: area of a pixel in units of uv, per set of uv and face. eye: in the world. matte: metallic is 0.
    """
    corners = scene.faces[face]

    def blend(values: Tensor) -> Tensor:
        return (values[corners] * bary[:, :, None]).sum(1)

    position = blend(scene.vertices)
    toward = F.normalize(eye - position, dim=1)
    normals, ground = _normals_at(scene, corners, bary)
    uv = [blend(values) for values in scene.uv]
    count = len(face)
    base = position.new_ones((count, 4)) if scene.colors is None else blend(scene.colors)
    metallic, roughness = position.new_zeros(count), position.new_ones(count)
    emission, unlit = position.new_zeros((count, 3)), torch.zeros_like(face, dtype=torch.bool)
    owner = scene.face_material[face]
    for number, material in enumerate(scene.materials):
        rows = (owner == number).nonzero()[:, 0]
        if not len(rows):
            continue
        factors = material.factors

        def look(
            texture: Tensor | None, name: str, rows: Tensor = rows, factors: Material = factors
        ) -> Tensor | None:
            if texture is None or not uv:
                return None
            use = factors.use(name)
            texels = texture.shape[1] * texture.shape[2] * texel_scale[use.uv_set][face[rows]]
            level = 0.5 * texels.clamp_min(1e-12).log2()
            return sample_texture(texture, uv[use.uv_set][rows], use.wrap, level)

        color = base[rows] * base.new_tensor(factors.base_color)
        if (texels := look(material.base_color, "base_color_texture")) is not None:
            color = color * texels
        alpha = color[:, 3:].clamp(0, 1)
        if factors.alpha_mode == "opaque":
            alpha = torch.ones_like(alpha)
        elif factors.alpha_mode == "mask":
            alpha = (alpha >= factors.alpha_cutoff).to(alpha.dtype)
        base = base.index_copy(0, rows, torch.cat([color[:, :3], alpha], 1))
        surface = base.new_tensor([factors.roughness, factors.metallic]).expand(len(rows), 2)
        if (texels := look(material.surface, "metallic_roughness_texture")) is not None:
            surface = surface * texels
        roughness = roughness.index_copy(0, rows, surface[:, 0])
        if not matte:
            metallic = metallic.index_copy(0, rows, surface[:, 1])
        glow = base.new_tensor(factors.emissive).expand(len(rows), 3)
        if (texels := look(material.emissive, "emissive_texture")) is not None:
            glow = glow * texels
        emission = emission.index_copy(0, rows, glow)
        if (texels := look(material.normal, "normal_texture")) is not None:
            laid = scene.uv[factors.use("normal_texture").uv_set]
            bent = _bent_normals(scene, laid, face[rows], normals[rows], texels, factors.normal_scale)
            normals = normals.index_copy(0, rows, bent)
        if factors.unlit:
            unlit = unlit.index_fill(0, rows, True)
    # Which side is seen, the face itself says: a smooth normal may lean beyond the silhouette.
    back = (ground * toward).sum(1) < 0
    normals = torch.where(back[:, None], -normals, normals)
    return Surface(base[:, :3], base[:, 3], metallic, roughness, emission, normals, back, unlit), toward


def _normals_at(
    scene: TorchScene, corners: Int[Tensor, "p 3"], bary: Float[Tensor, "p 3"]
) -> tuple[Float[Tensor, "p 3"], Float[Tensor, "p 3"]]:
    """Unit shading normals on the side that the winding shows, and the faces' own normals (not unit)."""
    a, b, c = scene.vertices[corners].unbind(1)
    ground = torch.linalg.cross(b - a, c - a)
    given = scene.normals[corners]
    # Where a file's normals all point away from that side, they are turned round.
    away = ((given * ground[:, None]).sum(2) < 0).all(1, keepdim=True)
    normals = F.normalize((given * bary[:, :, None]).sum(1), dim=1)
    return torch.where(away, -normals, normals), ground


def _bent_normals(
    scene: TorchScene,
    laid: Float[Tensor, "v 2"],
    face: Int[Tensor, " p"],
    normals: Float[Tensor, "p 3"],
    texels: Float[Tensor, "p 3"],
    scale: float,
) -> Float[Tensor, "p 3"]:
    """Normals of a tangent-space map: x along rising u, y along falling v (v counts from the top). laid: its uv."""
    corner, uv = scene.vertices[scene.faces[face]], laid[scene.faces[face]]
    e1, e2 = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    d1, d2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    turn = torch.where(d1[:, :1] * d2[:, 1:] < d1[:, 1:] * d2[:, :1], -1.0, 1.0)
    along_u = turn * (e1 * d2[:, 1:] - e2 * d1[:, 1:])
    along_v = turn * (e2 * d1[:, :1] - e1 * d2[:, :1])
    tangent = along_u - normals * (normals * along_u).sum(1, keepdim=True)
    usable = tangent.norm(dim=1, keepdim=True) > 1e-12
    tangent = F.normalize(tangent, dim=1)
    across = torch.linalg.cross(normals, tangent)
    across = torch.where((across * along_v).sum(1, keepdim=True) > 0, -across, across)
    bent = scale * (texels[:, :1] * tangent + texels[:, 1:2] * across) + texels[:, 2:] * normals
    return torch.where(usable, F.normalize(bent, dim=1), normals)
