"""A closed triangle mesh made anew of quads that follow its shape.

The quads are those of Instant Field-Aligned Meshes (Jakob, Tarini, Panozzo and Sorkine-Hornung, SIGGRAPH Asia 2015),
by the package pyinstantmeshes. What it leaves open where walls are thin is closed here.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import numpy as np

from mv3d.core.errors import MissingPartError
from mv3d.core.installing import install_command
from mv3d.recon.arrays import Faces, Vertices
from mv3d.render.mesh import face_normals, weld
from mv3d.render.topology import enclosed_volume, is_closed, vertex_components

_FINER = (1.0, 1.4, 2.0)  # of the quads asked for, until the result is closed
_LONGEST_HOLE, _ROUNDS = 64, 8  # edges; removals of what is no surface
_SPECK = 1e-4
_CHANGE = 0.1  # of the volume, at most: more means that a part is missing
_SUBDIVIDED = 4  # a mesh of quads alone is cut out of one of a quarter of them


def check_quads() -> None:
    """Raise MissingPartError where the package is not installed."""
    try:
        import pyinstantmeshes  # noqa: F401, PLC0415 - an extra  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPartError(
            "--topology quads: expected the package pyinstantmeshes, got none; run: "
            + install_command("pyinstantmeshes")
        ) from error


def remeshed(vertices: Vertices, faces: Faces, target: int) -> tuple[Vertices, Faces, int] | None:
    """Vertices, faces and the number of quads, whose halves are the first faces (`mv3d.render.mesh.Mesh.quads`), about
    `target` of them and few triangles besides; None where nothing closed can be made of this closed mesh.

    Raises MissingPartError where the package is not installed.
    """
    check_quads()
    import pyinstantmeshes  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

    for finer in _FINER:
        count = max(int(finer * target / _SUBDIVIDED), 8)
        with _silent():
            points, halves = pyinstantmeshes.remesh(
                np.ascontiguousarray(vertices, np.float32),
                np.ascontiguousarray(faces, np.int32),
                target_face_count=count,
                pure_quad=True,
                deterministic=True,
            )
        pairs = np.asarray(halves, np.int32).reshape(-1, 2, 3)
        quads = np.concatenate([pairs[:, 0], pairs[:, 1, :1]], 1)  # (a, b, c), (d, a, c)
        closed = closed_quads(np.asarray(points, np.float32), quads)
        if (
            closed is not None
            and abs(enclosed_volume(*closed[:2]) / enclosed_volume(vertices, faces) - 1) < _CHANGE
        ):
            return closed
    return None


def closed_quads(vertices: Vertices, quads: np.ndarray) -> tuple[Vertices, Faces, int] | None:
    """Quads (q, 4) made a closed mesh: vertices, faces and the number of quads as of `remeshed`, or None.

    Halves without area go, and pairs that cover each other. What then still meets an edge that is not between two faces
    goes too, and each hole is closed by a fan around its middle. Shells of next to no volume go at last.
    """
    halves = np.stack([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], 1).reshape(-1, 3)
    vertices, halves = weld(vertices, halves)
    kept = np.linalg.norm(face_normals(vertices, halves), axis=1) > 0
    kept &= ~_covered(halves, kept)
    vertices, kept, fans = _filled(vertices, halves, kept)
    specks = _specks(vertices, np.concatenate([halves[kept], fans]))
    kept &= ~specks[halves[:, 0]]
    fans = fans[~specks[fans[:, 0]]]
    whole = kept.reshape(-1, 2).all(1)
    single = kept & ~np.repeat(whole, 2)
    ordered = np.concatenate([halves[np.repeat(whole, 2)], halves[single], fans])
    if not is_closed(ordered) or (np.linalg.norm(face_normals(vertices, ordered), axis=1) <= 0).any():
        return None
    used, inverse = np.unique(ordered, return_inverse=True)
    return vertices[used], inverse.reshape(ordered.shape).astype(np.int32), int(whole.sum())


def _specks(vertices: Vertices, faces: Faces) -> np.ndarray:
    """Vertices of shells with less than a ten-thousandth of the largest one's volume, and of none."""
    shell = vertex_components(len(vertices), faces)
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    size = np.abs(np.bincount(shell[faces[:, 0]], (a * np.cross(b, c)).sum(1), shell.max() + 1))
    return (size < _SPECK * size.max())[shell]


def _covered(faces: Faces, kept: np.ndarray) -> np.ndarray:
    """Faces of the same three vertices as another one that is kept."""
    _, group, uses = np.unique(np.sort(faces[kept], 1), axis=0, return_inverse=True, return_counts=True)
    covered = np.zeros(len(faces), bool)
    covered[np.flatnonzero(kept)] = uses[group.reshape(-1)] > 1
    return covered


def _filled(vertices: Vertices, faces: Faces, kept: np.ndarray) -> tuple[Vertices, np.ndarray, Faces]:
    """The vertices with the middles of the holes, the faces that stay, and fans of faces over the holes."""
    kept, none = kept.copy(), np.zeros((0, 3), np.int32)
    for _ in range(_ROUNDS):
        ends = np.stack([faces[kept], np.roll(faces[kept], -1, 1)], -1).reshape(-1, 2).astype(np.int64)
        code, back = (ends @ [len(vertices), 1]), (ends @ [1, len(vertices)])
        _, first, uses = np.unique(code, return_inverse=True, return_counts=True)
        open_edges = ends[~np.isin(code, back)]
        # Edges of two faces on one side, and vertices where holes touch.
        wrong = ends[uses[first] > 1].reshape(-1)
        starts, times = np.unique(open_edges[:, 0], return_counts=True)
        wrong = np.union1d(wrong, starts[times > 1])
        if not len(wrong):
            break
        kept &= ~np.isin(faces, wrong).any(1)
    else:
        return vertices, kept, none
    after = dict(open_edges.tolist())
    middles, fans = [], []
    while after:
        start, loop = next(iter(after)), []
        at: int | None = start
        while at is not None and at in after:
            loop.append(at)
            at = after.pop(at)
        if at != start or len(loop) > _LONGEST_HOLE:
            return vertices, kept, none
        middle = len(vertices) + len(middles)
        middles.append(vertices[loop].mean(0))
        fans += [(b, a, middle) for a, b in zip(loop, np.roll(loop, -1).tolist(), strict=True)]
    grown = np.concatenate([vertices, np.array(middles, np.float32).reshape(-1, 3)])
    return grown, kept, np.array(fans, np.int32).reshape(-1, 3)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing on stdout meanwhile: the library tells its progress there, past Python, where results belong."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
