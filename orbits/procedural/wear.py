"""Shoes, bags, hats and boxes of gifts."""

from __future__ import annotations

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.parts import box, ellipsoid, extrude, sheet
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder, lathe, tube
from mv3d.orbits.procedural.solids import Solid, mirrored, moved, planar, scaled, turned


def _sole_outline(long: float, wide: float) -> np.ndarray:
    """A foot's outline, the toe at +X."""
    t = np.linspace(0, 2 * np.pi, 44, endpoint=False)
    x = np.cos(t)
    half = 0.78 + 0.2 * x - 0.14 * np.cos(2.2 * x + 0.4)
    return np.stack([x * long / 2, np.sign(np.sin(t)) * np.abs(np.sin(t)) ** 0.75 * half * wide / 2], 1)


def _upper(long: float, wide: float, instep: float, ankle: float, opening: float) -> Solid:
    """Rings from the sole up to the opening around the ankle: a closed sheet turned inside at its edge."""
    t, h = np.linspace(0, 2 * np.pi, 49), np.linspace(0, 1, 15)
    outline = _sole_outline(long, wide)
    angle = np.linspace(0, 2 * np.pi, 44, endpoint=False)
    base = np.stack(
        [
            np.interp(t, np.append(angle, 2 * np.pi), np.append(outline[:, k], outline[0, k]))
            for k in range(2)
        ],
        1,
    )
    rim = np.stack([-long * 0.24 + opening * np.cos(t), wide * 0.36 * np.sin(t)], 1)
    grid = np.empty((len(h), len(t), 3))
    blend = (h**1.4)[:, None, None]
    grid[..., :2] = base[None] * (1 - blend) + rim[None] * blend
    bulge = 1 + 0.1 * np.sin(np.pi * h)[:, None]
    grid[..., 1] *= bulge
    front = np.clip((base[:, 0] / long + 0.5), 0, 1)[None]
    lift = np.clip(h[:, None] * 1.0, 0, 1)
    grid[..., 2] = lift * (ankle * (1 - front**2) + instep * front**2) * (1 + 0.25 * (1 - lift) * front * 2)
    grid[:, -1] = grid[:, 0]
    return sheet(grid[::-1], 0.018)


def shoe(rng: np.random.Generator) -> list[Piece]:
    """A pair or one: trainers, boots, ankle boots, heels on soles."""
    upper, sole, second = (
        looks.fabric(rng),
        pick(rng, (looks.rubber, looks.paint, looks.plastic))(rng),
        looks.fabric(rng),
    )
    long, wide = 0.8, between(rng, 0.27, 0.34)
    boot = chance(rng, 0.35)
    thick = between(rng, 0.05, 0.1)
    instep, ankle = between(rng, 0.2, 0.28), between(rng, 0.26, 0.36)
    parts = [
        Piece(
            "sole", moved(extrude(_sole_outline(long * 1.03, wide * 1.06), thick), (0, 0, thick / 2)), sole
        ),
        Piece(
            "upper",
            moved(_upper(long, wide, instep, ankle, between(rng, 0.14, 0.17)), (0, 0, thick * 0.9)),
            upper,
        ),
    ]
    inner = ellipsoid((0.13, wide * 0.33, 0.04), segments=20)
    parts.append(Piece("lining", moved(inner, (-long * 0.24, 0, thick + ankle * 0.72)), second))
    cap = ellipsoid((0.17, wide * 0.42, 0.085), segments=22)
    if chance(rng, 0.6):
        parts.append(Piece("toe_cap", moved(cap, (long * 0.3, 0, thick + 0.055)), second))
    if boot:
        shaft = between(rng, 0.25, 0.5)
        profile = [(0.135, 0), (0.15, shaft * 0.4), (0.16, shaft), (0.14, shaft), (0.12, 0)]
        leg = moved(
            scaled(lathe(profile, 30, closed=True), (1.08, wide * 2.35, 1)),
            (-long * 0.24, 0, thick + ankle * 0.8),
        )
        parts.append(Piece("shaft", leg, upper))
    else:
        laces = looks.paint(rng)
        for k in range(count(rng, 3, 5)):
            x = long * (0.02 + 0.05 * k)
            z = thick + instep * (1.12 - 0.11 * k)
            lace = tube(
                [(x, -wide * 0.26, z - 0.045), (x + 0.01, 0, z + 0.0), (x, wide * 0.26, z - 0.045)],
                0.012,
                8,
                round_ends=True,
            )
            parts.append(Piece("laces", lace, laces))
    if chance(rng, 0.5):
        stripe = box((0.05, wide * 1.02, 0.12), 0.01)
        parts.append(Piece("stripe", moved(turned(stripe, "y", 30), (-0.02, 0, thick + 0.1)), second))
    if chance(rng, 0.45):
        turn = between(rng, -8, 8)
        shift = (0.0, wide * 1.2, 0.0)
        left = [Piece(p.name, moved(turned(mirrored(p.solid, "y"), "z", turn), shift), p.look) for p in parts]
        return parts + left
    return parts


def bag(rng: np.random.Generator) -> list[Piece]:
    """Handbags, rucksacks, suitcases, shopping bags; the front faces +X."""
    cloth, trim, metal = looks.fabric(rng), looks.fabric(rng), looks.metal(rng)
    wide, high, deep = between(rng, 0.45, 0.8), between(rng, 0.4, 0.7), between(rng, 0.16, 0.3)
    kind = pick(rng, ("hand", "rucksack", "suitcase", "tote"))
    if kind == "suitcase":
        shell = pick(rng, (looks.paint, looks.plastic, looks.fabric))(rng)
        high = between(rng, 0.65, 0.9)
        pieces = [Piece("shell", moved(box((deep, wide, high), deep * 0.2), (0, 0, high / 2 + 0.05)), shell)]
        for k in range(count(rng, 3, 6)):
            pieces.append(
                Piece(
                    "ribs",
                    moved(
                        box((deep * 1.03, 0.02, high * 0.8), 0.005),
                        (0, (k - 2) * wide * 0.17, high / 2 + 0.05),
                    ),
                    shell,
                )
            )
        for s in (1, -1):
            pieces.append(
                Piece("rails", moved(cylinder(0.01, 0.24, 10), (-deep * 0.3, s * 0.1, high)), metal)
            )
            for x in (deep * 0.3, -deep * 0.3):
                wheel = turned(moved(cylinder(0.035, 0.03, 16), (0, 0, -0.015)), "x", 90)
                pieces.append(Piece("wheels", moved(wheel, (x, s * wide * 0.4, 0.035)), looks.rubber(rng)))
        pieces.append(
            Piece("handle", moved(box((0.035, 0.26, 0.035), 0.01), (-deep * 0.3, 0, high + 0.24)), trim)
        )
        return pieces
    bulge = pick(rng, (0.25, 0.4, 0.6))
    if kind == "tote":
        outline = [(-wide / 2, 0), (wide / 2, 0), (wide * 0.56, high), (-wide * 0.56, high)]
        body = turned(turned(extrude(outline, deep), "x", 90), "z", 90)
        look = looks.sign(rng) if chance(rng, 0.5) else cloth
        pieces = [Piece("body", planar(body, "y", "z"), look)]
    else:
        body = ellipsoid((deep / 2, wide / 2, high / 2), roundness=(bulge, 0.35), segments=30)
        pieces = [Piece("body", moved(planar(body, "y", "z"), (0, 0, high / 2)), cloth)]
    t = np.linspace(0, np.pi, 22)
    if kind == "rucksack":
        pocket = ellipsoid((deep * 0.25, wide * 0.36, high * 0.24), roundness=(0.4, 0.4), segments=24)
        pieces.append(Piece("pocket", moved(planar(pocket, "y", "z"), (deep * 0.45, 0, high * 0.32)), trim))
        pieces.append(
            Piece("zip", moved(box((0.012, wide * 0.5, 0.015)), (deep * 0.7, 0, high * 0.46)), metal)
        )
        flap = ellipsoid((deep * 0.56, wide * 0.47, high * 0.12), roundness=(0.6, 0.4), segments=24)
        pieces.append(Piece("flap", moved(planar(flap, "y", "x"), (0.01, 0, high * 0.93)), trim))
        for s in (1, -1):
            strap = np.stack(
                [-deep * 0.5 - 0.1 * np.sin(t), 0 * t + s * wide * 0.25, high * (0.5 + 0.38 * np.cos(t))], 1
            )
            pieces.append(Piece("straps", tube(strap, 0.03, 10, flat=0.4), trim))
        return pieces
    handles = (deep * 0.3, -deep * 0.3) if kind == "tote" or chance(rng, 0.5) else (0.0,)
    rise = between(rng, 0.15, 0.35)
    for x in handles:
        arc = np.stack([0 * t + x, wide * 0.24 * np.cos(t), high * 0.93 + rise * np.sin(t) ** 0.8], 1)
        pieces.append(Piece("handles", tube(arc, 0.02, 10, flat=0.7), trim))
    if kind == "hand":
        flap = ellipsoid((deep * 0.12, wide * 0.46, high * 0.3), roundness=(0.5, 0.4), segments=24)
        pieces.append(Piece("flap", moved(planar(flap, "y", "z"), (deep * 0.46, 0, high * 0.66)), trim))
        pieces.append(
            Piece(
                "clasp",
                moved(ellipsoid((0.03, 0.045, 0.035), segments=16), (deep * 0.58, 0, high * 0.42)),
                metal,
            )
        )
        for s in (1, -1):
            pieces.append(
                Piece(
                    "corners",
                    moved(ellipsoid((deep * 0.45, 0.06, 0.06), segments=16), (0, s * wide * 0.42, 0.06)),
                    trim,
                )
            )
    return pieces


def hat(rng: np.random.Generator) -> list[Piece]:
    """Brimmed hats, top hats, cones and bobble hats."""
    cloth, band = looks.fabric(rng), looks.fabric(rng)
    crown, high = between(rng, 0.2, 0.28), between(rng, 0.2, 0.45)
    brim = crown + between(rng, 0.02, 0.3)
    top = crown * between(rng, 0.55, 1.1)
    roll = between(rng, -0.03, 0.06)
    if chance(rng, 0.25):
        profile = [
            (0, 0),
            (crown, 0),
            (crown * 0.95, high * 0.5),
            (crown * 0.6, high * 0.85),
            (0.05, high),
            (0, high),
        ]
        cap = [(crown * 1.0, 0), (crown * 1.06, 0.02), (crown * 1.06, 0.09), (crown * 1.0, 0.11)]
        return [
            Piece("crown", lathe(profile, 36), cloth),
            Piece("cuff", lathe(cap, 36, closed=True), band),
            Piece("bobble", moved(ellipsoid((0.08,) * 3, segments=20), (0, 0, high + 0.05)), band),
        ]
    profile = [
        (0, 0.012),
        (crown * 0.9, 0.012),
        (brim, roll - 0.012),
        (brim + 0.005, roll),
        (brim, roll + 0.012),
        (crown * 1.08, 0.03),
        (crown, 0.06),
        (top, high),
        (top * 0.85, high + 0.03),
        (0, high + between(rng, 0.0, 0.05)),
    ]
    stretch = (between(rng, 1.0, 1.25), 1, 1)
    ring = [
        (crown * 1.005, 0.05),
        (crown * 1.02, 0.05),
        (crown * 1.02 + (top - crown) * 0.2, 0.05 + high * 0.2),
        (crown + (top - crown) * 0.2, 0.05 + high * 0.2),
    ]
    return [
        Piece("hat", scaled(lathe(profile, 44), stretch), cloth),
        Piece("band", scaled(lathe(ring, 44, closed=True), stretch), band),
    ]


def gift(rng: np.random.Generator) -> list[Piece]:
    """Boxes: gifts with ribbons, parcels, chests with a lid, books."""
    paper, ribbon = pick(rng, (looks.printed, looks.fabric, looks.sign, looks.wood))(rng), looks.plastic(rng)
    x, y, z = between(rng, 0.35, 0.7), between(rng, 0.35, 0.8), between(rng, 0.2, 0.7)
    kind = pick(rng, ("gift", "chest", "book"))
    if kind == "book":
        z = between(rng, 0.06, 0.2)
        pages = looks.of(
            "pages",
            looks.patterns.bark(rng, 128, (0.95, 0.93, 0.87), (0.8, 0.77, 0.7)).swapaxes(0, 1),
            roughness=1.0,
            tile=0.1,
        )
        pieces = [Piece("pages", moved(box((x * 0.96, y * 0.97, z * 0.9)), (0.0, 0, z / 2)), pages)]
        for level in (0.01, z - 0.01):
            pieces.append(Piece("cover", moved(box((x, y, 0.02), 0.006), (0, 0, level)), paper))
        pieces.append(Piece("spine", moved(box((0.02, y, z), 0.008), (-x / 2, 0, z / 2)), paper))
        tilt = pick(rng, (0.0, 90.0, 75.0))
        return [Piece(p.name, turned(p.solid, "y", -tilt), p.look) for p in pieces]
    pieces = [Piece("box", moved(box((x, y, z), 0.012), (0, 0, z / 2)), paper)]
    if kind == "chest":
        lid = turned(cylinder(x / 2, y, 32, bevel=0.01), "x", 90)
        pieces.append(Piece("lid", moved(scaled(lid, (1, 1, 0.6)), (0, y / 2, z)), paper))
        metal = looks.metal(rng)
        for s in (-0.35, 0.35):
            strap = scaled(turned(cylinder(x / 2 * 1.02, 0.05, 32), "x", 90), (1, 1, 0.6))
            pieces.append(Piece("straps", moved(strap, (0, s * y + 0.025, z)), metal))
            pieces.append(Piece("straps", moved(box((x * 1.02, 0.05, z)), (0, s * y, z / 2)), metal))
        return [*pieces, Piece("lock", moved(box((0.04, 0.09, 0.11), 0.01), (x / 2, 0, z)), metal)]
    if chance(rng, 0.6):
        pieces.append(Piece("lid", moved(box((x * 1.06, y * 1.06, z * 0.2), 0.012), (0, 0, z * 0.92)), paper))
        z = z * 1.02
    wide = between(rng, 0.04, 0.09)
    pieces.append(Piece("ribbon", moved(box((x * 1.075, wide, z * 1.012)), (0, 0, z / 2)), ribbon))
    pieces.append(Piece("ribbon", moved(box((wide, y * 1.075, z * 1.012)), (0, 0, z / 2)), ribbon))
    for k in range(count(rng, 2, 6)):
        t = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        loop = np.stack([0.09 + 0.09 * np.cos(t), 0 * t, 0.05 * np.sin(t) * (1.3 + np.cos(t))], 1)
        pieces.append(
            Piece(
                "bow",
                moved(
                    turned(turned(tube(loop, 0.025, 8, closed=True, flat=0.25), "y", -25), "z", 72.0 * k),
                    (0, 0, z + 0.02),
                ),
                ribbon,
            )
        )
    return pieces
