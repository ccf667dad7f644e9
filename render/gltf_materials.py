"""Materials and textures of glTF files."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from jaxtyping import Float, UInt8

from mv3d.core.errors import InputError
from mv3d.render.gltf_file import GltfFile
from mv3d.render.model import AlphaMode, Material, Wrap

_WRAPS: dict[int, Wrap] = {10497: "repeat", 33648: "mirror", 33071: "clamp"}
_DEFAULT = -1  # the material of primitives that name none


class Mapping:
    """Which texture coordinates a material reads, and how they are moved (KHR_texture_transform)."""

    def __init__(self, reference: dict[str, Any] | None) -> None:
        reference = reference or {}
        transform = reference.get("extensions", {}).get("KHR_texture_transform", {})
        self.channel = int(transform.get("texCoord", reference.get("texCoord", 0)))
        self.offset = np.array(transform.get("offset", [0, 0]), np.float64)
        self.scale = np.array(transform.get("scale", [1, 1]), np.float64)
        self.turn = float(transform.get("rotation", 0.0))

    def same(self, other: Mapping) -> bool:
        return all(np.array_equal(value, vars(other)[name]) for name, value in vars(self).items())

    def apply(self, uv: Float[np.ndarray, "v 2"]) -> Float[np.ndarray, "v 2"]:
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        u, v = (uv.astype(np.float64) * self.scale).T
        return np.stack([cos * u + sin * v, -sin * u + cos * v], 1) + self.offset


def texture_coordinates(
    attributes: dict[str, np.ndarray], mapping: Mapping
) -> Float[np.ndarray, "v 2"] | None:
    """The coordinates that a material's textures use, or None where there are none."""
    uv = attributes.get(f"TEXCOORD_{mapping.channel}")
    if uv is None or uv.shape[1] != 2:
        return None
    if uv.dtype.kind in "ui":
        uv = uv.astype(np.float32) / np.iinfo(uv.dtype).max
    return mapping.apply(np.clip(np.nan_to_num(uv), -1e6, 1e6)).astype(np.float32)


class MaterialReader:
    """Materials by index, read when first asked for. One set of texture coordinates a material: textures that use
    another one than the base colour's are left out."""

    def __init__(self, file: GltfFile) -> None:
        self._file, self._json = file, file.json
        self._images: dict[int, UInt8[np.ndarray, "h w 4"]] = {}
        self._numbers: dict[int, int] = {}
        self._materials: list[Material] = []
        self._mappings: dict[int, Mapping] = {}

    def number(self, index: int | None) -> int:
        """The place in `all` of a material of the file."""
        key = _DEFAULT if index is None else index
        if key not in self._numbers:
            self._materials.append(self._read(self._entry(index)))
            self._numbers[key] = len(self._materials) - 1
        return self._numbers[key]

    def all(self) -> tuple[Material, ...]:
        return tuple(self._materials)

    def mapping(self, index: int | None) -> Mapping:
        key = _DEFAULT if index is None else index
        if key not in self._mappings:
            self._mappings[key] = Mapping(self._leading(self._entry(index)))
        return self._mappings[key]

    def _entry(self, index: int | None) -> dict[str, Any]:
        return {} if index is None else self._json["materials"][self._file.index("materials", index)]

    @staticmethod
    def _leading(entry: dict[str, Any]) -> dict[str, Any] | None:
        """The texture whose coordinates count: base colour, else whichever there is."""
        pbr = entry.get("pbrMetallicRoughness", {})
        old = entry.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness", {})
        for holder, name in (
            (old, "diffuseTexture"),
            (pbr, "baseColorTexture"),
            (pbr, "metallicRoughnessTexture"),
            (entry, "normalTexture"),
            (entry, "emissiveTexture"),
        ):
            if name in holder:
                return holder[name]
        return None

    def _read(self, entry: dict[str, Any]) -> Material:
        pbr, extensions = entry.get("pbrMetallicRoughness", {}), entry.get("extensions", {})
        leading = self._leading(entry)
        mapping = Mapping(leading)

        def texture(reference: dict[str, Any] | None) -> np.ndarray | None:
            if reference is None or not Mapping(reference).same(mapping):
                return None
            return self._texture(reference)

        old = extensions.get("KHR_materials_pbrSpecularGlossiness")
        if old is not None:
            color, base = old.get("diffuseFactor", [1, 1, 1, 1]), texture(old.get("diffuseTexture"))
            metallic, roughness, rough = 0.0, 1 - float(old.get("glossinessFactor", 1.0)), None
        else:
            color, base = pbr.get("baseColorFactor", [1, 1, 1, 1]), texture(pbr.get("baseColorTexture"))
            metallic, roughness = float(pbr.get("metallicFactor", 1)), float(pbr.get("roughnessFactor", 1))
            rough = texture(pbr.get("metallicRoughnessTexture"))
        strength = float(extensions.get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1))
        emissive = [float(value) * strength for value in entry.get("emissiveFactor", [0, 0, 0])]
        glow, bump = texture(entry.get("emissiveTexture")), texture(entry.get("normalTexture"))
        mode = str(entry.get("alphaMode", "OPAQUE")).lower()
        if mode not in ("opaque", "mask", "blend"):
            raise InputError(
                f"{self._file.name}: alphaMode: expected OPAQUE, MASK or BLEND, got {mode[:20]!r}"
            )
        return Material(
            name=str(entry.get("name", "")),
            base_color=_four(color),
            base_color_texture=base,
            metallic=metallic,
            roughness=roughness,
            metallic_roughness_texture=_rgb(rough),
            emissive=(emissive[0], emissive[1], emissive[2]),
            emissive_texture=_rgb(glow) if any(emissive) else None,
            normal_texture=_rgb(bump),
            normal_scale=float(entry.get("normalTexture", {}).get("scale", 1)),
            alpha_mode=cast(AlphaMode, mode),
            alpha_cutoff=float(entry.get("alphaCutoff", 0.5)),
            double_sided=bool(entry.get("doubleSided", False)),
            unlit="KHR_materials_unlit" in extensions,
            wrap=self._wrap(leading),
        )

    def _wrap(self, reference: dict[str, Any] | None) -> tuple[Wrap, Wrap]:
        if reference is None:
            return ("repeat", "repeat")
        texture = self._json["textures"][self._file.index("textures", reference["index"])]
        if "sampler" not in texture:
            return ("repeat", "repeat")
        sampler = self._json["samplers"][self._file.index("samplers", texture["sampler"])]
        return _WRAPS[sampler.get("wrapS", 10497)], _WRAPS[sampler.get("wrapT", 10497)]

    def _texture(self, reference: dict[str, Any]) -> UInt8[np.ndarray, "h w 4"] | None:
        texture = self._json["textures"][self._file.index("textures", reference["index"])]
        webp = texture.get("extensions", {}).get("EXT_texture_webp", {})
        source = webp.get("source", texture.get("source"))
        if source is None:
            return None
        source = self._file.index("images", source)
        if source not in self._images:
            image, what, resources = self._json["images"][source], f"texture {source}", self._file.resources
            if "uri" in image:
                data = resources.named(image["uri"], what)
            else:
                data = bytes(self._file.view_bytes(image["bufferView"]))
            self._images[source] = resources.picture(data, what)
        return self._images[source]


def _rgb(texture: np.ndarray | None) -> np.ndarray | None:
    return None if texture is None else np.ascontiguousarray(texture[..., :3])


def _four(color: Any) -> tuple[float, float, float, float]:
    values = [float(value) for value in color]
    if len(values) != 4:
        raise InputError(f"base colour: expected four numbers, got {len(values)}")
    return values[0], values[1], values[2], values[3]
