"""What has no name: deformed superellipsoids, random lathes, extrusions and tubes put together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.parts import box, ellipsoid, extrude
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.plants import bumps
from mv3d.orbits.procedural.rounds import lathe, tube
from mv3d.orbits.procedural.solids import Solid, moved, scaled, taper, turned, twist, warped


def composite(rng: np.random.Generator) -> list[Piece]:
    """Two to six solids that overlap: each is set on the surface of one that is there."""
    palette = [looks.anything(rng) for _ in range(count(rng, 2, 4))]
    pieces: list[Piece] = []
    for k in range(count(rng, 2, 6)):
        size = between(rng, 0.22, 0.45) * (1.0 if k == 0 else 0.75)
        solid = scaled(_primitive(rng), (size * between(rng, 0.6, 1.4), size * between(rng, 0.6, 1.4), size))
        for axis in ("x", "z"):
            solid = turned(solid, axis, pick(rng, (0.0, 90.0, between(rng, 0, 360))))
        if pieces:
            host = pick(rng, pieces).solid
            spot = host.vertices[int(rng.integers(len(host.vertices)))]
            solid = moved(solid, (spot - solid.vertices.mean(0) * 0.5).tolist())
        pieces.append(Piece(f"part_{k}", solid, pick(rng, palette)))
        if chance(rng, 0.25):  # a ring of copies
            number = min(count(rng, 3, 8), 6_000 // len(solid.faces))
            for j in range(1, number):
                pieces.append(replace(pieces[-1], solid=turned(solid, "z", 360 * j / number)))
    return pieces


def sculpture(rng: np.random.Generator) -> list[Piece]:
    """One deformed solid, on a plinth or on the ground."""
    solid = warped(_primitive(rng), bumps(rng, between(rng, 0.1, 0.5), between(rng, 1, 3)))
    look = looks.anything(rng)
    low = float(solid.low[2])
    if chance(rng, 0.5):
        return [Piece("body", solid, look)]
    plinth = moved(box((1.1, 1.1, 0.5), 0.04), (0, 0, low - 0.2))
    return [Piece("body", solid, look), Piece("plinth", plinth, looks.anything(rng))]


def _primitive(rng: np.random.Generator) -> Solid:
    """A solid of about unit radius, often deformed."""
    kind = pick(rng, ("super", "lathe", "extrusion", "tube", "box", "knot"), (3, 3, 2, 1.5, 1.5, 1))
    if kind == "super":
        solid = ellipsoid((1, 1, 1), roundness=(between(rng, 0.2, 1.7), between(rng, 0.2, 1.7)), segments=36)
    elif kind == "lathe":
        from scipy.interpolate import PchipInterpolator  # noqa: PLC0415 - slow to import

        z = np.linspace(-1, 1, count(rng, 4, 6))
        t = np.linspace(-1, 1, 30)
        r = PchipInterpolator(z, rng.uniform(0.15, 1.0, len(z)))(t)
        solid = lathe([(0, -1), *np.stack([r, t], 1), (0, 1)], 36)
    elif kind == "extrusion":
        number = count(rng, 3, 9)
        angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        radius = 1 - between(rng, 0.0, 0.5) * (0.5 + 0.5 * np.cos(number * angle))
        solid = extrude(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), between(rng, 0.4, 2.0))
    elif kind == "tube":
        t = np.linspace(0, 1, 40)
        turns = between(rng, 0.3, 2.5)
        path = np.stack([np.cos(2 * np.pi * turns * t), np.sin(2 * np.pi * turns * t), 2 * t - 1], 1) * [
            0.75,
            0.75,
            0.85,
        ]
        return tube(path, between(rng, 0.1, 0.25) * (1 + between(rng, -0.5, 0.8) * t), 14, round_ends=True)
    elif kind == "box":
        return box((between(rng, 0.8, 2), between(rng, 0.8, 2), 2), between(rng, 0.02, 0.3))
    else:
        t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        wave, high = count(rng, 2, 5), between(rng, 0.0, 0.4)
        path = (
            np.stack(
                [
                    np.cos(t) * (1 + 0.2 * np.cos(wave * t)),
                    np.sin(t) * (1 + 0.2 * np.cos(wave * t)),
                    high * np.sin(wave * t),
                ],
                1,
            )
            * 0.75
        )
        return tube(path, between(rng, 0.1, 0.25), 14, closed=True)
    if chance(rng, 0.4):
        solid = warped(solid, taper(between(rng, -0.6, 0.6), 1.0))
    if chance(rng, 0.35):
        solid = warped(solid, twist(between(rng, -70, 70), 1.0))
    return solid


def stack(rng: np.random.Generator) -> list[Piece]:
    """Solids of falling size on top of each other, turned against each other."""
    z, size = 0.0, between(rng, 0.35, 0.5)
    pieces = []
    for k in range(count(rng, 2, 6)):
        solid = scaled(_primitive(rng), (size, size, size * between(rng, 0.4, 1.0)))
        solid = turned(solid, "z", between(rng, 0, 360))
        solid = moved(solid, (0, 0, z - float(solid.low[2]) * 0.97))
        pieces.append(Piece(f"part_{k}", solid, looks.anything(rng)))
        z = float(solid.high[2]) - 0.03 * size
        size *= between(rng, 0.6, 0.95)
    return pieces
