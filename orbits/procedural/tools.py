"""Hammers, screwdrivers, wrenches, saws and axes: made upright, then laid down or left standing."""

from __future__ import annotations

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.looks import Look
from mv3d.orbits.procedural.parts import box, ellipsoid, extrude
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder, lathe, rod, tube
from mv3d.orbits.procedural.solids import moved, planar, scaled, turned, warped


def _posed(rng: np.random.Generator, pieces: list[Piece]) -> list[Piece]:
    """Standing, leaning or lying: orbits of all of them are of use."""
    tilt = pick(rng, (0.0, 90.0, between(rng, 20, 70)), (2, 2, 1))
    turn = pick(rng, (0.0, 90.0, between(rng, 0, 360)))
    return [Piece(p.name, turned(turned(p.solid, "y", tilt), "z", turn), p.look) for p in pieces]


def _grip(rng: np.random.Generator, low: float, high: float, radius: float) -> list[Piece]:
    """A handle from a lathe, of wood or with a rubber sleeve."""
    t = np.linspace(0, 1, 22)
    wave = radius * (
        1 + between(rng, 0.05, 0.25) * np.cos(2 * np.pi * (t * count(rng, 1, 2) + between(rng, 0, 1)))
    )
    z = low + (high - low) * t
    profile = [
        (0, low - radius * 0.3),
        (wave[0] * 0.7, low - radius * 0.3),
        *zip(wave.tolist(), z.tolist(), strict=True),
        (0, high),
    ]
    look = pick(rng, (looks.wood, looks.plastic, looks.paint, looks.printed), (3, 2, 1, 0.5))(rng)
    solid = scaled(lathe(profile, 20), (1, between(rng, 0.7, 1.0), 1))
    pieces = [Piece("handle", solid, look.along_v())]
    if chance(rng, 0.4):
        sleeve = lathe(
            [
                (0, low),
                (wave.max() * 1.12, low),
                (wave.max() * 1.12, low + (high - low) * 0.4),
                (0, low + (high - low) * 0.4),
            ],
            20,
        )
        pieces.append(Piece("sleeve", sleeve, looks.plastic(rng) if chance(rng, 0.6) else looks.rubber(rng)))
    return pieces


def hammer(rng: np.random.Generator) -> list[Piece]:
    """Claw, sledge, ball and mallet heads."""
    pieces = _grip(rng, 0.0, 1.0, between(rng, 0.03, 0.045))
    metal = looks.metal(rng)
    kind = pick(rng, ("claw", "sledge", "ball", "mallet"))
    if kind == "mallet":
        head = pick(rng, (looks.wood, looks.rubber, looks.paint))(rng)
        r, long = between(rng, 0.1, 0.14), between(rng, 0.32, 0.45)
        return _posed(
            rng,
            [
                *pieces,
                Piece(
                    "head",
                    moved(turned(cylinder(r, long, 26, bevel=0.015), "y", 90), (-long / 2, 0, 0.93)),
                    head,
                ),
            ],
        )
    neck = box((0.13, 0.1, 0.12), 0.015)
    pieces.append(Piece("head", moved(neck, (0, 0, 0.94)), metal))
    if kind == "sledge":
        return _posed(
            rng,
            [
                *pieces,
                Piece("head", moved(box((between(rng, 0.32, 0.45), 0.13, 0.14), 0.02), (0, 0, 0.94)), metal),
            ],
        )
    pieces.append(Piece("face", moved(turned(cylinder(0.04, 0.12, 18), "y", 90), (0.06, 0, 0.94)), metal))
    pieces.append(
        Piece("face", moved(turned(cylinder(0.062, 0.07, 20, bevel=0.012), "y", 90), (0.15, 0, 0.94)), metal)
    )
    if kind == "ball":
        pieces.append(
            Piece("peen", moved(ellipsoid((0.075, 0.06, 0.06), segments=20), (-0.13, 0, 0.94)), metal)
        )
        return _posed(rng, pieces)
    for side in (1, -1):
        path = [
            (-0.04, side * 0.025, 0.95),
            (-0.12, side * 0.032, 0.95),
            (-0.19, side * 0.04, 0.92),
            (-0.25, side * 0.045, 0.86),
        ]
        pieces.append(Piece("claw", tube(path, [0.045, 0.038, 0.028, 0.012], 12, flat=0.7), metal))
    return _posed(rng, pieces)


def screwdriver(rng: np.random.Generator) -> list[Piece]:
    metal, grip = looks.metal(rng), looks.plastic(rng)
    radius, long = between(rng, 0.06, 0.09), between(rng, 0.32, 0.45)
    t = np.linspace(0, 1, 18)
    wave = radius * (0.75 + 0.25 * np.sin(np.pi * (0.15 + t)) + 0.1 * np.cos(3 * np.pi * t))
    profile = [(0, 0), *zip(wave.tolist(), (t * long).tolist(), strict=True), (0, long)]
    handle = lathe(profile, pick(rng, (6, 8, 24)))
    pieces = [
        Piece("handle", handle, grip),
        Piece(
            "collar",
            moved(cylinder(radius * 0.6, 0.05, 20, bevel=0.01), (0, 0, long - 0.01)),
            looks.plastic(rng),
        ),
        Piece("shaft", moved(cylinder(0.02, 1.0 - long - 0.06, 14), (0, 0, long)), metal),
    ]
    if chance(rng, 0.5):
        pieces.append(Piece("tip", moved(box((0.008, 0.06, 0.1), 0.002), (0, 0, 0.95)), metal))
    else:
        pieces.append(Piece("tip", moved(cylinder(0.024, 0.08, 12, top=0.006), (0, 0, 0.92)), metal))
    if chance(rng, 0.5):
        pieces.append(
            Piece(
                "band",
                moved(cylinder(radius * 1.03, 0.04, 24, bevel=0.005), (0, 0, long * 0.3)),
                looks.plastic(rng),
            )
        )
    return _posed(rng, pieces)


def wrench(rng: np.random.Generator) -> list[Piece]:
    """Open at one or both ends, with a ring or adjustable."""
    look = looks.metal(rng) if chance(rng, 0.6) else looks.paint(rng)
    wide, thick = between(rng, 0.05, 0.09), between(rng, 0.035, 0.06)
    shaft = [
        (-wide / 2, 0.1),
        (wide / 2, 0.1),
        (wide / 2 * 0.8, 0.5),
        (wide / 2, 0.9),
        (-wide / 2, 0.9),
        (-wide / 2 * 0.8, 0.5),
    ]
    pieces = [Piece("shaft", turned(extrude(shaft, thick * 0.8), "x", 90), look)]

    def jaw(angle: float, radius: float) -> list[Piece]:
        t = np.linspace(np.deg2rad(35), np.deg2rad(325), 26)
        outer = np.stack([radius * np.cos(t), radius * np.sin(t)], 1)
        gap = radius * 0.42
        inner = np.array(
            [
                (radius * 0.75, -gap),
                (-radius * 0.1, -gap),
                (-radius * 0.35, 0),
                (-radius * 0.1, gap),
                (radius * 0.75, gap),
            ]
        )
        return [
            Piece(
                "jaws",
                turned(turned(extrude(np.concatenate([outer, inner]), thick), "x", 90), "y", angle),
                look,
            )
        ]

    def ring(radius: float) -> list[Piece]:
        profile = [
            (radius * 0.6, -thick / 2),
            (radius, -thick / 2),
            (radius, thick / 2),
            (radius * 0.6, thick / 2),
        ]
        return [Piece("ring", turned(lathe(profile, 30, closed=True), "x", 90), look)]

    lower, upper = between(rng, 0.09, 0.14), between(rng, 0.09, 0.14)
    top = jaw(-90 + between(rng, -20, 20), upper)
    low = ring(lower) if chance(rng, 0.5) else jaw(90 + between(rng, -20, 20), lower)
    pieces += [Piece(p.name, moved(p.solid, (0, 0, 0.97)), p.look) for p in top]
    pieces += [Piece(p.name, moved(p.solid, (0, 0, 0.03)), p.look) for p in low]
    if chance(rng, 0.4):
        pieces.append(
            Piece("grip", moved(box((wide * 1.3, thick * 1.3, 0.4), 0.015), (0, 0, 0.42)), looks.plastic(rng))
        )
    return _posed(rng, pieces)


def saw(rng: np.random.Generator) -> list[Piece]:
    """A handsaw with teeth, or a bow saw."""
    metal = looks.metal(rng)
    handle = pick(rng, (looks.wood, looks.plastic, looks.paint))(rng)
    teeth = count(rng, 14, 26)
    x = np.linspace(0.0, 0.78, teeth * 2 + 1)
    depth = between(rng, 0.012, 0.025)
    edge = np.stack([x, np.where(np.arange(len(x)) % 2, -depth, 0.0)], 1)
    if chance(rng, 0.35):
        outline = np.concatenate([edge, [(0.78, 0.035), (0.0, 0.035)]])
        blade = turned(extrude(outline, 0.01), "x", 90)
        t = np.linspace(0, np.pi, 24)
        bow_ = np.stack(
            [0.39 + 0.39 * np.cos(t), 0 * t, 0.02 + between(rng, 0.22, 0.36) * np.sin(t) ** 0.6], 1
        )
        return _posed(
            rng, [Piece("blade", blade, metal), Piece("bow", tube(bow_, 0.018, 12, round_ends=True), handle)]
        )
    high, tip = between(rng, 0.18, 0.26), between(rng, 0.05, 0.1)
    outline = np.concatenate([edge, [(0.78, tip), (0.0, high)]])
    blade = turned(extrude(outline, 0.012), "x", 90)
    t = np.linspace(0, 2 * np.pi, 26, endpoint=False)
    loop = np.stack(
        [-0.09 + 0.1 * np.cos(t) + 0.02 * np.sin(2 * t), 0 * t, high / 2 + (high / 2 + 0.03) * np.sin(t)], 1
    )
    pieces = [
        Piece("blade", blade, metal),
        Piece("handle", tube(loop, 0.03, 12, closed=True, flat=0.8), handle),
        Piece("cheek", moved(box((0.1, 0.035, high * 0.9), 0.01), (0.01, 0, high / 2)), handle),
    ]
    for z in (high * 0.3, high * 0.7):
        pieces.append(
            Piece(
                "rivets",
                moved(turned(moved(cylinder(0.012, 0.044, 12), (0, 0, -0.022)), "x", 90), (0.02, 0, z)),
                metal,
            )
        )
    return _posed(rng, pieces)


def axe(rng: np.random.Generator) -> list[Piece]:
    """With one blade or two, on a straight or a bent handle."""
    wood = looks.wood(rng) if chance(rng, 0.75) else looks.paint(rng)
    metal = looks.metal(rng)
    bend = between(rng, -0.05, 0.05)
    z = np.linspace(0, 1, 16)
    path = np.stack([bend * np.sin(2 * np.pi * z), 0 * z, z], 1)
    radius = between(rng, 0.028, 0.04) * (1 + 0.35 * np.exp(-z * 12))
    pieces = [Piece("handle", tube(path, radius, 14, flat=0.75, round_ends=True), wood.along_v())]
    reach, spread = between(rng, 0.18, 0.28), between(rng, 0.1, 0.17)
    t = np.linspace(-1, 1, 13)
    edge = np.stack([reach * (1 - 0.15 * t**2), spread * t], 1)
    outline = np.concatenate([[(-0.05, -0.055), (0.05, -0.05)], edge, [(0.05, 0.055), (-0.05, 0.055)]])
    head = turned(extrude(outline, 0.06), "x", 90)

    def thin(points: np.ndarray) -> np.ndarray:
        share = np.clip(1 - np.maximum(points[:, 0] - 0.04, 0) / reach * 1.1, 0.08, 1)
        return points * np.stack([np.ones_like(share), share, np.ones_like(share)], 1)

    head = warped(head, thin)  # towards the edge
    pieces.append(Piece("head", moved(planar(head, "x", "z"), (0, 0, 0.88)), metal))
    if chance(rng, 0.3):
        pieces.append(Piece("head", moved(turned(planar(head, "x", "z"), "z", 180), (0, 0, 0.88)), metal))
    return _posed(rng, pieces)


def brush(rng: np.random.Generator) -> list[Piece]:
    """Brooms, paint brushes and rackets: a handle with something broad at its end."""
    pieces = _grip(rng, 0.0, between(rng, 0.4, 0.75), between(rng, 0.025, 0.045))
    top = float(pieces[0].solid.high[2])
    if chance(rng, 0.5):
        wide, thick = between(rng, 0.12, 0.25), between(rng, 0.05, 0.09)
        hair: Look = looks.of(
            "bristles",
            looks.patterns.bark(rng, 128, (0.8, 0.7, 0.5), (0.4, 0.3, 0.2)),
            roughness=1.0,
            tile=0.1,
        )
        pieces.append(
            Piece("ferrule", moved(box((thick, wide, 0.1), 0.01), (0, 0, top + 0.03)), looks.metal(rng))
        )
        pieces.append(
            Piece("bristles", moved(box((thick * 0.85, wide * 0.95, 0.24), 0.03), (0, 0, top + 0.18)), hair)
        )
        return _posed(rng, pieces)
    t = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    wide, high = between(rng, 0.14, 0.2), between(rng, 0.17, 0.25)
    frame, string = looks.paint(rng), looks.fabric(rng)
    loop = np.stack([0 * t, wide * np.sin(t), top + high + high * np.cos(t)], 1)
    pieces.append(Piece("frame", tube(loop, 0.018, 10, closed=True), frame))
    if chance(rng, 0.5):
        disc = scaled(turned(moved(cylinder(1.0, 0.015, 32), (0, 0, -0.0075)), "y", 90), (1, wide, high))
        pieces.append(Piece("face", moved(planar(disc, "y", "z"), (0, 0, top + high)), string))
    else:
        for s in np.linspace(-0.8, 0.8, 9):
            half = np.sqrt(1 - s**2)
            pieces.append(
                Piece(
                    "strings",
                    rod(
                        (0, wide * s, top + high * (1 - half)),
                        (0, wide * s, top + high * (1 + half)),
                        0.004,
                        segments=6,
                    ),
                    string,
                )
            )
            pieces.append(
                Piece(
                    "strings",
                    rod(
                        (0, -wide * half, top + high * (1 + s)),
                        (0, wide * half, top + high * (1 + s)),
                        0.004,
                        segments=6,
                    ),
                    string,
                )
            )
    return _posed(rng, pieces)
