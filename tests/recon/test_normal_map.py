"""Relief of a fine mesh as a normal map of a coarse one, against closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from helpers.shapes import sphere

from mv3d.core.errors import InputError
from mv3d.recon.normal_map import bake_normal_map
from mv3d.recon.texture import texel_map, unwrap
from mv3d.render.loading import load_model
from mv3d.render.mesh import Mesh, smooth_normals
from mv3d.render.raycast import sample_bilinear


@pytest.fixture(scope="module")
def solid() -> Mesh:
    """80 faces with corners on the sphere, uneven, as those of reconstructions are."""
    ball = trimesh.creation.icosphere(1, 1)
    moved = ball.vertices + np.random.default_rng(0).normal(0, 0.1, ball.vertices.shape)
    return Mesh(0.4 * moved / np.linalg.norm(moved, axis=1, keepdims=True), ball.faces)


@pytest.fixture(scope="module")
def coarse(solid: Mesh) -> Mesh:
    old, faces, uv = unwrap(solid.vertices, solid.faces, 256)
    return Mesh(solid.vertices[old], faces, normals=smooth_normals(solid.vertices, solid.faces)[old], uv=uv)


def shading_normals(mesh: Mesh, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and normals at texels as a viewer computes them: interpolated vectors, bitangent = w · n × t."""
    _, face, bary = texel_map(mesh.uv, mesh.faces, size)
    corners = mesh.faces[face]
    point, n, t, uv = (
        (rows[corners] * bary[..., None]).sum(1)
        for rows in (mesh.vertices, mesh.normals, mesh.tangents, mesh.uv)
    )
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    b = np.sign(t[:, 3:]) * np.cross(n, t[:, :3])
    x, y, z = (sample_bilinear(mesh.normal_map, uv * mesh.normal_map.shape[0]) / 255 * 2 - 1).T[..., None]
    bent = x * t[:, :3] + y * b + z * n
    return point, bent / np.linalg.norm(bent, axis=1, keepdims=True)


def degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((a * b).sum(1), -1, 1)))


def test_a_coarse_ball_is_shaded_as_the_sphere(coarse):
    fine = sphere()
    baked = bake_normal_map(coarse, fine.vertices, fine.faces, size=256, reach=0.2)
    assert baked.found > 0.999 and baked.bend_deg > 1.5
    point, normal = shading_normals(baked.mesh, 300)
    # The texel's ray along the coarse normal ends beside the point below it on the sphere: the truth is there.
    truth = point / np.linalg.norm(point, axis=1, keepdims=True)
    flat = shading_normals(
        replace(baked.mesh, normal_map=np.full((8, 8, 3), [128, 128, 255], np.uint8)), 300
    )[1]
    error, before = degrees(normal, truth), degrees(flat, truth)
    assert error.mean() < 0.7 and np.quantile(error, 0.99) < 2 and before.mean() > 4 * error.mean()
    light = np.array([0.3, -0.5, 0.8]) / np.linalg.norm([0.3, -0.5, 0.8])
    shade = [np.abs(np.clip(n @ light, 0, 1) - np.clip(truth @ light, 0, 1)).mean() for n in (normal, flat)]
    assert shade[0] < 0.01 and shade[0] < 0.25 * shade[1]


def test_the_map_of_the_mesh_itself_is_flat(solid, coarse):
    baked = bake_normal_map(coarse, solid.vertices, solid.faces, size=128, reach=0.02)
    assert baked.found > 0.99 and baked.bend_deg < 0.1
    assert (np.abs(baked.mesh.normal_map.astype(int) - [128, 128, 255]) <= 1).all()


def test_places_that_the_fine_mesh_does_not_reach_are_flat(coarse):
    far = sphere(0.2)
    baked = bake_normal_map(coarse, far.vertices, far.faces, size=128, reach=0.02)
    assert baked.found == 0 and (np.abs(baked.mesh.normal_map.astype(int) - [128, 128, 255]) <= 1).all()
    with pytest.raises(InputError, match="texture coordinates"):
        bake_normal_map(sphere(), far.vertices, far.faces, size=128, reach=0.02)


def test_the_file_has_what_the_map_needs(coarse, tmp_path):
    fine = sphere()
    mesh = bake_normal_map(coarse, fine.vertices, fine.faces, size=64, reach=0.2).mesh
    mesh = replace(mesh, texture=np.full((64, 64, 3), 128, np.uint8))
    for suffix in ("glb", "obj"):
        path = mesh.export(tmp_path / f"m.{suffix}")
        if suffix == "glb":
            material = load_model(path).materials[0]
            assert np.array_equal(material.normal_texture, mesh.normal_map)
            attributes = trimesh.load_scene(path).dump()[0]
            assert len(attributes.vertices) == len(mesh.vertices)
    assert "norm m_normals.png" in (tmp_path / "m.mtl").read_text()
    before = {p.name for p in tmp_path.iterdir()}
    replace(mesh, normal_map=None, tangents=None).export(tmp_path / "m.obj")
    assert before - {p.name for p in tmp_path.iterdir()} == {"m_normals.png"}
