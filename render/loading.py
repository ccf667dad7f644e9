"""3D files of the world → `Model`, strictly bounded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mv3d.errors import InputError
from mv3d.render.model import Material, Model


@dataclass(frozen=True)
class LoadLimits:
    """What is refused, so that one file cannot take the machine down.

    file_bytes: of the file and of everything it names, together. faces, vertices: of the whole model, with
    instances expanded. nodes: of the scene graph, parts with instances expanded. texture_pixels: of one texture;
    all_texture_pixels: of all of them, both judged before anything is decoded.
    texture_size: larger textures are scaled down to this side, which rendering does not see.
    """

    file_bytes: int = 512 * 2**20
    faces: int = 5_000_000
    vertices: int = 10_000_000
    nodes: int = 20_000
    texture_pixels: int = 8192 * 8192
    all_texture_pixels: int = 4 * 8192 * 8192
    texture_size: int = 2048


def load_model(path: Path | str, limits: LoadLimits = LoadLimits()) -> Model:  # noqa: B008 - frozen
    """Read .glb, .gltf, .obj, .ply or .stl into the world frame. glb, gltf and obj are taken as Y up with the
    front along +Z, ply and stl as Z up.

    Raises InputError with one sentence for a file that is broken or beyond the limits, MissingPartError where
    a decoder is not installed.
    """
    from mv3d.render.mesh_io import load_mesh  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415

    mesh = load_mesh(Path(path))
    if not len(mesh.faces):
        raise InputError(f"{path}: expected at least one face, got none")
    texture = None
    if mesh.texture is not None:
        texture = np.dstack([mesh.texture, np.full(mesh.texture.shape[:2], 255, np.uint8)])
    colors = None
    if mesh.vertex_colors is not None:
        colors = np.concatenate([(mesh.vertex_colors / 255.0) ** 2.2, np.ones((len(mesh.vertices), 1))], 1)
    return Model(
        mesh.vertices,
        mesh.faces,
        mesh.normals,
        mesh.uv,
        colors,
        materials=(Material(base_color_texture=texture, metallic=0.0),),
    )
