"""Whether holes that views look through stay open: rings and lattices made of formulas, by stage.

    python benchmarks/holes.py --size 320 --quality draft

In 21 unlit views of a sine orbit, as they are and drifted (`drift.py`). Opened: share of the holes that lies outside of
the mesh. Kept: share of the object that lies inside. Both and the IoU on the grid of `ground_truth.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from drift import drifted
from ground_truth import Truth, hard_hull, our_shape, solid_of, true_depths, truth_of_mesh, truth_views
from part import describe_machine

from mv3d.core.machine import library_versions
from mv3d.recon.config import ReconConfig
from mv3d.recon.surface import extract_mesh
from mv3d.render.mesh import Mesh
from mv3d.views.grid import Grid
from mv3d.views.metrics import overlap

Field = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Shape:
    """In a box of `half` around the origin, upright. distance: about that from the surface, negative inside. within:
    where the holes are."""

    half: tuple[float, float, float]
    distance: Field
    within: Field


def ring(tube: float) -> Shape:
    """Of outer radius 0.5, of a tube of this radius."""
    return Shape(
        (0.5, tube, 0.5),
        lambda x, y, z: np.hypot(np.hypot(x, z) - (0.5 - tube), y) - tube,
        lambda x, y, z: (np.hypot(x, z) < 0.5 - tube) & (np.abs(y) < tube / 2),
    )


def lattice(holes: int, bar: float) -> Shape:
    """holes x holes square holes between bars of this width and depth."""
    pitch = (1 - bar) / holes

    def along(u: np.ndarray) -> np.ndarray:
        first = u + 0.5 - bar / 2
        return np.abs(first - pitch * np.round(first / pitch)) - bar / 2

    def slab(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.maximum(np.maximum(np.abs(x), np.abs(z)) - 0.5, np.abs(y) - bar / 2)

    return Shape(
        (0.5, bar / 2, 0.5),
        lambda x, y, z: np.maximum(np.minimum(along(x), along(z)), slab(x, y, z)),
        lambda x, y, z: slab(x, y, z) < 0,
    )


SHAPES = {
    "ring, tube 0.06": ring(0.03),
    "ring, tube 0.2": ring(0.1),
    "lattice 3 x 3, bars 0.05": lattice(3, 0.05),
    "lattice 6 x 6, bars 0.04": lattice(6, 0.04),
    "lattice 10 x 10, bars 0.03": lattice(10, 0.03),
}


def mesh_of(shape: Shape, samples: int = 160) -> Mesh:
    half = np.array(shape.half) + 0.05
    grid = Grid.around((-half).tolist(), half.tolist(), samples)
    points = grid.points(torch.device("cpu")).numpy().astype(np.float64)
    field = torch.from_numpy(shape.distance(*points.T).reshape(grid.shape).astype(np.float32))
    vertices, faces = extract_mesh(field, grid, smallest=0.0)
    waves = 0.5 + 0.4 * np.sin(17 * vertices + 5 * vertices[:, [1, 2, 0]] + [0, 1, 2])
    return Mesh(vertices, faces, vertex_colors=(waves * 255).astype(np.uint8))


def figures(truth: Truth, shape: Shape, mesh: Mesh) -> tuple[float, float, float]:
    """Share of the holes that is open, share of the object that is kept, IoU."""
    assert truth.occupied is not None
    points = -0.52 + 1.04 / 96 * (np.argwhere(~truth.occupied) + 0.5)
    solid = solid_of(mesh)
    opened = ~solid[~truth.occupied][shape.within(*points.T)]
    return float(opened.mean()), float(solid[truth.occupied].mean()), overlap(solid, truth.occupied)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--quality", default="draft")
    parser.add_argument("--only", default="", help="shapes whose name contains this")
    options = parser.parse_args()
    print(f"{describe_machine()}; {library_versions()}")
    print("\n| shape | views | what | opened | kept | IoU |\n|---|---|---|---|---|---|")
    for name, shape in SHAPES.items():
        if options.only not in name:
            continue
        truth = truth_of_mesh(name, mesh_of(shape))
        exact = truth_views(truth, "sine", options.size)
        for look, views in (
            ("exact", exact),
            ("drifted", drifted(exact, true_depths(truth, exact.cameras))),
        ):
            for what, mesh in (
                ("hard hull", Mesh(*hard_hull(views))),
                (options.quality, our_shape(views, ReconConfig(quality=options.quality))),
            ):
                opened, kept, iou = figures(truth, shape, mesh)
                print(f"| {name} | {look} | {what} | {opened:.3f} | {kept:.3f} | {iou:.3f} |", flush=True)


if __name__ == "__main__":
    main()
