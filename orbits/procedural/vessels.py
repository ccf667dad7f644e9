"""Mugs, bottles, vases, bowls, pots, teapots and glasses: lathes with handles, spouts and lids."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.looks import Look
from mv3d.orbits.procedural.parts import ellipsoid
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder, lathe, rod, tube
from mv3d.orbits.procedural.solids import Solid, moved, scaled, taper, turned, twist, warped


def _curve(
    rng: np.random.Generator, knots: list[tuple[float, float]], points: int = 30
) -> Float[np.ndarray, "n 2"]:
    """A smooth curve through (radius, z) knots, monotone in z."""
    from scipy.interpolate import PchipInterpolator  # noqa: PLC0415 - slow to import

    r, z = np.asarray(knots, np.float64).T
    t = np.linspace(z[0], z[-1], points)
    return np.stack([PchipInterpolator(z, r)(t), t], 1)


def _shell(
    outer: Float[np.ndarray, "n 2"], wall: float, outside: Look, inside: Look, *, floor: float | None = None
) -> list[Piece]:
    """An open vessel of an outer curve (from the foot up): the outer wall with the foot, and the inner one with
    the rim."""
    floor = wall if floor is None else floor
    inner = outer[::-1].copy()
    inner[:, 0] = np.maximum(inner[:, 0] - wall, 0.002)
    inner = inner[inner[:, 1] > outer[0, 1] + floor]
    rim = outer[-1]
    lip = [(rim[0] - wall * 0.5, rim[1] + wall * 0.45)]
    bottom = (inner[-1, 0], outer[0, 1] + floor)
    return [
        Piece("body", lathe([*outer, *lip], 40), outside),
        Piece("foot", lathe([(0.0, outer[0, 1]), tuple(outer[0])], 40), outside),
        Piece("inside", lathe([*lip, *inner, bottom, (0.0, bottom[1])], 40), inside),
    ]


def _handle(
    start: tuple[float, float], end: tuple[float, float], reach: float, thick: float, squareness: float = 1.0
) -> Solid:
    """A bow in the plane y = 0 from (x, z) to (x, z), out to x + reach."""
    t = np.linspace(0, np.pi, 22)
    bulge = reach * np.sin(t) ** squareness
    blend = (1 - np.sign(np.cos(t)) * np.abs(np.cos(t)) ** squareness) / 2
    x = start[0] * (1 - blend) + end[0] * blend + bulge
    z = start[1] * (1 - blend) + end[1] * blend
    return tube(np.stack([x, 0 * t, z], 1), thick, 12, flat=0.65)


def mug(rng: np.random.Generator) -> list[Piece]:
    """A mug or a cup with a handle, sometimes on a saucer."""
    outside = looks.ceramic(rng)
    plain = looks.of("glaze", looks.patterns.plain(rng, 128, looks.colour(rng)), roughness=0.2)
    inside = outside if outside.tile and chance(rng, 0.5) else plain
    high, low, top = between(rng, 0.7, 1.2), between(rng, 0.25, 0.45), between(rng, 0.36, 0.55)
    belly = (low + top) / 2 * between(rng, 0.92, 1.2)
    wall = between(rng, 0.025, 0.05)
    outer = _curve(
        rng, [(low * 0.93, 0.0), (low, 0.04), (belly, high * between(rng, 0.35, 0.65)), (top, high)]
    )
    pieces = _shell(outer, wall, outside, inside)
    z0, z1 = high * between(rng, 0.75, 0.88), high * between(rng, 0.15, 0.3)
    x0, x1 = (float(np.interp(z, outer[:, 1], outer[:, 0])) - wall * 0.5 for z in (z0, z1))
    handle = _handle(
        (x0, z0), (x1, z1), between(rng, 0.22, 0.36), between(rng, 0.04, 0.075), between(rng, 0.5, 1.0)
    )
    side = pick(rng, (0, 90, -90, 180, between(rng, 0, 360)))
    pieces.append(
        Piece("handle", turned(handle, "z", side), outside if outside.tile and chance(rng, 0.6) else plain)
    )
    if chance(rng, 0.15):
        drink = looks.of(
            "drink",
            looks.patterns.plain(
                rng, 64, pick(rng, ((0.25, 0.13, 0.06), (0.6, 0.35, 0.15), (0.4, 0.5, 0.2)))
            ),
            roughness=0.1,
        )
        level = high * 0.85
        pieces.append(
            Piece(
                "drink",
                moved(
                    cylinder(float(np.interp(level, outer[:, 1], outer[:, 0])) - wall * 0.8, 0.01, 36),
                    (0, 0, level),
                ),
                drink,
            )
        )
    if chance(rng, 0.2):
        r = between(rng, 0.75, 0.95)
        profile = [(0, 0), (r * 0.5, 0), (r, 0.09), (r, 0.12), (r * 0.55, 0.04), (0, 0.04)]
        pieces = [Piece(p.name, moved(p.solid, (0, 0, 0.04)), p.look) for p in pieces]
        pieces.append(Piece("saucer", lathe(profile, 40), plain))
    return pieces


def glass(rng: np.random.Generator) -> list[Piece]:
    """Stemmed glasses, goblets and tumblers."""
    look = pick(rng, (looks.glass, looks.metal, looks.ceramic, looks.wood))(rng)
    if chance(rng, 0.35):
        high, low, top = between(rng, 0.7, 1.1), between(rng, 0.25, 0.4), between(rng, 0.3, 0.5)
        return _shell(
            _curve(rng, [(low, 0), ((low + top) / 2, high / 2), (top, high)]), 0.025, look, look, floor=0.08
        )
    foot, stem, bowl, high = (
        between(rng, 0.24, 0.36),
        between(rng, 0.2, 0.5),
        between(rng, 0.22, 0.42),
        between(rng, 0.35, 0.7),
    )
    outer = _curve(
        rng,
        [
            (0.03, stem),
            (bowl * 0.8, stem + high * 0.25),
            (bowl, stem + high * 0.5),
            (bowl * between(rng, 0.7, 1.1), stem + high),
        ],
    )
    profile = [
        (0, 0),
        (foot, 0),
        (foot, 0.015),
        (0.06, 0.05),
        (0.028, stem * 0.4),
        (0.03, stem),
        (0.06, stem + 0.02),
        (0, stem + 0.03),
    ]
    return [*_shell(outer, 0.018, look, look), Piece("stem", lathe(profile, 32), look)]


def bottle(rng: np.random.Generator) -> list[Piece]:
    """Bottles with caps or corks and labels."""
    look = pick(rng, (looks.glass, looks.plastic, looks.ceramic, looks.metal), (3, 2, 1.5, 0.5))(rng)
    radius, high = between(rng, 0.16, 0.32), 1.0
    neck, shoulder = between(rng, 0.05, 0.1), between(rng, 0.45, 0.72)
    neck_at = shoulder + between(rng, 0.08, 0.22)
    profile = _curve(
        rng,
        [
            (radius * 0.92, 0),
            (radius, 0.03),
            (radius * between(rng, 0.85, 1.05), shoulder * 0.5),
            (radius, shoulder),
            (neck * 1.1, neck_at),
            (neck, high * 0.98),
            (neck, high),
        ],
        44,
    )
    body = lathe([(0, 0), *profile, (0, high)], 36)
    if chance(rng, 0.2):
        body = scaled(body, (between(rng, 0.5, 0.8), 1, 1))
        return [
            Piece("body", body, look),
            Piece(
                "cap",
                moved(cylinder(neck * 0.95, 0.12, 24, bevel=0.01), (0, 0, high - 0.03)),
                looks.plastic(rng),
            ),
        ]
    cap = looks.plastic(rng) if chance(rng, 0.6) else looks.wood(rng)
    pieces = [
        Piece("body", body, look),
        Piece(
            "cap",
            moved(cylinder(neck * 1.15, between(rng, 0.05, 0.12), 24, bevel=0.01), (0, 0, high - 0.03)),
            cap,
        ),
    ]
    if chance(rng, 0.75):
        low, top = shoulder * between(rng, 0.15, 0.35), shoulder * between(rng, 0.7, 0.95)
        band = profile[(profile[:, 1] > low) & (profile[:, 1] < top)] + [0.004, 0]
        back = band[::-1] - [0.008, 0]
        label = lathe(np.concatenate([band, back]), 36, closed=True)
        pieces.append(Piece("label", label, looks.sign(rng, repeats=count(rng, 1, 2))))
    return pieces


def _unpainted(rng: np.random.Generator, look: looks.Look, *, roughness: float) -> looks.Look:
    """The look of parts beside a painted body: a glaze of one colour, or the body's own where that repeats anyway."""
    if look.tile == 0:
        return looks.of("glaze", looks.patterns.plain(rng, 64, looks.colour(rng)), roughness=roughness)
    return look


def vase(rng: np.random.Generator) -> list[Piece]:
    """A random curve turned, plain, fluted or twisted."""
    look = looks.ceramic(rng)
    inside = _unpainted(rng, look, roughness=0.3)
    foot = between(rng, 0.12, 0.3)
    knots = [(foot, 0.0)]
    for z in np.linspace(0, 1, count(rng, 4, 6))[1:]:
        knots.append((between(rng, 0.1, 0.42), float(z)))
    pieces = _shell(_curve(rng, knots, 40), between(rng, 0.02, 0.035), look, inside)
    if chance(rng, 0.3):
        ridges, depth, turn = count(rng, 5, 14), between(rng, 0.03, 0.1), between(rng, -2, 2)

        def flutes(points: np.ndarray) -> np.ndarray:
            angle = np.arctan2(points[:, 1], points[:, 0])
            factor = 1 + depth * np.sin(ridges * angle + turn * points[:, 2] * 3)[:, None]
            return np.concatenate([points[:, :2] * factor, points[:, 2:]], 1)

        pieces = [Piece(p.name, warped(p.solid, flutes), p.look) for p in pieces]
    if chance(rng, 0.3):
        outer = _curve(rng, knots, 40)
        z0, z1 = between(rng, 0.75, 0.9), between(rng, 0.4, 0.6)
        x0, x1 = (float(np.interp(z, outer[:, 1], outer[:, 0])) - 0.012 for z in (z0, z1))
        handle = _handle((x0, z0), (x1, z1), between(rng, 0.08, 0.16), 0.025)
        pieces += [
            Piece("handles", turned(handle, "z", angle), look if look.tile else inside) for angle in (90, 270)
        ]
    if chance(rng, 0.25):
        green, bloom = looks.leaf(rng), looks.paint(rng, looks.strong(rng))
        for _ in range(count(rng, 3, 7)):
            angle, lean, top = between(rng, 0, 6.28), between(rng, 0.05, 0.3), between(rng, 1.25, 1.6)
            end = (lean * np.cos(angle), lean * np.sin(angle), top)
            pieces.append(Piece("stems", rod((0, 0, 0.1), end, 0.01, segments=8), green))
            pieces.append(Piece("blossoms", moved(ellipsoid((0.07, 0.07, 0.06), segments=14), end), bloom))
    return pieces


def bowl(rng: np.random.Generator) -> list[Piece]:
    """Bowls, sometimes with fruit."""
    look = pick(rng, (looks.ceramic, looks.wood, looks.metal), (4, 1.5, 0.7))(rng)
    inside = (
        looks.of("glaze", looks.patterns.plain(rng, 128, looks.colour(rng)), roughness=0.2)
        if chance(rng, 0.5) or look.tile == 0
        else look
    )
    high, top = between(rng, 0.25, 0.55), 0.5
    foot = between(rng, 0.15, 0.26)
    outer = _curve(
        rng,
        [(foot, 0), (foot, 0.03), (foot + (top - foot) * between(rng, 0.55, 0.85), high * 0.45), (top, high)],
    )
    pieces = _shell(outer, between(rng, 0.02, 0.04), look, inside, floor=0.06)
    if chance(rng, 0.4):
        for _ in range(count(rng, 3, 7)):
            tint = pick(rng, ((0.75, 0.12, 0.1), (0.9, 0.55, 0.1), (0.55, 0.7, 0.15), (0.9, 0.8, 0.2)))
            fruit = looks.of(
                "fruit", looks.patterns.stone(rng, 64, tint, looks.shade(tint, 0.85)), roughness=0.4
            )
            r, size, angle = between(rng, 0.0, 0.22), between(rng, 0.1, 0.15), between(rng, 0, 6.28)
            place = (r * np.cos(angle), r * np.sin(angle), high - 0.04 + between(rng, 0, 0.08) - r * 0.2)
            pieces.append(
                Piece("fruit", moved(ellipsoid((size, size, size * 0.93), segments=18), place), fruit)
            )
    return pieces


def pot(rng: np.random.Generator) -> list[Piece]:
    """Cooking pots and pans with lids."""
    look = looks.metal(rng) if chance(rng, 0.6) else looks.paint(rng)
    grip = pick(rng, (looks.rubber, looks.wood, looks.metal))(rng)
    radius, high = 0.4, between(rng, 0.15, 0.6)
    outer = _curve(
        rng,
        [
            (radius * between(rng, 0.8, 1.0), 0),
            (radius, high * 0.3),
            (radius * between(rng, 1.0, 1.08), high),
        ],
    )
    pieces = _shell(outer, 0.02, look, look)
    if high < 0.28 or chance(rng, 0.3):
        long = between(rng, 0.4, 0.65)
        pieces.append(
            Piece(
                "handle",
                tube(
                    [
                        (radius * 0.97, 0, high * 0.75),
                        (radius + 0.12, 0, high * 0.85),
                        (radius + long, 0, high),
                    ],
                    [0.025, 0.03, 0.045],
                    12,
                    round_ends=True,
                    flat=0.6,
                ),
                grip,
            )
        )
    else:
        for angle in (90, 270):
            bow_ = _handle((0.0, -0.14), (0.0, 0.14), 0.13, 0.025, 0.6)
            solid = moved(turned(bow_, "x", 90), (radius * 0.98, 0, high * 0.8))
            pieces.append(Piece("handles", turned(solid, "z", angle), grip))
    if chance(rng, 0.5):
        r = float(outer[-1, 0])
        dome = between(rng, 0.05, 0.14)
        profile = [
            (0, high),
            (r * 0.98, high),
            (r * 1.02, high + 0.03),
            (r * 0.6, high + dome * 0.8),
            (0.03, high + dome),
            (0, high + dome),
        ]
        pieces.append(Piece("lid", lathe(profile, 40), look))
        pieces.append(
            Piece(
                "knob", moved(ellipsoid((0.06, 0.06, 0.045), segments=18), (0, 0, high + dome + 0.03)), grip
            )
        )
    return pieces


def teapot(rng: np.random.Generator) -> list[Piece]:
    """A body with spout (towards +Y), handle and lid."""
    look = looks.ceramic(rng)
    plain = _unpainted(rng, look, roughness=0.25)
    high, wide = between(rng, 0.6, 0.95), between(rng, 0.38, 0.5)
    foot, top = wide * between(rng, 0.5, 0.7), wide * between(rng, 0.35, 0.6)
    outer = _curve(rng, [(foot, 0), (wide, high * between(rng, 0.3, 0.6)), (top, high)])
    body = lathe([(0, 0), *outer, (0, high)], 40)
    lid = [
        (0, high - 0.01),
        (top * 1.02, high - 0.01),
        (top, high + 0.03),
        (top * 0.5, high + 0.1),
        (0.03, high + 0.13),
        (0, high + 0.13),
    ]
    z = high * between(rng, 0.25, 0.4)
    x = float(np.interp(z, outer[:, 1], outer[:, 0])) - 0.06
    tip = (wide + between(rng, 0.22, 0.35), high * between(rng, 0.85, 1.0))
    t = np.linspace(0, 1, 14)[:, None]
    control = np.array([[x, z], [wide + 0.2, z], [wide + 0.12, tip[1] * 0.8], tip])
    path = (
        (1 - t) ** 3 * control[0]
        + 3 * t * (1 - t) ** 2 * control[1]
        + 3 * t**2 * (1 - t) * control[2]
        + t**3 * control[3]
    )
    spout = tube(np.stack([path[:, 0], 0 * path[:, 0], path[:, 1]], 1), np.linspace(0.11, 0.045, 14), 14)
    z0, z1 = high * 0.85, high * 0.25
    x0, x1 = (float(np.interp(v, outer[:, 1], outer[:, 0])) - 0.02 for v in (z0, z1))
    pieces = [
        Piece("body", body, look),
        Piece("lid", lathe(lid, 36), plain),
        Piece("knob", moved(ellipsoid((0.05, 0.05, 0.045), segments=16), (0, 0, high + 0.16)), plain),
        Piece("spout", turned(spout, "z", 90), plain),
    ]
    if chance(rng, 0.7):
        pieces.append(
            Piece(
                "handle", turned(_handle((x0, z0), (x1, z1), between(rng, 0.2, 0.32), 0.04), "z", -90), plain
            )
        )
    else:
        t = np.linspace(0, np.pi, 24)
        hoop = np.stack([0 * t, wide * 0.85 * np.cos(t), high * 0.8 + wide * 1.1 * np.sin(t)], 1)
        pieces.append(
            Piece("handle", tube(hoop, 0.03, 12), pick(rng, (looks.wood, looks.metal))(rng).along_v())
        )
    return pieces


def jar(rng: np.random.Generator) -> list[Piece]:
    """Jars, cans and boxes with lids; prisms and twisted ones, too."""
    look = pick(rng, (looks.ceramic, looks.sign, looks.printed, looks.glass))(rng)
    lid = pick(rng, (looks.wood, looks.metal, looks.plastic))(rng)
    radius, high = between(rng, 0.25, 0.45), between(rng, 0.5, 1.0)
    belly = radius * between(rng, 0.9, 1.2)
    outer = _curve(rng, [(radius * 0.95, 0), (belly, high * 0.5), (radius * between(rng, 0.8, 1), high)])
    body = lathe([(0, 0), *outer, (0, high)], 36)
    if chance(rng, 0.25):
        body = warped(body, twist(between(rng, 20, 60), high))
    if chance(rng, 0.2):
        body = warped(body, taper(between(rng, -0.3, 0.3), high))
    top = float(np.hypot(body.vertices[:, 0], body.vertices[:, 1])[body.vertices[:, 2] > high * 0.99].max())
    pieces = [
        Piece("body", body, look),
        Piece("lid", moved(cylinder(top * 1.04, high * 0.12, 36, bevel=0.02), (0, 0, high - 0.02)), lid),
    ]
    if chance(rng, 0.5):
        pieces.append(
            Piece("knob", moved(ellipsoid((0.07, 0.07, 0.06), segments=18), (0, 0, high * 1.12 + 0.02)), lid)
        )
    return pieces
