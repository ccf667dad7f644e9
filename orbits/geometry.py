"""What `mv3d orbits render` stores of an object's geometry beside its frames, and how it is read back.

Files of a sample: `000.depth.png` … (16 bits), `solid.npz`, and on demand `solid_colors.png` and `000.normals.png` and `000.albedo.png` …
(8 bits, RGB). docs/shards.md describes them.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mv3d.core.errors import InputError, shown
from mv3d.orbits.solid import DIRECTIONS, SolidGrid, carved, pack_solid, seen_from_around, unpack_solid
from mv3d.orbits.solid_colors import color_surface, surface_cells
from mv3d.render.cameras import Cameras
from mv3d.render.model import Model
from mv3d.render.renderer import Output

SOLID = "solid.npz"
SOLID_COLORS = "solid_colors.png"
_MOST = np.iinfo(np.uint16).max
_REACH = 0.87  # of a normalised model from the origin: half the diagonal of the unit cube, rounded up
_MAX_PIXELS = 64_000_000


@dataclass(frozen=True, eq=False)
class SampleGeometry:
    """depth: (n, h, w) float32 along each view's optical axis in normalised lengths, 0 where nothing is. solid: of
    the normalised object. solid_colors: of its surface cells (`mv3d.orbits.solid_colors.surface_cells`), sRGB base
    colours, where the sample has them."""

    depth: Float[np.ndarray, "n h w"]
    solid: SolidGrid
    solid_colors: UInt8[np.ndarray, "m 3"] | None = None


def geometry_members(
    model: Model, cameras: Cameras, *, cells: int, colors: bool = False
) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    """For a normalised model: entries of the sample's JSON, and its files by name. cameras: of the depth maps' size.
    colors: also those of the solid's surface cells."""
    from mv3d.render.embree import opaque_caster  # noqa: PLC0415 - readers of samples need no renderer

    caster = opaque_caster(model)
    farthest = float(np.linalg.norm(cameras.centers, axis=1).max()) + _REACH
    scale = farthest / _MOST
    files: list[tuple[str, bytes]] = []
    for view in range(len(cameras)):
        origins, directions = cameras.rays(view)
        hits = caster.first_hits(origins, directions)
        depth = hits.distance * (directions @ -cameras.c2w[view, :3, 2])
        values = np.where(hits.face >= 0, np.clip(np.rint(depth / scale), 1, _MOST), 0)
        picture = values.astype(np.uint16).reshape(cameras.height, cameras.width)
        files.append((f"{view:03d}.depth.png", _png(picture)))
    seen = seen_from_around(caster, cells=cells)
    solid = carved(seen, cells)
    files.append((SOLID, pack_solid(solid)))
    facts: dict[str, Any] = {
        "depth": {"scale": scale, "w": cameras.width, "h": cameras.height},
        "solid": {"cells": cells, "side": solid.side, "directions": DIRECTIONS},
    }
    if colors:
        row = color_surface(model, solid, seen)
        files.append((SOLID_COLORS, _png(row[None])))
        facts["solid"]["surface_cells"] = len(row)
    return facts, files


def read_geometry(document: Mapping[str, Any], members: Mapping[str, memoryview]) -> SampleGeometry:
    """The geometry of a sample with its JSON and its files. Raises InputError where it has none or a broken one."""
    try:
        scale, views = float(document["depth"]["scale"]), len(document["cameras"]["azimuths_deg"])
        depth = [_pixels(members[f"{view:03d}.depth.png"], "I;16") for view in range(views)]
        solid = unpack_solid(members[SOLID])
        colors = _pixels(members[SOLID_COLORS], "RGB")[0] if SOLID_COLORS in members else None
        if colors is not None and len(colors) != (count := len(surface_cells(solid.occupied))):
            raise InputError(
                f"{SOLID_COLORS}: expected {count} pixels, one a surface cell, got {len(colors)}"
            )
        return SampleGeometry(np.stack(depth).astype(np.float32) * np.float32(scale), solid, colors)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"sample: expected the files and JSON of mv3d orbits render --geometry ({shown(error)})"
        ) from error


def encode_normals(normals: Float[np.ndarray, "h w 3"]) -> bytes:
    """Unit vectors in the world as (n + 1)/2 in 8 bits, black where nothing is."""
    return _colors(np.where((normals != 0).any(-1, keepdims=True), (normals + 1) / 2, 0))


def decode_normals(content: bytes | memoryview) -> Float[np.ndarray, "h w 3"]:
    """The inverse of `encode_normals`, of unit length; 0 where nothing is. Raises InputError."""
    pixels = _pixels(content, "RGB")
    normals = pixels.astype(np.float32) * np.float32(2 / 255) - 1
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)  # never 0: 127.5 is no byte
    normals[~pixels.any(-1)] = 0
    return normals


def _colors(picture: Float[np.ndarray, "h w 3"]) -> bytes:
    return _png((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))


PICTURES: dict[Output, Callable[[Any], bytes]] = {"normals": encode_normals, "albedo": _colors}
"""Further outputs of a renderer, and what makes a file of each."""


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _pixels(content: bytes | memoryview, mode: str) -> np.ndarray:
    with opened_picture(content, "PNG", "picture") as picture:
        if picture.mode != mode:
            raise InputError(f"picture: expected {mode}, got {picture.mode}")
        return np.asarray(picture)


@contextmanager
def opened_picture(content: bytes | memoryview, kind: str, what: str) -> Iterator[Image.Image]:
    """A stored picture of that file format, to be decoded inside the context. Raises InputError."""
    try:
        with Image.open(io.BytesIO(content), formats=(kind,)) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                size = f"{picture.width}x{picture.height}"
                raise InputError(f"{what}: expected at most {_MAX_PIXELS} pixels, got {size}")
            yield picture
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{what}: cannot be decoded ({shown(error)})") from error
