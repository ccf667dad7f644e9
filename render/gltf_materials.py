"""Materials of glTF files. A texture that cannot be used takes its factor with it, and leaves a warning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
from jaxtyping import UInt8

from mv3d.core.errors import InputError, shown
from mv3d.render.gltf_extensions import EXTENSIONS
from mv3d.render.gltf_file import GltfFile
from mv3d.render.gltf_textures import LostPicture, Mapping, TextureReader
from mv3d.render.model import AlphaMode, Material, TextureUse, Wrap, without_picture
from mv3d.render.specular_glossiness import SpecularGlossiness, metallic_roughness_of

_GLOSSY = "KHR_materials_pbrSpecularGlossiness"
_WORDS = {
    "base_color_texture": "base colour",
    "metallic_roughness_texture": "metalness and roughness",
    "emissive_texture": "emission",
    "normal_texture": "normals",
}
_COLOURS = ("base_color_texture", "emissive_texture")


class MaterialReader:
    """Materials by index, read when first asked for; one for every choice of texture coordinates that a mesh has."""

    def __init__(self, file: GltfFile) -> None:
        self._file, self._json = file, file.json
        self._textures = TextureReader(file)
        self._numbers: dict[tuple[int | None, frozenset[int]], int] = {}
        self._materials: list[Material] = []
        self._mappings: list[tuple[Mapping, ...]] = []

    def number(self, index: int | None, channels: frozenset[int]) -> int:
        """The place in `all` of a material of the file, on a mesh that has these sets of texture coordinates."""
        key = (index, channels)
        if key not in self._numbers:
            material, mappings = self._read(self._entry(index), index, channels)
            self._materials.append(material)
            self._mappings.append(mappings)
            self._numbers[key] = len(self._materials) - 1
        return self._numbers[key]

    def all(self) -> tuple[Material, ...]:
        return tuple(self._materials)

    def mappings(self, number: int) -> tuple[Mapping, ...]:
        """The sets of texture coordinates of a material of `all`: what `TextureUse.uv_set` counts."""
        return self._mappings[number]

    def _entry(self, index: int | None) -> dict[str, Any]:
        return {} if index is None else self._json["materials"][self._file.index("materials", index)]

    def _read(
        self, entry: dict[str, Any], index: int | None, channels: frozenset[int]
    ) -> tuple[Material, tuple[Mapping, ...]]:
        extensions = entry.get("extensions", {})
        name = str(entry.get("name") or f"material {index}")
        laid = _Laid(self._file, self._textures, shown(name, 60), channels)
        strength = float(extensions.get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1))
        emissive = [float(value) * strength for value in entry.get("emissiveFactor", [0, 0, 0])]
        mode = str(entry.get("alphaMode", "OPAQUE")).lower()
        if mode not in ("opaque", "mask", "blend"):
            raise InputError(
                f"{self._file.name}: alphaMode: expected OPAQUE, MASK or BLEND, got {mode[:20]!r}"
            )
        material = Material(
            name=str(entry.get("name", "")),
            emissive=(emissive[0], emissive[1], emissive[2]),
            normal_scale=float(entry.get("normalTexture", {}).get("scale", 1)),
            alpha_mode=cast(AlphaMode, mode),
            alpha_cutoff=float(entry.get("alphaCutoff", 0.5)),
            double_sided=bool(entry.get("doubleSided", False)),
            unlit="KHR_materials_unlit" in extensions,
        )
        if _GLOSSY in extensions:
            material = self._glossy(material, extensions[_GLOSSY], laid)
        else:
            material = self._metallic(material, entry.get("pbrMetallicRoughness", {}), laid)
        glow = laid.picture("emissive_texture", entry.get("emissiveTexture") if any(emissive) else None)
        bump = laid.picture("normal_texture", entry.get("normalTexture"))
        material = replace(material, emissive_texture=_rgb(glow), normal_texture=_rgb(bump))
        for field in laid.lost:
            material = without_picture(material, field)
        for extension in sorted(set(extensions) & set(EXTENSIONS)):
            if EXTENSIONS[extension].handling == "approximated":
                laid.warn("approximated", f"{extension}: {EXTENSIONS[extension].note}")
        return replace(material, wrap=laid.wrap, uses=laid.uses()), tuple(laid.mappings)

    @staticmethod
    def _metallic(material: Material, pbr: dict[str, Any], laid: _Laid) -> Material:
        base = laid.picture("base_color_texture", pbr.get("baseColorTexture"))
        return replace(
            material,
            base_color=_four(pbr.get("baseColorFactor", [1, 1, 1, 1])),
            base_color_texture=base,
            metallic=float(pbr.get("metallicFactor", 1)),
            roughness=float(pbr.get("roughnessFactor", 1)),
            metallic_roughness_texture=_rgb(
                laid.picture("metallic_roughness_texture", pbr.get("metallicRoughnessTexture"))
            ),
        )

    @staticmethod
    def _glossy(material: Material, old: dict[str, Any], laid: _Laid) -> Material:
        """One texture of both looks is made, so both lie where the diffuse one does."""
        diffuse, shine = old.get("diffuseTexture"), old.get("specularGlossinessTexture")
        base = laid.picture("base_color_texture", diffuse)
        red, green, blue = (float(value) for value in old.get("specularFactor", [1, 1, 1]))
        given = SpecularGlossiness(
            _four(old.get("diffuseFactor", [1, 1, 1, 1])),
            (red, green, blue),
            float(old.get("glossinessFactor", 1.0)),
            base,
        )
        if not np.isfinite([*given.diffuse, *given.specular, given.glossiness]).all():
            raise InputError(f"{laid.name}: expected finite factors, got NaN or infinity")
        picture = laid.picture("metallic_roughness_texture", shine)
        if picture is not None and base is not None and not laid.together():
            mean = picture.reshape(-1, 4).mean(0).round().astype(np.uint8)
            picture = np.ascontiguousarray(np.broadcast_to(mean, (1, 1, 4)))
            laid.warn(
                "approximated", "its specular texture lies elsewhere than its colours: the mean is taken"
            )
        if shine is not None and picture is None:  # a dielectric, as of any paint
            given = replace(given, specular=(0.04, 0.04, 0.04), glossiness=0.2)
        found = metallic_roughness_of(replace(given, specular_texture=picture))
        laid.joined()
        return replace(
            material,
            base_color=found.base_color,
            base_color_texture=found.base_color_texture,
            metallic=found.metallic,
            roughness=found.roughness,
            metallic_roughness_texture=found.metallic_roughness_texture,
        )


class _Laid:
    """The textures of one material on one kind of mesh, as they are found: where they lie, and what is lost."""

    def __init__(self, file: GltfFile, textures: TextureReader, name: str, channels: frozenset[int]) -> None:
        self.name, self._file, self._textures, self._channels = name, file, textures, channels
        self.mappings: list[Mapping] = []
        self.lost: list[str] = []
        self._places: dict[str, tuple[Mapping, tuple[Wrap, Wrap]]] = {}

    def picture(self, field: str, reference: dict[str, Any] | None) -> UInt8[np.ndarray, "h w 4"] | None:
        """The texture of a field; None where there is none, or where it is lost."""
        if reference is None:
            return None
        mapping = Mapping.of(reference)
        try:
            picture = self._textures.picture(reference)
            if mapping.channel not in self._channels:
                raise LostPicture(False, f"its mesh has no TEXCOORD_{mapping.channel}")
        except LostPicture as error:
            self.lost.append(field)
            kind = "missing_texture" if error.missing else "unusable_texture"
            what = f"texture of the {_WORDS[field]} left out: {error.why}"
            self.warn(kind if field in _COLOURS else "missing_detail", what)
            return None
        self._places[field] = (mapping, self._textures.wrap(reference))
        if mapping not in self.mappings:
            self.mappings.append(mapping)
        return picture

    def warn(self, kind: Any, sentence: str) -> None:
        self._file.resources.warnings.add(kind, f"{self.name}: {sentence}")

    def together(self) -> bool:
        """Whether all textures so far lie at one place."""
        return len(set(self._places.values())) <= 1

    def joined(self) -> None:
        """The textures so far are one, which lies where the first did."""
        first = next(iter(self._places.values()), None)
        self.mappings = [] if first is None else [first[0]]
        self._places = {} if first is None else dict.fromkeys(list(_WORDS)[:2], first)

    @property
    def wrap(self) -> tuple[Wrap, Wrap]:
        """Of the first texture."""
        return next((wrap for _, wrap in self._places.values()), ("repeat", "repeat"))

    def uses(self) -> dict[str, TextureUse]:
        """Of the textures that lie otherwise than the first."""
        found = {
            field: TextureUse(self.mappings.index(mapping), wrap)
            for field, (mapping, wrap) in self._places.items()
        }
        return {field: use for field, use in found.items() if use != TextureUse(0, self.wrap)}


def _rgb(texture: np.ndarray | None) -> np.ndarray | None:
    return None if texture is None else np.ascontiguousarray(texture[..., :3])


def _four(color: Any) -> tuple[float, float, float, float]:
    values = [float(value) for value in color]
    if len(values) != 4:
        raise InputError(f"base colour: expected four numbers, got {len(values)}")
    return values[0], values[1], values[2], values[3]
