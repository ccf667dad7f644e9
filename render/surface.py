"""What a model is made of at any point of its faces: base colour, alpha, normal, roughness, emission.

Arrays are kept one a channel (structure of arrays) and calls take some ten thousand points at a time, which
numpy does several times faster than rows of three.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mv3d.render.mesh import face_normals
from mv3d.render.model import Material, Model
from mv3d.render.tangents import vertex_tangents
from mv3d.render.textures import Pyramid, build_pyramid, sample_pyramid

Channels = list[Float[np.ndarray, " n"]]


@dataclass(frozen=True, eq=False)
class Points:
    """Points on faces. face: (n,) int32. u, v: (n,) weights of the second and third corner. back: (n,) bool, seen
    from behind. footprint: (n,) world length that the point stands for, for texture filtering."""

    face: Int[np.ndarray, " n"]
    u: Float[np.ndarray, " n"]
    v: Float[np.ndarray, " n"]
    back: np.ndarray
    footprint: Float[np.ndarray, " n"]

    def part(self, chosen: np.ndarray | slice) -> Points:
        return Points(
            self.face[chosen], self.u[chosen], self.v[chosen], self.back[chosen], self.footprint[chosen]
        )


class Surface:
    """A model's attributes, laid out for look-up by face. Channels of `base` are linear."""

    def __init__(self, model: Model) -> None:
        self.model = model
        assert model.normals is not None and model.face_material is not None
        faces = model.faces
        materials = model.materials
        self.material = model.face_material
        self._corners = {"normal": _corner_tables(model.normals, faces)}
        sign = facing_signs(model)
        for corner in self._corners["normal"]:
            for axis in corner:
                axis *= sign  # noqa: PLW2901 - in place
        cross = face_normals(model.vertices, faces)
        length = np.linalg.norm(cross, axis=1, keepdims=True)
        self.ground = np.ascontiguousarray((cross / np.maximum(length, 1e-30)).astype(np.float32).T)
        if model.colors is not None:
            self._corners["color"] = _corner_tables(model.colors, faces)
        self._pyramids: list[dict[str, Pyramid]] = [{} for _ in materials]
        self.textured = model.uv is not None and any(material.textures for material in materials)
        if self.textured:
            used = {material.use(name).uv_set for material in materials for name in material.textures}
            sets = {number: model.uv_sets[number] for number in used}
            for number, uv in sets.items():
                self._corners[f"uv{number}"] = _corner_tables(uv, faces)
            self._density = {number: _uv_density(uv[faces], length[:, 0]) for number, uv in sets.items()}
            built: dict[tuple[int, tuple[str, str], bool], Pyramid] = {}
            for index, material in enumerate(materials):
                for name, texture in material.textures.items():
                    srgb = name in ("base_color_texture", "emissive_texture")
                    wrap = material.use(name).wrap
                    key = (id(texture), wrap, srgb)
                    if key not in built:
                        built[key] = build_pyramid(texture, wrap, srgb=srgb)
                    self._pyramids[index][name] = built[key]
            bumped = [material for material in materials if material.normal_texture is not None]
            for number in {material.use("normal_texture").uv_set for material in bumped}:
                assert model.normals is not None
                tangents = vertex_tangents(model.vertices, faces, model.normals, sets[number])
                self._corners[f"tangent{number}"] = _corner_tables(tangents, faces)
        # Whether the base colour, or anything else, changes within a face.
        self.varies = "color" in self._corners or any("base_color_texture" in p for p in self._pyramids)
        self.detailed = any(set(p) - {"base_color_texture"} for p in self._pyramids)
        self._base = _material_table(materials, lambda m: m.base_color)
        self._rough = _material_table(materials, lambda m: (m.metallic, m.roughness))
        self._emissive = _material_table(materials, lambda m: m.emissive)
        self.emits = bool((self._emissive > 0).any())
        self.unlit = np.array([material.unlit for material in materials])
        see_through = np.array([self._may_be_clear(index) for index in range(len(materials))])
        self.see_through = see_through[self.material] if see_through.any() else np.zeros(len(faces), bool)
        self.has_see_through = bool(self.see_through.any())
        single = np.array([not material.double_sided for material in materials])
        self.single_sided = single[self.material]

    def _may_be_clear(self, index: int) -> bool:
        material, model = self.model.materials[index], self.model
        if material.alpha_mode == "opaque":
            return False
        texture = material.base_color_texture
        clear = material.base_color[3] < 1
        clear |= texture is not None and model.uv is not None and bool((texture[..., 3] < 255).any())
        return clear or (model.colors is not None and bool((model.colors[:, 3] < 1).any()))

    def interpolate(self, name: str, points: Points) -> Channels:
        """An attribute of the vertices at points, one array a channel."""
        first, second, third = self._corners[name]
        w = 1 - points.u - points.v
        result = []
        for a, b, c in zip(first, second, third, strict=True):
            value = a.take(points.face)
            value *= w
            other = b.take(points.face)
            other *= points.u
            value += other
            other = c.take(points.face)
            other *= points.v
            value += other
            result.append(value)
        return result

    def base(self, points: Points) -> Channels:
        """Linear base colour and alpha as the alpha mode makes it: r, g, b, a."""
        material = self.material.take(points.face)
        color = [table.take(material) for table in self._base]
        if "color" in self._corners:
            for channel, tint in enumerate(self.interpolate("color", points)):
                color[channel] *= tint
        for index, chosen in self._textured_parts("base_color_texture", material):
            texel = self._texture(index, "base_color_texture", points, chosen)
            for channel in range(4):
                color[channel][chosen] *= texel[channel]
        self._apply_alpha_mode(color[3], material, points.face)
        return color

    def _apply_alpha_mode(self, alpha: np.ndarray, material: np.ndarray, face: np.ndarray) -> None:
        if not self.has_see_through:
            alpha[:] = 1
            return
        clear = self.see_through.take(face)
        alpha[~clear] = 1
        np.clip(alpha, 0, 1, out=alpha)
        for index, value in enumerate(self.model.materials):
            if value.alpha_mode == "mask":
                mine = clear & (material == index)
                alpha[mine] = alpha[mine] >= value.alpha_cutoff

    def metallic_roughness(self, points: Points) -> tuple[np.ndarray, np.ndarray]:
        """Metallic and (perceptual) roughness, both in [0, 1]."""
        material = self.material.take(points.face)
        metallic, roughness = (table.take(material) for table in self._rough)
        for index, chosen in self._textured_parts("metallic_roughness_texture", material):
            texel = self._texture(index, "metallic_roughness_texture", points, chosen)
            metallic[chosen] *= texel[2]
            roughness[chosen] *= texel[1]
        return np.clip(metallic, 0, 1), np.clip(roughness, 0, 1)

    def emission(self, points: Points) -> Channels:
        """Emitted radiance, linear."""
        material = self.material.take(points.face)
        color = [table.take(material) for table in self._emissive]
        for index, chosen in self._textured_parts("emissive_texture", material):
            texel = self._texture(index, "emissive_texture", points, chosen)
            for channel in range(3):
                color[channel][chosen] *= texel[channel]
        return color

    def normal(self, points: Points, *, bumped: bool = True) -> Channels:
        """Unit shading normals on the side that is seen, normal maps applied."""
        normal = self.interpolate("normal", points)
        _normalize(normal)
        if bumped:
            material = self.material.take(points.face)
            for index, chosen in self._textured_parts("normal_texture", material):
                self._bump(normal, points, index, chosen)
        sign = np.where(points.back, np.float32(-1), np.float32(1))
        for axis in range(3):
            normal[axis] *= sign
        return normal

    def _bump(self, normal: Channels, points: Points, index: int, chosen: np.ndarray | slice) -> None:
        mine = points.part(chosen)
        scale = np.float32(self.model.materials[index].normal_scale)
        x, y, z = (value * 2 - 1 for value in self._texture(index, "normal_texture", points, chosen))
        x *= scale
        y *= scale
        n = [axis[chosen] for axis in normal]
        uv_set = self.model.materials[index].use("normal_texture").uv_set
        tx, ty, tz, hand = self.interpolate(f"tangent{uv_set}", mine)
        along = n[0] * tx + n[1] * ty + n[2] * tz
        t = [tx - n[0] * along, ty - n[1] * along, tz - n[2] * along]
        _normalize(t)
        hand = np.where(hand < 0, np.float32(-1), np.float32(1))
        b = [
            hand * (n[1] * t[2] - n[2] * t[1]),
            hand * (n[2] * t[0] - n[0] * t[2]),
            hand * (n[0] * t[1] - n[1] * t[0]),
        ]
        bumped = [x * t[k] + y * b[k] + z * n[k] for k in range(3)]
        _normalize(bumped)
        for axis in range(3):
            normal[axis][chosen] = bumped[axis]

    def _textured_parts(self, name: str, material: np.ndarray) -> list[tuple[int, np.ndarray | slice]]:
        """Materials that have the texture, each with the points that it covers."""
        having = [index for index, pyramids in enumerate(self._pyramids) if name in pyramids]
        if not having:
            return []
        if len(self._pyramids) == 1:
            return [(0, slice(None))]
        present = set(np.flatnonzero(np.bincount(material, minlength=len(self._pyramids))).tolist())
        if present == {having[0]}:
            return [(having[0], slice(None))]
        parts = ((index, np.flatnonzero(material == index)) for index in having if index in present)
        return [part for part in parts if len(part[1])]

    def _texture(self, index: int, name: str, points: Points, chosen: np.ndarray | slice) -> Channels:
        pyramid = self._pyramids[index][name]
        mine = points.part(chosen)
        uv_set = self.model.materials[index].use(name).uv_set
        u, v = self.interpolate(f"uv{uv_set}", mine)
        texels = float(np.sqrt(float(pyramid.widths[0]) * float(pyramid.heights[0])))
        spread = self._density[uv_set].take(mine.face)
        spread *= mine.footprint
        spread *= np.float32(texels)
        return sample_pyramid(pyramid, u, v, np.log2(np.maximum(spread, np.float32(1e-6))))

    def face_colors(self) -> Float[np.ndarray, "f 3"]:
        """Mean linear base colour of each face: the texture at the face's middle, filtered over its area."""
        count = len(self.model.faces)
        third = np.full(count, 1 / 3, np.float32)
        result = np.empty((count, 3), np.float32)
        area = 0.5 * np.linalg.norm(face_normals(self.model.vertices, self.model.faces), axis=1)
        face, footprint = np.arange(count, dtype=np.int32), np.sqrt(area).astype(np.float32)
        points = Points(face, third, third, np.zeros(count, bool), footprint)
        for start in range(0, count, 65536):
            part = slice(start, start + 65536)
            red, green, blue, _ = self.base(points.part(part))
            result[part] = np.clip(np.stack([red, green, blue], 1), 0, 1)
        return result


def facing_signs(model: Model) -> Float[np.ndarray, " f"]:
    """-1 for faces all of whose normals point away from the side that their winding shows, else 1: such files have
    turned the one or the other round, and shading must happen on the side that is seen."""
    assert model.normals is not None
    ground = face_normals(model.vertices, model.faces)
    away = np.ones(len(model.faces), bool)
    for corner in range(3):
        away &= (model.normals[model.faces[:, corner]] * ground).sum(1) < 0
    return np.where(away, np.float32(-1), np.float32(1))


def _corner_tables(attribute: np.ndarray, faces: np.ndarray) -> list[list[np.ndarray]]:
    """attribute (v, k) → for each corner of the faces k arrays of (f,)."""
    return [
        [np.ascontiguousarray(attribute[faces[:, corner], k], np.float32) for k in range(attribute.shape[1])]
        for corner in range(3)
    ]


def _material_table(materials: tuple[Material, ...], get) -> Float[np.ndarray, "k m"]:
    return np.ascontiguousarray(np.array([get(material) for material in materials], np.float32).T)


def _uv_density(
    uv: Float[np.ndarray, "f 3 2"], twice_area: Float[np.ndarray, " f"]
) -> Float[np.ndarray, " f"]:
    """Texture lengths per world length, the root of the ratio of the areas."""
    a, b = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    area = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    return np.sqrt(area / np.maximum(twice_area, 1e-20)).astype(np.float32)


def _normalize(vector: Channels) -> None:
    length = vector[0] * vector[0]
    length += vector[1] * vector[1]
    length += vector[2] * vector[2]
    np.sqrt(length, out=length)
    np.maximum(length, np.float32(1e-20), out=length)
    np.divide(np.float32(1), length, out=length)
    for axis in range(3):
        vector[axis] *= length
