"""Samples of shards → the orbits that SV3D trains on, as numpy arrays.

SV3D (arXiv 2403.12008, section 3 and appendix B) takes every fourth of 84 frames from a random start: 21 frames. The
condition frame is the last one; azimuths are relative to it, elevations absolute. Each orbit is used twice, on white
and on a random colour.
"""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy.lib.format import read_array_header_1_0, read_magic

from mv3d.core.errors import InputError, shown
from mv3d.orbits.index import LATENTS, PIXELS, read_index
from mv3d.orbits.jobs import decode_frame
from mv3d.orbits.shards import Shard

Background = Literal["white", "color"]
BACKGROUNDS: tuple[Background, ...] = ("white", "color")
_OPEN_SHARDS = 64  # each holds a file descriptor
_WORD = np.dtype("<u4")
_LONGEST_HEADER = 1024  # bytes; those of arrays without fields have some 128


@dataclass(frozen=True)
class Place:
    """A sample of a data set: which shard, and which sample of it."""

    shard: int
    number: int


class OrbitStore:
    """The samples of a folder of shards, found by number; no more than the shards in use are open.

    Shards that are missing, cut off or not readable are left out; `broken` says which, a line each. Raises InputError
    where the folder is no data set, and where nothing of it can be read.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        index = read_index(self.folder)
        if index is None or index.get("kind") not in (PIXELS, LATENTS):
            raise InputError(
                f"{folder}: expected shards of mv3d orbits render or encode, found no such index"
            )
        self.index: dict[str, Any] = index
        self.latents: bool = index["kind"] == LATENTS
        self._names: list[str] = [shard["name"] for shard in index["shards"]]
        self._open: dict[int, Shard] = {}
        self._lock = threading.Lock()
        self.broken: list[str] = []
        places: list[Place] = []
        for number, shard in enumerate(index["shards"]):
            path = self.folder / shard["name"]
            if not path.is_file():
                self.broken.append(f"{shard['name']}: missing ({shard['samples']} samples)")
            elif path.stat().st_size != shard["bytes"]:
                sizes = f"expected {shard['bytes']} bytes, got {path.stat().st_size}"
                self.broken.append(f"{shard['name']}: {sizes} ({shard['samples']} samples)")
            else:
                places += [Place(number, n) for n in range(shard["samples"])]
        self.places: tuple[Place, ...] = tuple(places)
        if not places:
            raise InputError(f"{folder}: expected at least one sample that can be read, found none")

    def members(self, place: Place) -> dict[str, memoryview]:
        """The files of a sample; raises InputError where it is broken."""
        with self._lock:
            shard = self._open.pop(place.shard, None) or Shard(self.folder / self._names[place.shard])
            self._open[place.shard] = shard  # the latest one last
            while len(self._open) > _OPEN_SHARDS:
                self._open.pop(next(iter(self._open)))
        if place.number >= len(shard):
            raise InputError(f"{shard.path}: expected sample {place.number}, got {len(shard)} samples")
        return shard.members(place.number)

    def __getstate__(self) -> dict[str, Any]:
        # Memory maps and locks stay with their process; another one makes its own.
        return {name: value for name, value in self.__dict__.items() if name not in ("_open", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _open={}, _lock=threading.Lock())


@dataclass(frozen=True, eq=False)
class OrbitSample:
    """What one training step sees of one orbit; n frames, the condition frame last.

    images: (n, h, w, 4) uint8: sRGB on `background`, and the alpha; or None where latents were read.
    latents: (n, c, h/f, w/f) float16, f pixels along the side of a latent, mean of the VAE's posterior, NOT scaled; or None where pixels were read.
    image_embedding: (d,) float16, of the condition frame on the same background; None with pixels.
    elevations_deg: (n,), absolute. azimuths_deg: (n,) in [0, 360), relative to the condition frame: the last is 0.
    frames: (n,) numbers of the stored frames. background: (3,) uint8.
    """

    uid: str
    images: UInt8[np.ndarray, "n h w 4"] | None
    latents: Float[np.ndarray, "n c y x"] | None
    image_embedding: Float[np.ndarray, " d"] | None
    elevations_deg: Float[np.ndarray, " n"]
    azimuths_deg: Float[np.ndarray, " n"]
    frames: Int[np.ndarray, " n"]
    background: UInt8[np.ndarray, " c"]


def chosen_frames(stored: int, wanted: int, start: int) -> Int[np.ndarray, " n"]:
    """`wanted` frames evenly around a closed orbit of `stored`, so that the last one is `start`.

    For 84 and 21: start + 4, start + 8, …, start + 84 = start. Raises InputError where they do not divide.
    """
    if wanted < 1 or stored % wanted:
        raise InputError(f"frames: expected a number that divides the {stored} stored frames, got {wanted}")
    return (start + stored // wanted * np.arange(1, wanted + 1)) % stored


def relative_azimuths(azimuths_deg: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Counter-clockwise from the last frame, in [0, 360); exactly 0 for the last one."""
    relative = (azimuths_deg - azimuths_deg[-1]) % 360.0
    relative[-1] = 0.0
    return np.where(relative >= 360.0, 0.0, relative)


def composite(
    frame: UInt8[np.ndarray, "h w 4"],
    color: UInt8[np.ndarray, " c"],
    out: UInt8[np.ndarray, "h w 4"] | None = None,
) -> UInt8[np.ndarray, "h w 4"]:
    """Straight alpha over one colour, in sRGB as the pictures are stored, rounded to the nearest; the fourth channel
    keeps the alpha. out: a contiguous array for the result.

    Nearly all pixels are clear or solid: those are chosen as whole words, and only the rim is computed.
    """
    if out is None:
        out = np.empty(frame.shape, np.uint8)
    words = np.ascontiguousarray(frame).reshape(-1, 4).view(_WORD)[:, 0]
    mixed = out.reshape(-1, 4)
    mixed_words = mixed.view(_WORD)[:, 0]
    red, green, blue = (int(value) for value in color)
    mixed_words[:] = words
    np.copyto(mixed_words, _WORD.type(red | green << 8 | blue << 16), where=words < 1 << 24)
    rim = np.flatnonzero(words - np.uint32(1 << 24) < np.uint32(254 << 24))  # alpha 1 to 254: 0 wraps around
    inside = mixed[rim].astype(np.uint32)
    alpha = inside[:, 3:]
    mixed[rim, :3] = (inside[:, :3] * alpha + color.astype(np.uint32) * (255 - alpha) + 127) // 255
    return out


def random_color(rng: np.random.Generator) -> UInt8[np.ndarray, " c"]:
    return rng.integers(0, 256, 3, dtype=np.uint8)


WHITE = np.full(3, 255, np.uint8)


def read_pixels(
    members: Mapping[str, memoryview], *, frames: int, background: Background, rng: np.random.Generator
) -> OrbitSample:
    """Decodes the chosen frames and no others. Draws the start, then the colour. Raises InputError."""
    document = sample_document(members)
    try:
        elevations = np.array(document["cameras"]["elevations_deg"], np.float64)
        azimuths = np.array(document["cameras"]["azimuths_deg"], np.float64)
        uid = str(document["uid"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"sample: expected uid and cameras in its JSON ({shown(error)})") from error
    stored = _count(uid, elevations, azimuths)
    picked = chosen_frames(stored, frames, int(rng.integers(stored)))
    color = random_color(rng)
    if background == "white":
        color = WHITE
    missing = [f"{n:03d}.webp" for n in picked if f"{n:03d}.webp" not in members]
    if missing:
        raise InputError(f"sample {shown(uid)}: frame {missing[0]} is missing")
    images: np.ndarray | None = None
    for place, number in enumerate(picked):
        frame = decode_frame(members[f"{number:03d}.webp"])
        if images is None:
            images = np.empty((frames, *frame.shape), np.uint8)
        if frame.shape != images.shape[1:]:
            raise InputError(
                f"sample {shown(uid)}: expected frames of one size, got {frame.shape} and {images.shape[1:]}"
            )
        composite(frame, color, images[place])
    angles = elevations[picked], relative_azimuths(azimuths[picked])
    return OrbitSample(uid, images, None, None, *angles, picked, color)


def read_latents(
    members: Mapping[str, memoryview], *, frames: int, background: Background, rng: np.random.Generator
) -> OrbitSample:
    """The same from cached latents; the colour is the one that they were encoded on. Raises InputError."""
    document = sample_document(members)
    try:
        uid, color = str(document["uid"]), np.array(document["backgrounds"][background], np.uint8)
        elevations = np.array(document["elevations_deg"], np.float64)
        azimuths = np.array(document["azimuths_deg"], np.float64)
        latents = npy_view(members[f"latents.{background}.npy"])
        embeddings = npy_view(members[f"embeddings.{background}.npy"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"sample: expected angles, latents and embeddings ({shown(error)})") from error
    stored = _count(uid, elevations, azimuths)
    for what, values, axes in (("latents", latents, 4), ("embeddings", embeddings, 2)):
        if values.dtype != np.float16 or values.ndim != axes or len(values) != stored:
            raise InputError(
                f"sample {shown(uid)}: expected {stored} {what} as float16 with {axes} axes, got {values.dtype} "
                f"{values.shape}"
            )
    if color.shape != (3,):
        raise InputError(f"sample {shown(uid)}: expected a background of three numbers, got {color.size}")
    picked = chosen_frames(stored, frames, int(rng.integers(stored)))
    chosen, embedding = latents[picked], np.array(embeddings[picked[-1]])
    angles = elevations[picked], relative_azimuths(azimuths[picked])
    return OrbitSample(uid, None, chosen, embedding, *angles, picked, color)


def _count(uid: str, elevations: np.ndarray, azimuths: np.ndarray) -> int:
    if azimuths.ndim != 1 or azimuths.shape != elevations.shape or not len(azimuths):
        raise InputError(f"sample {shown(uid)}: expected as many elevations as azimuths, at least one")
    if not (np.isfinite(azimuths).all() and np.isfinite(elevations).all()):
        raise InputError(f"sample {shown(uid)}: expected finite angles")
    return len(azimuths)


def npy_view(content: memoryview) -> np.ndarray:
    """An .npy file in memory as an array, without a copy. Raises ValueError."""
    stream = io.BytesIO(content[: _LONGEST_HEADER + 10])
    try:
        if read_magic(stream) != (1, 0):
            raise ValueError("another version")
        shape, columns_first, kind = read_array_header_1_0(stream, max_header_size=_LONGEST_HEADER)
    except (ValueError, TokenError, RecursionError, MemoryError) as error:
        raise ValueError(f"expected an .npy file of version 1 ({shown(error)})") from error
    if columns_first:
        raise ValueError("expected an .npy file in C order")
    return np.frombuffer(content, kind, offset=stream.tell()).reshape(shape)


def sample_document(members: Mapping[str, bytes | memoryview]) -> dict[str, Any]:
    """The JSON of a sample. Raises InputError."""
    if "json" not in members:
        raise InputError("sample: expected a JSON file, found none")
    try:
        document = json.loads(bytes(members["json"]))
        if not isinstance(document, dict):
            raise ValueError("no object")
        return document
    except (ValueError, RecursionError) as error:
        raise InputError(f"sample: its JSON cannot be read ({shown(error)})") from error
