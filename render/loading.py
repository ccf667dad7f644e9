"""3D files of the world → `Model`, strictly bounded: the one reader behind everything that opens a mesh."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from mv3d.core.errors import InputError
from mv3d.render.assembly import Assembly, Part
from mv3d.render.gltf import read_gltf
from mv3d.render.limits import LoadLimits
from mv3d.render.model import UNSTATED, Material, Model
from mv3d.render.obj import read_obj
from mv3d.render.ply import read_ply
from mv3d.render.resources import Resources
from mv3d.render.stl import read_stl

DEFAULT_LIMITS = LoadLimits()
MODEL_FORMATS: dict[str, str] = {
    ".glb": "glTF 2.0, binary; Y up, front along +Z",
    ".gltf": "glTF 2.0, text; Y up, front along +Z",
    ".obj": "Wavefront OBJ with MTL; Y up, front along +Z",
    ".ply": "text and binary; Z up",
    ".stl": "text and binary; Z up",
    ".off": "the shape alone; Z up",
}
"""What is read, by suffix, for people."""
MODEL_SUFFIXES = tuple(MODEL_FORMATS)

__all__ = ["DEFAULT_LIMITS", "MODEL_FORMATS", "MODEL_SUFFIXES", "LoadLimits", "load_model"]


def load_model(
    path: str | os.PathLike[str],
    limits: LoadLimits = DEFAULT_LIMITS,
    *,
    root: str | os.PathLike[str] | None = None,
) -> Model:
    """Read .glb, .gltf, .obj, .ply, .stl or .off into the world frame. glb, gltf and obj are taken as Y up with the
    front along +Z, the others as Z up. Skins and morph targets come in the pose that the file gives. What the file
    names and what cannot be used is in the model's `warnings`. root: a folder that holds the file and its textures, by
    default the file's own folder; nothing outside it is read.

    Raises InputError with one sentence for a file that is broken or beyond the limits, MissingPartError where
    a decoder is not installed.
    """
    path = Path(path)
    resources = Resources(path, limits, None if root is None else Path(root))
    model = _read(resources, path.suffix.lower(), limits)
    return replace(model, warnings=resources.warnings.found())


def _read(resources: Resources, suffix: str, limits: LoadLimits) -> Model:
    if suffix in (".glb", ".gltf"):
        return read_gltf(resources, limits)
    if suffix == ".obj":
        return read_obj(resources, limits)
    if suffix == ".ply":
        return read_ply(resources, limits)
    if suffix == ".stl":
        return read_stl(resources, limits)
    if suffix == ".off":
        return _read_with_trimesh(resources, suffix[1:], limits)
    raise InputError(
        f"{resources.name}: expected one of {', '.join(MODEL_SUFFIXES)}, got {suffix or 'no suffix'}"
    )


def _read_with_trimesh(resources: Resources, kind: str, limits: LoadLimits) -> Model:
    import trimesh  # noqa: PLC0415 - slow to import
    from trimesh.exchange.load import mesh_loaders  # noqa: PLC0415

    data = resources.main()
    try:
        # Without a resolver nothing beside the file is read.
        loaded = mesh_loaders[kind](io.BytesIO(data), file_type=kind, skip_materials=True)
        geometry = loaded.get("geometry", {"": loaded}).values()
        found = [part for part in geometry if part.get("faces") is not None]
        parts = [trimesh.Trimesh(**part, process=False) for part in found]
    except MemoryError:
        raise
    except Exception as error:  # trimesh raises whatever a broken file makes its readers raise
        raise InputError(
            f"{resources.name}: not a valid {kind} file ({' '.join(str(error).split())[:100]})"
        ) from error
    assembly = Assembly(resources.name, limits, resources.warnings)
    materials: list[Material] = []
    if len(parts) > limits.nodes:
        raise InputError(f"{resources.name}: expected at most {limits.nodes:,} parts, got {len(parts):,}")
    for part in parts:
        if not len(part.faces):
            continue
        vertices, faces = np.asarray(part.vertices, np.float64), np.asarray(part.faces, np.int64)
        assembly.check_room(len(faces), len(vertices))
        if faces.min() < 0 or faces.max() >= len(vertices):
            raise InputError(f"{resources.name}: expected vertex indices in 0..{len(vertices) - 1}")
        if not np.isfinite(vertices).all():
            raise InputError(f"{resources.name}: vertices: expected finite numbers, got NaN or infinity")
        materials.append(UNSTATED)
        assembly.add(Part(vertices.astype(np.float32), faces, len(materials) - 1))
    return assembly.model(tuple(materials))
