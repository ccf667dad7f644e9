"""From a signed distance on a grid to one clean, closed triangle mesh."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from mv3d.core.errors import InputError
from mv3d.recon.arrays import Faces, Vertices, Volume, blurred
from mv3d.recon.denoise import denoise
from mv3d.render.mesh import face_normals
from mv3d.render.sheets import separate_sheets
from mv3d.render.topology import vertex_links
from mv3d.views.grid import Grid
from mv3d.views.morphology import labelled

_BLURS = (1.0, 2.0, 4.0)  # samples of the grid; of sponges
_JOINED = 0.01  # edges at which collapse has joined sheets, for a face: with more it has destroyed the shape
_NEAR = 1.25  # of the faces asked for


def clean_field(sdf: Float[np.ndarray, "x y z"], *, smallest: float = 0.02) -> Float[np.ndarray, "x y z"]:
    """Remove floaters and inner voids from a signed distance, negative inside.

    Bodies below `smallest` of the largest one's volume turn to outside; outside space that the border cannot
    reach (a void that no view sees) turns to inside. One sample of outside is added on every side.
    """
    padded = np.pad(sdf, 1, constant_values=float(np.abs(sdf).max()) + 1e-3)
    # 6-connectivity: bodies that touch at an edge alone would make a mesh that is not manifold there.
    labels, count = labelled(padded < 0)
    if count == 0:
        raise InputError("field: nothing is inside; the views do not agree on any object")
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    padded = np.where((labels > 0) & (sizes[labels] < smallest * sizes.max()), np.abs(padded) + 1e-6, padded)
    outside, _ = labelled(padded >= 0)
    void = (outside > 0) & (outside != outside[0, 0, 0])
    return np.where(void, -np.abs(padded) - 1e-6, padded).astype(np.float32)


def extract_mesh(sdf: Volume, grid: Grid, *, smallest: float = 0.02) -> tuple[Vertices, Faces]:
    """Marching cubes of the cleaned field (`clean_field`); outward winding, world units."""
    from skimage.measure import marching_cubes  # noqa: PLC0415 - slow to import

    field = clean_field(sdf.detach().cpu().numpy(), smallest=smallest)
    # Crossings very near a sample make slivers; a twentieth of a spacing is far below what is resolved.
    least = 0.05 * grid.spacing
    field = np.where(np.abs(field) < least, np.where(field < 0, -least, least), field)
    vertices, faces, _, _ = marching_cubes(field, 0.0, gradient_direction="descent")
    vertices = (vertices - 1) * grid.spacing + np.array(grid.origin)
    return vertices.astype(np.float32), faces.astype(np.int32)


def smooth(vertices: Vertices, faces: Faces, *, rounds: int = 20) -> Vertices:
    """Take out the crumples that are finer than what views can tell, without shrinking: Taubin's low-pass filter
    (SIGGRAPH 1995), alternately a step toward the neighbours' mean and a slightly larger one away from it."""
    links = vertex_links(len(vertices), faces)
    mean = sparse.diags(1 / np.maximum(np.asarray(links.sum(1)).ravel(), 1)) @ links
    moved = vertices.astype(np.float64)
    for step in (0.5, -0.53) * rounds:
        moved = moved + step * (mean @ moved - moved)
    return moved.astype(np.float32)


def decimate(
    vertices: Vertices, faces: Faces, target: int, *, quick: bool = False
) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "g 3"]]:
    """At most about `target` faces, still closed.

    Quadric edge collapse (fast-simplification) first, sheets that it joins at a few edges taken apart; where it breaks the
    topology for good, manifold3d's collapse, which cannot but takes up to a minute and leaves flat places a few large
    faces. quick: takes what the first gives, and all faces where it breaks the topology.
    """
    if len(faces) <= target:
        return vertices, faces
    found = _quadric_decimate(vertices, faces, target, quick=quick)
    if found is None:
        return (vertices, faces) if quick else _manifold_decimate(vertices, faces, target)
    return found


def _quadric_decimate(
    vertices: Vertices, faces: Faces, target: int, *, quick: bool = False
) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "g 3"]] | None:
    """None where no try stays closed (quick) and comes to the target."""
    import fast_simplification  # noqa: PLC0415

    for aggressiveness in (5, 3) if quick else (3, 1, 5):
        v, f = fast_simplification.simplify(vertices, faces, target_count=target, agg=aggressiveness)[:2]
        if not quick and len(f) > 1.02 * target:
            continue
        v, f = _used(np.asarray(v, np.float32), np.asarray(f, np.int32))
        separated = separate_sheets(v, f, most=max(4, int(_JOINED * len(f))))
        if separated is None:
            continue
        v, f = _used(*separated)
        if (np.linalg.norm(face_normals(v, f), axis=1) > 0).all():
            return v, f
    return None


def mesh_within(sdf: Volume, grid: Grid, target: int, *, smallest: float = 0.02) -> tuple[Vertices, Faces]:
    """The last of `meshes_within`."""
    return meshes_within(sdf, grid, target, smallest=smallest)[1]


def meshes_within(
    sdf: Volume, grid: Grid, target: int, *, smallest: float = 0.02, faithful: bool = False
) -> tuple[tuple[Vertices, Faces], tuple[Vertices, Faces]]:
    """The field as a smoothed, closed mesh of all its faces, and the same with about `target` faces.

    A rough pit or two that touches itself is enough for quadric collapse to join sheets there; these are taken apart
    again, since a collapse by a tolerance would spend the faces on the pit. Views that contradict each other carve a
    sponge. Its handles need their faces, so that no simplification that stays closed comes near the target: then the
    surface is that of the distance blurred by 1, 2 and at last 4 samples.
    faithful: of a solid that is known, whose sheets and handles are meant: rather more faces, at most all, than another
    shape.
    """
    if faithful:
        vertices, faces = fine = _smoothed(sdf, grid, smallest)
        # In samples: the tolerances of the collapse are absolute.
        points, faces = decimate(vertices / np.float32(grid.spacing), faces, target, quick=True)
        return fine, (points * np.float32(grid.spacing), faces)
    fine = _smoothed(sdf, grid, smallest)
    if len(fine[1]) <= target:
        return fine, fine
    coarse = _quadric_decimate(*fine, target)
    if coarse is not None:
        return fine, coarse
    coarse = _manifold_decimate(*fine, target)
    for blur in _BLURS:
        if len(coarse[1]) <= _NEAR * target:
            break
        field = blurred(sdf, blur)
        if not (field < 0).any():
            break
        fine = _smoothed(field, grid, smallest)
        coarse = decimate(*fine, target)
    return fine, coarse


def _smoothed(field: Volume, grid: Grid, smallest: float) -> tuple[Vertices, Faces]:
    """The surface of a distance, all faces."""
    vertices, faces = extract_mesh(field.detach().cpu(), grid, smallest=smallest)
    return denoise(smooth(vertices, faces), faces), faces


def _used(vertices: Vertices, faces: Faces) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "g 3"]]:
    proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    faces = faces[proper]
    used, inverse = np.unique(faces, return_inverse=True)
    return vertices[used], inverse.reshape(faces.shape).astype(np.int32)


def _manifold_decimate(
    vertices: Vertices, faces: Faces, target: int
) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "g 3"]]:
    import manifold3d  # noqa: PLC0415

    solid = manifold3d.Manifold(manifold3d.Mesh(vertices, faces.astype(np.uint32)))
    if solid.is_empty():
        raise InputError(f"mesh: expected a closed surface to simplify, got {solid.status()}")
    extent = float(np.ptp(vertices, axis=0).max())
    low, high = 0.0, 0.05 * extent
    for _ in range(12):
        middle = (low + high) / 2
        if solid.simplify(middle).num_tri() > target:
            low = middle
        else:
            high = middle
    mesh = solid.simplify(high).to_mesh()
    return _used(np.asarray(mesh.vert_properties, np.float32)[:, :3], np.asarray(mesh.tri_verts, np.int32))
