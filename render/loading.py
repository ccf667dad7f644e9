"""3D files of the world → `Model`, strictly bounded: the one reader behind everything that opens a mesh."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mv3d.core.colors import LINEAR_OF_SRGB
from mv3d.core.errors import InputError
from mv3d.render.assembly import Assembly, Part
from mv3d.render.gltf import read_gltf
from mv3d.render.limits import LoadLimits
from mv3d.render.mesh import vertex_normals
from mv3d.render.model import UNSTATED, Material, Model
from mv3d.render.obj import read_obj
from mv3d.render.resources import Resources

DEFAULT_LIMITS = LoadLimits()
MODEL_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off")

__all__ = ["DEFAULT_LIMITS", "MODEL_SUFFIXES", "LoadLimits", "load_model"]


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
    if suffix in (".ply", ".stl", ".off"):
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
        parts = [(trimesh.Trimesh(**part, process=False), part.get("vertex_normals")) for part in found]
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
    for part, given in parts:
        if not len(part.faces):
            continue
        vertices, faces = np.asarray(part.vertices, np.float64), np.asarray(part.faces, np.int64)
        assembly.check_room(len(faces), len(vertices))
        if faces.min() < 0 or faces.max() >= len(vertices):
            raise InputError(f"{resources.name}: expected vertex indices in 0..{len(vertices) - 1}")
        if not np.isfinite(vertices).all():
            raise InputError(f"{resources.name}: vertices: expected finite numbers, got NaN or infinity")
        material, colors = _look(part)
        normals = _normals(given, vertices, faces) if kind == "ply" else None
        materials.append(material)
        assembly.add(Part(vertices.astype(np.float32), faces, len(materials) - 1, normals, None, colors))
    return assembly.model(tuple(materials))


def _normals(
    given: np.ndarray | None, vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> Float[np.ndarray, "v 3"]:
    """The file's normals where they have a length, else smooth ones."""
    if given is not None and np.shape(given) == vertices.shape and np.isfinite(given).all():
        given = np.asarray(given, np.float64)
        length = np.linalg.norm(given, axis=1, keepdims=True)
        if (length > 1e-6).all():
            return (given / length).astype(np.float32)
    return vertex_normals(vertices.astype(np.float32), faces)


def _look(part: Any) -> tuple[Material, np.ndarray | None]:
    """Material and linear vertex colours of a part that trimesh read."""
    if part.visual.kind != "vertex":
        return UNSTATED, None
    shown = np.asarray(part.visual.vertex_colors)
    colors = np.concatenate([LINEAR_OF_SRGB[shown[:, :3]], shown[:, 3:].astype(np.float32) / 255], 1)
    clear = bool((colors[:, 3] < 1).any())
    return Material(metallic=0.0, roughness=0.8, alpha_mode="blend" if clear else "opaque"), colors
