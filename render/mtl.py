"""Materials of .mtl files: what their statements mean as metallic-roughness materials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mv3d.render.load_warnings import LoadWarningName
from mv3d.render.model import Material, without_picture
from mv3d.render.mtl_file import MapStatement, MtlEntry, parse_map
from mv3d.render.resources import MissingFileError, Resources, UnusableFileError

MTL_STATEMENTS: dict[str, str] = {
    "Kd": "colour",
    "map_Kd": "picture of the colour, times Kd",
    "d, Tr": "opacity; transparency, or opacity where its writer means that; d wins",
    "map_d": "picture of the opacity: its alpha, or its brightness",
    "Ke": "emitted light",
    "map_Ke": "picture of the emitted light",
    "map_Bump, bump": "relief: a normal map, or heights, which become one",
    "norm, map_Kn": "normal map",
    "Ns": "gloss",
    "Pr, Pm": "roughness and metalness",
    "map_Pr, map_Pm": "pictures of roughness and metalness",
}
"""What is read of an .mtl file, for people; other statements change nothing that is drawn."""
_MAPS = {
    "base_color_texture": ("map_kd",),
    "opacity": ("map_d",),
    "emissive_texture": ("map_ke", "map_emissive"),
    "normal_texture": ("norm", "map_kn", "map_bump", "bump"),
    "roughness": ("map_pr",),
    "metallic": ("map_pm",),
}
_COLOURS = ("base_color_texture", "opacity", "emissive_texture")
_INVISIBLE = 1e-3
_HEIGHT = 0.01
"""Height of the full range of a relief, in widths of its picture; .mtl files have no unit for it."""


@dataclass(frozen=True)
class ReadMaterial:
    """scale, offset: of the texture coordinates, v counted from the bottom, as the file means them."""

    material: Material
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    def moved(self, uv: Float[np.ndarray, "v 2"]) -> Float[np.ndarray, "v 2"]:
        """Where the pictures are looked up."""
        return uv * np.array(self.scale) + np.array(self.offset)


def read_materials(entries: Iterable[MtlEntry], resources: Resources) -> dict[str, ReadMaterial]:
    """The materials of a model by name. Only those that it uses are to be given: the others' pictures stay unread, and
    what all of them say of their opacity decides what Tr means. Errors are those of `Resources.found`."""
    entries = list(entries)
    opacities = _opacities(entries, resources)
    reader = _Reader(resources)
    return {entry.name: reader.material(entry, opacities[entry.name]) for entry in entries}


def _opacities(entries: list[MtlEntry], resources: Resources) -> dict[str, float]:
    """The opacity of each material.

    d wins over Tr. Tr is transparency, as most programs write it, but opacity where MeshLab, vcglib or OpenMVS say in a
    comment that they wrote the file, and where by the other meaning nothing would be left to see: where all materials
    of the model that have a Tr alone say 1. A model whose materials are all invisible by d is drawn as opaque, too.
    """
    stated = {entry.name: entry.numbers("d", 1) for entry in entries}
    turned = {entry.name: entry.numbers("tr", 1) for entry in entries if stated[entry.name] is None}
    alone = {name: value[0] for name, value in turned.items() if value is not None}
    all_gone = bool(alone) and all(value >= 1 - _INVISIBLE for value in alone.values())
    found: dict[str, float] = {}
    for entry in entries:
        d = stated[entry.name]
        if d is not None:
            found[entry.name] = d[0]
        elif entry.name not in alone:
            found[entry.name] = 1.0
        elif entry.tr_is_opacity or all_gone:
            found[entry.name] = alone[entry.name]
            if all_gone:
                resources.warnings.add("read_as_opaque", "Tr 1 in all materials is taken for opaque")
        else:
            found[entry.name] = 1 - alone[entry.name]
    if found and all(value <= _INVISIBLE for value in found.values()):
        resources.warnings.add("read_as_opaque", "all materials are invisible and are drawn as opaque")
        return dict.fromkeys(found, 1.0)
    return {name: min(max(value, 0.0), 1.0) for name, value in found.items()}


class _Reader:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._pictures: dict[Path, UInt8[np.ndarray, "h w 4"]] = {}

    def material(self, entry: MtlEntry, opacity: float) -> ReadMaterial:
        maps: dict[str, MapStatement] = {}
        for slot, keys in _MAPS.items():
            key = next((key for key in keys if key in entry.values), None)
            if key is not None:
                maps[slot] = parse_map(entry.values[key])
        leading = next(iter(maps.values()), MapStatement(()))
        pictures: dict[str, UInt8[np.ndarray, "h w 4"] | None] = {}
        for slot, statement in maps.items():
            if (statement.scale, statement.offset) != (leading.scale, leading.offset):
                self._lost(
                    entry, slot, f"{statement.files[0][:80]!r} is placed unlike the first one (-s, -o)"
                )
                pictures[slot] = None
            else:
                pictures[slot] = self._picture(entry, slot, statement)
        return ReadMaterial(
            _material(entry, opacity, maps, pictures, self._resources), leading.scale, leading.offset
        )

    def _picture(
        self, entry: MtlEntry, slot: str, statement: MapStatement
    ) -> UInt8[np.ndarray, "h w 4"] | None:
        """The picture, or None and a warning."""
        if not statement.files:
            self._lost(entry, slot, "a picture has no name", missing=True)
            return None
        # A name may hold "#": it is cut off where only what stands before it is there.
        there = (name for name in statement.files if self._resources.has(name, entry.folder))
        name = next(there, statement.files[-1])
        try:
            data, path = self._resources.found(name, "the picture", entry.folder)
            if path not in self._pictures:
                self._pictures[path] = self._resources.picture(data, f"texture {name[:80]!r}")
            return self._pictures[path]
        except MissingFileError:
            self._lost(entry, slot, f"the picture {name[:80]!r} is not there", missing=True)
        except UnusableFileError as error:
            self._lost(entry, slot, f"the picture {name[:80]!r} cannot be used ({error.why})")
        return None

    def _lost(self, entry: MtlEntry, slot: str, what: str, *, missing: bool = False) -> None:
        name: LoadWarningName = "missing_texture" if missing else "unusable_texture"
        self._resources.warnings.add(
            name if slot in _COLOURS else "missing_detail", f"{entry.name[:80]}: {what}"
        )


def _material(
    entry: MtlEntry,
    opacity: float,
    maps: Mapping[str, MapStatement],
    pictures: Mapping[str, UInt8[np.ndarray, "h w 4"] | None],
    resources: Resources,
) -> Material:
    texture, matte = pictures.get("base_color_texture"), pictures.get("opacity")
    color = [min(max(value, 0.0), 1.0) for value in entry.numbers("kd", 3) or [0.8, 0.8, 0.8]]
    if "kd" in entry.values and entry.numbers("kd", 3) is None:
        resources.warnings.add(
            "approximated", f"{entry.name[:80]}: a colour by its spectrum is drawn as grey"
        )
    if "base_color_texture" in maps and sum(color) == 0:
        color = [1.0, 1.0, 1.0]  # some tools write black beside a texture
    if texture is not None and not texture[..., 3].any() and matte is None:
        resources.warnings.add("read_as_opaque", f"{entry.name[:80]}: the picture is transparent all over")
        texture = np.dstack([texture[..., :3], np.full(texture.shape[:2], 255, np.uint8)])
    if matte is not None:
        texture = _with_opacity(texture, _levels(matte, maps["opacity"].channel))
    glow = [max(value, 0.0) for value in entry.numbers("ke", 3) or [0.0, 0.0, 0.0]]
    if "emissive_texture" in maps and not any(glow):
        glow = [1.0, 1.0, 1.0]  # the picture is there to be seen
    relief = pictures.get("normal_texture")
    strength = maps["normal_texture"].strength if "normal_texture" in maps else 1.0
    if relief is not None and not _is_normal_map(relief):
        resources.warnings.add("approximated", f"{entry.name[:80]}: heights are drawn as a normal map")
        relief, strength = _normals_of_heights(relief, strength), 1.0
    emission = pictures.get("emissive_texture")
    rough, metal = entry.numbers("pr", 1), entry.numbers("pm", 1)
    gloss = _gloss(pictures.get("roughness"), pictures.get("metallic"), rough, metal)
    shine = min(max((entry.numbers("ns", 1) or [10.0])[0], 0), 1e4)
    clear = opacity < 1 or (texture is not None and bool((texture[..., 3] < 255).any()))
    material = Material(
        name=entry.name,
        base_color=(color[0], color[1], color[2], opacity),
        base_color_texture=texture,
        metallic=1.0 if gloss is not None else min(max(metal[0], 0), 1) if metal else 0.0,
        # Phong exponent → GGX: alpha² = 2 / (n + 2) (Walter et al. 2007), and alpha is the square of roughness.
        roughness=1.0
        if gloss is not None
        else min(max(rough[0], 0), 1)
        if rough
        else float((2 / (shine + 2)) ** 0.25),
        metallic_roughness_texture=gloss,
        emissive=(glow[0], glow[1], glow[2]),
        emissive_texture=None if emission is None else np.ascontiguousarray(emission[..., :3]),
        normal_texture=None if relief is None else np.ascontiguousarray(relief[..., :3]),
        normal_scale=strength,
        alpha_mode="blend" if clear else "opaque",
        wrap=("clamp", "clamp") if any(each.clamp for each in maps.values()) else ("repeat", "repeat"),
    )
    for slot in ("base_color_texture", "emissive_texture"):
        if slot in maps and pictures[slot] is None:
            material = without_picture(material, slot)
    return material


def _levels(picture: UInt8[np.ndarray, "h w 4"], channel: str) -> UInt8[np.ndarray, "h w"]:
    """The scalar that a picture holds: the channel that is asked for, alpha where there is one, else brightness."""
    if channel in ("r", "g", "b"):
        return picture[..., "rgb".index(channel)]
    if channel == "m" or (channel != "l" and (picture[..., 3] < 255).any()):
        return picture[..., 3]
    return np.asarray(Image.fromarray(picture[..., :3]).convert("L"))


def _with_opacity(
    texture: UInt8[np.ndarray, "h w 4"] | None, opacity: UInt8[np.ndarray, "a b"]
) -> UInt8[np.ndarray, "h w 4"]:
    """The opacity as the alpha of a picture, in the size of the larger one."""
    if texture is None:
        return np.dstack([np.full((*opacity.shape, 3), 255, np.uint8), opacity])
    rows, columns = (max(a, b) for a, b in zip(texture.shape, opacity.shape, strict=False))
    size, smooth = (columns, rows), Image.Resampling.BILINEAR
    color = np.asarray(Image.fromarray(np.ascontiguousarray(texture[..., :3])).resize(size, smooth))
    return np.dstack([color, np.asarray(Image.fromarray(opacity).resize(size, smooth))])


def _is_normal_map(picture: UInt8[np.ndarray, "h w 4"]) -> bool:
    """Whether the mean of its colours is the blue of normals that look outward, not the grey of heights."""
    red, green, blue = picture[..., :3].reshape(-1, 3).mean(0)
    return blue > 150 and blue - max(red, green) > 30


def _normals_of_heights(picture: UInt8[np.ndarray, "h w 4"], strength: float) -> UInt8[np.ndarray, "h w 3"]:
    """Slopes of heights by central differences, +Y up; the picture repeats."""
    heights = _levels(picture, "l").astype(np.float32) / 255 * (strength * _HEIGHT * picture.shape[1])
    across = (np.roll(heights, -1, 1) - np.roll(heights, 1, 1)) / 2
    down = (np.roll(heights, -1, 0) - np.roll(heights, 1, 0)) / 2
    normal = np.dstack([-across, down, np.ones_like(heights)])
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    return (normal * 127.5 + 128).clip(0, 255).astype(np.uint8)


def _gloss(
    rough: UInt8[np.ndarray, "h w 4"] | None,
    metal: UInt8[np.ndarray, "a b 4"] | None,
    roughness: list[float] | None,
    metalness: list[float] | None,
) -> UInt8[np.ndarray, "y x 3"] | None:
    """Both as one picture, as glTF has them, with the factor where one of them has no picture."""
    if rough is None and metal is None:
        return None
    shapes = [picture.shape[:2] for picture in (rough, metal) if picture is not None]
    rows, columns = max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)

    def plane(
        picture: UInt8[np.ndarray, "h w 4"] | None, factor: list[float] | None, default: float
    ) -> UInt8[np.ndarray, "y x"]:
        if picture is None:
            value = min(max((factor or [default])[0], 0), 1)
            return np.full((rows, columns), round(255 * value), np.uint8)
        levels = Image.fromarray(np.ascontiguousarray(_levels(picture, "l")))
        return np.asarray(levels.resize((columns, rows), Image.Resampling.BILINEAR))

    return np.dstack(
        [np.zeros((rows, columns), np.uint8), plane(rough, roughness, 0.5), plane(metal, metalness, 0.0)]
    )


def white(material: Material) -> Material:
    """The material of faces whose colours are in the vertices."""
    return replace(material, base_color=(1.0, 1.0, 1.0, material.base_color[3]))
