"""Ground truth for reconstructions: objects of largest side 1, their views, unlit or in the light of a studio, and scores.

Chamfer distance is the mean of both directions' mean distances of samples of the outer surface, without alignment;
normal consistency and the F-score at 0.01 are those of `surface_distances`; IoU on a 96³ grid, where truth and mesh are
closed, insides by ray parity; opened is the share of the hollow volume that lies outside of the mesh, hollow being
what no silhouette can show: outside of the object, but with matter on every straight line through it (64 lines); PSNR
over the frame on views at elevations -10 and 35 degrees that no one has seen, in the light of the views.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from mv3d.core.progress import Clock
from mv3d.evaluation import Samples, normalized, psnr, sample_surface, surface_distances
from mv3d.evaluation.surfaces import fibonacci_sphere, fitting_cameras, nearly_closed, occupancy
from mv3d.recon.arrays import Faces, Vertices
from mv3d.recon.config import ReconConfig
from mv3d.recon.hull import HullConfig, visual_hull
from mv3d.recon.stages import MeshReconstructor
from mv3d.recon.surface import decimate, extract_mesh
from mv3d.render.cameras import Cameras, Orbit, sine_orbit, sv3d_azimuths_deg
from mv3d.render.loading import load_model
from mv3d.render.mesh import Mesh, vertex_normals
from mv3d.render.mesh_io import mesh_of_model
from mv3d.render.model import Model, normalize_model
from mv3d.render.raycast import RayScene, render_views, sample_bilinear
from mv3d.render.renderer import RenderSettings, get_renderer
from mv3d.render.skies import builtin_environment
from mv3d.views.grid import Grid
from mv3d.views.metrics import overlap
from mv3d.views.silhouettes import Silhouettes
from mv3d.views.views import Views, composite

SAMPLES = 100_000
LIGHT = "studio_softbox"
LEAST_HOLLOW = 0.01
"""Share of the object's bounding box below which a hollow is not measured."""


@dataclass(frozen=True, eq=False)
class Truth:
    """model: with its materials, for lit views, where it comes from a file."""

    name: str
    mesh: Mesh
    outer: Samples
    occupied: np.ndarray | None
    model: Model | None = None

    @cached_property
    def hollow(self) -> np.ndarray | None:
        """The hollow samples among every second one of the solid's grid; None where there are hardly any."""
        if self.occupied is None:
            return None
        hollow = hollow_of(self.mesh, ~self.occupied[::2, ::2, ::2])
        box = float(np.prod(np.ptp(self.mesh.vertices[np.unique(self.mesh.faces)], axis=0)))
        return hollow if hollow.sum() * (2.08 / 96) ** 3 > LEAST_HOLLOW * box else None


def solid_of(mesh: Mesh) -> np.ndarray:
    """Insides on a grid of 96³ around objects of largest side 1."""
    return occupancy(mesh, np.full(3, -0.52), 1.04 / 96, (96, 96, 96))


def hollow_of(mesh: Mesh, outside: np.ndarray) -> np.ndarray:
    """Which samples `outside` of a mesh have it on every straight line through them. outside: every second sample of
    `solid_of`'s grid."""
    index = np.argwhere(outside)
    points = -0.52 + 1.04 / 96 * (2 * index + 0.5)
    used = mesh.vertices[np.unique(mesh.faces)]
    left = np.flatnonzero(((points > used.min(0)) & (points < used.max(0))).all(1))
    scene = RayScene(mesh.vertices, mesh.faces)
    for direction in fibonacci_sphere(64):
        line = np.tile(direction, (len(left), 1))
        left = left[scene.blocked(points[left], line) | scene.blocked(points[left], -line)]
    hollow = np.zeros(outside.shape, bool)
    hollow[tuple(index[left].T)] = True
    return hollow


def seen_iou(truth: Truth, cameras: Cameras) -> float:
    """IoU of a solid that has opened all that some camera sees to be free, and nothing else: what the views alone can
    tell at best. NaN where the truth is open. On every second sample of the solid's grid."""
    if truth.occupied is None:
        return float("nan")
    occupied = truth.occupied[::2, ::2, ::2]
    points = -0.52 + 1.04 / 96 * (2 * np.argwhere(~occupied) + 0.5)
    scene, hidden = RayScene(truth.mesh.vertices, truth.mesh.faces), np.arange(len(points))
    for center in cameras.centers:
        hidden = hidden[scene.blocked(points[hidden], center - points[hidden], 1.0)]
    return float(occupied.sum() / (occupied.sum() + len(hidden)))


def truth_of(path: Path) -> Truth:
    model = load_model(path)
    return truth_of_mesh(path.stem, mesh_of_model(model), normalize_model(model)[0])


def truth_of_mesh(name: str, mesh: Mesh, model: Model | None = None) -> Truth:
    mesh = normalized(mesh)
    outer = sample_surface(mesh, SAMPLES, np.random.default_rng(0), outer=True)
    return Truth(name, mesh, outer, solid_of(mesh) if nearly_closed(mesh) else None, model)


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


def truth_views(truth: Truth, kind: str, size: int, *, lit: bool = False) -> Views:
    """kind: static or sine. lit: in the light of the first training environment, with its shadows, else unlit."""
    azimuths = sv3d_azimuths_deg(21)
    elevations = np.array(sine_orbit().elevations_deg) if kind == "sine" else np.full(21, 10.0)
    cameras, radius = fitting_cameras(truth.mesh, elevations, azimuths, size)
    images = pictures_of(truth, cameras, lit=lit)
    return Views(
        images,
        cameras,
        Orbit(tuple(elevations.tolist()), tuple(azimuths.tolist()), radius, input_view=20),
        20,
    )


def pictures_of(truth: Truth, cameras: Cameras, *, lit: bool) -> np.ndarray:
    """(n, h, w, 4) straight alpha, sRGB. Lit as the training data is: Embree, light baked once for all views."""
    if not lit:
        return render_views(truth.mesh, cameras, supersample=2)
    if truth.model is None:
        raise ValueError(f"{truth.name}: expected a model with materials to light, got a mesh alone")
    return get_renderer().render(truth.model, cameras, builtin_environment(LIGHT), RenderSettings()).rgba


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


def our_shape(views: Views, config: ReconConfig) -> Mesh:
    """The mesh of `our_mesh` without its colours, which take a third of the time."""
    shape = MeshReconstructor(config).shape(views, Clock())
    return Mesh(shape.vertices, shape.faces)


def hard_hull(views: Views) -> tuple[Vertices, Faces]:
    """Laurentini's hull on 128 samples, 20,000 faces."""
    silhouettes = Silhouettes(views.images[..., 3], views.cameras)
    hull = visual_hull(silhouettes, HullConfig(max_outliers=0), device=torch.device("cpu"))
    return decimate(*extract_mesh(hull.sdf + hull.dilation, hull.grid), 20_000)


def baseline(views: Views) -> Mesh:
    """Hard hull and vertex colours: the cos²-weighted mean of the views that see a vertex."""
    vertices, faces = hard_hull(views)
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


def unseen_psnr(truth: Truth, cameras: Cameras, pictures: np.ndarray, *, lit: bool = False) -> float:
    """dB, the mean over the views. pictures: (n, h, w, 3) on white, of what is measured, by `unseen_cameras`."""
    wanted = composite(pictures_of(truth, cameras, lit=lit))
    return float(np.mean([psnr(a, b) for a, b in zip(pictures, wanted, strict=True)]))


def score(truth: Truth, mesh: Mesh, size: int, *, lit: bool = False) -> dict[str, float]:
    """NaN where a figure is not defined: IoU of an open truth, opened where there is no hollow."""
    found = score_shape(truth, mesh)
    cameras = unseen_cameras(truth, size)
    pictures = composite(render_views(mesh, cameras, supersample=2))
    return {**found, "psnr_db": unseen_psnr(truth, cameras, pictures, lit=lit)}


def score_shape(truth: Truth, mesh: Mesh, samples: int = SAMPLES) -> dict[str, float]:
    """The figures of `score` that need no picture."""
    points = sample_surface(mesh, samples, np.random.default_rng(1), outer=True)
    near = surface_distances(points, truth.outer, (0.01,))
    iou = opened = float("nan")
    if truth.occupied is not None:
        solid = solid_of(mesh)
        iou = overlap(solid, truth.occupied)
        if truth.hollow is not None:
            opened = 1 - float(solid[::2, ::2, ::2][truth.hollow].mean())
    return {
        "chamfer": near["chamfer"],
        "iou": iou,
        "f_score": near["f_score"]["0.01"],
        "normals": near["normal_consistency"],
        "opened": opened,
    }
