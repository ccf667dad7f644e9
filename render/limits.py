"""How much of a 3D file is read before it is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoadLimits:
    """What is refused, so that one file cannot take the machine down.

    file_bytes: of the file and of everything it names, together. faces, vertices: of the whole model, with
    instances expanded. nodes: of the scene graph, and parts with instances expanded. materials: of the file.
    texture_pixels: of one texture, all_texture_pixels: of all of them, both judged before anything is decoded.
    texture_size: larger textures are scaled down to this side.
    """

    file_bytes: int = 512 * 2**20
    faces: int = 2_000_000
    vertices: int = 6_000_000
    nodes: int = 20_000
    materials: int = 10_000
    texture_pixels: int = 8192 * 8192
    all_texture_pixels: int = 4 * 8192 * 8192
    texture_size: int = 2048
