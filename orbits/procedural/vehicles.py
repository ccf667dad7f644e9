"""Trains, boats and planes, as toys or simplified; their front faces +X."""

from __future__ import annotations

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.looks import Look
from mv3d.orbits.procedural.parts import box, ellipsoid, extrude, sheet
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder, lathe, rod
from mv3d.orbits.procedural.solids import Solid, mirrored, moved, scaled, turned
from mv3d.orbits.procedural.vehicle_parts import lights, upright, wheels


def train(rng: np.random.Generator) -> list[Piece]:
    """A steam engine, a tram or a carriage on many wheels."""
    paint, second = looks.paint(rng), looks.paint(rng)
    metal, pane, black = looks.metal(rng), looks.pane(rng), looks.rubber(rng)
    wide, radius = 0.24, between(rng, 0.05, 0.075)
    floor = radius * 1.7
    if chance(rng, 0.4):
        pieces = wheels(rng, [(x, 1.0) for x in (-0.4, -0.26, 0.26, 0.4)], radius, 0.04, wide / 2 - 0.03)
        high = between(rng, 0.22, 0.3)
        pieces.append(Piece("body", moved(box((1.0, wide, high), 0.02), (0, 0, floor + high / 2)), paint))
        pieces.append(
            Piece(
                "roof",
                moved(
                    scaled(turned(cylinder(wide * 0.52, 1.02, 24), "y", 90), (1, 1, 0.35)),
                    (-0.51, 0, floor + high - 0.005),
                ),
                second,
            )
        )
        for x in np.linspace(-0.4, 0.4, count(rng, 5, 8)):
            pieces.append(
                Piece(
                    "windows",
                    moved(box((0.07, wide + 0.01, high * 0.35), 0.003), (float(x), 0, floor + high * 0.65)),
                    pane,
                )
            )
        pieces.append(
            Piece(
                "windows",
                moved(box((0.01, wide * 0.7, high * 0.35), 0.003), (0.5, 0, floor + high * 0.65)),
                pane,
            )
        )
        pieces.append(
            Piece(
                "stripe", moved(box((1.004, wide + 0.005, high * 0.12)), (0, 0, floor + high * 0.3)), second
            )
        )
        return pieces + lights(rng, 0.5, -0.5, 0.07, floor + 0.05, 0.02)
    big = between(rng, 1.0, 1.6)
    pieces = wheels(rng, [(0.34, 1.0), (0.08, big), (-0.16, big), (-0.38, 1.0)], radius, 0.04, wide / 2)
    pieces.append(Piece("frame", moved(box((0.95, wide * 0.8, 0.05), 0.006), (0, 0, floor)), black))
    boiler = between(rng, 0.085, 0.115)
    z = floor + 0.02 + boiler
    pieces.append(
        Piece("boiler", moved(turned(cylinder(boiler, 0.62, 30, bevel=0.012), "y", 90), (-0.16, 0, z)), paint)
    )
    for x in np.linspace(-0.05, 0.35, count(rng, 2, 4)):
        pieces.append(
            Piece("bands", moved(turned(cylinder(boiler * 1.04, 0.02, 30), "y", 90), (float(x), 0, z)), metal)
        )
    funnel = between(rng, 0.12, 0.2)
    flare = between(rng, 0.035, 0.065)
    profile = [(0, 0), (0.035, 0), (0.03, funnel * 0.5), (flare, funnel * 0.8), (flare, funnel), (0, funnel)]
    pieces.append(Piece("funnel", moved(lathe(profile, 22), (0.36, 0, z + boiler * 0.9)), black))
    for x in (0.2, 0.04):
        pieces.append(
            Piece("domes", moved(ellipsoid((0.045, 0.045, 0.07), segments=18), (x, 0, z + boiler)), metal)
        )
    cab = between(rng, 0.24, 0.32)
    pieces.append(
        Piece("cab", moved(box((0.28, wide * 1.05, cab), 0.01), (-0.31, 0, floor + cab / 2)), second)
    )
    pieces.append(
        Piece("windows", moved(box((0.12, wide * 1.07, 0.09), 0.003), (-0.31, 0, floor + cab * 0.7)), pane)
    )
    pieces.append(
        Piece("roof", moved(box((0.36, wide * 1.2, 0.025), 0.01), (-0.31, 0, floor + cab + 0.01)), black)
    )
    pieces.append(Piece("lamp", moved(ellipsoid((0.02, 0.035, 0.035), segments=14), (0.47, 0, z)), metal))
    plough = [(0.46, floor - 0.02), (0.54, 0.03), (0.46, 0.03)]
    pieces.append(Piece("plough", upright(plough, wide * 0.8), looks.paint(rng)))
    return pieces


def _hull(long: float, wide: float, high: float, sheer: float, fullness: float) -> Solid:
    """A boat's body: sections that narrow to the bow at +X, closed by a deck."""
    t = np.linspace(0, 1, 22)
    half = (
        wide
        / 2
        * np.maximum(
            (1 - np.clip((t - 0.35) / 0.65, 0, 1) ** fullness) * (0.8 + 0.2 * np.clip(t / 0.3, 0, 1)), 0.004
        )
    )
    keel = high * np.clip((t - 0.6) / 0.4, 0, 1) ** 3 * 0.7
    top = high + sheer * (2 * t - 0.9) ** 2
    angle = np.linspace(-np.pi / 2, np.pi / 2, 15)
    y = half[:, None] * np.sin(angle)[None]
    z = top[:, None] - (top - keel)[:, None] * np.cos(angle)[None] ** 0.6
    sections = np.stack([np.broadcast_to((t[:, None] - 0.5) * long, y.shape), y, z], 2)
    return sheet(sections[::-1], 0.02)


def boat(rng: np.random.Generator) -> list[Piece]:
    """Rowing boats, sailing boats, tugs."""
    paint, deck_look = looks.paint(rng) if chance(rng, 0.7) else looks.wood(rng), looks.wood(rng)
    wide, high = between(rng, 0.28, 0.4), between(rng, 0.14, 0.22)
    sheer = between(rng, 0.02, 0.08)
    pieces = [Piece("hull", _hull(1.0, wide, high, sheer, between(rng, 1.6, 3.0)), paint)]
    kind = pick(rng, ("sail", "tug", "row"), (2, 1.5, 1))
    outline = [
        (x, s * wide / 2 * w)
        for s in (1, -1)
        for x, w in (
            ((-0.49, 0.78), (-0.2, 0.96), (0.1, 0.93), (0.3, 0.6), (0.42, 0.2))
            if s == 1
            else ((0.42, 0.2), (0.3, 0.6), (0.1, 0.93), (-0.2, 0.96), (-0.49, 0.78))
        )
    ]
    if kind != "row":
        pieces.append(Piece("deck", moved(extrude(outline, 0.02), (0, 0, high * 0.85)), deck_look))
    if kind == "row":
        pieces.append(
            Piece(
                "floor",
                moved(scaled(extrude(outline, 0.015), (0.85, 0.7, 1)), (0, 0, high * 0.35)),
                deck_look,
            )
        )
        for x in (-0.28, 0.0, 0.22):
            pieces.append(
                Piece("benches", moved(box((0.08, wide * 0.9, 0.02), 0.004), (x, 0, high * 0.78)), deck_look)
            )
        for side in (1, -1):
            start, end = (0.05, side * 0.1, high * 1.25), (-0.1, side * (wide / 2 + 0.22), high * 0.6)
            pieces.append(Piece("oars", rod(start, end, 0.01), deck_look.along_v()))
            pieces.append(Piece("blades", moved(ellipsoid((0.05, 0.08, 0.012), segments=14), end), deck_look))
    elif kind == "sail":
        mast = between(rng, 0.8, 1.2)
        wood, cloth = (
            looks.wood(rng).along_v(),
            looks.fabric(rng)
            if chance(rng, 0.5)
            else looks.of("sail", looks.patterns.plain(rng, 128, (0.95, 0.93, 0.88)), roughness=1),
        )
        pieces.append(
            Piece("mast", rod((0.05, 0, high * 0.5), (0.05, 0, mast), 0.014, end_radius=0.009), wood)
        )
        pieces.append(Piece("boom", rod((0.05, 0, high + 0.12), (-0.45, 0, high + 0.12), 0.01), wood))
        for tip, base, low in ((0.03, -0.44, high + 0.14), (0.08, 0.46, high + 0.05)):
            s, t = np.meshgrid(np.linspace(0, 1, 9), np.linspace(0.03, 1, 13))
            x = tip + (base - tip) * s * t
            z = mast * 0.97 - (mast * 0.97 - low) * t
            y = 0.08 * np.sin(np.pi * s) * np.sin(np.pi * t) ** 0.7
            grid = np.stack([x, y, z], 2)
            pieces.append(Piece("sails", sheet(grid if base > 0 else grid[:, ::-1], 0.006), cloth))
        if chance(rng, 0.5):
            pieces.append(
                Piece(
                    "cabin",
                    moved(box((0.28, wide * 0.5, 0.09), 0.02), (-0.1, 0, high + 0.02)),
                    looks.paint(rng),
                )
            )
    else:
        cabin, pane = looks.paint(rng), looks.pane(rng)
        tall = between(rng, 0.16, 0.26)
        pieces.append(
            Piece(
                "cabin", moved(box((0.3, wide * 0.6, tall), 0.012), (0.02, 0, high * 0.85 + tall / 2)), cabin
            )
        )
        pieces.append(
            Piece(
                "windows",
                moved(box((0.306, wide * 0.45, tall * 0.3), 0.003), (0.02, 0, high * 0.85 + tall * 0.68)),
                pane,
            )
        )
        pieces.append(
            Piece(
                "windows",
                moved(box((0.2, wide * 0.606, tall * 0.3), 0.003), (0.02, 0, high * 0.85 + tall * 0.68)),
                pane,
            )
        )
        pieces.append(
            Piece("roof", moved(box((0.36, wide * 0.7, 0.02), 0.006), (0.02, 0, high * 0.85 + tall)), paint)
        )
        pieces.append(
            Piece(
                "funnel",
                moved(cylinder(0.05, 0.2, 22, top=0.045), (-0.08, 0, high * 0.85 + tall)),
                looks.paint(rng),
            )
        )
        tyre = turned(
            lathe(
                [
                    (0.045 + 0.016 * np.cos(a), 0.016 * np.sin(a))
                    for a in np.linspace(0, 2 * np.pi, 10, endpoint=False)
                ],
                20,
                closed=True,
            ),
            "x",
            90,
        )
        rubber = looks.rubber(rng)
        for x in (-0.3, -0.12, 0.06):
            for side in (1, -1):
                pieces.append(Piece("fenders", moved(tyre, (x, side * wide * 0.49, high * 0.75)), rubber))
    return pieces


def plane(rng: np.random.Generator) -> list[Piece]:
    """Airliners and propeller planes."""
    paint, wing_look = looks.paint(rng), looks.paint(rng) if chance(rng, 0.5) else None
    wing_look = paint if wing_look is None else wing_look
    pane, metal = looks.pane(rng), looks.metal(rng)
    radius = between(rng, 0.06, 0.1)
    profile = [
        (0, -0.5),
        (radius * 0.25, -0.49),
        (radius * 0.6, -0.3),
        (radius, -0.05),
        (radius, 0.3),
        (radius * 0.85, 0.4),
        (radius * 0.5, 0.47),
        (0, 0.5),
    ]
    t = np.linspace(0, 1, 40)
    r, z = np.asarray(profile).T
    from scipy.interpolate import PchipInterpolator  # noqa: PLC0415 - slow to import

    along = np.linspace(-0.5, 0.5, 40)
    body = turned(
        lathe(np.stack([np.maximum(PchipInterpolator(z, r)(along), 0) * (t * (1 - t) > 0), along], 1), 28),
        "y",
        90,
    )
    pieces = [Piece("fuselage", body, paint)]
    prop = chance(rng, 0.5)
    span, chord = between(rng, 0.4, 0.55), between(rng, 0.14, 0.2)
    sweep = 0.0 if prop else between(rng, 0.1, 0.25)
    height = pick(rng, (-0.4, 0.0, 0.8)) * radius
    pieces += _wing_pair(
        (0.08, height),
        span,
        chord,
        chord * between(rng, 0.5, 0.8),
        sweep,
        between(rng, 0.0, 0.06),
        wing_look,
        "wings",
    )
    if prop and chance(rng, 0.35):
        pieces += _wing_pair((0.08, height + 0.2), span, chord, chord * 0.8, 0.0, 0.02, wing_look, "wings")
        for y in (0.14, 0.3):
            for side in (1, -1):
                pieces.append(
                    Piece(
                        "struts",
                        rod((0.08, side * y, height), (0.08, side * y, height + 0.21), 0.008, segments=8),
                        metal,
                    )
                )
    pieces += _wing_pair(
        (-0.42, radius * 0.3), span * 0.4, chord * 0.6, chord * 0.4, sweep * 0.5, 0.0, wing_look, "tail"
    )
    fin = [(-0.5, 0.02), (-0.34, 0.02), (-0.45, 0.2), (-0.52, 0.2)]
    pieces.append(Piece("fin", upright(fin, 0.014), looks.paint(rng)))
    if prop:
        blades = count(rng, 2, 4)
        for k in range(blades):
            blade = turned(moved(box((0.012, 0.03, 0.15), 0.004), (0, 0, 0.075)), "x", 360 * k / blades)
            pieces.append(Piece("propeller", moved(blade, (0.51, 0, 0)), metal))
        pieces.append(
            Piece("spinner", moved(ellipsoid((0.05, 0.025, 0.025), segments=14), (0.5, 0, 0)), metal)
        )
        pieces.append(
            Piece(
                "canopy",
                moved(ellipsoid((0.12, radius * 0.6, radius * 0.7), segments=20), (0.12, 0, radius * 0.75)),
                pane,
            )
        )
    else:
        pieces.append(
            Piece(
                "cockpit",
                moved(ellipsoid((0.05, radius * 0.6, radius * 0.35), segments=18), (0.41, 0, radius * 0.55)),
                pane,
            )
        )
        for x in np.linspace(-0.25, 0.33, count(rng, 8, 14)):
            pieces.append(
                Piece(
                    "windows",
                    moved(box((0.018, 1.9 * radius, 0.022), 0.003), (float(x), 0, radius * 0.35)),
                    pane,
                )
            )
        for side in (1, -1):
            for y in (0.18,) if chance(rng, 0.6) else (0.15, 0.3):
                engine = moved(
                    turned(cylinder(0.035, 0.14, 20, top=0.04, bevel=0.008), "y", 90),
                    (0.02 - sweep * y / span, side * y, height - 0.05),
                )
                pieces.append(Piece("engines", engine, metal))
    rubber = looks.rubber(rng)
    for x, y in ((0.33, 0.0), (0.0, 0.1), (0.0, -0.1)):
        pieces.append(
            Piece(
                "struts", rod((x, y * 0.6, -radius * 0.5), (x, y, -radius - 0.06), 0.007, segments=8), metal
            )
        )
        pieces.append(
            Piece(
                "gear",
                moved(
                    turned(moved(cylinder(0.03, 0.02, 16), (0, 0, -0.01)), "x", 90), (x, y, -radius - 0.06)
                ),
                rubber,
            )
        )
    return pieces


def _wing_pair(
    root: tuple[float, float],
    span: float,
    chord: float,
    tip: float,
    sweep: float,
    rise: float,
    look: Look,
    name: str,
) -> list[Piece]:
    """Two wings from the middle outwards, with rounded noses."""
    x, z = root
    s, t = np.meshgrid(np.linspace(0.5, -0.5, 9), np.linspace(0, 1, 7))
    width = chord + (tip - chord) * t
    grid = np.stack([x + s * width - sweep * t, span * t, z + rise * t + 0.012 * np.cos(np.pi * s)], 2)
    right = sheet(grid[::-1], 0.016)
    return [Piece(name, right, look), Piece(name, mirrored(right, "y"), look)]
