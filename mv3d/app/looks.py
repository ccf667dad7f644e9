"""A mesh as it is looked at: its colours replaced by what a mode shows, for viewers that light nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mv3d.render.mesh import Mesh, vertex_normals

MODES = ("textured", "grey", "wireframe", "normals")
_LIGHT = np.array([0.55, 0.3, 0.78])  # from the front, the left and above


def in_mode(mesh: Mesh, mode: str) -> Mesh:
    """textured: the mesh itself. grey, wireframe: a matt grey under one light from the front and above, and some from
    everywhere. normals: (x, y, z) in [-1, 1] as red, green and blue in [0, 255]."""
    if mode == "textured":
        return mesh
    normals = mesh.normals if mesh.normals is not None else vertex_normals(mesh.vertices, mesh.faces)
    if mode == "normals":
        colors = normals * 127.5 + 127.5
    else:
        lit = np.clip(normals @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
        colors = np.repeat(255 * (0.4 + 0.15 * normals[:, 2:] + 0.35 * lit[:, None]), 3, axis=1)
    return replace(mesh, uv=None, texture=None, vertex_colors=np.clip(colors + 0.5, 0, 255).astype(np.uint8))
