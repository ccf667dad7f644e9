"""Robots, building blocks, tops, balls and bells. The front faces +X."""

from __future__ import annotations

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.creatures import ball
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.parts import box, ellipsoid
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder, lathe, rod
from mv3d.orbits.procedural.solids import moved, turned


def robot(rng: np.random.Generator) -> list[Piece]:
    """A robot of boxes and cylinders."""
    body_look, second, joint = (
        pick(rng, (looks.metal, looks.paint, looks.printed), (2, 3, 0.5))(rng),
        looks.paint(rng),
        looks.metal(rng),
    )
    glow = looks.plastic(rng)
    wide, high, deep = between(rng, 0.3, 0.44), between(rng, 0.3, 0.44), between(rng, 0.2, 0.3)
    leg = between(rng, 0.16, 0.32)
    z = leg + high
    round_body = chance(rng, 0.35)
    body = (
        moved(cylinder(wide / 2, high, 32, bevel=0.03), (0, 0, leg))
        if round_body
        else moved(box((deep, wide, high), between(rng, 0.01, 0.05)), (0, 0, leg + high / 2))
    )
    front = wide / 2 if round_body else deep / 2
    pieces = [
        Piece("body", body, body_look),
        Piece(
            "panel",
            moved(box((0.02, wide * 0.5, high * 0.4), 0.005), (front * 0.98, 0, leg + high * 0.55)),
            looks.sign(rng),
        ),
    ]
    for k in range(count(rng, 2, 4)):
        pieces.append(
            Piece(
                "buttons",
                moved(
                    turned(cylinder(0.018, 0.03, 14), "y", 90),
                    (front * 0.97, (k - 1) * 0.06, leg + high * 0.2),
                ),
                glow,
            )
        )
    if chance(rng, 0.6):
        for s in (1, -1):
            pieces.append(
                Piece("legs", moved(box((0.1, 0.1, leg), 0.01), (0, s * wide * 0.27, leg / 2)), joint)
            )
            pieces.append(
                Piece("feet", moved(box((0.2, 0.14, 0.06), 0.015), (0.03, s * wide * 0.27, 0.03)), second)
            )
    else:
        pieces.append(Piece("waist", moved(cylinder(wide * 0.2, leg, 20), (0, 0, 0)), joint))
        for s in (1, -1):
            track = ellipsoid((0.2, 0.06, 0.08), roundness=(0.6, 0.6), segments=22)
            pieces.append(Piece("tracks", moved(track, (0, s * wide * 0.35, 0.08)), looks.rubber(rng)))
        pieces.append(Piece("axle", rod((0, -wide * 0.35, 0.08), (0, wide * 0.35, 0.08), 0.04), joint))
    for s in (1, -1):
        shoulder = np.array([0, s * (wide / 2 + 0.04), z - 0.07])
        elbow = shoulder + np.array(
            (between(rng, -0.04, 0.12), s * between(rng, 0.02, 0.08), -between(rng, 0.1, 0.16))
        )
        hand = elbow + np.array((between(rng, 0.05, 0.16), 0, between(rng, -0.14, 0.1)))
        pieces.append(
            Piece(
                "shoulders",
                moved(turned(moved(cylinder(0.055, 0.1, 18), (0, 0, -0.05)), "x", 90), tuple(shoulder)),
                joint,
            )
        )
        pieces.append(Piece("arms", rod(tuple(shoulder), tuple(elbow), 0.035), second))
        pieces.append(ball("elbows", (0.045,) * 3, tuple(elbow), joint, 16))
        pieces.append(Piece("arms", rod(tuple(elbow), tuple(hand), 0.035), second))
        pieces.append(Piece("hands", moved(box((0.08, 0.09, 0.09), 0.02), tuple(hand)), joint))
    head = between(rng, 0.16, 0.24)
    pieces.append(Piece("neck", moved(cylinder(0.05, 0.08, 16), (0, 0, z - 0.01)), joint))
    middle = z + 0.05 + head / 2
    if chance(rng, 0.5):
        pieces.append(Piece("head", moved(box((head, head * 1.25, head), 0.03), (0, 0, middle)), body_look))
    else:
        pieces.append(
            Piece(
                "head",
                moved(
                    ellipsoid((head * 0.52, head * 0.6, head * 0.52), roundness=(0.7, 0.9), segments=26),
                    (0, 0, middle),
                ),
                body_look,
            )
        )
    for s in (1, -1):
        pieces.append(
            ball("eyes", (0.03, 0.035, 0.035), (head * 0.48, s * head * 0.28, middle + head * 0.08), glow, 16)
        )
    pieces.append(
        Piece(
            "mouth",
            moved(box((0.02, head * 0.5, 0.025), 0.004), (head * 0.48, 0, middle - head * 0.25)),
            joint,
        )
    )
    if chance(rng, 0.7):
        pieces.append(
            Piece("antenna", rod((0, 0, middle + head * 0.3), (0, 0, middle + head * 0.95), 0.01), joint)
        )
        pieces.append(ball("antenna_tip", (0.03,) * 3, (0, 0, middle + head), glow, 16))
    return pieces


def blocks(rng: np.random.Generator) -> list[Piece]:
    """A tower or an arch of building blocks, or plates with studs."""
    woods = [pick(rng, (looks.paint, looks.wood, looks.sign), (4, 1.5, 1))(rng) for _ in range(5)]
    kind = pick(rng, ("tower", "studs", "rings"))
    pieces: list[Piece] = []
    z = 0.0
    if kind == "rings":
        pieces = [
            Piece("foot", cylinder(0.3, 0.06, 32, bevel=0.02), woods[0]),
            Piece("pole", cylinder(0.04, 0.75, 16), woods[1]),
        ]
        z, number = 0.06, count(rng, 4, 7)
        for k in range(number):
            thick = 0.62 / number / 2
            radius = 0.26 - 0.15 * k / number
            ring = [
                (radius - thick + thick * np.cos(a), thick * np.sin(a))
                for a in np.linspace(0, 2 * np.pi, 14, endpoint=False)
            ]
            pieces.append(
                Piece("rings", moved(lathe(ring, 30, closed=True), (0, 0, z + thick)), looks.plastic(rng))
            )
            z += 2 * thick
        return [*pieces, Piece("knob", moved(ellipsoid((0.06,) * 3, segments=18), (0, 0, 0.78)), woods[2])]
    if kind == "studs":
        for _ in range(count(rng, 3, 6)):
            nx, ny = count(rng, 2, 4), count(rng, 2, 5)
            x, y = 0.1 * count(rng, -1, 1), 0.1 * count(rng, -1, 1)
            look = looks.plastic(rng)
            pieces.append(
                Piece("bricks", moved(box((nx * 0.1, ny * 0.1, 0.12), 0.004), (x, y, z + 0.06)), look)
            )
            for i in range(nx):
                for j in range(ny):
                    place = (x + (i - (nx - 1) / 2) * 0.1, y + (j - (ny - 1) / 2) * 0.1, z + 0.119)
                    pieces.append(Piece("studs", moved(cylinder(0.032, 0.022, 14), place), look))
            z += 0.12
        return pieces
    for k in range(count(rng, 3, 6)):
        look = pick(rng, woods)
        shape = pick(rng, ("cube", "cylinder", "slab", "ball" if k else "cube", "cone" if k > 1 else "cube"))
        size = between(rng, 0.15, 0.25)
        place = (between(rng, -0.03, 0.03), between(rng, -0.03, 0.03))
        if shape in ("ball", "cone"):
            solid = (
                ellipsoid((size * 0.6,) * 3, segments=24)
                if shape == "ball"
                else moved(cylinder(size * 0.6, size * 1.2, 26, top=0.0), (0, 0, -size * 0.6))
            )
            return [*pieces, Piece("blocks", moved(solid, (*place, z + size * 0.6)), look)]
        if shape == "cube":
            solid = moved(turned(box((size,) * 3, 0.012), "z", between(rng, -25, 25)), (*place, z + size / 2))
        elif shape == "slab":
            size *= 0.5
            solid = moved(
                turned(box((0.22, 0.45, size), 0.01), "z", between(rng, -25, 25)), (*place, z + size / 2)
            )
        else:
            solid = moved(cylinder(size * 0.55, size, 28, bevel=0.01), (*place, z))
        pieces.append(Piece("blocks", solid, look))
        z += size
    return pieces


def top(rng: np.random.Generator) -> list[Piece]:
    """Spinning tops, balls, skittles and bells."""
    look = pick(rng, (looks.paint, looks.printed, looks.wood, looks.sign, looks.ceramic), (1, 3, 1, 2, 2))(
        rng
    )
    kind = pick(rng, ("top", "ball", "skittle", "bell"))
    if kind == "ball":
        size = 0.45
        solid = turned(ellipsoid((size,) * 3, segments=36), "y", between(rng, 0, 60))
        ring = [
            (size * 1.003 + 0.012 * np.cos(a), 0.03 * np.sin(a))
            for a in np.linspace(0, 2 * np.pi, 10, endpoint=False)
        ]
        band = turned(lathe(ring, 40, closed=True), "x", between(rng, 0, 90))
        return [Piece("ball", solid, look), Piece("band", band, looks.plastic(rng))]
    knots = {
        "top": [
            (0.01, 0.0),
            (0.05, 0.08),
            (0.4, 0.4),
            (0.36, 0.5),
            (0.08, 0.58),
            (0.04, 0.62),
            (0.035, 0.85),
            (0.05, 0.9),
        ],
        "skittle": [(0.14, 0.0), (0.2, 0.3), (0.09, 0.7), (0.12, 0.86), (0.06, 0.98)],
        "bell": [(0.4, 0.0), (0.34, 0.1), (0.25, 0.35), (0.2, 0.55), (0.05, 0.68)],
    }[kind]
    r, z = np.asarray(knots).T
    r = r * np.concatenate([[1], between(rng, 0.8, 1.2) * np.ones(len(r) - 2), [1]])
    from scipy.interpolate import PchipInterpolator  # noqa: PLC0415 - slow to import

    t = np.linspace(z[0], z[-1], 40)
    body = lathe([(0, z[0]), *np.stack([PchipInterpolator(z, r)(t), t], 1), (0, z[-1])], 36)
    pieces = [Piece("body", body, look)]
    if kind == "bell":
        pieces.append(
            Piece(
                "handle", moved(cylinder(0.035, 0.3, 16, bevel=0.01), (0, 0, 0.66)), looks.wood(rng).along_v()
            )
        )
        pieces.append(
            Piece("clapper", moved(ellipsoid((0.07,) * 3, segments=16), (0, 0, -0.02)), looks.metal(rng))
        )
    else:
        at = between(rng, 0.3, 0.6)
        radius = float(PchipInterpolator(z, r)(at))
        pieces.append(
            Piece(
                "band",
                moved(cylinder(radius + 0.012, 0.05, 36, bevel=0.01), (0, 0, at - 0.025)),
                looks.paint(rng),
            )
        )
    if kind == "top":
        return [Piece(p.name, turned(p.solid, "y", pick(rng, (0.0, 25.0))), p.look) for p in pieces]
    return pieces
