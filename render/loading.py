"""3D files of the world → `Model`, strictly bounded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from mv3d.core.colors import LINEAR_OF_SRGB
from mv3d.core.errors import InputError
from mv3d.render.assembly import Assembly, Part
from mv3d.render.gltf import read_gltf
from mv3d.render.limits import LoadLimits
from mv3d.render.mesh import vertex_normals
from mv3d.render.model import Material, Model
from mv3d.render.obj import read_obj
from mv3d.render.resources import Resources

DEFAULT_LIMITS = LoadLimits()
MODEL_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl")

__all__ = ["DEFAULT_LIMITS", "MODEL_SUFFIXES", "LoadLimits", "load_model"]


def load_model(path: Path | str, limits: LoadLimits = DEFAULT_LIMITS) -> Model:
    """Read .glb, .gltf, .obj, .ply or .stl into the world frame. glb, gltf and obj are taken as Y up with the
    front along +Z, ply and stl as Z up. Skins and morph targets come in the pose that the file gives.

    Raises InputError with one sentence for a file that is broken or beyond the limits, MissingPartError where
    a decoder is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    resources = Resources(path, limits)
    if suffix in (".glb", ".gltf"):
        return read_gltf(resources, limits)
    if suffix == ".obj":
        return read_obj(resources, limits)
    if suffix in (".ply", ".stl"):
        return _read_with_trimesh(resources, suffix[1:], limits)
    raise InputError(f"{path.name}: expected one of {', '.join(MODEL_SUFFIXES)}, got {suffix or 'no suffix'}")


def _read_with_trimesh(resources: Resources, kind: str, limits: LoadLimits) -> Model:
    import trimesh  # noqa: PLC0415 - slow to import

    data = resources.main()
    try:
        # Without a resolver nothing beside the file is read.
        scene = trimesh.load_scene(io.BytesIO(data), file_type=kind, process=False)
    except MemoryError:
        raise
    except Exception as error:  # trimesh raises whatever a broken file makes its readers raise
        raise InputError(
            f"{resources.name}: not a valid {kind} file ({' '.join(str(error).split())[:100]})"
        ) from error
    assembly = Assembly(resources.name, limits)
    materials: list[Material] = []
    if len(scene.geometry) > limits.nodes:
        raise InputError(
            f"{resources.name}: expected at most {limits.nodes:,} parts, got {len(scene.geometry):,}"
        )
    for part in scene.geometry.values():
        if not isinstance(part, trimesh.Trimesh) or not len(part.faces):
            continue
        vertices, faces = np.asarray(part.vertices, np.float64), np.asarray(part.faces, np.int64)
        assembly.check_room(len(faces), len(vertices))
        if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
            raise InputError(f"{resources.name}: expected vertex indices in 0..{len(vertices) - 1}")
        if not np.isfinite(vertices).all():
            raise InputError(f"{resources.name}: vertices: expected finite numbers, got NaN or infinity")
        material, colors = _look(part)
        normals = _normals(part, vertices, faces, kind)
        materials.append(material)
        assembly.add(Part(vertices.astype(np.float32), faces, len(materials) - 1, normals, None, colors))
    return assembly.model(tuple(materials))


def _normals(part: Any, vertices: np.ndarray, faces: np.ndarray, kind: str) -> np.ndarray | None:
    """The file's normals; smooth ones for a ply without; flat ones (None) for an stl."""
    given = part._cache.cache.get("vertex_normals") if kind != "stl" else None
    if given is not None and np.shape(given) == vertices.shape and np.isfinite(given).all():
        given = np.asarray(given, np.float64)
        length = np.linalg.norm(given, axis=1, keepdims=True)
        if (length > 1e-6).all():
            return (given / length).astype(np.float32)
    return vertex_normals(vertices.astype(np.float32), faces) if kind == "ply" else None


def _look(part: Any) -> tuple[Material, np.ndarray | None]:
    """Material and linear vertex colours of a part that trimesh read."""
    if part.visual.kind != "vertex":
        return Material(base_color=(0.5, 0.5, 0.5, 1.0), metallic=0.0, roughness=0.8), None
    shown = np.asarray(part.visual.vertex_colors)
    colors = np.concatenate([LINEAR_OF_SRGB[shown[:, :3]], shown[:, 3:].astype(np.float32) / 255], 1)
    clear = bool((colors[:, 3] < 1).any())
    return Material(metallic=0.0, roughness=0.8, alpha_mode="blend" if clear else "opaque"), colors
