"""Light taken out of textures, against known albedo under known light."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.shapes import cube, sphere

from mv3d.core.colors import linear_from_srgb, srgb_from_linear
from mv3d.core.errors import InputError
from mv3d.recon.albedo import crease_normals, harmonics, without_light
from mv3d.recon.texture import padded, texel_map, unwrap
from mv3d.render.mesh import Mesh, face_normals

LIGHT = np.array([1, 0.1, 0.45, 0.2, 0.05, -0.05, 0.08, 0.1, 0.04])
SIZE = 256


def lit(solid: Mesh, normals_of, albedo_of, light=LIGHT) -> tuple[Mesh, np.ndarray, np.ndarray]:
    """The solid with albedo times irradiance as texture, its mask, and the albedo of its texels, linear."""
    old, faces, uv = unwrap(solid.vertices, solid.faces, SIZE)
    mesh = Mesh(solid.vertices[old], faces, uv=uv)
    mask, face, bary = texel_map(uv, faces, SIZE)
    points = (mesh.vertices[faces[face]] * bary[..., None]).sum(1)
    normals = normals_of(points, face_normals(mesh.vertices, faces)[face])
    albedo = albedo_of(points)
    seen = 0.5 * albedo * (harmonics(normals) @ light)[:, None]
    return replace(mesh, texture=padded(mask, srgb_from_linear(np.clip(seen, 0, 1)), SIZE)), mask, albedo


def error(mesh: Mesh, mask: np.ndarray, albedo: np.ndarray) -> float:
    """Mean relative difference after the best common factor: how bright the light is cannot be told."""
    found = linear_from_srgb(mesh.texture[mask] / 255)
    found = found * (found * albedo).sum() / (found * found).sum()
    return float(np.abs(found - albedo).mean() / albedo.mean())


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def stripes(points: np.ndarray) -> np.ndarray:
    return np.where(np.sin(25 * points[:, 2:]) > 0, [[0.6, 0.2, 0.15]], [[0.2, 0.35, 0.6]])


def greys(points: np.ndarray) -> np.ndarray:
    return np.where(np.sin(25 * points[:, 2:] + 9 * points[:, :1]) > 0, [[0.6] * 3], [[0.2] * 3])


SOLIDS = {"sphere": (sphere, lambda p, n: unit(p)), "cube": (cube, lambda p, n: unit(n))}


@pytest.mark.parametrize("paint", [stripes, greys])
@pytest.mark.parametrize("solid", SOLIDS)
def test_albedo_under_known_light_comes_back_within_two_hundredths(solid, paint):
    make, normals_of = SOLIDS[solid]
    mesh, mask, albedo = lit(make(), normals_of, paint)
    delit = without_light(mesh)
    assert error(mesh, mask, albedo) > 0.3 and error(delit.mesh, mask, albedo) < 0.02
    assert delit.contrast > 3
    if solid == "sphere":
        assert np.allclose(delit.coefficients / delit.coefficients[0], LIGHT, atol=0.05)


def test_even_light_changes_next_to_nothing():
    mesh, mask, _ = lit(sphere(), SOLIDS["sphere"][1], stripes, np.eye(9)[0])
    delit = without_light(mesh)
    assert delit.contrast < 1.02
    assert np.abs(delit.mesh.texture[mask].astype(int) - mesh.texture[mask]).max() <= 2
    with pytest.raises(InputError, match="texture"):
        without_light(sphere())


def test_harmonics_are_orthonormal_and_creases_part_normals():
    rng = np.random.default_rng(0)
    basis = harmonics(unit(rng.normal(size=(200_000, 3))))
    assert np.allclose(basis.T @ basis / len(basis), np.eye(9), atol=0.02)
    box = cube()
    corners = crease_normals(box.vertices, box.faces, 40.0)
    assert np.allclose(corners, unit(face_normals(box.vertices, box.faces))[:, None], atol=1e-6)
    ball = sphere()
    assert (crease_normals(ball.vertices, ball.faces, 40.0) * unit(ball.vertices)[ball.faces]).sum(
        -1
    ).min() > 0.999
