"""Wavefront OBJ with MTL → `Model`. Only what draws: polygons, groups by material, diffuse colour and texture."""

from __future__ import annotations

import shlex

import numpy as np
from jaxtyping import Float

from mv3d.core.colors import linear_from_srgb
from mv3d.core.errors import InputError
from mv3d.render.assembly import Assembly, Part
from mv3d.render.cameras import world_from_gltf
from mv3d.render.limits import LoadLimits
from mv3d.render.model import Material, Model
from mv3d.render.resources import Resources

_GREY = Material(name="", base_color=(0.5, 0.5, 0.5, 1.0), metallic=0.0, roughness=0.8)


def read_obj(resources: Resources, limits: LoadLimits) -> Model:
    """Y up, as glTF. Polygons are cut into fans; without normals faces are flat.

    Raises InputError for a broken file, or one that names files outside its folder or missing textures. A missing
    .mtl leaves the shape grey.
    """
    name = resources.name
    try:
        return _read(resources.main().decode("utf-8", "replace"), resources, limits)
    except (ValueError, IndexError) as error:
        raise InputError(f"{name}: not a valid obj file ({' '.join(str(error).split())[:100]})") from error


class _Corners:
    """Corners of triangles: indices of place, texture coordinate and normal, -1 where there is none."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int]] = []
        self.material: list[int] = []


def _read(text: str, resources: Resources, limits: LoadLimits) -> Model:
    values: dict[str, list[list[str]]] = {"v": [], "vt": [], "vn": []}
    corners = _Corners()
    library: dict[str, Material] = {}
    materials: list[Material] = []
    numbers: dict[str, int] = {}
    current = ""
    for line in text.replace("\\\n", " ").replace("\\\r\n", " ").splitlines():
        words = line.split("#", 1)[0].split() if line[:1] in "vf" else line.split()
        if len(words) < 2:
            continue
        kind = words[0]
        if kind in values:
            values[kind].append(words[1:])
            if len(values[kind]) > limits.vertices:
                raise InputError(f"{resources.name}: expected at most {limits.vertices:,} vertices, got more")
        elif kind == "f":
            if current not in numbers:
                numbers[current] = len(materials)
                materials.append(library.get(current, _GREY))
            _add_polygon(words[1:], values, corners, numbers[current])
            if len(corners.material) > limits.faces:
                raise InputError(f"{resources.name}: expected at most {limits.faces:,} faces, got more")
        elif kind == "usemtl":
            current = line.split(None, 1)[1].strip()
        elif kind == "mtllib":
            library.update(_read_library(line.split(None, 1)[1].strip(), resources))
    return _join(resources.name, limits, values, corners, materials)


def _add_polygon(
    words: list[str], values: dict[str, list[list[str]]], corners: _Corners, material: int
) -> None:
    rows = []
    for word in words:
        parts = word.split("/")
        row = []
        for place, kind in enumerate(("v", "vt", "vn")):
            if place >= len(parts) or not parts[place]:
                row.append(-1)
                continue
            index, count = int(parts[place]), len(values[kind])
            index = index - 1 if index > 0 else count + index
            if not 0 <= index < count:
                raise IndexError(f"index {parts[place]} of {kind} among {count}")
            row.append(index)
        rows.append((row[0], row[1], row[2]))
    for k in range(1, len(rows) - 1):
        corners.rows += (rows[0], rows[k], rows[k + 1])
        corners.material.append(material)


def _join(
    name: str,
    limits: LoadLimits,
    values: dict[str, list[list[str]]],
    corners: _Corners,
    materials: list[Material],
) -> Model:
    assembly = Assembly(name, limits)
    if corners.rows:
        colored = bool(values["v"]) and all(len(row) >= 6 for row in values["v"])
        places = _numbers(values["v"], 3)
        tints = np.array([row[3:6] for row in values["v"]], np.float32) if colored else None
        uv, normals = _numbers(values["vt"], 2), _numbers(values["vn"], 3)
        rows = np.array(corners.rows, np.int64)
        owner = np.array(corners.material)
        for material in range(len(materials)):
            mine = rows[np.repeat(owner == material, 3)]
            unique, inverse = np.unique(mine, axis=0, return_inverse=True)
            has_uv, has_normals = (unique[:, 1] >= 0).any(), (unique[:, 2] >= 0).all()
            found = world_from_gltf(normals[unique[:, 2]]) if has_normals and len(normals) else None
            assembly.add(
                Part(
                    world_from_gltf(places[unique[:, 0]]).astype(np.float32),
                    inverse.reshape(-1, 3),
                    material,
                    None if found is None else _unit(found),
                    np.where(unique[:, 1:2] >= 0, uv[unique[:, 1]] * [1, -1] + [0, 1], 0) if has_uv else None,
                    # Tools that write colours behind the places write them as they are shown, in sRGB.
                    _tint(tints[unique[:, 0]]) if tints is not None else None,
                )
            )
    return assembly.model(tuple(materials))


def _numbers(rows: list[list[str]], width: int) -> Float[np.ndarray, "n w"]:
    padded = [(row + ["0"] * width)[:width] for row in rows]
    return np.array(padded, np.float64).reshape(-1, width)


def _unit(normals: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 1e-12, normals / np.maximum(length, 1e-12), [0.0, 0.0, 1.0]).astype(np.float32)


def _tint(srgb: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 4"]:
    srgb = np.clip(np.nan_to_num(srgb), 0, 1)
    return np.concatenate([linear_from_srgb(srgb), np.ones((len(srgb), 1))], 1).astype(np.float32)


def _read_library(name: str, resources: Resources) -> dict[str, Material]:
    """The materials of an .mtl file; none where the file is missing."""
    try:
        text = resources.named(name, "material library").decode("utf-8", "replace")
    except InputError as error:
        if "is missing" in str(error):
            return {}
        raise
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
        texture = resources.picture(resources.named(file, "texture"), f"texture {file!r}")
        color = [1.0, 1.0, 1.0] if sum(color) == 0 else color  # some tools write black beside a texture
    shine = min(max(floats("ns", [10.0])[0], 0), 1e4)
    clear = opacity < 1 or (texture is not None and bool((texture[..., 3] < 255).any()))
    return Material(
        name=name,
        base_color=(color[0], color[1], color[2], min(max(opacity, 0), 1)),
        base_color_texture=texture,
        metallic=0.0,
        # Phong exponent → GGX: alpha² = 2 / (n + 2) (Walter et al. 2007), and alpha is the square of roughness.
        roughness=float((2 / (shine + 2)) ** 0.25),
        alpha_mode="blend" if clear else "opaque",
    )


def _texture_file(value: str) -> str:
    """The file of a map statement, behind its options (-s 1 1 1, -bm 0.5, ...)."""
    if not value.startswith("-"):
        return value
    return shlex.split(value, posix=False)[-1]
