"""UV charts and the baked texture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from helpers.shapes import ball_grid, cube, orbit_of, silhouettes_of, sphere

from mv3d.core.errors import InputError
from mv3d.recon import texture
from mv3d.recon.pipeline import rerender_report
from mv3d.recon.surface import extract_mesh
from mv3d.recon.texture import BakeConfig, bake, texel_map, unwrap
from mv3d.render.raycast import render_views


def test_unwrap_and_texel_map_agree_with_the_slow_twin():
    grid, sdf = ball_grid(24)
    vertices, faces = extract_mesh(sdf, grid)
    old, new_faces, uv = unwrap(vertices, faces, 256)
    assert uv.min() >= 0 and uv.max() <= 1 and np.array_equal(old[new_faces], faces)
    mask, face, bary = texel_map(uv, new_faces, 256)
    ys, xs = np.nonzero(mask)
    at = (uv[new_faces[face]] * bary[..., None]).sum(1) * 256
    assert np.abs(at - np.stack([xs + 0.5, ys + 0.5], 1)).max() < 1e-2


def test_the_texture_does_not_depend_on_chunks_and_threads(cube_views, monkeypatch):
    box = cube()
    options = box.vertices, box.faces, cube_views, silhouettes_of(cube_views).distances
    whole = bake(*options, BakeConfig(texture_size=128))
    monkeypatch.setattr(texture, "_CHUNK", 999)
    monkeypatch.setattr(texture, "_threads", lambda: 3)
    parts = bake(*options, BakeConfig(texture_size=128))
    assert np.array_equal(whole.mesh.texture, parts.mesh.texture)
    assert whole.seen_area == parts.seen_area


def test_bake_returns_the_true_colours(cube_views):
    box = cube()
    baked = bake(
        box.vertices,
        box.faces,
        cube_views,
        silhouettes_of(cube_views).distances,
        BakeConfig(texture_size=256),
    )
    assert 0.6 < baked.seen_area < 0.95  # the bottom is hidden
    assert np.abs(baked.gains - 1).max() < 0.05
    again = render_views(baked.mesh, cube_views.cameras, supersample=2)
    both = (again[..., 3] > 0.99) & (cube_views.images[..., 3] > 0.99)
    assert np.abs(again - cube_views.images)[both].mean() < 0.03
    assert baked.mesh.texture is not None
    # No background (white) reaches the texture: the cube has no white face.
    assert (baked.mesh.texture.min(-1) < 250).all()


def test_bake_evens_out_a_view_that_is_too_bright():
    views = orbit_of(sphere(color=(120, 90, 60)))
    images = views.images.copy()
    images[3, ..., :3] = np.clip(images[3, ..., :3] * 1.2, 0, 1)
    ball = sphere()
    views = replace(views, images=images)
    baked = bake(
        ball.vertices, ball.faces, views, silhouettes_of(views).distances, BakeConfig(texture_size=256)
    )
    # Half of the way towards the mean of the views; the neighbours, compared with it too, hardly move.
    assert 0.9 <= baked.gains[3].mean() < 0.96
    assert np.abs(np.delete(baked.gains, 3, 0) - 1).max() < 0.03


def test_the_last_pass_brings_the_texture_nearer_to_the_views():
    solid = cube()
    fine = (127.5 + 127.5 * np.sin(40 * solid.vertices)).astype(np.uint8)
    views = orbit_of(replace(solid, vertex_colors=fine), size=128)
    psnr = []
    for rounds in (0, 1):
        config = BakeConfig(texture_size=256, refine_rounds=rounds)
        mesh = bake(solid.vertices, solid.faces, views, silhouettes_of(views).distances, config).mesh
        psnr.append(rerender_report(views, render_views(mesh, views.cameras, supersample=2))["psnr_mean_db"])
    assert psnr[1] > psnr[0] + 0.5


def test_charts_that_do_not_fit_at_first_are_packed_smaller(monkeypatch):
    """Forty boxes need more room for padding than the first density leaves."""
    import xatlas

    box = trimesh.creation.box((0.3, 0.2, 0.1))
    vertices = np.concatenate([box.vertices + np.array([k, 0, 0]) for k in range(40)]).astype(np.float32)
    faces = np.concatenate([box.faces + 8 * k for k in range(40)]).astype(np.int32)
    cut = []

    class Counted(xatlas.Atlas):
        def add_mesh(self, *arguments):
            cut.append(1)
            return super().add_mesh(*arguments)

    monkeypatch.setattr(xatlas, "Atlas", Counted)
    old, new_faces, uv = unwrap(vertices, faces, 512)
    assert len(cut) == 1 and uv.min() >= 0 and uv.max() <= 1 and np.array_equal(old[new_faces], faces)
    # No two faces share a texel, and a face is drawn in its true proportions.
    edges = [np.linalg.norm(c[new_faces] - np.roll(c[new_faces], 1, 1), axis=2) for c in (uv, vertices[old])]
    ratio = edges[0] / edges[1]
    assert np.ptp(ratio) < 0.02 * ratio.mean()
    area = 0.5 * np.abs(np.linalg.det(np.diff(uv[new_faces], axis=1))) * 512**2
    assert texel_map(uv, new_faces, 512)[0].sum() > 0.98 * area.sum()
    with pytest.raises(InputError, match="do not fit one 64 texture"):
        unwrap(vertices, faces, 64)
