"""3D files of the world → `Model`, strictly bounded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from mv3d.errors import InputError, MissingPartError
from mv3d.render.assembly import Assembly, Part
from mv3d.render.cameras import world_from_gltf
from mv3d.render.gltf import read_gltf
from mv3d.render.limits import LoadLimits
from mv3d.render.mesh import vertex_normals
from mv3d.render.model import Material, Model
from mv3d.render.resources import Resources
from mv3d.render.textures import LINEAR_OF_SRGB

DEFAULT_LIMITS = LoadLimits()
MODEL_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tga", ".gif", ".tif", ".tiff")

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
    if suffix in (".obj", ".ply", ".stl"):
        return _read_with_trimesh(resources, suffix[1:], limits)
    raise InputError(f"{path.name}: expected one of {', '.join(MODEL_SUFFIXES)}, got {suffix or 'no suffix'}")


class _Resolver:
    """What trimesh asks for the files that an obj or ply names. The first refusal is kept: trimesh only logs it."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.refusal: InputError | None = None

    def get(self, name: str) -> bytes:
        name = name.strip()
        try:
            data = self._resources.named(name, "file")
            if Path(name).suffix.lower() in _PICTURES:
                return _as_png(self._resources.picture(data, f"texture {name!r}"))
            return data
        except InputError as error:
            # An obj without its mtl still has its shape; everything else is an error.
            if not (name.lower().endswith(".mtl") and "is missing" in str(error)):
                self.refusal = self.refusal or error
            raise FileNotFoundError(name) from error

    def get_base(self, name: str) -> bytes:
        return self.get(name)


def _as_png(picture: np.ndarray) -> bytes:
    from PIL import Image  # noqa: PLC0415

    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG", compress_level=0)
    return out.getvalue()


def _read_with_trimesh(resources: Resources, kind: str, limits: LoadLimits) -> Model:
    import trimesh  # noqa: PLC0415 - slow to import

    data = resources.main()
    resolver = _Resolver(resources)
    try:
        scene = trimesh.load_scene(
            io.BytesIO(data), file_type=kind, resolver=resolver, process=False, maintain_order=True
        )
    except (InputError, MissingPartError, MemoryError):
        raise
    except Exception as error:  # trimesh raises whatever a broken file makes its readers raise
        raise resolver.refusal or InputError(
            f"{resources.name}: not a valid {kind} file ({' '.join(str(error).split())[:100]})"
        ) from error
    if resolver.refusal is not None:
        raise resolver.refusal
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
        material, uv, colors = _look(part)
        normals = _normals(part, vertices, faces, kind)
        if kind == "obj":
            vertices = world_from_gltf(vertices)
            normals = None if normals is None else world_from_gltf(normals)
        materials.append(material)
        assembly.add(Part(vertices.astype(np.float32), faces, len(materials) - 1, normals, uv, colors))
    return assembly.model(tuple(materials))


def _normals(part: Any, vertices: np.ndarray, faces: np.ndarray, kind: str) -> np.ndarray | None:
    """The file's normals; smooth ones for a ply without; flat ones (None) for an stl or obj without."""
    given = part._cache.cache.get("vertex_normals") if kind != "stl" else None
    if given is not None and np.shape(given) == vertices.shape and np.isfinite(given).all():
        given = np.asarray(given, np.float64)
        length = np.linalg.norm(given, axis=1, keepdims=True)
        if (length > 1e-6).all():
            return (given / length).astype(np.float32)
    return vertex_normals(vertices.astype(np.float32), faces) if kind == "ply" else None


def _look(part: Any) -> tuple[Material, np.ndarray | None, np.ndarray | None]:
    """Material, texture coordinates (v down) and linear vertex colours of a part that trimesh read."""
    visual = part.visual
    if visual.kind == "texture":
        material, uv = visual.material, visual.uv
        image = getattr(material, "image", None)
        if image is None:
            image = getattr(material, "baseColorTexture", None)
        factor = np.asarray(getattr(material, "main_color", [255] * 4), np.float64)[:4] / 255
        texture = None
        if image is not None and uv is not None:
            texture = np.array(image.convert("RGBA"))
        shine = float(np.nan_to_num(np.mean(getattr(material, "glossiness", None) or 0.0)))
        if uv is not None:
            uv = np.asarray(uv, np.float64)[:, :2]
            uv = np.stack([uv[:, 0], 1 - uv[:, 1]], 1)
        clear = factor[3] < 1 or (texture is not None and bool((texture[..., 3] < 255).any()))
        value = Material(
            name=str(getattr(material, "name", None) or ""),
            base_color=(float(factor[0]), float(factor[1]), float(factor[2]), float(factor[3])),
            base_color_texture=texture,
            metallic=0.0,
            # Phong exponent → GGX roughness: alpha² = 2 / (n + 2) (Walter et al. 2007), alpha = roughness².
            roughness=float((2 / (max(shine, 0) + 2)) ** 0.25),
            alpha_mode="blend" if clear else "opaque",
        )
        return value, uv, None
    colors = None
    if visual.kind == "vertex":
        bytes_ = np.asarray(visual.vertex_colors)
        colors = np.concatenate([LINEAR_OF_SRGB[bytes_[:, :3]], bytes_[:, 3:].astype(np.float32) / 255], 1)
    clear = colors is not None and bool((colors[:, 3] < 1).any())
    grey = (1.0, 1.0, 1.0, 1.0) if colors is not None else (0.5, 0.5, 0.5, 1.0)
    material = Material(
        base_color=grey, metallic=0.0, roughness=0.8, alpha_mode="blend" if clear else "opaque"
    )
    return material, None, colors
