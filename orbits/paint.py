"""Shapes without colours → objects of wood, plastic, cloth and the like, as GLB files that `mv3d orbits render` takes.

Connected parts get looks from a small palette, parts of one size the same one (four legs of a table), and the textures
lie on them by box projection. Some shapes get a band besides: a print around their sides, or another look.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mv3d.core.errors import InputError, MissingPartError, UsageError, shown
from mv3d.core.files import sha256, write_files, write_text
from mv3d.core.locking import folder_lock
from mv3d.core.outputs import refuse_named
from mv3d.core.progress import ObjectProgress
from mv3d.orbits.catalogue import SOURCES, CatalogueItem, read_list, sources_table
from mv3d.orbits.parts import face_areas, face_parts
from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.looks import Look
from mv3d.orbits.procedural.pieces import Piece, glb_of
from mv3d.orbits.procedural.solids import Solid
from mv3d.orbits.sample import Reject
from mv3d.render.loading import load_model
from mv3d.render.model import Model, normalize_model

VERSION = 1
"""Counts up whenever the same file, seed and paint give other bytes."""
MOST_PAINTS = 100
MOST_STRETCH = 1.0
_MOST_TAPER = 0.8
_KINDS = (
    *((looks.wood, 2.0), (looks.paint, 3.0), (looks.plastic, 3.0), (looks.metal, 1.5), (looks.fabric, 2.0)),
    *((looks.ceramic, 2.0), (looks.sign, 0.5), (looks.rubber, 0.5), (looks.printed, 1.5), (looks.fur, 0.4)),
    *((looks.stone, 1.0), (looks.glass, 0.4), (looks.leaf, 0.2), (looks.wall, 0.3)),
)
_SAME_SIZE = 1.1  # parts whose areas follow each other within this ratio share a look
_BAND_CHANCE, _PRINT_CHANCE = 0.4, 0.6
# In-plane axes of each side of the box, as (u, v) = point · axes: right and down as seen from outside, Z up.
_SIDES = np.array(
    [
        [[[0, 1, 0], [0, 0, -1]], [[0, -1, 0], [0, 0, -1]]],  # +x, -x
        [[[-1, 0, 0], [0, 0, -1]], [[1, 0, 0], [0, 0, -1]]],  # +y, -y
        [[[0, 1, 0], [1, 0, 0]], [[0, -1, 0], [1, 0, 0]]],  # +z, -z
    ],
    np.float64,
)


@dataclass(frozen=True)
class Painted:
    """items: the files, in the order of the shapes. kept: how many were there before. rejects: shapes that cannot be
    read."""

    items: tuple[CatalogueItem, ...]
    kept: int
    rejects: tuple[Reject, ...]


def paint_shapes(
    source: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    paints: int = 1,
    seed: int = 0,
    stretch: float = 0.0,
    progress: ObjectProgress | None = None,
) -> Painted:
    """Write `paints` GLB files of each shape of a folder or a list into `out_dir`, with SOURCES.csv: licence, author
    and source of the shape, and its sha256 as `original_sha256`.

    stretch: of each file's shape, see `painted`; 0 to `MOST_STRETCH`.
    Files that are there already are kept, so that the same call goes on where the last one ended. A shape that cannot
    be read is left out. Raises UsageError for numbers out of range, InputError for no such catalogue, OutputError where
    the folder holds models of something else or cannot be written.
    """
    if not 1 <= paints <= MOST_PAINTS:
        raise UsageError(f"--paints: expected 1 to {MOST_PAINTS}, got {paints}")
    if seed < 0:
        raise UsageError(f"--seed: expected 0 or more, got {seed}")
    if not 0 <= stretch <= MOST_STRETCH:
        raise UsageError(f"--stretch: expected 0 to {MOST_STRETCH:g}, got {stretch:g}")
    shapes, out = read_list(source), Path(out_dir)
    names = {f"{_uid(shape, seed, number)}.glb" for shape in shapes for number in range(paints)}
    items: list[CatalogueItem] = []
    originals: list[str] = []
    rejects: list[Reject] = []
    kept = 0
    with folder_lock(out):
        models = {path.name for path in out.glob("*.glb")}
        others = [SOURCES] if models.isdisjoint(names) and (out / SOURCES).exists() else []
        refuse_named(out, others + sorted(models - names))
        for done, shape in enumerate(shapes, 1):
            try:
                found = [_paint_one(shape, out, seed, number, stretch) for number in range(paints)]
            except (InputError, MissingPartError) as error:
                rejects.append(Reject(shape.uid, "unreadable", shown(error, 200)))
            else:
                items += [item for item, _, _ in found]
                originals += [original for _, original, _ in found]
                kept += sum(old for _, _, old in found)
            if progress:
                progress(done, len(shapes), len(rejects))
        write_text(out / SOURCES, sources_table(items, {"original_sha256": originals}))
    return Painted(tuple(items), kept, tuple(rejects))


def painted(model: Model, rng: np.random.Generator, *, stretch: float = 0.0) -> tuple[Piece, ...]:
    """The shape with looks, normalised (largest side 1): a piece for each look. Colours that it had are dropped.

    stretch: standard deviation of the logarithm of a random scale along each axis, and of a random taper along Z: 0
    keeps the shape; 0.25 makes another chair of a chair. Raises InputError for a model without a face or a size.
    """
    model, _ = normalize_model(model)
    if stretch:
        model, _ = normalize_model(stretched(model, np.exp(rng.normal(0, stretch, 3)), _taper(rng, stretch)))
    palette = [pick(rng, *zip(*_KINDS, strict=True))(rng) for _ in range(count(rng, 1, 4))]
    part = face_parts(model.vertices, model.faces, 1.0)
    areas = np.bincount(part, face_areas(model.vertices, model.faces))
    look = _look_of_parts(areas, len(palette), rng)[part]
    assert model.normals is not None
    shape = _Shape(
        model.vertices.astype(np.float64),
        model.faces.astype(np.int64),
        model.normals.astype(np.float64),
        part,
    )
    if chance(rng, _BAND_CHANCE):
        shape, look = _banded(shape, look, int(areas.argmax()), palette, rng)
    axes = _box_sides(shape)
    turned = rng.random(len(palette)) < 0.2  # grain across, now and then
    return tuple(
        _piece(shape, look == number, axes, palette[number], bool(turned[number]))
        for number in range(len(palette))
        if (look == number).any()
    )


def stretched(model: Model, scale: Float[np.ndarray, " 3"], taper: float) -> Model:
    """(x, y, z) → (s_x t x, s_y t y, s_z z) with t = 1 + taper · z, for a normalised model. Normals follow by the inverse
    transpose of the map's Jacobian. taper: from -1 to 1, so that t stays positive.
    """
    x, y, z = model.vertices.astype(np.float64).T
    across = 1 + taper * z
    vertices = np.stack([scale[0] * across * x, scale[1] * across * y, scale[2] * z], 1)
    normals = None
    if model.normals is not None:
        a, b, c = model.normals.astype(np.float64).T
        slope = taper * (x * a + y * b) / across
        normals = np.stack([a / (scale[0] * across), b / (scale[1] * across), (c - slope) / scale[2]], 1)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        normals = normals.astype(np.float32)
    return replace(model, vertices=vertices.astype(np.float32), normals=normals)


def _taper(rng: np.random.Generator, stretch: float) -> float:
    return float(np.clip(rng.normal(0, 1.5 * stretch), -_MOST_TAPER, _MOST_TAPER))


@dataclass(frozen=True, eq=False)
class _Shape:
    """vertices, normals: (v, 3). faces: (f, 3). part: (f,) the connected part of each face."""

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    normals: Float[np.ndarray, "v 3"]
    part: Int[np.ndarray, " f"]


def _paint_one(
    shape: CatalogueItem, out: Path, seed: int, number: int, stretch: float
) -> tuple[CatalogueItem, str, bool]:
    """The item, the sha256 of its shape, and whether its file was there."""
    if shape.path is None or not shape.path.is_file():
        raise InputError(f"expected a file at {shape.path}, found none; fetch it first")
    original = sha256(shape.path)
    if shape.sha256 is not None and original != shape.sha256:
        raise InputError(f"{shape.path.name}: expected sha256 {shape.sha256}, got {original}; fetch it again")
    uid = _uid(shape, seed, number)
    path = out / f"{uid}.glb"
    made_of: dict[str, Any] = {"version": VERSION, "seed": seed, "paint": number, "shape_sha256": original}
    if stretch:
        made_of["stretch"] = stretch
    extras = _extras(path)
    there = extras is not None and {k: v for k, v in extras.items() if k != "faces"} == made_of
    if not there:
        digest = hashlib.sha256(f"{VERSION}\0{original}\0{seed}\0{number}".encode()).digest()
        rng = np.random.default_rng(np.frombuffer(digest, np.uint32))
        pieces = painted(load_model(shape.path, root=shape.root), rng, stretch=stretch)
        extras = {**made_of, "faces": sum(len(piece.solid.faces) for piece in pieces)}
        write_files({path: glb_of(pieces, "painted", copyright=shape.licence, extras=extras)})
    assert extras is not None
    item = replace(
        shape,
        uid=uid,
        path=path,
        title=uid,
        sha256=sha256(path),
        faces=extras["faces"],
        textures=None,
        url="",
    )
    return replace(item, bytes=path.stat().st_size), original, there


def _uid(shape: CatalogueItem, seed: int, number: int) -> str:
    return f"{shape.uid[:160]}-paint-{seed}-{number:02d}-v{VERSION}"


def _extras(path: Path) -> dict[str, Any] | None:
    """What `_paint_one` wrote into the file's asset; None where there is no such file."""
    try:
        with path.open("rb") as stream:
            magic, _, _, length, _ = struct.unpack("<4sIIII", stream.read(20))
            document = json.loads(stream.read(length)) if magic == b"glTF" else {}
        return document["asset"]["extras"]
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None


def _look_of_parts(
    areas: Float[np.ndarray, " p"], number: int, rng: np.random.Generator
) -> Int[np.ndarray, " p"]:
    """A number of the palette for each part; parts of one size have the same one."""
    order = np.argsort(areas, kind="stable")
    ordered = np.maximum(areas[order], 1e-12)
    group = np.empty(len(areas), np.int64)
    group[order] = np.cumsum(np.r_[0, ordered[1:] > ordered[:-1] * _SAME_SIZE])
    drawn = rng.integers(0, number, int(group.max()) + 1)
    drawn[-1] = 0  # the largest one has the first look: none of a palette of one is left out
    return drawn[group]


def _banded(
    shape: _Shape, look: Int[np.ndarray, " f"], main: int, palette: list[Look], rng: np.random.Generator
) -> tuple[_Shape, Int[np.ndarray, " f"]]:
    """With a band around the main part, cut at two heights; its look is added to the palette."""
    heights = shape.vertices[shape.faces[shape.part == main]][..., 2]
    low, high = float(heights.min()), float(heights.max())
    begin = between(rng, 0.05, 0.6)
    end = min(begin + between(rng, 0.15, 0.5), 1.1)  # past the top: dipped
    bottom, top = (low + share * (high - low) for share in (begin, end))
    for height in (bottom, top):
        shape, source = _cut(shape, shape.part == main, height)
        look = look[source]
    corners = shape.vertices[shape.faces]
    middle = corners[..., 2].mean(1)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inside = (shape.part == main) & (middle > bottom) & (middle < top)
    if chance(rng, _PRINT_CHANCE):
        palette.append(looks.sign(rng))
        inside &= np.abs(normal[:, 2]) < 0.7 * np.linalg.norm(normal, axis=1)
    else:
        palette.append(pick(rng, *zip(*_KINDS, strict=True))(rng))
    return shape, np.where(inside, len(palette) - 1, look)


def _cut(shape: _Shape, which: Bool[np.ndarray, " f"], height: float) -> tuple[_Shape, Int[np.ndarray, " f"]]:
    """Those faces that cross a height as three each, none of which does; and which face each one was."""
    above = shape.vertices[:, 2] > height
    side = above[shape.faces]
    crossing = np.flatnonzero(which & side.any(1) & ~side.all(1))
    whole = np.setdiff1d(np.arange(len(shape.faces)), crossing)
    if not len(crossing):
        return shape, whole
    up = side[crossing]
    lonely = np.where(up.sum(1) == 1, up.argmax(1), (~up).argmax(1))  # the corner on a side of its own
    tip, left, right = (
        shape.faces[crossing, (lonely + turn) % 3] for turn in range(3)
    )  # in the order of the winding
    points, normals = [shape.vertices], [shape.normals]
    new: list[np.ndarray] = []
    for other in (left, right):
        # The same two ends in the same order on both sides of an edge: no gap by rounding.
        first, second = np.minimum(tip, other), np.maximum(tip, other)
        start, end = shape.vertices[first], shape.vertices[second]
        share = ((height - start[:, 2]) / (end[:, 2] - start[:, 2]))[:, None]
        point = start + share * (end - start)
        point[:, 2] = height
        normal = shape.normals[first] * (1 - share) + shape.normals[second] * share
        new.append(sum(map(len, points)) + np.arange(len(crossing)))
        points.append(point)
        normals.append(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12))
    on_left, on_right = new
    pieces = [np.stack(corners, 1) for corners in ((tip, on_left, on_right), (on_left, left, right))]
    pieces.append(np.stack([on_left, right, on_right], 1))
    source = np.concatenate([whole, crossing, crossing, crossing])
    faces = np.concatenate([shape.faces[whole], *pieces])
    return _Shape(np.concatenate(points), faces, np.concatenate(normals), shape.part[source]), source


def _box_sides(shape: _Shape) -> Int[np.ndarray, " f"]:
    """The side of the box that each face looks to: 2·axis, one more for the negative side."""
    corners = shape.vertices[shape.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    axis = np.abs(normal).argmax(1)
    return 2 * axis + (np.take_along_axis(normal, axis[:, None], 1)[:, 0] < 0)


def _piece(
    shape: _Shape, which: Bool[np.ndarray, " f"], sides: Int[np.ndarray, " f"], look: Look, across: bool
) -> Piece:
    """The faces of one look, their vertices split where the side of the box changes."""
    faces, part, side = shape.faces[which], shape.part[which], sides[which]
    _, box = np.unique(part, return_inverse=True)  # each part is projected on a box of its own
    box = box.reshape(-1) * 6 + side
    key, corner = np.unique(
        np.repeat(box, 3) * np.int64(len(shape.vertices)) + faces.reshape(-1), return_inverse=True
    )
    box_of, vertex = np.divmod(key, len(shape.vertices))
    points, normals = shape.vertices[vertex], shape.normals[vertex]
    axes = _SIDES.reshape(6, 2, 3)[box_of % 6]
    uv = np.einsum("vac,vc->va", axes, points)
    low, high = np.full((box.max() + 1, 2), np.inf), np.full((box.max() + 1, 2), -np.inf)
    np.minimum.at(low, box_of, uv)
    np.maximum.at(high, box_of, uv)
    extent = np.maximum(high - low, 1e-9)
    uv -= low[box_of]
    if look.tile == 0:
        uv /= extent[box_of]
    else:
        uv /= look.tile
        # Grain runs along u: turned where the part is longer along v.
        longer = (extent[:, 1] > extent[:, 0]) ^ look.turned ^ across
        uv = np.where(longer[box_of, None], uv[:, ::-1], uv)
    return Piece(look.material.name, Solid(points, corner.reshape(-1, 3).astype(np.int32), normals, uv), look)
