"""Ground truth for reconstructions: objects of largest side 1, their unlit views, and scores.

Chamfer distance is the mean of both directions' mean distances of samples of the outer surface, without alignment;
IoU on a 96³ grid, where truth and mesh are closed, insides by ray parity; PSNR over the frame on views at elevations
-10 and 35 degrees that no one has seen.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mv3d.core.progress import Clock
from mv3d.evaluation import Samples, normalized, psnr, sample_surface, surface_distances
from mv3d.evaluation.surfaces import fitting_cameras, nearly_closed, occupancy
from mv3d.recon.config import ReconConfig
from mv3d.recon.hull import HullConfig, visual_hull
from mv3d.recon.stages import MeshReconstructor
from mv3d.recon.surface import decimate, extract_mesh
from mv3d.render.cameras import Cameras, Orbit, sine_orbit, sv3d_azimuths_deg
from mv3d.render.mesh import Mesh, vertex_normals
from mv3d.render.mesh_io import load_mesh
from mv3d.render.raycast import RayScene, render_views, sample_bilinear
from mv3d.views.grid import Grid
from mv3d.views.metrics import overlap
from mv3d.views.silhouettes import Silhouettes
from mv3d.views.views import Views, composite

SAMPLES = 100_000


@dataclass(frozen=True, eq=False)
class Truth:
    name: str
    mesh: Mesh
    outer: Samples
    occupied: np.ndarray | None


def solid_of(mesh: Mesh) -> np.ndarray:
    """Insides on a grid of 96³ around objects of largest side 1."""
    return occupancy(mesh, np.full(3, -0.52), 1.04 / 96, (96, 96, 96))


def truth_of(path: Path) -> Truth:
    return truth_of_mesh(path.stem, load_mesh(path))


def truth_of_mesh(name: str, mesh: Mesh) -> Truth:
    mesh = normalized(mesh)
    outer = sample_surface(mesh, SAMPLES, np.random.default_rng(0), outer=True)
    return Truth(name, mesh, outer, solid_of(mesh) if nearly_closed(mesh) else None)


def built_in_mug(samples: int = 128) -> Mesh:
    """A closed mug with a handle and painted bands, where no objects are at hand; as the formulas say, by marching cubes."""
    grid = Grid.around([-0.5, -0.5, -0.5], [0.5, 0.5, 0.5], samples)
    points = grid.points(torch.device("cpu")).numpy().astype(np.float64)
    x, y, z = points.T
    around = np.hypot(x + 0.08, y)
    wall = np.maximum(np.maximum(around - 0.32, 0.26 - around), np.abs(z) - 0.4)
    floor = np.maximum(around - 0.32, np.abs(z + 0.36) - 0.04)
    handle = np.hypot(np.hypot(x - 0.23, z) - 0.18, y) - 0.045
    handle = np.maximum(handle, 0.29 - around)  # it does not reach into the mug
    field = np.minimum(np.minimum(wall, floor), handle)
    sdf = torch.from_numpy(field.reshape(grid.shape).astype(np.float32))
    vertices, faces = extract_mesh(sdf, grid)
    turn = np.arctan2(vertices[:, 1], vertices[:, 0] + 0.08)
    bands = np.stack(
        [
            0.5 + 0.4 * np.tanh(4 * np.sin(6 * turn + 9 * vertices[:, 2])),
            0.5 + 0.3 * np.sin(14 * vertices[:, 2]),
            0.55 + 0.35 * np.cos(3 * turn),
        ],
        -1,
    )
    return Mesh(vertices, faces, vertex_colors=(bands * 255).astype(np.uint8))


def truth_views(truth: Truth, kind: str, size: int) -> Views:
    azimuths = sv3d_azimuths_deg(21)
    elevations = np.array(sine_orbit().elevations_deg) if kind == "sine" else np.full(21, 10.0)
    cameras, radius = fitting_cameras(truth.mesh, elevations, azimuths, size)
    images = render_views(truth.mesh, cameras, supersample=2)
    return Views(
        images,
        cameras,
        Orbit(tuple(elevations.tolist()), tuple(azimuths.tolist()), radius, input_view=20),
        20,
    )


def true_depths(truth: Truth, cameras: Cameras) -> np.ndarray:
    """(n, h, w) float32: depth along the optical axis at the pixels' centres, 0 where nothing is."""
    scene = RayScene(truth.mesh.vertices, truth.mesh.faces)
    depths = np.zeros((len(cameras), cameras.height, cameras.width), np.float32)
    for view in range(len(cameras)):
        origins, directions = cameras.rays(view)
        hits = scene.first_hits(origins, directions)
        along = directions @ -cameras.c2w[view, :3, 2]
        depths[view] = np.where(hits.face >= 0, hits.distance * along, 0).reshape(depths.shape[1:])
    return depths


def our_mesh(views: Views, config: ReconConfig) -> tuple[Mesh, float]:
    """The mesh of `mv3d recon` from loaded views, in memory, and its wall-clock seconds."""
    begun = time.perf_counter()
    mesh = MeshReconstructor(config).fit(views, Clock()).mesh
    return mesh, time.perf_counter() - begun


def baseline(views: Views) -> Mesh:
    """Hard hull and vertex colours: the cos²-weighted mean of the views that see a vertex."""
    silhouettes = Silhouettes(views.images[..., 3], views.cameras)
    hull = visual_hull(silhouettes, HullConfig(max_outliers=0), device=torch.device("cpu"))
    vertices, faces = decimate(*extract_mesh(hull.sdf + hull.dilation, hull.grid), 20_000)
    normals, scene = vertex_normals(vertices, faces), RayScene(vertices, faces)
    total, weight = np.zeros((len(vertices), 3)), np.full(len(vertices), 1e-6)
    for view, image in enumerate(views.images):
        toward = views.cameras.centers[view] - vertices
        toward /= np.linalg.norm(toward, axis=1, keepdims=True)
        cosine = np.clip((toward * normals).sum(1), 0, 1)
        free = ~scene.blocked(vertices + 5e-3 * normals, toward)
        w = cosine**2 * free
        total += w[:, None] * sample_bilinear(image[..., :3], views.cameras.project(vertices, view)[0])
        weight += w
    colors = np.clip(total / weight[:, None], 0, 1)
    return Mesh(vertices, faces, vertex_colors=(colors * 255).astype(np.uint8))


def unseen_cameras(truth: Truth, size: int) -> Cameras:
    """Sixteen: eight around at elevation -10 degrees, eight at 35."""
    azimuths = np.arange(8) * 45.0 + 22.5
    return fitting_cameras(truth.mesh, np.repeat([-10.0, 35.0], 8), np.tile(azimuths, 2), size)[0]


def unseen_psnr(truth: Truth, cameras: Cameras, pictures: np.ndarray) -> float:
    """dB, the mean over the views. pictures: (n, h, w, 3) on white, of what is measured, by `unseen_cameras`."""
    wanted = composite(render_views(truth.mesh, cameras, supersample=2))
    return float(np.mean([psnr(a, b) for a, b in zip(pictures, wanted, strict=True)]))


def score(truth: Truth, mesh: Mesh, size: int) -> dict[str, float]:
    points = sample_surface(mesh, SAMPLES, np.random.default_rng(1), outer=True)
    iou = float("nan")
    if truth.occupied is not None:
        iou = overlap(solid_of(mesh), truth.occupied)
    cameras = unseen_cameras(truth, size)
    return {
        "chamfer": surface_distances(points, truth.outer)["chamfer"],
        "iou": iou,
        "psnr_db": unseen_psnr(truth, cameras, composite(render_views(mesh, cameras, supersample=2))),
    }
