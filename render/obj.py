"""Wavefront OBJ with MTL → `Model`. Only what draws: polygons, groups by material, colours of vertices."""

from __future__ import annotations

import itertools
import re
from array import array
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from mv3d.core.colors import linear_from_srgb
from mv3d.core.errors import InputError
from mv3d.render.assembly import Assembly, Part
from mv3d.render.cameras import world_from_gltf
from mv3d.render.limits import LoadLimits
from mv3d.render.mesh import unit_vectors
from mv3d.render.model import UNSTATED, Material, Model
from mv3d.render.mtl import ReadMaterial, read_materials, white
from mv3d.render.mtl_file import MtlEntry, parse_mtl, text_of
from mv3d.render.polygons import triangulate
from mv3d.render.resources import MissingFileError, Resources

_ABSENT = str(2**40)  # an index that no file can have
_BLOCK = 1 << 16  # words
_NO_MATERIAL = ("", "none", "(null)", "null", "default")
"""Names that exporters write for faces without a material."""


def read_obj(resources: Resources, limits: LoadLimits) -> Model:
    """Y up, as glTF. Without normals faces are flat. Faces with vertices that are not there are left out; coordinates and
    normals that are not there are absent. A missing .mtl leaves the shape grey, a missing picture the half of its colour.

    Raises InputError for a broken file, and for one that names files outside the root.
    """
    name = resources.name
    try:
        return _Reader(resources, limits).model()
    except (ValueError, IndexError, OverflowError) as error:
        raise InputError(f"{name}: not a valid obj file ({' '.join(str(error).split())[:100]})") from error


class _Numbers:
    """Rows of numbers, gathered as text and turned into arrays a block at a time, which bounds the memory."""

    def __init__(self, kind: type[np.generic], *filling: str) -> None:
        self.width, self.kind, self.count = len(filling), kind, 0
        self._filling, self._words, self._blocks = list(filling), [], []

    def add(self, words: list[str]) -> None:
        """One row: words beyond the width are left out, missing ones filled in."""
        self.extend((words + self._filling[len(words) :])[: self.width])

    def extend(self, words: list[str]) -> None:
        """Whole rows, one after the other."""
        self._words += words
        self.count += len(words) // self.width
        if len(self._words) > _BLOCK:
            self._flush()

    def _flush(self) -> None:
        self._blocks.append(np.array(self._words, self.kind).reshape(-1, self.width))
        self._words = []

    def array(self) -> np.ndarray:
        """(count, width)."""
        self._flush()
        return np.concatenate(self._blocks)


class _Polygons:
    """corners: indices of place, texture coordinate and normal, from 1 on, `_ABSENT` where there is none.
    sizes: corners of each polygon. material: of each polygon."""

    def __init__(self) -> None:
        self.corners = _Numbers(np.int64, _ABSENT, _ABSENT, _ABSENT)
        self.sizes, self.material = array("q"), array("q")


class _Reader:
    def __init__(self, resources: Resources, limits: LoadLimits) -> None:
        self._resources, self._limits, self._name = resources, limits, resources.name
        self._values = {
            "v": _Numbers(np.float64, "0", "0", "0", "nan", "nan", "nan"),
            "vt": _Numbers(np.float64, "0", "0"),
            "vn": _Numbers(np.float64, "0", "0", "0"),
        }
        self._polygons = _Polygons()
        self._numbers: dict[str, int] = {}
        self._libraries: list[str] = []
        self._painted: list[str] = []

    def model(self) -> Model:
        self._read(text_of(self._resources.main()))
        places, uv, normals = (table.array() for table in self._values.values())
        rows, owner = self._triangles(places)
        materials = self._materials()
        colors = self._colors(places)
        assembly = Assembly(self._name, self._limits, self._resources.warnings)
        looks: list[Material] = []
        order = np.argsort(owner, kind="stable")
        ends = np.searchsorted(owner[order], np.arange(len(materials) + 1))
        for material, begin, end in zip(materials, ends[:-1], ends[1:], strict=True):
            if begin == end:
                continue
            unique, inverse = _unique_rows(rows[order[begin:end]].reshape(-1, 3))
            look, tint = _look(material, None if colors is None else colors[unique[:, 0]])
            looks.append(look)
            found = world_from_gltf(normals[unique[:, 2]]) if (unique[:, 2] >= 0).all() else None
            coordinates = None
            if (unique[:, 1] >= 0).any():
                coordinates = uv[unique[:, 1]] if material is None else material.moved(uv[unique[:, 1]])
                # Rows count from the bottom. Corners without coordinates beside others with them get the first texel.
                coordinates = np.where(unique[:, 1:2] >= 0, coordinates * [1, -1] + [0, 1], 0)
            assembly.add(
                Part(
                    world_from_gltf(places[unique[:, 0], :3]).astype(np.float32),
                    inverse.reshape(-1, 3),
                    len(looks) - 1,
                    None if found is None else unit_vectors(found, least=1e-12).astype(np.float32),
                    coordinates,
                    tint,
                )
            )
        return assembly.model(tuple(looks))

    def _read(self, text: str) -> None:
        values, polygons, faces, current = self._values, self._polygons, 0, ""
        for line in text.split("\n"):
            words = line.split()
            if len(words) < 2:
                continue
            kind = words[0]
            if "#" in line and kind[0] in "vf":
                words = line.split("#", 1)[0].split()
            if kind in values:
                values[kind].add(words[1:])
                if values[kind].count > self._limits.vertices:
                    raise InputError(
                        f"{self._name}: expected at most {self._limits.vertices:,} vertices, got more"
                    )
            elif kind in ("f", "fo"):
                if current not in self._numbers:
                    self._numbers[current] = len(self._numbers)
                    if len(self._numbers) > self._limits.materials:
                        raise InputError(
                            f"{self._name}: expected at most {self._limits.materials:,} materials, got more"
                        )
                corners = [index or _ABSENT for word in words[1:] for index in (word + "//").split("/")[:3]]
                polygons.corners.extend(_absolute(corners, values) if "-" in line else corners)
                polygons.sizes.append(len(words) - 1)
                polygons.material.append(self._numbers[current])
                faces += len(words) - 3 if len(words) > 3 else 0
                if faces > self._limits.faces:
                    raise InputError(f"{self._name}: expected at most {self._limits.faces:,} faces, got more")
            elif kind == "usemtl":
                current = line.split(None, 1)[1].strip()
            elif kind == "mtllib":
                self._libraries.append(line.split(None, 1)[1].strip())
            elif kind == "#MRGB":  # colours that ZBrush paints: two digits of a mask, six of sRGB a vertex
                self._painted.append(words[1])

    def _triangles(
        self, places: Float[np.ndarray, "v 6"]
    ) -> tuple[Int[np.ndarray, "t 3 3"], Int[np.ndarray, " t"]]:
        """Rows of place, coordinate and normal (-1: absent) of the corners of each triangle, and its material."""
        warn = self._resources.warnings.add
        sizes, corners = np.array(self._polygons.sizes, np.int64), self._polygons.corners.array()
        material = np.array(self._polygons.material, np.int64)
        absent = corners == int(_ABSENT)
        corners = np.where(absent, -1, corners - 1)
        counts = [table.count for table in self._values.values()]
        wrong = ~absent & ((corners < 0) | (corners >= np.array(counts)))
        for column, what in ((1, "texture coordinates"), (2, "normals")):
            if wrong[:, column].any():
                warn("values_left_out", f"indices of {what} that are not there", int(wrong[:, column].sum()))
        lost = wrong[:, 0] | absent[:, 0]
        corners[wrong] = -1
        if lost.any():
            of = np.repeat(np.arange(len(sizes)), sizes)
            kept = np.ones(len(sizes), bool)
            kept[of[lost]] = False
            if not kept.any():
                raise InputError(
                    f"{self._name}: expected indices of vertices that are there, got none in any face"
                )
            warn("faces_left_out", "faces with indices of vertices that are not there", int((~kept).sum()))
            corners, sizes, material = corners[kept[of]], sizes[kept], material[kept]
        triangles, owner = triangulate(places[corners[:, 0], :3], sizes)
        return corners[triangles], material[owner]

    def _materials(self) -> list[ReadMaterial | None]:
        """By the number of their names; None for those that say nothing of the looks."""
        entries, complete = self._entries()
        used = {name: _entry(name, entries) for name in self._numbers}
        for name, entry in used.items():
            if entry is None and entries and complete and name.lower() not in _NO_MATERIAL:
                self._resources.warnings.add(
                    "missing_material", f"the material {name[:80]!r} is in no library"
                )
        known = {entry.name: entry for entry in used.values() if entry is not None}
        read = read_materials(known.values(), self._resources)
        return [None if entry is None else read[entry.name] for entry in used.values()]

    def _entries(self) -> tuple[Mapping[str, MtlEntry], bool]:
        """The materials of all libraries, and whether all libraries are there."""
        entries: dict[str, MtlEntry] = {}
        lost: list[str] = []
        for name in dict.fromkeys(name for text in self._libraries for name in self._library_names(text)):
            try:
                data, path = self._resources.found(name, "the material library")
            except MissingFileError:
                lost.append(name)
                continue
            entries |= parse_mtl(text_of(data), path.parent)
        own = f"{self._resources.path.stem}.mtl"
        if lost and not entries and self._resources.has(own):  # both were renamed
            data, path = self._resources.found(own, "the material library")
            self._resources.warnings.add(
                "found_elsewhere",
                f"the material library {lost[0][:80]!r} is not there, {own[:80]!r} is taken",
            )
            return parse_mtl(text_of(data), path.parent), True
        for name in lost:
            self._resources.warnings.add(
                "missing_material", f"the material library {name[:80]!r} is not there"
            )
        return entries, not lost

    def _library_names(self, text: str) -> list[str]:
        """One name, which may hold spaces, or several that end in .mtl."""
        if self._resources.has(text):
            return [text]
        names = re.findall(r'"[^"]+"|\S.*?\.mtl(?=\s|$)', text, re.IGNORECASE)
        return [name.strip().strip('"') for name in names] or [text.strip('"')]

    def _colors(self, places: Float[np.ndarray, "v 6"]) -> Float[np.ndarray, "v 3"] | None:
        """sRGB of the vertices, NaN where there are none; None where no vertex has any."""
        painted = "".join(self._painted)
        if painted and len(painted) == 8 * len(places):
            found = np.frombuffer(bytes.fromhex(painted), np.uint8).reshape(-1, 4)[:, 1:] / 255
        else:
            found = places[:, 3:]
        there = ~np.isnan(found).any(1)
        if not there.any():
            return None
        if not np.isfinite(found[there]).all():
            raise ValueError("colours of vertices: expected finite numbers, got infinity")
        # Some scanners write bytes.
        return found / 255 if found[there].max() > 1.001 else found


def _absolute(corners: list[str], values: dict[str, _Numbers]) -> list[str]:
    """Indices that count backwards from the last row read, as ones that count from the first."""
    tables = itertools.cycle(values.values())
    return [
        str(table.count + 1 + int(index)) if index.startswith("-") else index
        for index, table in zip(corners, tables, strict=False)
    ]


def _unique_rows(rows: Int[np.ndarray, "n 3"]) -> tuple[Int[np.ndarray, "u 3"], Int[np.ndarray, " n"]]:
    """`numpy.unique` of rows and its inverse, as two sorts of single numbers, which is many times faster."""
    pairs = np.unique(rows[:, 0] * (rows[:, 1].max() + 2) + rows[:, 1] + 1, return_inverse=True)[1]
    triples = pairs * (rows[:, 2].max() + 2) + rows[:, 2] + 1
    _, first, inverse = np.unique(triples, return_index=True, return_inverse=True)
    return rows[first], inverse


def _entry(name: str, entries: Mapping[str, MtlEntry]) -> MtlEntry | None:
    """The material of this name, or the only one that differs from it in case."""
    if name in entries:
        return entries[name]
    alike = [key for key in entries if key.casefold() == name.casefold()]
    return entries[alike[0]] if len(alike) == 1 else None


def _look(
    material: ReadMaterial | None, srgb: Float[np.ndarray, "n 3"] | None
) -> tuple[Material, Float[np.ndarray, "n 4"] | None]:
    """Material and linear colours of a part.

    Tools that write colours behind the places write them as they are shown, in sRGB. They are all there is to see where
    the material says nothing or a grey, which programs write without being asked; beside a picture they are left out,
    since they repeat it; another colour of the material tints them.
    """
    if srgb is None or np.isnan(srgb).any():
        return UNSTATED if material is None else material.material, None
    if material is not None and material.material.base_color_texture is not None:
        return material.material, None
    tint = np.concatenate([linear_from_srgb(np.clip(srgb, 0, 1)), np.ones((len(srgb), 1))], 1)
    if material is None:
        return replace(white(UNSTATED), name="vertex colours"), tint.astype(np.float32)
    grey = np.ptp(material.material.base_color[:3]) < 1e-3 and not (srgb > 0.999).all()
    return white(material.material) if grey else material.material, tint.astype(np.float32)
