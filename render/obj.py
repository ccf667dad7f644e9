"""Wavefront OBJ with MTL → `Model`. Only what draws: polygons, groups by material, diffuse colour and texture."""

from __future__ import annotations

import itertools
import shlex
from array import array

import numpy as np
from jaxtyping import Float, Int

from mv3d.core.colors import linear_from_srgb
from mv3d.core.errors import InputError
from mv3d.render.assembly import Assembly, Part
from mv3d.render.cameras import world_from_gltf
from mv3d.render.limits import LoadLimits
from mv3d.render.mesh import unit_vectors
from mv3d.render.model import UNSTATED, Material, Model, without_picture
from mv3d.render.resources import MissingFileError, Resources

_ABSENT = str(2**40)  # an index that no file can have
_BLOCK = 1 << 16  # words


def read_obj(resources: Resources, limits: LoadLimits) -> Model:
    """Y up, as glTF. Polygons are cut into fans; without normals faces are flat.

    Raises InputError for a broken file, or one that names files outside its folder or missing textures. A missing
    .mtl leaves the shape grey.
    """
    name = resources.name
    try:
        return _read(resources.main().decode("utf-8", "replace"), resources, limits)
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

    def triangles(self) -> tuple[Int[np.ndarray, "c 3"], Int[np.ndarray, " f"]]:
        """Fans: three corners a triangle (-1: absent), and the material of each triangle."""
        sizes, corners = np.array(self.sizes), self.corners.array()
        corners = np.where(corners == int(_ABSENT), -1, corners - 1)
        counts = np.maximum(sizes - 2, 0)
        first = np.repeat(np.cumsum(sizes) - sizes, counts)
        step = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        chosen = np.stack([first, first + step + 1, first + step + 2], 1)
        return corners[chosen.reshape(-1)], np.repeat(np.array(self.material), counts)


def _read(text: str, resources: Resources, limits: LoadLimits) -> Model:
    values = {
        "v": _Numbers(np.float64, "0", "0", "0", "nan", "nan", "nan"),
        "vt": _Numbers(np.float64, "0", "0"),
        "vn": _Numbers(np.float64, "0", "0", "0"),
    }
    polygons, faces = _Polygons(), 0
    library: dict[str, Material] = {}
    materials: list[Material] = []
    numbers: dict[str, int] = {}
    current = ""
    for line in text.replace("\\\n", " ").replace("\\\r\n", " ").splitlines():
        words = (line.split("#", 1)[0] if "#" in line and line[:1] in "vf" else line).split()
        if len(words) < 2:
            continue
        kind = words[0]
        if kind in values:
            values[kind].add(words[1:])
            if values[kind].count > limits.vertices:
                raise InputError(f"{resources.name}: expected at most {limits.vertices:,} vertices, got more")
        elif kind == "f":
            if current not in numbers:
                numbers[current] = len(materials)
                materials.append(library.get(current, UNSTATED))
            corners = [index or _ABSENT for word in words[1:] for index in (word + "//").split("/")[:3]]
            polygons.corners.extend(_absolute(corners, values) if "-" in line else corners)
            polygons.sizes.append(len(words) - 1)
            polygons.material.append(numbers[current])
            faces += len(words) - 3 if len(words) > 3 else 0
            if faces > limits.faces:
                raise InputError(f"{resources.name}: expected at most {limits.faces:,} faces, got more")
        elif kind == "usemtl":
            current = line.split(None, 1)[1].strip()
        elif kind == "mtllib":
            library.update(_read_library(line.split(None, 1)[1].strip(), resources))
    return _join(resources.name, limits, values, polygons, materials)


def _absolute(corners: list[str], values: dict[str, _Numbers]) -> list[str]:
    """Indices that count backwards from the last row read, as ones that count from the first."""
    tables = itertools.cycle(values.values())
    return [
        str(table.count + 1 + int(index)) if index.startswith("-") else index
        for index, table in zip(corners, tables, strict=False)
    ]


def _join(
    name: str, limits: LoadLimits, values: dict[str, _Numbers], polygons: _Polygons, materials: list[Material]
) -> Model:
    assembly = Assembly(name, limits)
    rows, owner = polygons.triangles()
    places, uv, normals = (table.array() for table in values.values())
    for column, (kind, table) in enumerate(values.items()):
        wrong = (rows[:, column] >= table.count) | (rows[:, column] < (0 if kind == "v" else -1))
        if wrong.any():
            raise IndexError(f"index {rows[wrong, column][0] + 1} of {kind} among {table.count}")
    colored = len(places) > 0 and not np.isnan(places[:, 3:]).any()
    for material in range(len(materials)):
        mine = rows[np.repeat(owner == material, 3)]
        if not len(mine):
            continue
        unique, inverse = _unique_rows(mine)
        has_uv, has_normals = (unique[:, 1] >= 0).any(), (unique[:, 2] >= 0).all()
        found = world_from_gltf(normals[unique[:, 2]]) if has_normals else None
        assembly.add(
            Part(
                world_from_gltf(places[unique[:, 0], :3]).astype(np.float32),
                inverse.reshape(-1, 3),
                material,
                None if found is None else unit_vectors(found, least=1e-12).astype(np.float32),
                np.where(unique[:, 1:2] >= 0, uv[unique[:, 1]] * [1, -1] + [0, 1], 0) if has_uv else None,
                # Tools that write colours behind the places write them as they are shown, in sRGB.
                _tint(places[unique[:, 0], 3:]) if colored else None,
            )
        )
    return assembly.model(tuple(materials))


def _unique_rows(rows: Int[np.ndarray, "n 3"]) -> tuple[Int[np.ndarray, "u 3"], Int[np.ndarray, " n"]]:
    """`numpy.unique` of rows and its inverse, as two sorts of single numbers, which is many times faster."""
    pairs = np.unique(rows[:, 0] * (rows[:, 1].max() + 2) + rows[:, 1] + 1, return_inverse=True)[1]
    triples = pairs * (rows[:, 2].max() + 2) + rows[:, 2] + 1
    _, first, inverse = np.unique(triples, return_index=True, return_inverse=True)
    return rows[first], inverse


def _tint(srgb: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 4"]:
    srgb = np.clip(np.nan_to_num(srgb), 0, 1)
    return np.concatenate([linear_from_srgb(srgb), np.ones((len(srgb), 1))], 1).astype(np.float32)


def _read_library(name: str, resources: Resources) -> dict[str, Material]:
    """The materials of an .mtl file; none where the file is missing."""
    try:
        text = resources.named(name, "material library").decode("utf-8", "replace")
    except MissingFileError:
        resources.warnings.add("missing_material", f"the material library {name[:80]!r} is not there")
        return {}
    found: dict[str, dict[str, str]] = {}
    entry: dict[str, str] = {}
    for line in text.splitlines():
        key, _, rest = line.strip().partition(" ")
        if key == "newmtl":
            entry = found.setdefault(rest.strip(), {})
        elif rest:
            entry[key.lower()] = rest.strip()
    return {name: _material(name, entry, resources) for name, entry in found.items()}


def _material(name: str, entry: dict[str, str], resources: Resources) -> Material:
    def floats(key: str, default: list[float]) -> list[float]:
        return [float(word) for word in entry[key].split()[: len(default)]] if key in entry else default

    color = floats("kd", [0.8, 0.8, 0.8])
    opacity = 1 - floats("tr", [0.0])[0] if "tr" in entry else floats("d", [1.0])[0]
    texture = None
    if "map_kd" in entry:
        file = _texture_file(entry["map_kd"])
        try:
            texture = resources.picture(resources.named(file, "texture"), f"texture {file!r}")
        except MissingFileError:
            resources.warnings.add("missing_texture", f"{name}: the picture {file[:80]!r} is not there")
        color = [1.0, 1.0, 1.0] if sum(color) == 0 else color  # some tools write black beside a texture
    shine = min(max(floats("ns", [10.0])[0], 0), 1e4)
    clear = opacity < 1 or (texture is not None and bool((texture[..., 3] < 255).any()))
    material = Material(
        name=name,
        base_color=(color[0], color[1], color[2], min(max(opacity, 0), 1)),
        base_color_texture=texture,
        metallic=0.0,
        # Phong exponent → GGX: alpha² = 2 / (n + 2) (Walter et al. 2007), and alpha is the square of roughness.
        roughness=float((2 / (shine + 2)) ** 0.25),
        alpha_mode="blend" if clear else "opaque",
    )
    lost = "map_kd" in entry and texture is None
    return without_picture(material, "base_color_texture") if lost else material


def _texture_file(value: str) -> str:
    """The file of a map statement, behind its options (-s 1 1 1, -bm 0.5, ...)."""
    if not value.startswith("-"):
        return value
    return shlex.split(value, posix=False)[-1]
