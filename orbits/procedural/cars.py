"""Cars, lorries and buses, as toys or simplified; their front faces +X."""

from __future__ import annotations

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.parts import box, ellipsoid
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder, rod
from mv3d.orbits.procedural.solids import moved, turned
from mv3d.orbits.procedural.vehicle_parts import lights, upright, wheels


def car(rng: np.random.Generator) -> list[Piece]:
    """Saloons, hatchbacks, vans, jeeps, sports cars and convertibles."""
    body = looks.paint(rng) if chance(rng, 0.75) else pick(rng, (looks.printed, looks.wood, looks.sign))(rng)
    roof = body if chance(rng, 0.7) else looks.paint(rng)
    pane, trim = looks.pane(rng), pick(rng, (looks.metal, looks.rubber))(rng)
    wide, low = between(rng, 0.38, 0.46), between(rng, 0.05, 0.1)
    waist = low + between(rng, 0.13, 0.2)
    top = waist + between(rng, 0.1, 0.2)
    kind = pick(rng, ("saloon", "hatch", "van", "sport", "jeep"), (2, 2, 1.2, 1.5, 1.2))
    nose, tail = (0.5, -0.5)
    a, b, c, d = {  # where the cabin begins and ends, below and above
        "saloon": (0.22, 0.08, -0.22, -0.36),
        "hatch": (0.22, 0.08, -0.38, -0.47),
        "van": (0.4, 0.3, -0.47, -0.49),
        "sport": (0.12, -0.04, -0.2, -0.38),
        "jeep": (0.14, 0.1, -0.46, -0.48),
    }[kind]
    a, b = a + between(rng, -0.04, 0.04), b + between(rng, -0.04, 0.04)
    hood = waist - between(rng, 0.0, 0.05)
    lower = [
        (nose - 0.02, low),
        (nose, low + 0.05),
        (nose - 0.02, hood - 0.04),
        (nose - 0.06, hood - 0.01),
        (a, waist),
        (d, waist),
        (tail + 0.02, waist - 0.01),
        (tail, waist - 0.05),
        (tail, low + 0.03),
        (tail + 0.02, low),
    ]
    pieces = [Piece("body", upright(lower, wide), body)]
    if chance(rng, 0.5):
        pieces.append(Piece("skirt", moved(box((1.02, wide * 1.02, 0.03), 0.01), (0, 0, low + 0.015)), trim))
    if not (kind == "sport" and chance(rng, 0.4)):
        cabin = [
            (a, waist - 0.005),
            (b, top),
            (b - 0.04, top + 0.012),
            (c + 0.04, top + 0.012),
            (c, top),
            (d, waist - 0.005),
        ]
        pieces.append(Piece("cabin", upright(cabin, wide * 0.86), roof))
        # Windows stand out a little from the cabin.
        slim = wide * 0.86 + 0.008
        inset = 0.022
        mid = (a + d) / 2 + between(rng, -0.05, 0.05)
        z0, z1 = waist + 0.012, top - 0.018
        lean_front, lean_rear = (b - a) / (top - waist), (c - d) / (top - waist)
        front = [
            (a - inset + lean_front * (z0 - waist), z0),
            (a - inset + lean_front * (z1 - waist), z1),
            (mid + 0.012, z1),
            (mid + 0.012, z0),
        ]
        rear = [
            (mid - 0.012, z0),
            (mid - 0.012, z1),
            (d + inset + lean_rear * (z1 - waist), z1),
            (d + inset + lean_rear * (z0 - waist), z0),
        ]
        pieces += [Piece("windows", upright(part, slim), pane) for part in (front, rear)]
        for x0, x1 in ((a, b), (d, c)):
            start, end = np.array([x0, 0, waist + 0.015]), np.array([x1, 0, top - 0.012])
            run = end - start
            angle = float(np.rad2deg(np.arctan2(run[0], run[2])))
            glass = turned(box((0.012, wide * 0.74, float(np.linalg.norm(run)))), "y", angle)
            pieces.append(Piece("screens", moved(glass, tuple((start + end) / 2)), pane))
    else:
        glass = turned(box((0.01, wide * 0.8, 0.11), 0.002), "y", -25)
        pieces.append(Piece("screens", moved(glass, (0.1, 0, waist + 0.04)), pane))
        seat = looks.fabric(rng)
        for y in (0.09, -0.09):
            pieces.append(
                Piece("seats", moved(box((0.05, 0.13, 0.12), 0.02), (-0.14, y, waist + 0.03)), seat)
            )
    radius = between(rng, 0.085, 0.115) if kind != "jeep" else between(rng, 0.11, 0.14)
    pieces += wheels(rng, [(0.3, 1.0), (-0.3, 1.0)], radius, between(rng, 0.07, 0.1), wide / 2 - 0.015)
    pieces += lights(
        rng, nose - 0.015, tail + 0.01, wide * 0.36, (low + waist) / 2 + 0.02, between(rng, 0.025, 0.04)
    )
    pieces.append(Piece("bumpers", moved(box((0.04, wide * 0.95, 0.04), 0.012), (nose, 0, low + 0.04)), trim))
    pieces.append(Piece("bumpers", moved(box((0.04, wide * 0.95, 0.04), 0.012), (tail, 0, low + 0.04)), trim))
    if chance(rng, 0.2) and kind != "sport":
        rack = looks.paint(rng)
        pieces.append(
            Piece("roof_sign", moved(box((0.1, 0.16, 0.05), 0.01), ((b + c) / 2, 0, top + 0.035)), rack)
        )
    return pieces


def truck(rng: np.random.Generator) -> list[Piece]:  # noqa: PLR0912 - one kind after another
    """Lorries with boxes, tippers, tanks or logs; buses."""
    paint, cargo = (
        looks.paint(rng),
        pick(rng, (looks.paint, looks.sign, looks.metal, looks.wood, looks.printed))(rng),
    )
    pane, frame = looks.pane(rng), looks.rubber(rng)
    wide, radius = between(rng, 0.26, 0.32), between(rng, 0.06, 0.08)
    floor, cab_high, cab_long = radius * 1.5, between(rng, 0.2, 0.3), between(rng, 0.16, 0.22)
    kind = pick(rng, ("box", "tipper", "tank", "logs", "bus", "fire"), (2, 1.5, 1, 1, 1.5, 1))
    places = [(0.36, 1.0), (-0.22, 1.0), (-0.38, 1.0)] if chance(rng, 0.6) else [(0.34, 1.0), (-0.3, 1.0)]
    pieces = wheels(rng, places, radius, 0.06, wide / 2 - 0.02)
    if kind == "bus":
        high = between(rng, 0.24, 0.42)
        pieces.append(Piece("body", moved(box((1.0, wide, high), 0.025), (0, 0, floor + high / 2)), paint))
        rows = 2 if high > 0.34 else 1
        for row in range(rows):
            z = floor + high * (0.62 if rows == 1 else (0.33, 0.78)[row])
            for x in np.linspace(-0.42, 0.36, count(rng, 5, 8)):
                pieces.append(
                    Piece("windows", moved(box((0.085, wide + 0.01, 0.09), 0.004), (float(x), 0, z)), pane)
                )
            pieces.append(Piece("windows", moved(box((0.01, wide * 0.85, 0.1), 0.003), (0.5, 0, z)), pane))
        pieces.append(
            Piece("stripe", moved(box((1.004, wide + 0.006, 0.03)), (0, 0, floor + 0.05)), looks.paint(rng))
        )
        return pieces + lights(rng, 0.5, -0.5, wide * 0.36, floor + 0.05, 0.025)
    x = 0.5 - cab_long / 2
    pieces.append(Piece("frame", moved(box((1.0, wide * 0.6, 0.04), 0.005), (0, 0, floor)), frame))
    pieces.append(
        Piece("cab", moved(box((cab_long, wide, cab_high), 0.025), (x, 0, floor + cab_high / 2)), paint)
    )
    pieces.append(
        Piece(
            "windows",
            moved(box((0.01, wide * 0.82, cab_high * 0.36), 0.003), (0.5, 0, floor + cab_high * 0.68)),
            pane,
        )
    )
    pieces.append(
        Piece(
            "windows",
            moved(
                box((cab_long * 0.5, wide + 0.01, cab_high * 0.34), 0.003),
                (x + 0.02, 0, floor + cab_high * 0.68),
            ),
            pane,
        )
    )
    pieces.append(
        Piece(
            "grille",
            moved(box((0.012, wide * 0.5, cab_high * 0.22), 0.003), (0.5, 0, floor + cab_high * 0.22)),
            frame,
        )
    )
    long = 1.0 - cab_long - 0.03
    middle = -0.5 + long / 2
    if kind in ("box", "fire"):
        high = between(rng, 0.22, 0.4) if kind == "box" else 0.22
        pieces.append(
            Piece(
                "cargo",
                moved(box((long, wide * 1.03, high), 0.008), (middle, 0, floor + 0.02 + high / 2)),
                cargo,
            )
        )
        if kind == "fire":
            for y in (0.05, -0.05):
                pieces.append(
                    Piece(
                        "ladder",
                        rod((-0.48, y, floor + 0.27), (0.42, y, floor + 0.33), 0.008),
                        looks.metal(rng),
                    )
                )
            step = looks.metal(rng)
            for k in range(9):
                t = k / 8
                pieces.append(
                    Piece(
                        "steps",
                        rod(
                            (-0.48 + 0.9 * t, -0.05, floor + 0.27 + 0.06 * t),
                            (-0.48 + 0.9 * t, 0.05, floor + 0.27 + 0.06 * t),
                            0.006,
                            segments=8,
                        ),
                        step,
                    )
                )
    elif kind == "tank":
        r = wide * 0.48
        pieces.append(
            Piece(
                "tank",
                moved(turned(cylinder(r, long, 30, bevel=0.03), "y", 90), (-0.5, 0, floor + 0.01 + r)),
                cargo,
            )
        )
        pieces.append(Piece("hatches", moved(cylinder(0.04, 0.03, 18), (middle, 0, floor + 2 * r)), frame))
    elif kind == "logs":
        bark = looks.bark(rng).along_v()
        for y, z in ((-0.09, 0), (0, 0), (0.09, 0), (-0.045, 0.078), (0.045, 0.078), (0, 0.156)):
            pieces.append(
                Piece(
                    "logs",
                    rod(
                        (-0.5, y, floor + 0.065 + z), (-0.5 + long, y, floor + 0.065 + z), 0.045, segments=16
                    ),
                    bark,
                )
            )
    else:
        side = between(rng, 0.12, 0.2)
        hopper = [
            (-0.5, floor + 0.03),
            (-0.5 + long, floor + 0.03),
            (-0.5 + long, floor + side * 1.2),
            (-0.5 - 0.03, floor + side),
        ]
        for y in (wide * 0.5, -wide * 0.5):
            pieces.append(Piece("tipper", moved(upright(hopper, 0.015), (0, y, 0)), cargo))
        pieces.append(Piece("tipper", moved(box((long, wide, 0.02)), (middle, 0, floor + 0.03)), cargo))
        for px in (-0.5, -0.5 + long):
            pieces.append(
                Piece("tipper", moved(box((0.02, wide, side)), (px, 0, floor + 0.03 + side / 2)), cargo)
            )
        heap = looks.of(
            "gravel", looks.patterns.speckle(rng, 128, (0.55, 0.48, 0.4), (0.35, 0.3, 0.26)), roughness=1.0
        )
        pieces.append(
            Piece(
                "heap",
                moved(
                    ellipsoid((long * 0.48, wide * 0.47, side * 0.6), segments=22),
                    (middle, 0, floor + side * 0.65),
                ),
                heap,
            )
        )
    return pieces + lights(rng, 0.5, -0.5, wide * 0.38, floor + 0.04, 0.022)
