"""Sheets of a mesh that touch along an edge, taken apart."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from mv3d.render.topology import is_closed

_APART = 0.05  # of the edge's length


def separate_sheets(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], *, most: int = 200
) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "g 3"]] | None:
    """A mesh whose edges bear as many faces of one direction as of the other → the same with two faces an edge.

    An edge of four or more faces, where an edge collapse has joined two sheets, is cut: the faces that bound the same
    wedge of the solid stay together, and the new vertex in their half of the edge moves a twentieth of its length into the
    wedge. Vertices are split where their faces hang together no longer (cutting and stitching: Guéziec, Taubin, Lazarus
    and Horn, IEEE TVCG 7, 2001). Two faces back to back go. None where edges are open, more than `most` edges bear too many
    faces, or more than `most` faces lie back to back.
    """
    count, faces = len(faces), _without_flaps(faces)
    if count - len(faces) > most:
        return None
    if is_closed(faces):
        return vertices, faces
    edges, starts, counts = _edges(faces)
    if len(edges) == 0 or (counts % 2).any() or (starts * 2 != counts).any() or (counts > 2).sum() > most:
        return None
    points, made = list(vertices.astype(np.float64)), [tuple(face) for face in faces.tolist()]
    crowded = edges[counts > 2]
    at: dict[int, list[int]] = {vertex: [] for vertex in crowded.reshape(-1).tolist()}
    for number in np.nonzero(np.isin(faces, crowded).any(1))[0].tolist():
        _listed(at, number, made[number])
    for first, second in crowded.tolist():
        _cut(points, made, at, first, second)
    separated = _split_vertices(np.array(points), np.array(made, np.int64))
    if not is_closed(separated[1]):
        return None
    return separated[0].astype(vertices.dtype), separated[1].astype(faces.dtype)


def _without_flaps(faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "g 3"]:
    """Without faces that another one of the opposite winding covers."""
    rolled = np.take_along_axis(faces, (faces.argmin(1)[:, None] + np.arange(3)) % 3, 1)
    left: dict[tuple[int, ...], list[int]] = {}
    gone = np.zeros(len(faces), bool)
    for number, face in enumerate(map(tuple, rolled.tolist())):
        opposite = left.get((face[0], face[2], face[1]))
        if opposite:
            gone[[number, opposite.pop()]] = True
        else:
            left.setdefault(face, []).append(number)
    return faces[~gone]


def _edges(
    faces: Int[np.ndarray, "f 3"],
) -> tuple[Int[np.ndarray, "e 2"], Int[np.ndarray, " e"], Int[np.ndarray, " e"]]:
    """The edges, lower vertex first; of each, how many faces run from there to the other one, and how many have it."""
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    both = np.sort(np.stack([start, end], 1), axis=1)
    edges, inverse, counts = np.unique(both, axis=0, return_inverse=True, return_counts=True)
    return edges, np.bincount(inverse.reshape(-1), start < end, len(edges)).astype(np.int64), counts


def _listed(at: dict[int, list[int]], number: int, face: tuple[int, int, int]) -> None:
    """Note a face at those of its vertices that edges of too many faces have."""
    for vertex in face:
        if vertex in at:
            at[vertex].append(number)


def _cut(
    points: list[Float[np.ndarray, " 3"]],
    faces: list[tuple[int, int, int]],
    at: dict[int, list[int]],
    first: int,
    second: int,
) -> None:
    """Halve the faces of an edge, those of a wedge of the solid at a vertex of their own. at: faces by vertices; some have
    since lost the vertex."""
    a, b = points[first], points[second]
    axis = b - a
    length = float(np.linalg.norm(axis))
    if length == 0:
        return  # then the whole is not closed, and refused
    axis = axis / length
    sideways = np.eye(3)[np.abs(axis).argmin()]
    sideways = np.cross(axis, sideways)
    sideways /= np.linalg.norm(sideways)
    upward = np.cross(axis, sideways)
    around = []  # (angle around the edge, whether the solid ends there, face, its third vertex)
    for number in at[first]:
        face = faces[number]
        if first in face and second in face:
            third = next(vertex for vertex in face if vertex not in {first, second})
            away = points[third] - a
            angle = float(np.arctan2(away @ upward, away @ sideways))
            # The outside lies where the angle grows, behind a face that runs along the axis.
            ends = (first, second) in {*pairwise(face), (face[2], face[0])}
            around.append((angle, ends, number, third))
    for begin, end in _wedges(sorted(around)):
        middle = begin[0] + ((end[0] - begin[0]) % (2 * np.pi)) / 2
        inward = np.cos(middle) * sideways + np.sin(middle) * upward
        vertex = len(points)
        points.append((a + b) / 2 + _APART * length * inward)
        for _, ends, number, third in (begin, end):
            start, stop = (first, second) if ends else (second, first)
            faces[number] = (start, vertex, third)
            faces.append((vertex, stop, third))
            _listed(at, len(faces) - 1, faces[-1])


_Side = tuple[float, bool, int, int]


def _wedges(around: list[_Side]) -> list[tuple[_Side, _Side]]:
    """Pairs of faces that the solid lies between: as brackets, around the edge."""
    depth = np.cumsum([-1 if side[1] else 1 for side in around])
    turn = (int(depth.argmin()) + 1) % len(around)  # from here on, no bracket closes before it opens
    pairs, open_sides = [], []
    for side in around[turn:] + around[:turn]:
        if side[1]:
            pairs.append((open_sides.pop(), side))
        else:
            open_sides.append(side)
    return pairs


def _split_vertices(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "f 3"]]:
    """A vertex for each fan of faces that hang together by edges."""
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    corner = np.arange(faces.size)
    following = np.roll(corner.reshape(-1, 3), -1, axis=1).reshape(-1)
    count = len(vertices)
    order, opposite = np.argsort(start * count + end), np.argsort(end * count + start)
    # Corner i starts the edge that corner j of the other face ends.
    here, there = corner[order], corner[opposite]
    joined = np.concatenate([here, following[here]]), np.concatenate([following[there], there])
    links = sparse.coo_matrix((np.ones(len(joined[0]), np.int8), joined), (faces.size, faces.size))
    fans, fan = connected_components(links, directed=False)
    owner = np.zeros(fans, np.int64)
    owner[fan] = start
    return vertices[owner], fan.reshape(-1, 3)
