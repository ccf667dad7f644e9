"""Trees, cacti, potted plants, flowers and mushrooms."""

from __future__ import annotations

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.looks import Look
from mv3d.orbits.procedural.parts import ellipsoid, sheet
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder, lathe, rod, tube
from mv3d.orbits.procedural.solids import Solid, Warp, moved, scaled, turned, warped


def bumps(rng: np.random.Generator, depth: float, waves: float) -> Warp:
    """Points pushed outwards from the origin by a sum of sines: an uneven ball."""
    directions = rng.standard_normal((6, 3)) * waves
    phases = rng.uniform(0, 2 * np.pi, 6)

    def warp(points: np.ndarray) -> np.ndarray:
        value = np.sin(points @ directions.T + phases).sum(1) / 6
        return points * (1 + depth * value)[:, None]

    return warp


def _crown(rng: np.random.Generator, radii: tuple[float, float, float], segments: int = 30) -> Solid:
    size = float(np.mean(radii))
    return warped(
        ellipsoid(radii, segments=segments), bumps(rng, between(rng, 0.15, 0.4), between(rng, 2.5, 5) / size)
    )


def tree(rng: np.random.Generator) -> list[Piece]:  # noqa: PLR0912 - one kind after another
    """Round trees, firs, palms and bare ones."""
    bark, leaf = looks.bark(rng), looks.leaf(rng)
    kind = pick(rng, ("round", "fir", "palm", "bare"), (3, 2, 1.5, 1))
    trunk, radius = between(rng, 0.25, 0.55), between(rng, 0.03, 0.07)
    if kind == "fir":
        levels, wide, z = count(rng, 3, 6), between(rng, 0.25, 0.38), trunk * 0.4
        pieces = [Piece("trunk", cylinder(radius, 0.9, 16, top=radius * 0.4), bark)]
        for k in range(levels):
            share = 1 - k / levels
            high = 0.9 / levels * 1.35
            profile = [(0, 0.02), (wide * share, 0), (wide * share * 0.5, high * 0.4), (0, high)]
            cone = warped(lathe(profile, 32), _ripple(count(rng, 6, 11), between(rng, 0.03, 0.14)))
            pieces.append(Piece("needles", moved(cone, (0, 0, z + k * 0.85 / levels)), leaf))
        return pieces
    if kind == "palm":
        lean = between(rng, -0.2, 0.2)
        t = np.linspace(0, 1, 12)
        path = np.stack([lean * t**2, 0 * t, 0.85 * t], 1)
        pieces = [
            Piece("trunk", tube(path, radius * (1 - 0.45 * t) * (1 + 0.08 * (np.arange(12) % 2)), 14), bark)
        ]
        fronds = count(rng, 6, 10)
        for k in range(fronds):
            frond = turned(
                _leaf_blade(between(rng, 0.3, 0.45), between(rng, 0.06, 0.1), between(rng, 0.15, 0.3)),
                "z",
                360 * k / fronds + between(rng, -10, 10),
            )
            pieces.append(Piece("fronds", moved(frond, (lean, 0, 0.85)), leaf))
        if chance(rng, 0.5):
            for k in range(3):
                pieces.append(
                    Piece(
                        "nuts",
                        moved(
                            ellipsoid((0.045,) * 3, segments=14),
                            (lean + 0.06 * np.cos(2.1 * k), 0.06 * np.sin(2.1 * k), 0.8),
                        ),
                        bark,
                    )
                )
        return pieces
    pieces = [Piece("trunk", cylinder(radius * 1.15, trunk, 16, top=radius), bark)]
    fork = (0.0, 0.0, trunk - 0.02)
    for k in range(count(rng, 3, 6)):
        angle, reach, rise = (
            2.4 * k + between(rng, -0.3, 0.3),
            between(rng, 0.1, 0.25),
            between(rng, 0.15, 0.35),
        )
        end = (reach * np.cos(angle), reach * np.sin(angle), trunk + rise)
        pieces.append(
            Piece("branches", rod(fork, end, radius * 0.7, end_radius=radius * 0.35, segments=10), bark)
        )
        if kind == "round":
            size = between(rng, 0.14, 0.24)
            pieces.append(
                Piece(
                    "crown", moved(_crown(rng, (size, size, size * between(rng, 0.75, 1.0)), 24), end), leaf
                )
            )
        else:
            for _ in range(2):
                shift = np.array(
                    (between(rng, -0.15, 0.15), between(rng, -0.15, 0.15), between(rng, 0.08, 0.22))
                )
                tip = tuple(end + shift)
                pieces.append(
                    Piece("twigs", rod(end, tip, radius * 0.35, end_radius=radius * 0.12, segments=8), bark)
                )
    if kind == "round":
        size = between(rng, 0.22, 0.3)
        pieces.append(
            Piece("crown", moved(_crown(rng, (size, size, size * 0.9)), (0, 0, trunk + 0.25)), leaf)
        )
        if chance(rng, 0.35):
            fruit = looks.plastic(rng)
            for _ in range(14):
                direction = rng.standard_normal(3)
                place = direction / np.linalg.norm(direction) * size * 1.02 + [0, 0, trunk + 0.25]
                pieces.append(
                    Piece("fruit", moved(ellipsoid((0.028,) * 3, segments=10), tuple(place)), fruit)
                )
    return pieces


def _ripple(waves: int, depth: float) -> Warp:
    """Radius changed in waves around z."""

    def warp(points: np.ndarray) -> np.ndarray:
        angle = np.arctan2(points[:, 1], points[:, 0])
        factor = 1 + depth * np.sin(waves * angle)[:, None]
        return np.concatenate([points[:, :2] * factor, points[:, 2:]], 1)

    return warp


def _leaf_blade(long: float, wide: float, droop: float) -> Solid:
    """A leaf from the origin along +X that rises and then hangs down."""
    t, s = np.linspace(0.0, 1, 12)[:, None], np.linspace(-1, 1, 5)[None]
    half = wide * np.maximum(np.sin(np.pi * (0.06 + 0.9 * t)) ** 0.8, 0.03)
    x = long * t + 0 * s
    z = droop * (1.1 * t - 1.9 * t**2.2) - 0.25 * half * np.abs(s)
    return sheet(np.stack([x, half * s, z], 2)[::-1], 0.008)


def _pot(rng: np.random.Generator, radius: float, high: float) -> list[Piece]:
    wall = 0.02
    low = radius * between(rng, 0.6, 0.95)
    outer = [
        (0, 0),
        (low, 0),
        (radius, high * 0.8),
        (radius * 1.1, high * 0.8),
        (radius * 1.1, high),
        (radius - wall, high),
        (radius - wall, high * 0.85),
        (0, high * 0.85),
    ]
    look = looks.ceramic(rng)
    soil = looks.of(
        "soil", looks.patterns.speckle(rng, 128, (0.25, 0.17, 0.11), (0.4, 0.3, 0.22)), roughness=1.0
    )
    return [
        Piece("pot", lathe(outer, 36), look),
        Piece(
            "soil",
            moved(ellipsoid((radius - wall, radius - wall, 0.03), segments=20), (0, 0, high * 0.86)),
            soil,
        ),
    ]


def cactus(rng: np.random.Generator) -> list[Piece]:
    """Ribbed columns with arms, or a ball, mostly in a pot."""
    skin = looks.leaf(rng)
    pot = _pot(rng, between(rng, 0.16, 0.24), between(rng, 0.18, 0.28)) if chance(rng, 0.75) else []
    z = float(pot[0].solid.high[2]) * 0.85 if pot else 0.0
    ribs, depth = count(rng, 8, 14), between(rng, 0.05, 0.13)
    pieces = list(pot)
    bloom = looks.plastic(rng)
    if chance(rng, 0.35):
        size = between(rng, 0.15, 0.22)
        ball = warped(
            ellipsoid((size, size, size * between(rng, 0.8, 1.2)), segments=56), _ripple(ribs, depth)
        )
        pieces.append(Piece("body", moved(ball, (0, 0, z + size * 0.85)), skin))
        top = z + size * 1.75
    else:
        radius, high = between(rng, 0.07, 0.12), between(rng, 0.5, 0.8)
        path = np.stack([np.zeros(14), np.zeros(14), np.linspace(0, high, 14)], 1)
        pieces.append(
            Piece(
                "body",
                moved(warped(tube(path, radius, 48, round_ends=True), _ripple(ribs, depth)), (0, 0, z)),
                skin,
            )
        )
        for _ in range(count(rng, 0, 3)):
            angle, start, rise = between(rng, 0, 360), between(rng, 0.25, 0.6) * high, between(rng, 0.12, 0.3)
            reach = radius + between(rng, 0.08, 0.14)
            t = np.linspace(0, np.pi / 2, 8)
            bend = np.stack([reach * np.sin(t), 0 * t, start + 0.08 * (1 - np.cos(t))], 1)
            arm = [*bend, (reach, 0, start + 0.08 + rise)]
            pieces.append(
                Piece(
                    "arms",
                    moved(turned(tube(arm, radius * 0.6, 18, round_ends=True), "z", angle), (0, 0, z)),
                    skin,
                )
            )
        top = z + high + radius * 0.9
    if chance(rng, 0.5):
        pieces.append(
            Piece(
                "blossom",
                moved(warped(ellipsoid((0.06, 0.06, 0.035), segments=24), _ripple(6, 0.25)), (0, 0, top)),
                bloom,
            )
        )
    return pieces


def _blossom(rng: np.random.Generator, size: float, petal: Look, eye: Look) -> list[Piece]:
    """Petals around an eye, facing +Z."""
    number = count(rng, 5, 11)
    leaf = ellipsoid((size * 0.55, size * between(rng, 0.2, 0.36), size * 0.06), segments=12)
    cup = between(rng, 5, 45)
    pieces = [
        Piece(
            "petals",
            turned(
                moved(turned(moved(leaf, (size * 0.5, 0, 0)), "y", -cup), (size * 0.1, 0, 0)),
                "z",
                360 * k / number,
            ),
            petal,
        )
        for k in range(number)
    ]
    return [
        *pieces,
        Piece(
            "eyes",
            moved(ellipsoid((size * 0.28, size * 0.28, size * 0.16), segments=18), (0, 0, size * 0.05)),
            eye,
        ),
    ]


def flower(rng: np.random.Generator) -> list[Piece]:
    """Flowers or leafy plants in a pot."""
    pot = _pot(rng, between(rng, 0.16, 0.26), between(rng, 0.2, 0.34))
    z = float(pot[0].solid.high[2]) * 0.86
    green, petal, eye = (
        looks.leaf(rng),
        looks.plastic(rng),
        looks.paint(rng, pick(rng, ((0.9, 0.75, 0.15), (0.3, 0.18, 0.1)))),
    )
    pieces = list(pot)
    if chance(rng, 0.45):
        leaves = count(rng, 9, 18)
        for k in range(leaves):
            blade = _leaf_blade(between(rng, 0.25, 0.5), between(rng, 0.05, 0.11), between(rng, 0.1, 0.35))
            blade = turned(turned(blade, "y", -between(rng, 15, 65)), "z", 137.5 * k)
            pieces.append(Piece("leaves", moved(blade, (0, 0, z)), green))
        return pieces
    for k in range(count(rng, 1, 5)):
        angle, lean, high = 137.5 * k, between(rng, 0.0, 0.2), between(rng, 0.3, 0.6)
        a = np.deg2rad(angle)
        end = (lean * np.cos(a), lean * np.sin(a), z + high)
        middle = (lean * 0.3 * np.cos(a), lean * 0.3 * np.sin(a), z + high * 0.5)
        pieces.append(Piece("stems", tube([(0, 0, z - 0.02), middle, end], 0.012, 10), green))
        size, nod = between(rng, 0.12, 0.2), between(rng, 0, 60)
        for part in _blossom(rng, size, petal, eye):
            pieces.append(
                Piece(part.name, moved(turned(turned(part.solid, "y", nod), "z", angle), end), part.look)
            )
        blade = turned(turned(_leaf_blade(0.24, 0.05, 0.1), "y", -35), "z", angle + 60)
        pieces.append(Piece("leaves", moved(blade, (middle[0], middle[1], middle[2] - high * 0.25)), green))
    return pieces


def mushroom(rng: np.random.Generator) -> list[Piece]:
    """One or a few, with spots or without."""
    tint = looks.colour(rng)
    spots = chance(rng, 0.5)
    cap = looks.of(
        "cap",
        looks.patterns.dots(rng, 128, tint, (0.95, 0.93, 0.88))
        if spots
        else looks.patterns.stone(rng, 128, tint, looks.shade(tint, 0.75)),
        roughness=0.5,
        tile=0.5,
    )
    stem_look = looks.of(
        "stem", looks.patterns.bark(rng, 128, (0.93, 0.9, 0.82), (0.75, 0.7, 0.6)), roughness=0.9
    )
    pieces = []
    for k in range(count(rng, 1, 3)):
        share = 1.0 if k == 0 else between(rng, 0.4, 0.7)
        wide, high, dome = (
            share * between(rng, 0.25, 0.4),
            share * between(rng, 0.35, 0.65),
            share * between(rng, 0.15, 0.32),
        )
        stem = share * between(rng, 0.07, 0.12)
        t = np.linspace(0, np.pi / 2, 14)
        profile = [
            (stem * 0.8, high - 0.01),
            (wide * 0.6, high + 0.02 * share),
            (wide * 0.95, high - 0.02 * share),
            *zip((wide * np.cos(t)).tolist(), (high + dome * np.sin(t)).tolist(), strict=True),
        ]
        profile[-1] = (0.0, high + dome)
        place = (0.0, 0.0, 0.0) if k == 0 else (0.28 * np.cos(2.2 * k), 0.28 * np.sin(2.2 * k), 0.0)
        stalk = lathe(
            [
                (0, 0),
                (stem * 1.5, 0),
                (stem * 1.1, high * 0.25),
                (stem * 0.9, high * 0.8),
                (stem, high + 0.01),
                (0, high + 0.01),
            ],
            22,
        )
        hat = lathe([(0, high - 0.01), *profile], 36)
        tilt = between(rng, -8, 8)
        pieces.append(Piece("stems", moved(turned(stalk, "x", tilt), place), stem_look))
        pieces.append(Piece("caps", moved(turned(hat, "x", tilt), place), cap))
    if chance(rng, 0.5):
        mound = scaled(warped(ellipsoid((0.42, 0.42, 0.42), segments=26), bumps(rng, 0.2, 6)), (1, 1, 0.13))
        pieces.append(Piece("ground", mound, looks.leaf(rng)))
    return pieces
