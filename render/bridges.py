"""Meshes of other libraries: trimesh, Open3D, PyTorch3D. Coordinates stay those of the world, Z up.

The libraries count v of texture coordinates each in its own way; here a texture looks the same in all of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mv3d.core.colors import linear_from_srgb, srgb_from_linear
from mv3d.core.errors import InputError, MissingPartError
from mv3d.core.installing import install_command
from mv3d.render.mesh import Mesh
from mv3d.render.tangents import with_tangents

if TYPE_CHECKING:
    import trimesh

_TANGENTS = "tangent"  # attribute of a trimesh's vertices


def to_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    """The same vertices and faces in the same order, unprocessed. Texture and normal map are those of a PBRMaterial, v
    from the bottom as trimesh has it; colours beside a texture are the visual's vertex attribute `color`.

    trimesh writes what it has: turn the result before a glb is written with it, or write that with `Mesh.export`.
    """
    import trimesh  # noqa: PLC0415 - half a second
    from trimesh.visual import ColorVisuals, TextureVisuals  # noqa: PLC0415
    from trimesh.visual.material import PBRMaterial  # noqa: PLC0415

    made = trimesh.Trimesh(
        mesh.vertices.astype(np.float64),
        mesh.faces.astype(np.int64),
        vertex_normals=mesh.normals,
        process=False,
    )
    if mesh.uv is not None:
        material = PBRMaterial(
            baseColorTexture=None if mesh.texture is None else Image.fromarray(mesh.texture),
            normalTexture=None if mesh.normal_map is None else Image.fromarray(mesh.normal_map),
            metallicFactor=0.0,
            roughnessFactor=0.9,
        )
        textured = TextureVisuals(uv=_from_the_bottom(mesh.uv), material=material)
        made.visual = textured
        if mesh.vertex_colors is not None:
            textured.vertex_attributes["color"] = _opaque(mesh.vertex_colors)
        if mesh.tangents is not None:
            made.vertex_attributes[_TANGENTS] = mesh.tangents
    elif mesh.vertex_colors is not None:
        made.visual = ColorVisuals(made, vertex_colors=_opaque(mesh.vertex_colors))
    return made


def from_trimesh(source: Any) -> Mesh:
    """A Mesh of a `trimesh.Trimesh`: faces, texture, normal map, colours, and normals where the source has them already.

    A colour of the material counts as colour of the vertices. Colours of faces split the vertices. Alpha is left out.
    Raises InputError for anything else than a Trimesh; a scene becomes one by `scene.to_geometry()`.
    """
    import trimesh  # noqa: PLC0415
    from trimesh.visual import TextureVisuals  # noqa: PLC0415

    if not isinstance(source, trimesh.Trimesh):
        raise InputError(
            f"trimesh: expected a trimesh.Trimesh, got {type(source).__name__}; a scene becomes one by scene.to_geometry()"
        )
    given = source._cache.cache.get(
        "vertex_normals"
    )  # as trimesh's own writer tells given normals from made ones
    mesh = Mesh(
        source.vertices, source.faces, normals=None if given is None else np.asarray(given, np.float32)
    )
    visual: Any = source.visual
    if isinstance(visual, TextureVisuals):
        return _textured(mesh, source, visual)
    if visual.kind == "vertex":
        return replace(mesh, vertex_colors=np.asarray(visual.vertex_colors)[:, :3])
    if visual.kind == "face":
        rows = mesh.faces.reshape(-1)
        split = replace(mesh.with_vertices(rows), faces=np.arange(len(rows)).reshape(-1, 3))
        return replace(split, vertex_colors=np.repeat(np.asarray(visual.face_colors)[:, :3], 3, axis=0))
    return mesh


def _textured(mesh: Mesh, source: Any, visual: Any) -> Mesh:
    material, uv = visual.material, visual.uv
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    factor = getattr(material, "baseColorFactor", None)
    colors = visual.vertex_attributes.get("color")
    colors = None if colors is None else np.asarray(colors)[:, :3].astype(np.uint8)
    if factor is not None and (np.asarray(factor)[:3] != 255).any():
        tint = np.tile(np.asarray(factor)[:3].astype(np.uint8), (len(mesh.vertices), 1))
        colors = tint if colors is None else _product(colors, tint)
    mesh = replace(mesh, vertex_colors=colors)
    if uv is None:
        return mesh
    mesh = replace(
        mesh, uv=_from_the_bottom(np.asarray(uv)), texture=None if picture is None else _pixels(picture)
    )
    relief = getattr(material, "normalTexture", None)
    if relief is None:
        return mesh
    tangents = source.vertex_attributes.get(_TANGENTS)
    if tangents is None:
        return replace(with_tangents(mesh), normal_map=_pixels(relief))
    return replace(mesh, tangents=np.asarray(tangents, np.float32), normal_map=_pixels(relief))


def to_open3d(mesh: Mesh) -> Any:
    """An `open3d.geometry.TriangleMesh`: normals, colours as fractions of sRGB, the texture with coordinates of the
    corners. Open3D counts v along the rows of the picture it holds, as here. Needs the extra `open3d`."""
    try:
        import open3d  # pyright: ignore[reportMissingImports]  # noqa: PLC0415 - optional
    except ImportError as error:
        raise MissingPartError(
            f"to_open3d: expected the package open3d, got none; run: {install_command('open3d')}"
        ) from error
    geometry, utility = open3d.geometry, open3d.utility
    made = geometry.TriangleMesh(
        utility.Vector3dVector(mesh.vertices.astype(np.float64)),
        utility.Vector3iVector(mesh.faces),
    )
    if mesh.normals is not None:
        made.vertex_normals = utility.Vector3dVector(mesh.normals.astype(np.float64))
    if mesh.vertex_colors is not None:
        made.vertex_colors = utility.Vector3dVector(mesh.vertex_colors / 255.0)
    if mesh.texture is not None and mesh.uv is not None:
        corners = mesh.uv[mesh.faces].reshape(-1, 2).astype(np.float64)
        made.triangle_uvs = utility.Vector2dVector(corners)
        made.triangle_material_ids = utility.IntVector(np.zeros(len(mesh.faces), np.int32))
        made.textures = [geometry.Image(np.ascontiguousarray(mesh.texture))]
    return made


def to_pytorch3d(mesh: Mesh, device: str = "cpu") -> Any:
    """A batch of one `pytorch3d.structures.Meshes`: float32, TexturesUV, or TexturesVertex of the colours where there is
    no texture; sRGB in [0, 1]. PyTorch3D counts v from the bottom. Needs PyTorch3D, which has no extra: its
    installation depends on that of torch."""
    import torch  # noqa: PLC0415 - heavy

    try:
        from pytorch3d.renderer import (  # pyright: ignore[reportMissingImports]  # noqa: PLC0415
            TexturesUV,
            TexturesVertex,
        )
        from pytorch3d.structures import Meshes  # pyright: ignore[reportMissingImports]  # noqa: PLC0415
    except ImportError as error:
        raise MissingPartError(
            "to_pytorch3d: expected the package pytorch3d, got none; see github.com/facebookresearch/pytorch3d/blob/main/INSTALL.md"
        ) from error

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    faces, textures = tensor(mesh.faces.astype(np.int64)), None
    if mesh.texture is not None and mesh.uv is not None:
        textures = TexturesUV(
            maps=[tensor(mesh.texture.astype(np.float32) / 255)],
            faces_uvs=[faces],
            verts_uvs=[tensor(_from_the_bottom(mesh.uv))],
        )
    elif mesh.vertex_colors is not None:
        textures = TexturesVertex([tensor(mesh.vertex_colors.astype(np.float32) / 255)])
    return Meshes(
        verts=[tensor(mesh.vertices)],
        faces=[faces],
        textures=textures,
        verts_normals=None if mesh.normals is None else [tensor(mesh.normals)],
    )


def _from_the_bottom(uv: np.ndarray) -> np.ndarray:
    return (np.asarray(uv, np.float64) * [1, -1] + [0, 1]).astype(np.float32)


def _opaque(colors: UInt8[np.ndarray, "v 3"]) -> UInt8[np.ndarray, "v 4"]:
    return np.concatenate([colors, np.full((len(colors), 1), 255, np.uint8)], 1)


def _product(one: UInt8[np.ndarray, "v 3"], other: UInt8[np.ndarray, "v 3"]) -> UInt8[np.ndarray, "v 3"]:
    light = linear_from_srgb(one / 255) * linear_from_srgb(other / 255)
    return (srgb_from_linear(light) * 255 + 0.5).astype(np.uint8)


def _pixels(picture: Any) -> UInt8[np.ndarray, "h w 3"]:
    return np.asarray(picture.convert("RGB"))
