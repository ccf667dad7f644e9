"""Tangents by MikkTSpace's rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.shapes import sphere, textured_quad

from mv3d.core.errors import InputError
from mv3d.render.mesh import Mesh, smooth_normals, vertex_normals
from mv3d.render.tangents import uv_orientation, vertex_tangents, with_tangents


def test_tangents_of_a_square_follow_the_picture():
    quad = textured_quad()
    assert quad.uv is not None
    tangents = with_tangents(quad).tangents
    # u grows along +Y; normal +X cross +Y is +Z, where the picture's top is.
    assert np.allclose(tangents, [0, 1, 0, 1], atol=1e-6)
    mirrored = with_tangents(replace(quad, uv=quad.uv * [-1, 1] + [1, 0]))
    assert np.allclose(mirrored.tangents, [0, -1, 0, -1], atol=1e-6)


def test_tangents_of_a_globe_point_east_and_against_a_slow_twin():
    ball = sphere()
    # A cap around +X, away from the poles and the date line.
    inside = (ball.vertices[ball.faces][..., 0] > 0.1).all(1)
    faces, normals = ball.faces[inside], ball.vertices / np.linalg.norm(ball.vertices, axis=1, keepdims=True)
    longitude = np.arctan2(ball.vertices[:, 1], ball.vertices[:, 0])
    uv = np.stack([longitude / 2 / np.pi + 0.5, np.arccos(normals[:, 2]) / np.pi], 1).astype(np.float32)
    tangents = vertex_tangents(ball.vertices, faces, normals, uv)
    used = np.unique(faces)
    east = np.stack([-np.sin(longitude), np.cos(longitude), np.zeros_like(longitude)], 1)[used]
    assert ((tangents[used, :3] * east).sum(1) > np.cos(np.radians(4))).all() and (
        tangents[used, 3] == 1
    ).all()
    assert np.abs((tangents[used, :3] * normals[used]).sum(1)).max() < 1e-5
    assert np.abs(np.linalg.norm(tangents[:, :3], axis=1) - 1).max() < 1e-5
    for vertex in used[::40]:
        total = np.zeros(3)
        for face in faces[(faces == vertex).any(1)]:
            p, t = ball.vertices[face].astype(float), uv[face].astype(float)
            matrix = np.stack([t[1] - t[0], t[2] - t[0]])  # (du, dv) of the two edges
            direction = np.linalg.solve(matrix, np.stack([p[1] - p[0], p[2] - p[0]]))[0]
            n, k = normals[vertex].astype(float), list(face).index(vertex)

            def laid(vector, n=n):
                flat = vector - (vector @ n) * n
                return flat / np.linalg.norm(flat)

            sides = laid(p[(k + 1) % 3] - p[k]), laid(p[(k + 2) % 3] - p[k])
            total += np.arccos(sides[0] @ sides[1]) * laid(direction)
        assert np.allclose(tangents[vertex, :3], total / np.linalg.norm(total), atol=1e-4)


def test_a_vertex_of_mirrored_and_other_faces_is_split():
    # Two squares that share an edge, the second mirrored in the texture.
    vertices = np.array([[0, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [0, 2, 0], [0, 2, 1]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3], [1, 4, 5], [1, 5, 2]])
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0], [0, 1], [0, 0]], np.float32)
    mesh = with_tangents(Mesh(vertices, faces, uv=uv, quads=2))
    assert len(mesh.vertices) == 8 and mesh.quads == 2
    sign = mesh.tangents[mesh.faces, 3]
    assert (sign == uv_orientation(mesh.faces, mesh.uv)[:, None]).all() and set(sign.ravel()) == {1, -1}
    assert np.array_equal(mesh.vertices[mesh.faces], vertices[faces])


def test_a_mesh_without_texture_coordinates_has_no_tangents():
    with pytest.raises(InputError, match="texture coordinates"):
        with_tangents(sphere())


def test_smooth_normals_do_not_depend_on_how_a_flat_part_is_cut():
    # A corner of a cube: one side of two triangles at the corner, the others of one.
    vertices = np.array(
        [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1]], np.float32
    )
    faces = np.array([[0, 2, 1], [0, 3, 2], [0, 1, 4], [1, 5, 4], [0, 4, 3], [3, 4, 6]])
    corner = -np.ones(3) / np.sqrt(3)
    assert np.allclose(smooth_normals(vertices, faces)[0], corner, atol=1e-6)
    assert vertex_normals(vertices, faces)[0] @ corner < 0.99
