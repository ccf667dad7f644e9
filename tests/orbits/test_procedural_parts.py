"""Parts of procedural objects against closed forms: volumes, closedness, winding, normals, texture coordinates."""

from __future__ import annotations

import numpy as np
import pytest

from mv3d.orbits.procedural.parts import box, ellipsoid, extrude, plank, sheet
from mv3d.orbits.procedural.rounds import cylinder, lathe, rod, tube
from mv3d.orbits.procedural.solids import (
    Solid,
    joined,
    mirrored,
    moved,
    pointed,
    rotation,
    scaled,
    subdivided,
    taper,
    turned,
    twist,
    volume,
    warped,
)
from mv3d.render.mesh import face_normals, weld
from mv3d.render.topology import is_closed

ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES), 0 * ANGLES], 1)
HELIX = np.stack([np.cos(ANGLES), np.sin(ANGLES), ANGLES / 3], 1)
PLATE = np.stack([*np.meshgrid(np.linspace(0, 2, 7), np.linspace(0, 1, 5)), np.zeros((5, 7))], 2)

PARTS = {
    "box": box((1, 2, 3)),
    "bevelled box": box((1, 2, 3), 0.1),
    "cylinder": cylinder(1, 2),
    "bevelled cylinder": cylinder(1, 2, bevel=0.1),
    "cone": cylinder(1, 2, top=0.0),
    "torus": lathe(np.stack([1 + 0.2 * np.cos(ANGLES), 0.2 * np.sin(ANGLES)], 1), closed=True),
    "cup": lathe([(0, 0), (1, 0), (1, 1), (0.8, 1), (0.8, 0.2), (0, 0.2)]),
    "tube": tube(HELIX, 0.1),
    "tube with round ends": tube(HELIX, 0.1, round_ends=True),
    "ring": tube(CIRCLE, 0.1, closed=True),
    "rod": rod((0, 0, 0), (1, 1, 0), 0.1, end_radius=0.05),
    "plank": plank((0, 0, 0), (1, 1, 1), 0.2, 0.1, 0.02),
    "concave outline": extrude([(0, 0), (2, 0), (2, 1), (1, 0.3), (0, 1)], 0.5),
    "ellipsoid": ellipsoid((1, 2, 3)),
    "nearly a box": ellipsoid((1, 2, 3), roundness=(0.2, 0.2)),
    "nearly an octahedron": ellipsoid((1, 1, 1), roundness=(1.9, 1.9)),
    "sheet": sheet(PLATE + [[[0, 0, 1]]] * (PLATE[..., :1] - 1) ** 2, 0.1),
    "mirrored": mirrored(box((1, 2, 3), 0.1), "x"),
    "twisted": warped(subdivided(box((1, 2, 3), 0.1)), twist(40, 3)),
    "tapered": warped(cylinder(1, 2), taper(-0.5, 2)),
}


def same_places(solid: Solid) -> np.ndarray:
    return weld(np.round(solid.vertices, 9) + 0.0, solid.faces)[1]


@pytest.mark.parametrize("name", PARTS)
def test_parts_are_closed_wound_outwards_and_lit_from_outside(name: str) -> None:
    solid = PARTS[name]
    assert is_closed(same_places(solid))
    assert volume(solid) > 0
    ground = face_normals(solid.vertices, solid.faces)
    assert (np.linalg.norm(ground, axis=1) > 0).all()
    # Every corner's shading normal lies on the outer side of its face.
    assert ((ground[:, None] * solid.normals[solid.faces]).sum(2) > 0).all()
    np.testing.assert_allclose(np.linalg.norm(solid.normals, axis=1), 1, atol=1e-9)


@pytest.mark.parametrize("name", PARTS)
def test_texture_coordinates_are_lengths_from_zero(name: str) -> None:
    solid = PARTS[name]
    assert np.isfinite(solid.uv).all()
    np.testing.assert_allclose(solid.uv.min(0), 0, atol=1e-9)
    # No longer than a walk around the bounding box, no shorter than a tenth of its smallest side.
    sides = solid.high - solid.low
    assert (solid.uv.max(0) <= 4 * sides.sum()).all()
    assert (solid.uv.max(0) >= 0.1 * sides.min()).all()
    if solid.closes_u:
        assert solid.uv[:, 0].max() == pytest.approx(solid.closes_u)


def polygon_area(segments: int) -> float:
    """Of a regular polygon in the unit circle."""
    return segments / 2 * np.sin(2 * np.pi / segments)


def test_volumes_of_polyhedra_are_exact() -> None:
    assert volume(box((1, 2, 3))) == pytest.approx(6)
    # A 45° bevel b takes prisms of b²/2 off the edges of length a - 2b; at a corner of the cube [0, b]³ is left
    # what lies beyond all three edge cuts, the eighth of a rhombic solid of volume b³/6 in the corner tetrahedron.
    b, sides = 0.1, np.array([1.0, 2.0, 3.0])
    edges = 4 * (sides - 2 * b).sum() * b**2 / 2
    assert volume(box(sides, b)) == pytest.approx(6 - edges - 8 * b**3 * 5 / 6)
    assert volume(cylinder(1, 2, 24)) == pytest.approx(2 * polygon_area(24))
    assert volume(cylinder(1, 2, 24, top=0.0)) == pytest.approx(2 * polygon_area(24) / 3)
    assert volume(cylinder(1, 2, 24, top=0.5)) == pytest.approx(2 * polygon_area(24) * (1 + 0.5 + 0.25) / 3)
    # The shoelace formula of the outline.
    assert volume(PARTS["concave outline"]) == pytest.approx((2 - 0.7) * 0.5)
    assert volume(PARTS["cup"]) == pytest.approx(polygon_area(28) * (1 - 0.64 * 0.8))
    assert volume(sheet(PLATE, 0.1)) == pytest.approx(2 * 1 * 0.1)


def test_volumes_of_round_parts_come_near_to_the_formulas() -> None:
    assert volume(ellipsoid((1, 2, 3), segments=96)) == pytest.approx(4 / 3 * np.pi * 6, rel=3e-3)
    assert volume(ellipsoid((1, 1, 1), roundness=(2, 2), segments=96)) == pytest.approx(4 / 3, rel=3e-3)
    fine = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    circle = np.stack([np.cos(fine), np.sin(fine), 0 * fine], 1)
    assert volume(tube(circle, 0.2, 48, closed=True)) == pytest.approx(2 * np.pi**2 * 0.04, rel=6e-3)
    profile = np.stack([1 + 0.2 * np.cos(fine), 0.2 * np.sin(fine)], 1)
    assert volume(lathe(profile, 96, closed=True)) == pytest.approx(2 * np.pi**2 * 0.04, rel=6e-3)


def test_moves_keep_volume_and_warps_carry_normals() -> None:
    solid = box((1, 2, 3), 0.1)
    for other in (moved(solid, (1, 2, 3)), turned(solid, "x", 33), mirrored(solid, "z"), subdivided(solid)):
        assert volume(other) == pytest.approx(volume(solid))
    assert volume(scaled(solid, (2, 3, 0.5))) == pytest.approx(3 * volume(solid))
    assert volume(joined([solid, moved(solid, (9, 0, 0))])) == pytest.approx(2 * volume(solid))
    # A warp that is a turn turns the normals as the turn does.
    matrix = rotation("z", 40)
    bent = warped(solid, lambda points: points @ matrix.T)
    np.testing.assert_allclose(bent.normals, turned(solid, "z", 40).normals, atol=1e-6)
    # An ellipsoid's normals from a stretched ball's.
    np.testing.assert_allclose(
        scaled(ellipsoid((1, 1, 1)), (1, 2, 3)).normals, ellipsoid((1, 2, 3)).normals, atol=1e-9
    )


def test_a_bar_goes_from_its_start_to_its_end() -> None:
    start, end = np.array([1.0, 2.0, 0.5]), np.array([-1.0, 0.0, 2.0])
    bar = pointed(cylinder(0.1, float(np.linalg.norm(end - start))), start, end)
    along = (bar.vertices - start) @ (end - start) / ((end - start) @ (end - start))
    assert along.min() == pytest.approx(0) and along.max() == pytest.approx(1)
    across = bar.vertices - start - along[:, None] * (end - start)
    assert np.linalg.norm(across, axis=1).max() == pytest.approx(0.1)
