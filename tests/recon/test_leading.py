"""A known solid leads the reconstruction: distances against closed forms, a hollow that no silhouette shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.measure import marching_cubes

from mv3d.recon.config import ReconConfig
from mv3d.recon.hull import HullConfig, visual_hull
from mv3d.recon.leading import follow, inside_of, signed_distance
from mv3d.recon.pipeline import recorded
from mv3d.render.cameras import Orbit
from mv3d.render.mesh import Mesh
from mv3d.render.raycast import render_views
from mv3d.views.grid import Grid
from mv3d.views.readers import load_views
from mv3d.views.silhouettes import Silhouettes
from mv3d.views.views import Views

pytestmark = pytest.mark.usefixtures("one_thread")
_AXIS = np.linspace(-0.6, 0.6, 49)
X, Y, Z = np.meshgrid(_AXIS, _AXIS, _AXIS, indexing="ij")
BALL = np.sqrt(X**2 + Y**2 + Z**2) - 0.5
BOWL = np.maximum(np.maximum(BALL, Z), 0.4 - np.sqrt(X**2 + Y**2 + Z**2))


def mesh_of(field: np.ndarray) -> Mesh:
    vertices, faces, _, _ = marching_cubes(field, 0.0, gradient_direction="ascent")
    vertices = vertices * (_AXIS[1] - _AXIS[0]) + _AXIS[0]
    return Mesh(vertices.astype(np.float32), np.ascontiguousarray(faces[:, ::-1], np.int32))


def views_of(mesh: Mesh, elevation_deg: float = 0.0) -> Views:
    orbit = Orbit((elevation_deg,) * 8, tuple(45.0 * i for i in range(8)), input_view=0)
    cameras = orbit.cameras(64, 64)
    return Views(render_views(mesh, cameras, supersample=2), cameras, orbit, 0, mesh)


def test_distances_of_a_ball():
    grid = Grid.around([-0.7] * 3, [0.7] * 3, 40)
    exact = np.linalg.norm(grid.points(torch.device("cpu")).numpy(), axis=1).reshape(grid.shape) - 0.5
    mesh = mesh_of(BALL)
    clear = np.abs(exact) > 0.02
    assert (inside_of(mesh, grid) == (exact < 0))[clear].all()
    off = np.abs(signed_distance(mesh, grid).numpy() - exact)
    assert off.max() < 0.6 * grid.spacing and off[np.abs(exact) < 2 * grid.spacing].max() < 0.02


def test_a_hollow_that_no_silhouette_shows():
    mesh = mesh_of(BOWL)
    views = views_of(mesh)
    silhouettes = Silhouettes(views.images[..., 3], views.cameras)
    hull = visual_hull(silhouettes, HullConfig(resolution=48), device=torch.device("cpu"))
    led = follow(silhouettes, hull, mesh)
    assert led is not None
    center, rim = torch.tensor([[0.0, 0.0, -0.15]]), torch.tensor([[0.0, 0.45, -0.02]])
    assert hull.grid.sample(hull.sdf[None], center) < 0 < led.grid.sample(led.sdf[None], center)
    assert led.grid.sample(led.sdf[None], rim) < 0 and bool((led.sdf >= hull.sdf - 1e-6).all())
    # A solid that is not that of the views leads nothing.
    assert follow(silhouettes, hull, mesh_of(BALL)) is None


def test_the_solid_stands_beside_the_views_it_belongs_to(tmp_path):
    views = views_of(mesh_of(BOWL), 20.0)
    out = views.save(tmp_path / "out")
    again = load_views(out).solid
    assert again is not None
    np.testing.assert_allclose(again.vertices, views.solid.vertices, atol=1e-6)
    text = (out / "transforms.json").read_text()
    (out / "transforms.json").write_text(text + "\n")  # other cameras now, for all that is known
    assert load_views(out).solid is None
    (out / "transforms.json").write_text(text)
    (out / "run.json").unlink()
    assert load_views(out).solid is None


def test_the_record_of_recon_knows_the_prior_where_it_is_off():
    assert "prior" not in recorded(ReconConfig()) and recorded(ReconConfig(prior=False))["prior"] is False
