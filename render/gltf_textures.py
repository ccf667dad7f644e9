"""Textures of glTF files: their pictures, and where they are laid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from mv3d.core.errors import MissingPartError, shown
from mv3d.render.gltf_extensions import TEXTURE_SOURCES
from mv3d.render.gltf_file import GltfFile
from mv3d.render.model import Wrap
from mv3d.render.resources import MissingFileError, PictureError

_WRAPS: dict[int, Wrap] = {10497: "repeat", 33648: "mirror", 33071: "clamp"}


class LostPicture(Exception):
    """A texture without a picture. missing: it is not there at all, else it cannot be used. why: a phrase."""

    def __init__(self, missing: bool, why: str) -> None:
        super().__init__(missing, why)
        self.missing, self.why = missing, why


@dataclass(frozen=True)
class Mapping:
    """Which texture coordinates a texture reads, and how they are moved (KHR_texture_transform): scaled, turned
    counter-clockwise by `turn` (radians), then shifted."""

    channel: int = 0
    offset: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    turn: float = 0.0

    @staticmethod
    def of(reference: dict[str, Any]) -> Mapping:
        """Of a textureInfo. Raises ValueError where offset or scale are not two finite numbers."""
        transform = reference.get("extensions", {}).get("KHR_texture_transform", {})
        pairs = [[float(v) for v in transform.get(key, [d, d])] for key, d in (("offset", 0), ("scale", 1))]
        turn = float(transform.get("rotation", 0.0))
        if any(len(pair) != 2 for pair in pairs) or not np.isfinite([*pairs[0], *pairs[1], turn]).all():
            raise ValueError("KHR_texture_transform: expected two finite numbers as offset and as scale")
        (ox, oy), (sx, sy) = pairs
        channel = int(transform.get("texCoord", reference.get("texCoord", 0)))
        return Mapping(channel, (ox, oy), (sx, sy), turn)

    def apply(self, uv: Float[np.ndarray, "v 2"]) -> Float[np.ndarray, "v 2"]:
        """The extension's matrix: offset · rotation · scale."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        u, v = (uv.astype(np.float64) * self.scale).T
        return np.stack([cos * u + sin * v, -sin * u + cos * v], 1) + self.offset


def channels_of(attributes: dict[str, np.ndarray]) -> frozenset[int]:
    """The numbers of the sets of texture coordinates that a primitive has."""
    names = (name.partition("TEXCOORD_") for name, values in attributes.items() if values.shape[1] == 2)
    return frozenset(
        int(number) for before, mark, number in names if mark and not before and number.isdecimal()
    )


def texture_coordinates(attributes: dict[str, np.ndarray], mapping: Mapping) -> Float[np.ndarray, "v 2"]:
    """The coordinates of a mapping whose channel the primitive has."""
    uv = attributes[f"TEXCOORD_{mapping.channel}"]
    if uv.dtype.kind in "ui":
        uv = uv.astype(np.float32) / np.iinfo(uv.dtype).max
    return mapping.apply(np.clip(np.nan_to_num(uv), -1e6, 1e6)).astype(np.float32)


class TextureReader:
    """Pictures and wrapping of textures by index; every picture is decoded once."""

    def __init__(self, file: GltfFile) -> None:
        self._file, self._json = file, file.json
        self._images: dict[int, UInt8[np.ndarray, "h w 4"]] = {}
        self._lost: dict[int, tuple[bool, str]] = {}

    def picture(self, reference: dict[str, Any]) -> UInt8[np.ndarray, "h w 4"]:
        """The picture of a textureInfo: of the sources that it names, the first that can be used.

        Raises LostPicture where none can, MissingPartError where none can without a decoder that is not installed,
        InputError for a picture beyond the limits or outside of the file's folder.
        """
        lost: list[LostPicture] = []
        undecoded: MissingPartError | None = None
        for source in self._sources(self._texture(reference)):
            try:
                return self._image(source)
            except LostPicture as error:
                lost.append(error)
            except MissingPartError as error:
                undecoded = undecoded or error
        if undecoded is not None:
            raise undecoded
        raise lost[0] if lost else LostPicture(True, f"texture {reference['index']} has no picture")

    def wrap(self, reference: dict[str, Any]) -> tuple[Wrap, Wrap]:
        texture = self._texture(reference)
        if "sampler" not in texture:
            return ("repeat", "repeat")
        sampler = self._json["samplers"][self._file.index("samplers", texture["sampler"])]
        return _WRAPS[sampler.get("wrapS", 10497)], _WRAPS[sampler.get("wrapT", 10497)]

    def _texture(self, reference: dict[str, Any]) -> dict[str, Any]:
        return self._json["textures"][self._file.index("textures", reference["index"])]

    @staticmethod
    def _sources(texture: dict[str, Any]) -> Iterator[Any]:
        extensions = texture.get("extensions", {})
        for holder in (*(extensions.get(name, {}) for name in TEXTURE_SOURCES), texture):
            if holder.get("source") is not None:
                yield holder["source"]

    def _image(self, source: Any) -> UInt8[np.ndarray, "h w 4"]:
        source = self._file.index("images", source)
        if source in self._lost:
            raise LostPicture(*self._lost[source])
        if source not in self._images:
            try:
                self._images[source] = self._decoded(source)
            except LostPicture as error:
                self._lost[source] = (error.missing, error.why)
                raise
        return self._images[source]

    def _decoded(self, source: int) -> UInt8[np.ndarray, "h w 4"]:
        image, what, resources = self._json["images"][source], f"texture {source}", self._file.resources
        try:
            if "uri" in image:
                data = resources.named(image["uri"], what)
            elif "bufferView" in image:
                data = bytes(self._file.view_bytes(image["bufferView"]))
            else:
                raise LostPicture(True, f"picture {source} has no data")
            return resources.picture(data, what)
        except MissingFileError as error:
            raise LostPicture(True, f"the picture {shown(image['uri'])!r} is not there") from error
        except PictureError as error:
            raise LostPicture(False, error.why) from error
