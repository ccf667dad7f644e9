"""How much of an open vessel's hollow a sine orbit shows, and how much of it is opened: three vessels made of formulas.

    python benchmarks/vessels.py --size 160 --hull 80 --field 48

A bowl, a cup and a tall holder, with walls of 0.05 of the width and a picture outside and inside, in 21 unlit views of a
sine orbit. Seen: share of the hollow from which some camera is visible; no cue of the views opens more. Bound: the IoU of
a mesh that has exactly that part opened. Rows: the least-area hull, the field alone, hollows by stereo before the field.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from ground_truth import Truth, score_shape, truth_of_mesh, truth_views
from part import describe_machine

from mv3d.core.machine import library_versions
from mv3d.recon.field import FieldConfig, fit_field
from mv3d.recon.hull import HullConfig, visual_hull
from mv3d.recon.stereo import StereoConfig, open_hollows
from mv3d.recon.surface import decimate, extract_mesh, smooth
from mv3d.recon.tighten import TightenConfig, carve, tighten
from mv3d.render.cameras import Cameras
from mv3d.render.mesh import Mesh
from mv3d.render.raycast import RayScene
from mv3d.views.grid import Grid
from mv3d.views.metrics import overlap
from mv3d.views.silhouettes import Silhouettes

VESSELS = {"bowl": 0.4, "cup": 0.9, "holder": 1.6}
"""Height over width."""
WALL = 0.05  # of the width
_CELLS = np.random.default_rng(0).random((4096, 3))


def vessel(height: float, samples: int = 144) -> Mesh:
    """A closed vessel of width 1 and this height, in a mosaic of small tiles, inside and outside."""
    half = np.array([0.5, 0.5, height / 2])
    grid = Grid.around((-half - 0.05).tolist(), (half + 0.05).tolist(), samples)
    x, y, z = grid.points(torch.device("cpu")).numpy().astype(np.float64).T
    around = np.hypot(x, y)
    outer = np.maximum(around - 0.5, np.abs(z) - height / 2)
    inner = np.maximum(around - 0.5 + WALL, -height / 2 + WALL - z)
    field = torch.from_numpy(np.maximum(outer, -inner).reshape(grid.shape).astype(np.float32))
    vertices, faces = extract_mesh(field, grid)
    turn = np.arctan2(vertices[:, 1], vertices[:, 0]) / (2 * np.pi) + 0.5
    rings = np.hypot(vertices[:, 0], vertices[:, 1]) + 1.7 * vertices[:, 2]
    inside = np.hypot(vertices[:, 0], vertices[:, 1]) < 0.5 - WALL / 2
    cell = (turn * 24).astype(int) % 24 + 24 * (np.floor(rings * 10).astype(int) % 64) + 1536 * inside
    return Mesh(vertices, faces, vertex_colors=(_CELLS[cell] * 255).astype(np.uint8))


def seen_of(truth: Truth, cameras: Cameras) -> np.ndarray:
    """Which of the hollow's samples some camera sees."""
    assert truth.hollow is not None
    index = np.argwhere(truth.hollow)
    points = -0.52 + 1.04 / 96 * (2 * index + 0.5)
    scene, free = RayScene(truth.mesh.vertices, truth.mesh.faces), np.zeros(len(points), bool)
    for center in cameras.centers:
        toward = center - points
        free |= ~scene.blocked(points, toward, 1.0)
    return free


def measure(name: str, size: int, hull_samples: int, field_samples: int, steps: int) -> None:
    """Print the rows of one vessel."""
    truth = truth_of_mesh(name, vessel(VESSELS[name]))
    views = truth_views(truth, "sine", size)
    assert truth.hollow is not None and truth.occupied is not None
    seen = seen_of(truth, views.cameras)
    solid = truth.occupied[::2, ::2, ::2] | truth.hollow
    solid[tuple(np.argwhere(truth.hollow)[seen].T)] = False
    bound = overlap(solid, truth.occupied[::2, ::2, ::2])
    print(f"| {name} | seen by a camera | | {bound:.3f} | {seen.mean():.2f} | |", flush=True)
    silhouettes = Silhouettes(views.images[..., 3], views.cameras)
    device = torch.device("cpu")
    config = FieldConfig(levels=((field_samples, steps),))
    begun = time.process_time()
    plain = visual_hull(silhouettes, HullConfig(resolution=hull_samples), device=device)
    plain = tighten(silhouettes, plain, TightenConfig())
    dug = open_hollows(views, silhouettes, plain, StereoConfig())
    for label, start, fit in (
        ("least-area hull", plain, False),
        ("field alone", plain, True),
        ("stereo and field", dug, True),
    ):
        hull = start
        if fit:
            found = fit_field(views, start, config)
            hull = carve(silhouettes, start, found.sdf, found.grid)
        vertices, faces = extract_mesh(hull.sdf, hull.grid)
        mesh = Mesh(*decimate(smooth(vertices, faces), faces, 20_000))
        row = score_shape(truth, mesh, 20_000)
        print(
            f"| {name} | {label} | {row['chamfer']:.4f} | {row['iou']:.3f} | {row['opened']:.2f} | "
            f"{time.process_time() - begun:.0f} s |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--hull", type=int, default=128, help="samples along the longest side")
    parser.add_argument("--field", type=int, default=96)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--only", default=",".join(VESSELS))
    options = parser.parse_args()
    print(f"{describe_machine()}; {library_versions()}")
    print("\n| vessel | what | Chamfer | IoU | opened | CPU seconds so far |\n|---|---|---|---|---|---|")
    for name in options.only.split(","):
        measure(name, options.size, options.hull, options.field, options.steps)


if __name__ == "__main__":
    main()
