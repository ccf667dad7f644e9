"""Bears, people and animals of ellipsoids. Their faces look towards +X."""

from __future__ import annotations

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import between, chance, pick
from mv3d.orbits.procedural.looks import Look
from mv3d.orbits.procedural.parts import box, ellipsoid, plank
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder, lathe, rod, tube
from mv3d.orbits.procedural.solids import Vector, moved, scaled, turned


def ball(name: str, radii: Vector, place: Vector, look: Look, segments: int = 22) -> Piece:
    return Piece(name, moved(ellipsoid(radii, segments=segments), place), look)


def eyes(rng: np.random.Generator, x: float, y: float, z: float, size: float) -> list[Piece]:
    """Two eyes, plain beads or with whites."""
    black = looks.of("eye", looks.patterns.plain(rng, 64, (0.05, 0.05, 0.06)), roughness=0.1)
    if chance(rng, 0.5):
        return [ball("eyes", (size, size, size), (x, s * y, z), black, 14) for s in (1, -1)]
    white = looks.of("eye_white", looks.patterns.plain(rng, 64, (0.96, 0.96, 0.94)), roughness=0.2)
    pieces = [ball("eye_whites", (size * 1.2,) * 3, (x - size * 0.3, s * y, z), white, 14) for s in (1, -1)]
    return pieces + [
        ball("pupils", (size * 0.5, size * 0.6, size * 0.6), (x + size * 0.6, s * y, z), black, 12)
        for s in (1, -1)
    ]


def bear(rng: np.random.Generator) -> list[Piece]:
    """A sitting or standing bear, rabbit or cat of ellipsoids."""
    fur = looks.fur(rng) if chance(rng, 0.7) else looks.fabric(rng)
    light = looks.fur(rng) if chance(rng, 0.6) else looks.fabric(rng)
    belly, head = between(rng, 0.2, 0.27), between(rng, 0.17, 0.23)
    tall = between(rng, 0.24, 0.32)
    sitting = chance(rng, 0.5)
    z = tall if sitting else tall + between(rng, 0.14, 0.22)
    neck = z + tall * 0.8 + head * 0.65
    pieces = [
        ball("body", (belly * 0.9, belly, tall), (0, 0, z), fur, 28),
        ball("belly", (belly * 0.4, belly * 0.72, tall * 0.72), (belly * 0.58, 0, z - 0.01), light),
        ball("head", (head * 0.92, head, head * 0.92), (0.02, 0, neck), fur, 28),
        ball("muzzle", (head * 0.42, head * 0.46, head * 0.36), (head * 0.82, 0, neck - head * 0.2), light),
    ]
    dark = looks.of("nose", looks.patterns.plain(rng, 64, (0.08, 0.06, 0.06)), roughness=0.25)
    pieces.append(ball("nose", (0.028, 0.036, 0.026), (head * 1.2, 0, neck - head * 0.08), dark, 14))
    pieces += eyes(rng, head * 0.84, head * 0.36, neck + head * 0.18, head * 0.11)
    ears = pick(rng, ("round", "long", "sharp"), (3, 1.2, 1))
    for s in (1, -1):
        if ears == "round":
            pieces.append(ball("ears", (0.035, 0.075, 0.075), (0, s * head * 0.72, neck + head * 0.75), fur))
            pieces.append(
                ball(
                    "inner_ears",
                    (0.02, 0.048, 0.048),
                    (0.022, s * head * 0.72, neck + head * 0.75),
                    light,
                    16,
                )
            )
        elif ears == "long":
            ear = turned(ellipsoid((0.035, 0.05, 0.19), segments=20), "x", -s * between(rng, 5, 25))
            pieces.append(Piece("ears", moved(ear, (0, s * head * 0.45, neck + head * 1.5)), fur))
        else:
            pieces.append(
                Piece(
                    "ears",
                    moved(
                        turned(cylinder(0.07, 0.13, 18, top=0.004), "x", -s * 15),
                        (0, s * head * 0.55, neck + head * 0.62),
                    ),
                    fur,
                )
            )
        swing = between(rng, -40, 60)
        arm = turned(
            turned(moved(ellipsoid((0.07, 0.07, 0.17), segments=20), (0, 0, -0.12)), "y", -swing),
            "x",
            s * between(rng, 15, 50),
        )
        pieces.append(Piece("arms", moved(arm, (0.03, s * belly * 0.8, z + tall * 0.6)), fur))
        if sitting:
            pieces.append(ball("legs", (0.19, 0.085, 0.085), (belly * 0.75, s * belly * 0.65, 0.09), fur))
            pieces.append(
                ball("paws", (0.045, 0.085, 0.1), (belly * 0.75 + 0.17, s * belly * 0.65, 0.1), light)
            )
        else:
            pieces.append(ball("legs", (0.09, 0.09, 0.2), (0, s * belly * 0.5, 0.19), fur))
            pieces.append(ball("paws", (0.13, 0.085, 0.06), (0.05, s * belly * 0.5, 0.06), light))
    if chance(rng, 0.4):
        ring = [
            (head * 0.62 + 0.028 * np.cos(a), 0.03 * np.sin(a))
            for a in np.linspace(0, 2 * np.pi, 12, endpoint=False)
        ]
        pieces.append(
            Piece("scarf", moved(lathe(ring, 28, closed=True), (0.01, 0, z + tall * 0.88)), looks.fabric(rng))
        )
    return pieces


def figure(rng: np.random.Generator) -> list[Piece]:
    """A person of simple solids: block head or round, in clothes."""
    skin_tone = pick(
        rng, ((0.95, 0.78, 0.62), (0.8, 0.58, 0.42), (0.5, 0.33, 0.22), (0.95, 0.8, 0.2), (0.35, 0.22, 0.15))
    )
    skin = looks.of("skin", looks.patterns.plain(rng, 64, skin_tone), roughness=0.6)
    shirt, trousers, shoe = looks.fabric(rng), looks.fabric(rng), looks.paint(rng)
    leg, body, wide = between(rng, 0.3, 0.45), between(rng, 0.26, 0.34), between(rng, 0.11, 0.16)
    blocky = chance(rng, 0.35)
    pieces = []
    for s in (1, -1):
        step = between(rng, -0.1, 0.1)
        y = s * wide * 0.52
        limb = (
            plank((step, y, 0.03), (0, y, leg + 0.03), 0.11, 0.12, 0.02)
            if blocky
            else rod((step, y, 0.02), (0, y, leg + 0.04), 0.048, end_radius=0.065, segments=16)
        )
        pieces.append(Piece("legs", limb, trousers))
        pieces.append(
            Piece(
                "shoes",
                moved(
                    ellipsoid((0.095, 0.055, 0.045), roundness=(0.7, 0.8), segments=18),
                    (step + 0.035, y, 0.04),
                ),
                shoe,
            )
        )
    z = leg + body
    if blocky:
        pieces.append(Piece("body", moved(box((0.14, 2 * wide, body), 0.03), (0, 0, leg + body / 2)), shirt))
    elif chance(rng, 0.35):
        skirt = lathe(
            [
                (0, leg * 0.6),
                (wide * 1.5, leg * 0.6),
                (wide * 0.75, leg + body * 0.4),
                (wide * 0.9, z - 0.03),
                (0, z),
            ],
            28,
        )
        pieces.append(Piece("dress", scaled(skirt, (0.8, 1, 1)), shirt))
    else:
        pieces.append(
            Piece(
                "body",
                moved(
                    ellipsoid((0.1, wide * 1.05, body * 0.56), roundness=(0.55, 0.8), segments=26),
                    (0, 0, leg + body / 2),
                ),
                shirt,
            )
        )
    for s in (1, -1):
        raise_deg = pick(rng, (between(rng, 8, 30), between(rng, 60, 150)), (3, 1))
        swing = between(rng, -25, 40)
        long = between(rng, 0.26, 0.32)
        arm = turned(
            turned(rod((0, 0, 0), (0, 0, -long), 0.042, end_radius=0.032), "y", -swing), "x", s * raise_deg
        )
        hand = turned(
            turned(moved(ellipsoid((0.042, 0.04, 0.048), segments=16), (0, 0, -long - 0.02)), "y", -swing),
            "x",
            s * raise_deg,
        )
        shoulder = (0, s * (wide + 0.01), z - 0.05)
        pieces += [
            Piece("arms", moved(arm, shoulder), shirt),
            Piece("hands", moved(hand, shoulder), skin),
            ball("shoulders", (0.055, 0.055, 0.055), shoulder, shirt, 16),
        ]
    head = between(rng, 0.11, 0.16)
    top = z + head * 1.05 + 0.02
    pieces.append(Piece("neck", moved(cylinder(0.045, 0.1, 16), (0, 0, z - 0.04)), skin))
    square = (0.3, 0.3) if blocky else (1.0, 1.0)
    pieces.append(
        Piece(
            "head",
            moved(
                ellipsoid((head * 0.92, head * 0.9, head * 1.1), roundness=square, segments=28), (0, 0, top)
            ),
            skin,
        )
    )
    pieces += eyes(rng, head * 0.84, head * 0.36, top + head * 0.12, head * 0.1)
    pieces.append(
        ball("nose", (head * 0.14, head * 0.1, head * 0.12), (head * 0.92, 0, top - head * 0.12), skin, 12)
    )
    hair = looks.fur(rng)
    kind = pick(rng, ("hair", "hat", "cap", "helmet"))
    if kind == "hair":
        pieces.append(
            ball("hair", (head * 0.98, head * 0.99, head * 0.95), (-head * 0.2, 0, top + head * 0.33), hair)
        )
    elif kind == "hat":
        hat = looks.fabric(rng)
        profile = [
            (0, 0),
            (head * 1.5, 0),
            (head * 1.5, 0.015),
            (head * 0.85, 0.02),
            (head * 0.75, head * 0.9),
            (0, head * 0.95),
        ]
        pieces.append(Piece("hat", moved(lathe(profile, 30), (0, 0, top + head * 0.6)), hat))
    elif kind == "cap":
        cap = looks.fabric(rng)
        pieces.append(ball("cap", (head, head, head * 0.75), (-0.01, 0, top + head * 0.5), cap))
        pieces.append(ball("peak", (head * 0.7, head * 0.65, 0.015), (head * 0.9, 0, top + head * 0.5), cap))
    else:
        pieces.append(
            ball(
                "helmet",
                (head * 1.1, head * 1.1, head * 1.0),
                (-head * 0.18, 0, top + head * 0.4),
                looks.paint(rng),
            )
        )
    return pieces


def animal(rng: np.random.Generator) -> list[Piece]:
    """Four legs, a body, a head on a neck: dogs, cows, elephants, giraffes and what no zoo has; and birds."""
    coat = pick(rng, (looks.fur, looks.paint, looks.fabric, looks.wood, looks.printed), (3, 2, 1, 0.7, 0.7))(
        rng
    )
    second = looks.fur(rng)
    if chance(rng, 0.25):
        return _bird(rng, coat, second)
    long, round_ = between(rng, 0.24, 0.36), between(rng, 0.12, 0.2)
    leg, thick = between(rng, 0.14, 0.4), between(rng, 0.035, 0.07)
    z = leg + round_ * 0.75
    pieces = [ball("body", (long, round_, round_ * between(rng, 0.85, 1.05)), (0, 0, z), coat, 28)]
    for x in (long * 0.62, -long * 0.62):
        for s in (1, -1):
            place, foot = (x, s * round_ * 0.55, z), (x + between(rng, -0.04, 0.04), s * round_ * 0.6, 0.01)
            pieces.append(
                Piece("legs", rod(foot, place, thick * 0.8, end_radius=thick * 1.15, segments=14), coat)
            )
            pieces.append(
                ball(
                    "feet",
                    (thick * 1.15, thick, thick * 0.55),
                    (foot[0] + 0.01, foot[1], thick * 0.5),
                    second,
                    14,
                )
            )
    rise, reach = between(rng, 0.02, 0.45), between(rng, 0.08, 0.2)
    head = between(rng, 0.09, 0.14)
    end = (long * 0.85 + reach, 0.0, z + rise + round_ * 0.3)
    pieces.append(
        Piece(
            "neck",
            rod((long * 0.62, 0, z + round_ * 0.2), end, round_ * 0.62, end_radius=head * 0.62, segments=18),
            coat,
        )
    )
    pieces.append(ball("head", (head * 1.15, head * 0.85, head * 0.9), end, coat))
    snout = between(rng, 0.8, 1.5)
    pieces.append(
        ball(
            "snout",
            (head * 0.6 * snout, head * 0.5, head * 0.45),
            (end[0] + head * 0.95, 0, end[2] - head * 0.25),
            second,
        )
    )
    pieces += eyes(rng, end[0] + head * 0.75, head * 0.58, end[2] + head * 0.35, head * 0.13)
    ears = pick(rng, ("up", "down", "horns", "big"))
    for s in (1, -1):
        spot = (end[0] - head * 0.3, s * head * 0.6, end[2] + head * 0.8)
        if ears == "up":
            pieces.append(
                Piece(
                    "ears",
                    moved(turned(ellipsoid((0.02, 0.035, 0.075), segments=16), "x", -s * 20), spot),
                    second,
                )
            )
        elif ears == "down":
            pieces.append(
                Piece(
                    "ears",
                    moved(
                        turned(ellipsoid((0.04, 0.02, 0.085), segments=16), "x", s * 15),
                        (spot[0], s * head * 0.9, end[2] + head * 0.1),
                    ),
                    second,
                )
            )
        elif ears == "horns":
            pieces.append(
                Piece(
                    "horns",
                    rod(spot, (spot[0] - 0.03, s * head * 1.1, spot[2] + 0.12), 0.02, end_radius=0.003),
                    second,
                )
            )
        else:
            pieces.append(
                ball("ears", (0.025, 0.1, 0.12), (spot[0], s * head * 1.35, end[2] + head * 0.3), coat, 18)
            )
    if ears == "big" and chance(rng, 0.7):
        x, top = end[0] + head, end[2] - head * 0.2
        trunk = [
            (x, 0, top),
            (x + 0.09, 0, top - 0.06),
            (x + 0.11, 0, top - 0.18),
            (x + 0.16, 0, max(0.05, top - 0.27)),
        ]
        pieces.append(Piece("trunk", tube(trunk, [0.055, 0.045, 0.036, 0.028], 14, round_ends=True), coat))
    tail = between(rng, 0.08, 0.3)
    lift = between(rng, -0.15, 0.2)
    path = [
        (-long * 0.9, 0, z + round_ * 0.2),
        (-long - tail * 0.5, 0, z + round_ * 0.2 + lift * 0.3),
        (-long - tail * 0.8, 0, z + round_ * 0.2 + lift),
    ]
    pieces.append(Piece("tail", tube(path, [0.03, 0.024, 0.018], 10, round_ends=True), coat))
    return pieces


def _bird(rng: np.random.Generator, coat: Look, second: Look) -> list[Piece]:
    long, round_, leg = between(rng, 0.22, 0.3), between(rng, 0.15, 0.2), between(rng, 0.1, 0.25)
    z = leg + round_ * 0.8
    beak = looks.of(
        "beak",
        looks.patterns.plain(rng, 64, pick(rng, ((0.95, 0.6, 0.1), (0.9, 0.75, 0.2), (0.2, 0.2, 0.2)))),
        roughness=0.4,
    )
    head = between(rng, 0.1, 0.14)
    place = (long * 0.75, 0.0, z + round_ + head * between(rng, 0.3, 1.2))
    tip = cylinder(head * 0.38, head * between(rng, 0.8, 1.6), 16, top=0.004)
    pieces = [
        Piece(
            "body", moved(turned(ellipsoid((long, round_, round_), segments=28), "y", -15), (0, 0, z)), coat
        ),
        Piece(
            "neck",
            rod((long * 0.45, 0, z + round_ * 0.3), place, head * 0.8, end_radius=head * 0.7, segments=18),
            coat,
        ),
        ball("head", (head, head * 0.95, head), place, coat),
        Piece("beak", moved(turned(tip, "y", 95), (place[0] + head * 0.85, 0, place[2] - head * 0.1)), beak),
        Piece(
            "tail",
            moved(turned(ellipsoid((0.16, 0.07, 0.025), segments=18), "y", 20), (-long * 1.1, 0, z + 0.06)),
            second,
        ),
    ]
    pieces += eyes(rng, place[0] + head * 0.6, head * 0.6, place[2] + head * 0.3, head * 0.13)
    for s in (1, -1):
        pieces.append(
            Piece(
                "wings",
                moved(
                    turned(ellipsoid((long * 0.8, 0.035, round_ * 0.6), segments=20), "y", -20),
                    (-long * 0.12, s * round_ * 0.93, z + 0.02),
                ),
                second,
            )
        )
        pieces.append(Piece("legs", rod((0, s * 0.07, 0), (0, s * 0.07, z), 0.014), beak))
        pieces.append(ball("feet", (0.075, 0.045, 0.014), (0.035, s * 0.07, 0.014), beak, 14))
    return pieces
