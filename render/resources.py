"""Files that a 3D file names: read from its own folder, or the one that was handed over, only, and bounded. Pictures
are judged before they are decoded."""

from __future__ import annotations

import base64
import binascii
import io
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from jaxtyping import UInt8
from PIL import Image, features

from mv3d.core.errors import InputError
from mv3d.render.ktx2 import MAGIC, Ktx2Error, decode_ktx2, ktx2_size
from mv3d.render.limits import LoadLimits
from mv3d.render.load_warnings import WarningLog
from mv3d.render.lookup import Lookup

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TGA", "GIF", "TIFF")
_OTHERS = {b"\xabKTX 11\xbb": "KTX 1", b"DDS ": "DDS", b"sB\x13\x00": "Basis"}
"""Textures for graphics cards that nothing here decodes, by their first bytes."""
_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.\-]*:")


class MissingFileError(InputError):
    """A file that the main file names is not there."""


class UnusableFileError(InputError):
    """A file that the main file names is there and is not what it should be. why: a phrase."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.why = why


class PictureError(UnusableFileError):
    """A picture that cannot be decoded. why: a phrase."""

    def __init__(self, name: str, what: str, why: str) -> None:
        super().__init__(f"{name}: {what}", why)


class Resources:
    """Reads what a file names. Counts bytes and pixels over all of them against the limits.

    root: the folder that was handed over, with the file in it; by default the file's own. Nothing outside is read.
    warnings: what could not be used as it is meant; readers add to them.
    """

    def __init__(self, path: Path, limits: LoadLimits, root: Path | None = None) -> None:
        self.path = path
        self.folder = path.resolve().parent
        root = self.folder if root is None else root.resolve()
        self._lookup = Lookup(self.folder, root if self.folder.is_relative_to(root) else self.folder)
        self.limits = limits
        self.warnings = WarningLog()
        self._bytes = 0
        self._pixels = 0

    @property
    def name(self) -> str:
        return self.path.name

    def main(self) -> bytes:
        """The bytes of the file itself. Raises InputError where it is absent, empty or too large."""
        if not self.path.is_file():
            raise InputError(
                f"{self.path}: expected a file, got {'a folder' if self.path.is_dir() else 'nothing'}"
            )
        return self._read(self.path, self.name)

    def found(self, name: str, what: str, beside: Path | None = None) -> tuple[bytes, Path]:
        """The bytes and the place of a file that is named as programs of any system do, not as a URI; see
        `Lookup.find`. beside: the folder of the file that names it. A warning says where it was found instead.

        Raises MissingFileError for a file that is not there; InputError for addresses of the web, for paths that lead
        out of the root and for files that are too large.
        """
        if re.match(r"(?!file:)[a-zA-Z][a-zA-Z0-9+.\-]+:", name):
            raise self._on_the_web(name, what)
        try:
            place = self._lookup.find(name, beside)
        except LookupError as error:
            raise self._outside(name, what) from error
        if place is None:
            raise MissingFileError(f"{self.name}: {what} {name[:80]!r} is missing; put it beside the file")
        if place.elsewhere:
            there = place.path.relative_to(self._lookup.root).as_posix()
            self.warnings.add("found_elsewhere", f"{what} {name[:80]!r} is taken from {there[:80]!r}")
        return self._read(place.path, f"{self.name}: {what} {name[:80]!r}"), place.path

    def has(self, name: str, beside: Path | None = None) -> bool:
        """Whether a file is there exactly as it is named."""
        return self._lookup.exact(name, beside) is not None

    def _on_the_web(self, name: str, what: str) -> InputError:
        return InputError(
            f"{self.name}: {what} lies at {name[:80]!r}; only files in its own folder are read: download it and name it "
            "relative to the file"
        )

    def _outside(self, name: str, what: str) -> InputError:
        whole = "" if self._lookup.root != self.folder else ", or give the folder that holds both"
        return InputError(
            f"{self.name}: {what} {name[:80]!r} leads out of the file's folder; put it beside the file{whole}"
        )

    def named(self, uri: str, what: str) -> bytes:
        """The bytes behind a URI: base64 data, or a file in the root.

        Raises MissingFileError for a file that is not there; InputError for any other scheme, for paths that lead out
        of the root (links included), and for files that are too large.
        """
        if not isinstance(uri, str):
            raise InputError(f"{self.name}: {what}: expected a text as URI, got {type(uri).__name__}")
        if uri.startswith("data:"):
            return self._data(uri, what)
        if _SCHEME.match(uri) or uri.startswith("//"):
            raise self._on_the_web(uri, what)
        relative = unquote(uri).replace("\\", "/")
        outside = self._outside(uri, what)
        if relative.startswith("/") or "\0" in relative:
            raise outside
        try:
            target = (self.folder / relative).resolve()
            if not target.is_relative_to(self._lookup.root):
                raise outside
            there = target.is_file()
        except (OSError, ValueError):  # too long for the file system, or no text
            there, target = False, self.folder
        if not there:
            raise MissingFileError(f"{self.name}: {what} {uri[:80]!r} is missing; put it beside the file")
        return self._read(target, f"{self.name}: {what} {uri[:80]!r}")

    def _data(self, uri: str, what: str) -> bytes:
        head, comma, body = uri.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InputError(f"{self.name}: {what}: expected base64 data, got {head[:40]!r}")
        self._count(len(body) * 3 // 4, what)
        try:
            return base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError(f"{self.name}: {what}: broken base64 data ({error})") from error

    def _read(self, target: Path, what: str) -> bytes:
        try:
            self._count(target.stat().st_size, what)
            data = target.read_bytes()
        except OSError as error:
            raise InputError(f"{what}: cannot be read ({error})") from error
        if not data:
            raise UnusableFileError(what, "expected data, got an empty file")
        return data

    def _count(self, size: int, what: str) -> None:
        self._bytes += size
        if self._bytes > self.limits.file_bytes:
            raise InputError(
                f"{what}: expected at most {self.limits.file_bytes / 2**20:.0f} MiB with all that the file names, "
                f"got {self._bytes / 2**20:.0f} MiB or more"
            )

    def picture(self, data: bytes, what: str) -> UInt8[np.ndarray, "h w 4"]:
        """Decode a picture to RGBA, at most `texture_size` on its longer side. 16 bits a channel become 8; colour
        profiles, gamma and orientation in the file do not count (glTF 2.0, section 3.8.2).

        Raises PictureError for what is no picture, is cut off or has no decoder, InputError for too many pixels (the
        size is read from the header, before any pixel is decoded), MissingPartError for KTX2 without its decoder.
        """
        if data.startswith(MAGIC):
            return self._ktx2(data, what)
        for start, name in _OTHERS.items():
            if data.startswith(start):
                raise PictureError(self.name, what, f"expected a PNG, JPEG or WebP picture, got {name}")
        try:
            image = Image.open(io.BytesIO(data), formats=_formats())
            pixels = image.width * image.height
        except Image.DecompressionBombError as error:
            raise self._too_large(what, "far more") from error
        except Exception as error:  # Pillow raises many kinds for broken headers
            why = f"expected a PNG, JPEG or WebP picture, got something else ({_line(error)})"
            raise PictureError(self.name, what, why) from error
        self._count_pixels(image.size, pixels, what)
        try:
            most = self.limits.texture_size
            if max(image.size) <= most:
                return np.array(_eight_bits(image).convert("RGBA"))
            scale = most / max(image.size)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            image.draft("RGB", size)  # JPEG decodes to a half or a quarter directly
            return _shrunk(_eight_bits(image).convert("RGBA"), size)
        except Exception as error:
            raise PictureError(self.name, what, f"the picture is broken ({_line(error)})") from error

    def _ktx2(self, data: bytes, what: str) -> UInt8[np.ndarray, "h w 4"]:
        try:
            width, height = ktx2_size(data)
            self._count_pixels((width, height), width * height, what)
            most = self.limits.texture_size
            pixels = decode_ktx2(data, f"{self.name}: {what}", most=most)
        except Ktx2Error as error:
            raise PictureError(self.name, what, f"its KTX2 picture cannot be decoded ({error})") from error
        if max(pixels.shape[:2]) <= most:
            return pixels
        scale = most / max(pixels.shape[:2])
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        return _shrunk(Image.fromarray(pixels), size)

    def _count_pixels(self, size: tuple[int, int], pixels: int, what: str) -> None:
        self._pixels += pixels
        if pixels > self.limits.texture_pixels or self._pixels > self.limits.all_texture_pixels:
            raise self._too_large(what, f"{size[0]}x{size[1]}")

    def _too_large(self, what: str, got: str) -> InputError:
        return InputError(
            f"{self.name}: {what}: expected at most {self.limits.texture_pixels / 1e6:.0f} megapixels a texture and "
            f"{self.limits.all_texture_pixels / 1e6:.0f} in all, got {got}; scale the texture down"
        )


def _formats() -> tuple[str, ...]:
    """What Pillow may open: pictures that 3D files name, AVIF where it can."""
    return (*_FORMATS, "AVIF") if "avif" in features.modules and features.check("avif") else _FORMATS


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pictures of one channel of more than 8 bits, scaled to 8: Pillow's own conversion clips them at 255.

    Other pictures come as they are; Pillow scales 16-bit RGB while it reads. Integers of 32 bits hold 16 (PNG, as
    older Pillow reads it); floats count from 0 to 1.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "F":
        grey = np.clip(np.nan_to_num(values), 0, 1) * np.float32(255)
    else:
        grey = np.clip(values, 0, 65535) * np.float32(255 / 65535)
    result = Image.fromarray((grey + np.float32(0.5)).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):  # the one value that is transparent
        result.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return result


def _shrunk(image: Image.Image, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 4"]:
    """Means of texels, channel by channel: what alpha is, a mask, a gloss or nothing, only the material knows, and
    Pillow would weigh the colours with it."""
    channels = (channel.resize(size, Image.Resampling.BOX) for channel in image.split())
    return np.stack([np.asarray(channel) for channel in channels], -1)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
