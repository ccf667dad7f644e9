"""What is rendered: triangles with metallic-roughness materials, in the world frame (Z up).

`Mesh` stays the value of the reconstruction; a `Model` carries what a 3D file from the world holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8

from mv3d.core.errors import InputError
from mv3d.render.load_warnings import LoadWarning
from mv3d.render.mesh import check_triangles, vertex_normals

AlphaMode = Literal["opaque", "mask", "blend"]
Wrap = Literal["repeat", "mirror", "clamp"]
TEXTURES = ("base_color_texture", "metallic_roughness_texture", "emissive_texture", "normal_texture")
"""The fields of `Material` that are textures."""


@dataclass(frozen=True)
class TextureUse:
    """How one texture is laid on. uv_set: 0 is `Model.uv`, n is `Model.more_uv[n - 1]`. wrap: in u and in v."""

    uv_set: int = 0
    wrap: tuple[Wrap, Wrap] = ("repeat", "repeat")


@dataclass(frozen=True, eq=False)
class Material:
    """A glTF metallic-roughness material. Factors are linear, colour textures sRGB uint8, row 0 at the top.

    base_color: RGBA, multiplied with base_color_texture and the vertex colours.
    metallic, roughness: multiplied with the texture's blue and green channel (linear).
    emissive: radiance, linear, may exceed 1; multiplied with emissive_texture (sRGB).
    normal_texture: tangent space, +Y up (OpenGL), linear; normal_scale multiplies its x and y.
    alpha_cutoff: for "mask" only. wrap: of all textures, in u and in v; they lie on the first set of coordinates.
    uses: by field, of textures that are laid on otherwise; never the base colour's, which always lies so.
    double_sided: as the file says; renderers show both sides of every face unless told to cull.
    unlit: the base colour is shown as it is, whatever the light (KHR_materials_unlit).
    """

    name: str = ""
    base_color: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    base_color_texture: UInt8[np.ndarray, "h w 4"] | None = None
    metallic: float = 1.0
    roughness: float = 1.0
    metallic_roughness_texture: UInt8[np.ndarray, "h w 3"] | None = None
    emissive: tuple[float, float, float] = (0.0, 0.0, 0.0)
    emissive_texture: UInt8[np.ndarray, "h w 3"] | None = None
    normal_texture: UInt8[np.ndarray, "h w 3"] | None = None
    normal_scale: float = 1.0
    alpha_mode: AlphaMode = "opaque"
    alpha_cutoff: float = 0.5
    double_sided: bool = False
    unlit: bool = False
    wrap: tuple[Wrap, Wrap] = ("repeat", "repeat")
    uses: Mapping[str, TextureUse] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if wrong := set(self.uses) - set(TEXTURES[1:]):
            raise InputError(f"material {self.name!r}: uses: expected fields of {TEXTURES[1:]}, got {wrong}")
        for name, texture in self.textures.items():
            channels = 4 if name == "base_color_texture" else 3
            good = texture.ndim == 3 and texture.shape[2] == channels and min(texture.shape[:2]) >= 1
            if not good or texture.dtype != np.uint8:
                raise InputError(
                    f"{name} of material {self.name!r}: expected (h, w, {channels}) uint8, "
                    f"got {texture.shape} {texture.dtype}"
                )
        numbers = (*self.base_color, self.metallic, self.roughness, *self.emissive, self.normal_scale)
        if not np.isfinite(numbers).all():
            raise InputError(f"material {self.name!r}: expected finite factors, got NaN or infinity")

    @property
    def textures(self) -> dict[str, UInt8[np.ndarray, "h w c"]]:
        """The textures that are there, by field name."""
        return {name: getattr(self, name) for name in TEXTURES if getattr(self, name) is not None}

    def use(self, name: str) -> TextureUse:
        """How the texture of a field is laid on."""
        return self.uses.get(name, TextureUse(0, self.wrap))


UNSTATED = Material(base_color=(0.5, 0.5, 0.5, 1.0), metallic=0.0, roughness=0.8)
"""The material of faces whose file says nothing of their looks."""


def without_picture(material: Material, slot: str) -> Material:
    """The material where the picture of a field (`base_color_texture`, …) cannot be used. The factor alone would show
    the object white, glowing or as chrome: the colour becomes half of it, as of a middle grey picture, the glow none,
    the surface matt and not metallic; without a normal map it is smooth."""
    if slot == "base_color_texture":
        red, green, blue, alpha = material.base_color
        half = UNSTATED.base_color[0]
        return replace(material, base_color=(half * red, half * green, half * blue, alpha))
    if slot == "metallic_roughness_texture":
        return replace(material, metallic=UNSTATED.metallic, roughness=UNSTATED.roughness)
    if slot == "emissive_texture":
        return replace(material, emissive=(0.0, 0.0, 0.0))
    return material


@dataclass(frozen=True, eq=False)
class Model:
    """Triangles in the world frame, vertices split along UV seams and hard edges.

    vertices: (v, 3) float32. faces: (f, 3) int32, counter-clockwise seen from outside.
    normals: (v, 3) float32 unit; computed from the faces where not given.
    uv: (v, 2) float32, origin at the top left of the texture (as glTF), any range, or None.
    colors: (v, 4) float32 linear RGBA, or None. face_material: (f,) int32 into materials.
    warnings: what its file names and could not be used as it is meant. more_uv: as uv, further sets, for textures
    whose `Material.use` names them.
    Raises InputError where shapes disagree, numbers are not finite or an index is out of range.
    """

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    normals: Float[np.ndarray, "v 3"] | None = None
    uv: Float[np.ndarray, "v 2"] | None = None
    colors: Float[np.ndarray, "v 4"] | None = None
    face_material: Int[np.ndarray, " f"] | None = None
    materials: tuple[Material, ...] = field(default_factory=lambda: (Material(metallic=0.0),))
    warnings: tuple[LoadWarning, ...] = ()
    more_uv: tuple[Float[np.ndarray, "v 2"], ...] = ()

    def __post_init__(self) -> None:
        vertices = np.ascontiguousarray(self.vertices, np.float32).reshape(-1, 3)
        faces = np.ascontiguousarray(self.faces, np.int32).reshape(-1, 3)
        check_triangles(vertices, faces)
        object.__setattr__(self, "vertices", vertices)
        object.__setattr__(self, "faces", faces)
        if self.normals is None:
            object.__setattr__(self, "normals", vertex_normals(vertices, faces))
        for name, width in (("normals", 3), ("uv", 2), ("colors", 4)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, self._checked(name, getattr(self, name), width))
        more = tuple(self._checked("more_uv", values, 2) for values in self.more_uv)
        object.__setattr__(self, "more_uv", more)
        sets = 0 if self.uv is None else 1 + len(more)
        if more and self.uv is None:
            raise InputError("more_uv: expected none without uv")
        for material in self.materials:
            if any(use.uv_set >= max(sets, 1) or use.uv_set < 0 for use in material.uses.values()):
                raise InputError(
                    f"material {material.name!r}: uses a set of texture coordinates beyond {sets}"
                )
        material = np.zeros(len(faces), np.int32) if self.face_material is None else self.face_material
        material = np.ascontiguousarray(material, np.int32)
        if material.shape != (len(faces),):
            raise InputError(f"face_material: expected {len(faces)} numbers, got shape {material.shape}")
        if len(faces) and (material.min() < 0 or material.max() >= len(self.materials)):
            raise InputError(
                f"face_material: expected 0..{len(self.materials) - 1}, got {material.min()}..{material.max()}"
            )
        object.__setattr__(self, "face_material", material)

    def _checked(self, name: str, value: np.ndarray, width: int) -> Float[np.ndarray, "v w"]:
        value = np.ascontiguousarray(value, np.float32)
        if value.shape != (len(self.vertices), width):
            raise InputError(f"{name}: expected shape {(len(self.vertices), width)}, got {value.shape}")
        if not np.isfinite(value).all():
            raise InputError(f"{name}: expected finite numbers, got NaN or infinity")
        return value

    @property
    def triangles(self) -> Float[np.ndarray, "f 3 3"]:
        return self.vertices[self.faces]

    @property
    def uv_sets(self) -> tuple[Float[np.ndarray, "v 2"], ...]:
        """All sets of texture coordinates, `uv` first."""
        return () if self.uv is None else (self.uv, *self.more_uv)


@dataclass(frozen=True)
class Normalization:
    """normalized = (world - center) · scale: the bounding box is centred, its largest side is 1."""

    center: tuple[float, float, float]
    scale: float

    def apply(self, points_world: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """World points of the file → the normalized frame."""
        return (points_world - np.asarray(self.center)) * self.scale


def normalize_model(model: Model) -> tuple[Model, Normalization]:
    """Centre the bounding box of the faces' vertices at the origin and make its largest side 1.

    Raises InputError where there is no face or where the box has no size.
    """
    if not len(model.faces):
        raise InputError("model: expected at least one face, got none; a point cloud cannot be rendered")
    used = np.zeros(len(model.vertices), bool)
    used[model.faces.reshape(-1)] = True
    points = model.vertices[used].astype(np.float64)
    low, high = points.min(0), points.max(0)
    size = float((high - low).max())
    if not size > 1e-30 or not np.isfinite(size):
        raise InputError(
            f"model: expected a size above zero, got {size:g}; a missing decoder (Draco) or a zero scale "
            "collapses the vertices"
        )
    normalization = Normalization(tuple(((low + high) / 2).tolist()), 1 / size)
    moved = normalization.apply(model.vertices.astype(np.float64)).astype(np.float32)
    return replace(model, vertices=moved), normalization
