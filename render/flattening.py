"""A model of many materials → one mesh with one texture, colours in its vertices, or both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from mv3d.core.colors import LINEAR_OF_SRGB, srgb_from_linear
from mv3d.render.limits import LoadLimits
from mv3d.render.mesh import Mesh
from mv3d.render.model import UNSTATED, Material, Model, Wrap

_SIDE = 8192  # texels along a side of a material's repeated texture, at most
_PERIODS: dict[Wrap, int] = {"repeat": 1, "mirror": 2}


def mesh_of_model(model: Model) -> Mesh:
    """The geometry of a model and its unlit base colour, opaque.

    Factor, texture and vertex colour are multiplied as light (glTF 2.0, section 3.9.2). Without textures the product
    is in the vertices. Otherwise every material's factor times texture is a tile of one texture, repeated as often as
    one face repeats it (and scaled down where the tiles grow beyond 8192 x 8192 texels), and the vertex colours stay
    in the vertices. A model whose file says nothing of colours gives a mesh without colours. No vertex may belong to
    faces of two materials; files are read so. Alpha, metalness, roughness, emission and normal maps are left out.
    """
    textures = [material.base_color_texture for material in model.materials]
    if model.uv is not None and any(texture is not None for texture in textures):
        return _textured(model, model.uv)
    if model.colors is None and all(material is UNSTATED for material in model.materials):
        return Mesh(model.vertices, model.faces, model.normals)
    assert model.face_material is not None
    owner = np.zeros(len(model.vertices), np.int32)
    owner[model.faces] = model.face_material[:, None]
    linear = np.array([material.base_color[:3] for material in model.materials])[owner]
    if model.colors is not None:
        linear = linear * model.colors[:, :3]
    return Mesh(model.vertices, model.faces, model.normals, vertex_colors=_bytes(linear))


def _textured(model: Model, uv: Float[np.ndarray, "v 2"]) -> Mesh:
    assert model.normals is not None and model.face_material is not None
    vertices, faces, normals, colors = model.vertices, model.faces, model.normals, model.colors
    tint = None if colors is None or (colors[:, :3] == 1).all() else _bytes(colors[:, :3])
    inside = uv.min() >= 0 and uv.max() <= 1
    if len(model.materials) == 1 and inside:
        return Mesh(vertices, faces, normals, uv, _factored(model.materials[0]), tint)
    if not inside:  # faces that share a vertex may move into the first tile from different ones
        corners = faces.reshape(-1)
        vertices, normals, uv = vertices[corners], normals[corners], uv[corners]
        tint = None if tint is None else tint[corners]
        faces = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
    uv, tiles = uv.astype(np.float64), []
    parts = [np.unique(faces[model.face_material == index]) for index in range(len(model.materials))]
    for index, (material, mine) in enumerate(zip(model.materials, parts, strict=True)):
        if material.base_color_texture is None:
            uv[mine] = 0.5
        elif not inside:
            own = faces[model.face_material == index]
            uv[own] = _first_tile(uv[own], material.wrap)
        at = uv[mine] if len(mine) else np.full((1, 2), 0.5)
        low = np.floor(at.min(0) + 1e-6).astype(int)
        high = np.maximum(np.ceil(at.max(0) - 1e-6).astype(int), low + 1)
        tiles.append(_Tile(_factored(material), material.wrap, low, high))
    most = _SIDE
    while np.prod(_page_size([tile.size(most) for tile in tiles])) > LoadLimits.texture_pixels:
        most //= 2
    page = np.zeros((*_page_size([tile.size(most) for tile in tiles]), 3), np.uint8)
    left = 0
    for tile, mine in zip(tiles, parts, strict=True):
        texels, low, high = tile.texels(most), tile.low, tile.high
        h, w = texels.shape[:2]
        page[:h, left : left + w] = texels
        place = np.full(2, 0.5) if tile.is_plain(most) else (uv[mine] - low) / (high - low)
        uv[mine] = (place * [w - 2, h - 2] + [left + 1, 1]) / page.shape[1::-1]
        left += w
    return Mesh(vertices, faces, normals, uv.astype(np.float32), page, tint)


def _first_tile(uv: Float[np.ndarray, "f 3 2"], wrap: tuple[Wrap, Wrap]) -> Float[np.ndarray, "f 3 2"]:
    """The same texels, each face moved by whole periods so that it begins in the first one."""
    uv = uv.copy()
    for axis, mode in enumerate(wrap):
        period = _PERIODS.get(mode)
        if period is not None:
            uv[..., axis] -= np.floor((uv[..., axis].min(1, keepdims=True) + 1e-6) / period) * period
    return uv


@dataclass(frozen=True, eq=False)
class _Tile:
    """A picture from repeat `low` to `high` (in u and v), with a border of one texel so that no neighbour bleeds in.

    `most`: texels along a side at most. Where the repeats alone are more, the tile is the picture's mean colour.
    """

    picture: UInt8[np.ndarray, "h w 3"]
    wrap: tuple[Wrap, Wrap]
    low: Int[np.ndarray, " 2"]
    high: Int[np.ndarray, " 2"]

    def is_plain(self, most: int) -> bool:
        return int((self.high - self.low).max()) > most

    def _picture_size(self, most: int) -> Int[np.ndarray, " 2"]:
        """Width and height of one repeat."""
        return np.minimum(self.picture.shape[1::-1], np.maximum(most // (self.high - self.low), 1))

    def size(self, most: int) -> Int[np.ndarray, " 2"]:
        """Width and height of the tile, border included."""
        return np.full(2, 3) if self.is_plain(most) else self._picture_size(most) * (self.high - self.low) + 2

    def texels(self, most: int) -> UInt8[np.ndarray, "h w 3"]:
        plain = self.is_plain(most)
        w, h = (1, 1) if plain else self._picture_size(most).tolist()
        picture = self.picture
        if (h, w) != picture.shape[:2]:
            picture = np.asarray(Image.fromarray(picture).resize((w, h), Image.Resampling.BOX))
        if plain:
            return np.tile(picture, (3, 3, 1))
        xs, ys = (
            _texels(size, int(low), int(high), mode)
            for size, low, high, mode in zip((w, h), self.low, self.high, self.wrap, strict=True)
        )
        return picture[np.ix_(ys, xs)]


def _page_size(sizes: list[Int[np.ndarray, " 2"]]) -> tuple[int, int]:
    """Height and width of tiles side by side."""
    return max(int(size[1]) for size in sizes), sum(int(size[0]) for size in sizes)


def _texels(size: int, low: int, high: int, wrap: Wrap) -> Int[np.ndarray, " n"]:
    """Indices of the texels from repeat `low` to `high` and of one more at either end."""
    at = np.arange(low * size - 1, high * size + 1)
    if wrap == "repeat":
        return at % size
    if wrap == "mirror":
        at %= 2 * size
        return np.minimum(at, 2 * size - 1 - at)
    return np.clip(at, 0, size - 1)


def _factored(material: Material) -> UInt8[np.ndarray, "h w 3"]:
    """Base colour factor times texture, sRGB; one texel where there is no texture."""
    factor, texture = np.array(material.base_color[:3]), material.base_color_texture
    if texture is None:
        return _bytes(factor)[None, None]
    if (factor == 1).all():
        return np.ascontiguousarray(texture[..., :3])
    table = _bytes(LINEAR_OF_SRGB[:, None] * factor)
    return np.stack([table[texture[..., channel], channel] for channel in range(3)], -1)


def _bytes(linear: Float[np.ndarray, "*b"]) -> UInt8[np.ndarray, "*b"]:
    """Linear → sRGB, 8 bits."""
    return (srgb_from_linear(np.clip(linear, 0, 1)) * 255 + 0.5).astype(np.uint8)
