"""Armchairs, sofas, beds and lamps. The front faces +X."""

from __future__ import annotations

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.looks import Look
from mv3d.orbits.procedural.parts import box, ellipsoid
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder, lathe, rod
from mv3d.orbits.procedural.solids import Solid, moved, planar, turned


def armchair(rng: np.random.Generator) -> list[Piece]:
    return _upholstered(rng, 1)


def sofa(rng: np.random.Generator) -> list[Piece]:
    return _upholstered(rng, count(rng, 2, 3))


def _upholstered(rng: np.random.Generator, places: int) -> list[Piece]:
    """A seat for one to three: base, cushions, back, arms and feet."""
    cloth = looks.fabric(rng)
    other = looks.fabric(rng) if chance(rng, 0.3) else cloth
    wood = looks.wood(rng) if chance(rng, 0.7) else looks.metal(rng)
    seat_width, depth = between(rng, 0.5, 0.65) * places, between(rng, 0.55, 0.75)
    foot, base, soft = between(rng, 0.04, 0.2), between(rng, 0.12, 0.22), between(rng, 0.1, 0.18)
    arm = between(rng, 0.07, 0.2)
    arm_high = foot + base + between(rng, 0.08, 0.3)
    back_high, back_thick = between(rng, 0.35, 0.6), between(rng, 0.12, 0.2)
    bulge = pick(rng, (0.25, 0.45, 0.6))
    z = foot + base
    pieces = [
        Piece(
            "base",
            moved(box((depth, seat_width + 2 * arm * 0.9, base), 0.03), (0, 0, foot + base / 2)),
            cloth,
        )
    ]
    for k in range(places):
        y = (k - (places - 1) / 2) * seat_width / places
        pad = ellipsoid(
            (depth / 2, seat_width / places / 2 * 1.02, soft * 0.62), roundness=(bulge, 0.25), segments=26
        )
        pieces.append(
            Piece("cushions", moved(planar(pad, "x", "y"), (back_thick * 0.3, y, z + soft * 0.45)), other)
        )
        rest = ellipsoid(
            (back_thick / 2, seat_width / places / 2 * 1.02, back_high / 2),
            roundness=(bulge, 0.3),
            segments=26,
        )
        rest = turned(planar(rest, "y", "z"), "y", -between(rng, 4, 10))
        pieces.append(
            Piece("back_cushions", moved(rest, (-depth / 2 + back_thick * 0.8, y, z + back_high / 2)), other)
        )
    frame_high = back_high * between(rng, 0.75, 1.0)
    frame = box((back_thick * 0.6, seat_width + 2 * arm * 0.9, frame_high + base * 0.5), 0.04)
    pieces.append(
        Piece(
            "back", moved(frame, (-depth / 2 + 0.02, 0, z - base * 0.5 + frame_high / 2 + base * 0.25)), cloth
        )
    )
    kind = pick(rng, ("box", "roll", "pad", "none"), (4, 2, 2, 0.7 if places > 1 else 0.2))
    for side in (1, -1) if kind != "none" else ():
        y = side * (seat_width / 2 + arm / 2)
        if kind == "roll":
            pieces.append(
                Piece(
                    "arms",
                    moved(box((depth, arm * 0.75, arm_high - foot), 0.02), (0, y, (arm_high + foot) / 2)),
                    cloth,
                )
            )
            roll = turned(cylinder(arm * 0.62, depth * 1.01, 20, bevel=0.02), "y", 90)
            pieces.append(Piece("arm_rolls", moved(roll, (-depth / 2, y, arm_high)), cloth))
        elif kind == "box":
            pieces.append(
                Piece(
                    "arms",
                    moved(box((depth, arm, arm_high - foot), 0.035), (0, y, (arm_high + foot) / 2)),
                    cloth,
                )
            )
        else:
            size = (depth / 2, arm / 2 * 1.1, (arm_high - foot) / 2)
            soft_arm = planar(ellipsoid(size, roundness=(0.4, 0.3), segments=24), "x", "z")
            pieces.append(Piece("arms", moved(soft_arm, (0, y, (arm_high + foot) / 2)), cloth))
    x, y = depth / 2 - 0.06, seat_width / 2 + arm * 0.4
    for place in ((x, y), (x, -y), (-x, y), (-x, -y)):
        pieces.append(
            Piece("feet", moved(cylinder(0.018, foot + 0.01, 14, top=0.028), (*place, 0)), wood.along_v())
        )
    if chance(rng, 0.35):
        loose = ellipsoid((0.06, 0.17, 0.17), roundness=(0.7, 0.6), segments=22)
        loose = turned(turned(planar(loose, "y", "z"), "x", between(rng, -20, 20)), "y", -20)
        place = (-depth / 2 + back_thick * 1.4 + 0.06, between(rng, -0.2, 0.2) * places, z + soft + 0.14)
        pieces.append(Piece("loose_cushion", moved(loose, place), looks.fabric(rng)))
    return pieces


def bed(rng: np.random.Generator) -> list[Piece]:
    """A bed with mattress, blanket and pillows; its head is at -X."""
    frame = looks.wood(rng) if chance(rng, 0.7) else looks.paint(rng)
    wide, long = pick(rng, (0.9, 1.4, 1.7)), between(rng, 1.9, 2.1)
    rail, soft = between(rng, 0.2, 0.35), between(rng, 0.14, 0.24)
    sheet_look = looks.of("sheet", looks.patterns.plain(rng, 128, (0.93, 0.92, 0.9)), roughness=1.0)
    blanket, pillow = looks.fabric(rng), looks.fabric(rng) if chance(rng, 0.5) else sheet_look
    pieces = [
        Piece("frame", moved(box((long, wide + 0.08, rail * 0.5), 0.01), (0, 0, rail * 0.75)), frame),
        Piece(
            "mattress",
            moved(box((long * 0.98, wide, soft), 0.05), (0, 0, rail + soft / 2 - 0.01)),
            sheet_look,
        ),
        Piece(
            "blanket",
            moved(
                box((long * between(rng, 0.5, 0.72), wide + 0.06, soft), 0.05),
                (long * 0.15, 0, rail + soft / 2 + 0.02),
            ),
            blanket,
        ),
    ]
    number = 1 if wide < 1 else 2
    for k in range(number):
        pad = planar(
            ellipsoid((0.2, 0.9 * wide / number / 2, 0.09), roundness=(0.8, 0.45), segments=24), "y", "x"
        )
        pieces.append(
            Piece(
                "pillows",
                moved(pad, (-long / 2 + 0.26, (k - (number - 1) / 2) * wide / number, rail + soft + 0.06)),
                pillow,
            )
        )
    head = rail + soft + between(rng, 0.25, 0.7)
    if chance(rng, 0.6):
        pieces.append(
            Piece(
                "headboard",
                moved(box((0.05, wide + 0.1, head), 0.015), (-long / 2 - 0.02, 0, head / 2)),
                frame,
            )
        )
    else:
        for y in np.linspace(-wide / 2, wide / 2, count(rng, 5, 11)):
            pieces.append(
                Piece(
                    "head_bars",
                    moved(cylinder(0.016, head, 10), (-long / 2 - 0.02, float(y), 0)),
                    frame.along_v(),
                )
            )
        pieces.append(
            Piece(
                "head_rail",
                rod(
                    (-long / 2 - 0.02, -wide / 2 - 0.05, head),
                    (-long / 2 - 0.02, wide / 2 + 0.05, head),
                    0.024,
                ),
                frame.along_v(),
            )
        )
    if chance(rng, 0.5):
        pieces.append(
            Piece(
                "footboard",
                moved(box((0.04, wide + 0.1, head * 0.6), 0.012), (long / 2 + 0.02, 0, head * 0.3)),
                frame,
            )
        )
    for x in (long / 2 - 0.06, 0.06 - long / 2):
        for y in (wide / 2 - 0.04, 0.04 - wide / 2):
            pieces.append(
                Piece("feet", moved(box((0.07, 0.07, rail * 0.6), 0.006), (x, y, rail * 0.3)), frame)
            )
    return pieces


def lamp(rng: np.random.Generator) -> list[Piece]:
    """Table, floor and desk lamps."""
    metal = looks.metal(rng) if chance(rng, 0.5) else looks.paint(rng)
    shade_look = pick(rng, (looks.fabric, looks.paint, looks.printed))(rng)
    bulb = looks.of("bulb", looks.patterns.plain(rng, 64, (0.98, 0.95, 0.85)), roughness=0.3)
    kind = pick(rng, ("table", "floor", "desk"), (2, 2, 1.3))
    if kind == "desk":
        return _desk_lamp(rng, metal, bulb)
    high = between(rng, 0.3, 0.5) if kind == "table" else between(rng, 1.1, 1.6)
    low, top, tall = between(rng, 0.14, 0.24), between(rng, 0.06, 0.2), between(rng, 0.15, 0.28)
    wall = 0.006
    hood = [
        (low - wall, high - tall * 0.3),
        (low, high - tall * 0.3),
        (top, high + tall * 0.7),
        (top - wall, high + tall * 0.7),
    ]
    pieces = [
        Piece("shade", lathe(hood, 32, closed=True), shade_look),
        Piece("bulb", moved(ellipsoid((0.04, 0.04, 0.055), segments=16), (0, 0, high + 0.02)), bulb),
        # Its spokes carry the shade.
        *(
            Piece(
                "spokes",
                rod(
                    (0, 0, high + tall * 0.3),
                    (
                        np.cos(a) * (low + top) / 2 * 0.95,
                        np.sin(a) * (low + top) / 2 * 0.95,
                        high + tall * 0.3,
                    ),
                    0.004,
                    segments=8,
                ),
                metal,
            )
            for a in (0, 2.1, 4.2)
        ),
    ]
    if kind == "table" and chance(rng, 0.65):
        t = np.linspace(0, 1, 18)
        belly = between(rng, 0.05, 0.12) * (0.35 + np.sin(np.pi * t ** between(rng, 0.6, 1.6)))
        profile = [(0, 0), *zip(belly.tolist(), (t * high * 0.85).tolist(), strict=True), (0, high * 0.85)]
        pieces.append(Piece("body", lathe(profile, 28), looks.ceramic(rng)))
        pieces.append(
            Piece("stem", moved(cylinder(0.012, high * 0.15 + tall * 0.3, 12), (0, 0, high * 0.85)), metal)
        )
        return pieces
    foot = between(rng, 0.1, 0.18)
    if kind == "floor" and chance(rng, 0.4):
        wood = looks.wood(rng).along_v()
        for k in range(3):
            angle = 2 * np.pi * k / 3
            pieces.append(
                Piece(
                    "legs",
                    rod(
                        (0.3 * np.cos(angle), 0.3 * np.sin(angle), 0),
                        (0.02 * np.cos(angle), 0.02 * np.sin(angle), high),
                        0.014,
                    ),
                    wood,
                )
            )
        pieces.append(Piece("stem", moved(cylinder(0.012, tall * 0.35, 12), (0, 0, high - 0.02)), metal))
        return pieces
    pieces.append(Piece("foot", cylinder(foot, between(rng, 0.015, 0.04), 30, bevel=0.005), metal))
    pieces.append(Piece("stem", cylinder(between(rng, 0.008, 0.016), high + tall * 0.32, 14), metal))
    return pieces


def _desk_lamp(rng: np.random.Generator, look: Look, bulb: Look) -> list[Piece]:
    joint = (-between(rng, 0.08, 0.16), 0.0, between(rng, 0.22, 0.3))
    head = (between(rng, 0.06, 0.18), 0.0, between(rng, 0.36, 0.48))
    hood = [
        (0.0, 0.07),
        (0.022, 0.07),
        (0.03, 0.04),
        (0.08, -0.05),
        (0.075, -0.05),
        (0.026, 0.034),
        (0.0, 0.034),
    ]
    tilt = between(rng, 15, 45)

    def at_head(solid: Solid) -> Solid:
        return moved(turned(solid, "y", -tilt), head)

    return [
        Piece("foot", cylinder(0.09, 0.02, 28, bevel=0.005), look),
        Piece("arm", rod((0, 0, 0.01), joint, 0.008), look),
        Piece("arm", rod(joint, head, 0.008), look),
        Piece("joint", moved(ellipsoid((0.016, 0.016, 0.016), segments=14), joint), look),
        Piece("hood", at_head(lathe(hood[::-1], 28)), look),
        Piece("bulb", at_head(moved(ellipsoid((0.03, 0.03, 0.04), segments=14), (0, 0, -0.02))), bulb),
    ]
