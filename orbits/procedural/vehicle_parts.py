"""Wheels, lights and side walls of vehicles."""

from __future__ import annotations

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import chance
from mv3d.orbits.procedural.parts import ellipsoid, extrude
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder, lathe, rod
from mv3d.orbits.procedural.solids import Solid, moved, scaled, turned


def upright(outline: object, width: float) -> Solid:
    """An outline in x and z, made `width` thick along y."""
    return turned(extrude(outline, width), "x", 90)


def wheels(
    rng: np.random.Generator,
    places: list[tuple[float, float]],
    radius: float,
    width: float,
    half_track: float,
) -> list[Piece]:
    """Pairs of wheels: places are (x, scale)."""
    tyre, hub = looks.rubber(rng), looks.metal(rng) if chance(rng, 0.6) else looks.paint(rng)
    pieces = []
    for x, scale in places:
        r = radius * scale
        profile = [
            (r * 0.55, -width / 2),
            (r * 0.9, -width / 2),
            (r, -width * 0.3),
            (r, width * 0.3),
            (r * 0.9, width / 2),
            (r * 0.55, width / 2),
        ]
        ring = turned(lathe(profile, 28, closed=True), "x", 90)
        disc = turned(
            moved(cylinder(r * 0.57, width * 0.8, 22, bevel=width * 0.1), (0, 0, -width * 0.4)), "x", 90
        )
        cap = scaled(ellipsoid((r * 0.2, r * 0.2, r * 0.2), segments=12), (1, 0.6, 1))
        for side in (1, -1):
            place = (x, side * half_track, r)
            pieces.append(Piece("tyres", moved(ring, place), tyre))
            pieces.append(Piece("hubs", moved(disc, place), hub))
            pieces.append(Piece("hubs", moved(cap, (x, side * (half_track + width * 0.4), r)), hub))
        pieces.append(Piece("axles", rod((x, -half_track, r), (x, half_track, r), r * 0.12), tyre))
    return pieces


def lights(
    rng: np.random.Generator, front: float, rear: float, y: float, z: float, size: float
) -> list[Piece]:
    white = looks.of("headlight", looks.patterns.plain(rng, 64, (0.95, 0.93, 0.8)), roughness=0.15)
    red = looks.of("rear_light", looks.patterns.plain(rng, 64, (0.75, 0.08, 0.06)), roughness=0.2)
    lamp = ellipsoid((size * 0.5, size, size), segments=14)
    pieces = [Piece("headlights", moved(lamp, (front, s * y, z)), white) for s in (1, -1)]
    return pieces + [
        Piece("rear_lights", moved(scaled(lamp, (1, 1, 0.7)), (rear, s * y, z)), red) for s in (1, -1)
    ]
