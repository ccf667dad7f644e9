"""Makes docs/demo.png from the demo's views and its reconstruction.

Run: make demo && .venv/bin/python examples/make_readme_picture.py examples/demo_views out/demo/mesh.glb docs/demo.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mv3d.recon.readers import load_views
from mv3d.recon.views import composite
from mv3d.render.cameras import orbit_cameras
from mv3d.render.mesh import Mesh
from mv3d.render.mesh_io import load_mesh
from mv3d.render.raycast import render_views

SHOWN = [20, 2, 6, 10, 15]
FROM = ([50.0, 45.0, -35.0], [30.0, 210.0, 40.0])
SIDE = 240


def row(images: np.ndarray) -> Image.Image:
    """One row of square pictures on white, cropped to the middle."""
    white = (np.clip(composite(images), 0, 1) * 255).astype(np.uint8)
    cut = white.shape[1] // 10
    tiles = [Image.fromarray(image[cut:-cut, cut:-cut]).resize((SIDE, SIDE)) for image in white]
    strip = Image.new("RGB", (SIDE * len(tiles), SIDE))
    for index, tile in enumerate(tiles):
        strip.paste(tile, (index * SIDE, 0))
    return strip


def picture(views_path: str, mesh_path: str) -> Image.Image:
    views, mesh = load_views(views_path), load_mesh(Path(mesh_path))
    size = views.cameras.width
    above = orbit_cameras(*FROM, width=size, height=size)
    bare = render_views(Mesh(mesh.vertices, mesh.faces), above[[0, 2]], supersample=2, headlight=0.8)
    rows = [
        row(views.images[SHOWN]),
        row(render_views(mesh, views.cameras[SHOWN], supersample=2)),
        row(np.concatenate([render_views(mesh, above, supersample=2, headlight=0.15), bare])),
    ]
    sheet = Image.new("RGB", (rows[0].width, SIDE * len(rows)))
    for index, strip in enumerate(rows):
        sheet.paste(strip, (0, index * SIDE))
    return sheet


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: make_readme_picture.py VIEWS MESH OUT.png")
    picture(sys.argv[1], sys.argv[2]).save(sys.argv[3], optimize=True)
