"""Tables, shelves, cabinets and clocks. The front faces +X."""

from __future__ import annotations

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.looks import Look
from mv3d.orbits.procedural.parts import box, ellipsoid, extrude, plank
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder, lathe, rod, tube
from mv3d.orbits.procedural.solids import moved, planar, scaled, turned


def table(rng: np.random.Generator) -> list[Piece]:  # noqa: PLR0912 - one kind after another
    """Dining, coffee, side tables and desks; round, square, oval or long."""
    top_look = pick(rng, (looks.wood, looks.paint, looks.printed, looks.metal), (6, 2, 1, 0.5))(rng)
    leg_look = top_look if chance(rng, 0.6) else pick(rng, (looks.wood, looks.metal, looks.paint))(rng)
    high = between(rng, 0.35, 0.78)
    long, deep = between(rng, 0.5, 1.5), between(rng, 0.45, 0.85)
    thick = between(rng, 0.02, 0.06)
    under = high - thick
    round_top = chance(rng, 0.35)
    if round_top:
        long = deep
        top = moved(planar(cylinder(deep / 2, thick, 44, bevel=thick * 0.25), "y", "x"), (0, 0, under))
        if chance(rng, 0.3):
            long = deep * between(rng, 1.2, 1.8)
            top = scaled(top, (1, long / deep, 1))
    else:
        top = moved(box((deep, long, thick), thick * between(rng, 0.05, 0.45)), (0, 0, high - thick / 2))
    pieces = [Piece("top", top, top_look)]
    kind = pick(
        rng,
        ("four", "pedestal", "trestle", "boards"),
        (5, 2.5 if round_top else 0.7, 1, 0 if round_top else 1),
    )
    radius = between(rng, 0.016, 0.04)
    x, y = (deep / 2 * 0.66, long / 2 * 0.66) if round_top else (deep / 2 - radius * 2, long / 2 - radius * 2)
    if kind == "four":
        splay, thin = pick(rng, (0.0, 0.06)), pick(rng, (1.0, between(rng, 0.5, 0.8)))
        square = chance(rng, 0.5)
        for sx, sy in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            foot, head = (sx * (x + splay), sy * (y + splay), 0), (sx * x, sy * y, under + 0.003)
            leg = (
                plank(foot, head, 2 * radius, 2 * radius, 0.004)
                if square
                else rod(foot, head, radius * thin, end_radius=radius, segments=16)
            )
            pieces.append(Piece("legs", leg, leg_look if square else leg_look.along_v()))
        if not round_top and not splay and chance(rng, 0.6):
            apron = between(rng, 0.05, 0.12)
            for sx in (1, -1):
                pieces.append(
                    Piece(
                        "apron",
                        moved(box((0.02, 2 * y, apron), 0.003), (sx * x, 0, under - apron / 2)),
                        leg_look,
                    )
                )
                pieces.append(
                    Piece(
                        "apron",
                        moved(box((2 * x, 0.02, apron), 0.003), (0, sx * y, under - apron / 2)),
                        leg_look,
                    )
                )
        if not round_top and not splay and chance(rng, 0.3):
            shelf = box((2 * x, 2 * y, 0.02), 0.004)
            pieces.append(Piece("shelf", moved(shelf, (0, 0, high * between(rng, 0.2, 0.4))), top_look))
    elif kind == "pedestal":
        foot = deep * between(rng, 0.28, 0.4)
        profile = [
            (0, 0),
            (foot, 0),
            (foot, 0.02),
            (foot * 0.3, 0.05),
            (0.035, under * 0.3),
            (0.06, under * 0.5),
            (0.03, under * 0.7),
            (0.06, under * 0.96),
            (deep * 0.2, under + 0.002),
            (0, under + 0.002),
        ]
        pieces.append(Piece("pedestal", lathe(profile, 30), leg_look.along_v()))
    elif kind == "trestle":
        for side in (y * 0.8, -y * 0.8):
            for sx in (1, -1):
                pieces.append(
                    Piece(
                        "legs",
                        plank((sx * x, side, 0), (-sx * x * 0.3, side, under), 0.05, 0.03, 0.004),
                        leg_look,
                    )
                )
        pieces.append(
            Piece(
                "beam",
                plank((0, -y * 0.8, under * 0.5), (0, y * 0.8, under * 0.5), 0.04, 0.04, 0.004),
                leg_look,
            )
        )
    else:
        for side in (y, -y):
            pieces.append(
                Piece("sides", moved(box((deep * 0.9, thick, under), 0.004), (0, side, under / 2)), leg_look)
            )
        if chance(rng, 0.7):
            pieces += _drawers(
                rng,
                (0, 0.25 * long, under),
                (deep * 0.85, long * 0.42, min(under, 0.4)),
                count(rng, 1, 3),
                leg_look,
                top_look,
            )
    return pieces


def _drawers(
    rng: np.random.Generator,
    top: tuple[float, float, float],
    size: tuple[float, float, float],
    number: int,
    body: Look,
    front: Look,
) -> list[Piece]:
    """A case that hangs from `top`, with fronts and handles towards +X."""
    deep, wide, high = size
    x, y, z = top
    pieces = [Piece("case", moved(box(size, 0.004), (x, y, z - high / 2)), body)]
    step = high / number
    handle = looks.metal(rng)
    knob = chance(rng, 0.5)
    for k in range(number):
        middle = z - (k + 0.5) * step
        pieces.append(
            Piece(
                "fronts",
                moved(box((0.02, wide * 0.93, step * 0.86), 0.004), (x + deep / 2 + 0.006, y, middle)),
                front,
            )
        )
        if knob:
            solid = moved(ellipsoid((0.018, 0.018, 0.018), segments=14), (x + deep / 2 + 0.03, y, middle))
        else:
            bar = wide * 0.15
            arc = [
                (x + deep / 2 + 0.01, y - bar, middle),
                (x + deep / 2 + 0.04, y - bar * 0.8, middle),
                (x + deep / 2 + 0.04, y + bar * 0.8, middle),
                (x + deep / 2 + 0.01, y + bar, middle),
            ]
            solid = tube(arc, 0.007, 8)
        pieces.append(Piece("handles", solid, handle))
    return pieces


def shelf(rng: np.random.Generator) -> list[Piece]:
    """A bookcase, often with books."""
    look = looks.wood(rng) if chance(rng, 0.7) else looks.paint(rng)
    wide, deep, high = between(rng, 0.5, 1.1), between(rng, 0.22, 0.36), between(rng, 0.7, 1.7)
    board, levels = between(rng, 0.015, 0.03), count(rng, 2, 5)
    pieces = [
        Piece("sides", moved(box((deep, board, high), 0.003), (0, s * wide / 2, high / 2)), look)
        for s in (1, -1)
    ]
    step = (high - board) / levels
    for k in range(levels + 1):
        pieces.append(
            Piece("boards", moved(box((deep, wide, board), 0.003), (0, 0, board / 2 + k * step)), look)
        )
    if chance(rng, 0.7):
        back = looks.paint(rng) if chance(rng, 0.3) else look
        pieces.append(
            Piece("back", moved(box((0.01, wide, high), 0.0), (-deep / 2 + 0.005, 0, high / 2)), back)
        )
    if chance(rng, 0.7):
        covers = [looks.paint(rng) for _ in range(5)]
        for k in range(levels):
            y, end = -wide / 2 + board, wide / 2 - board
            end -= between(rng, 0.0, 0.6) * wide
            while y < end - 0.05:
                thick, tall = between(rng, 0.02, 0.05), step * between(rng, 0.5, 0.85)
                size = (deep * between(rng, 0.6, 0.8), thick, tall)
                place = (0.02, y + thick / 2, board + k * step + tall / 2)
                pieces.append(Piece("books", moved(box(size, 0.003), place), pick(rng, covers)))
                y += thick + 0.002
    return pieces


def cabinet(rng: np.random.Generator) -> list[Piece]:
    """Chests of drawers, cupboards, wardrobes."""
    body = looks.wood(rng) if chance(rng, 0.7) else looks.paint(rng)
    front = (
        body if chance(rng, 0.5) else pick(rng, (looks.wood, looks.paint, looks.printed), (2, 3, 0.5))(rng)
    )
    wide, deep, high = between(rng, 0.4, 1.2), between(rng, 0.3, 0.55), between(rng, 0.45, 1.6)
    foot = between(rng, 0.0, 0.16)
    size = (deep, wide, high)
    if chance(rng, 0.5):
        pieces = _drawers(rng, (0, 0, foot + high), size, count(rng, 2, 5), body, front)
    else:
        doors = count(rng, 1, 3) if wide > 0.6 else 1
        pieces = [Piece("case", moved(box(size, 0.006), (0, 0, foot + high / 2)), body)]
        handle = looks.metal(rng)
        step = wide / doors
        for k in range(doors):
            y = (k - (doors - 1) / 2) * step
            pieces.append(
                Piece(
                    "doors",
                    moved(
                        box((0.02, step * 0.94, high * 0.94), 0.004), (deep / 2 + 0.006, y, foot + high / 2)
                    ),
                    front,
                )
            )
            if chance(rng, 0.6):
                panel = box((0.015, step * 0.65, high * 0.7), 0.006)
                pieces.append(Piece("panels", moved(panel, (deep / 2 + 0.015, y, foot + high / 2)), body))
            bar = moved(
                cylinder(0.008, high * 0.15, 10),
                (deep / 2 + 0.03, y + step * 0.4 * (1 if k % 2 == 0 else -1), foot + high * 0.45),
            )
            pieces.append(Piece("handles", bar, handle))
    pieces.append(
        Piece(
            "top", moved(box((deep + 0.04, wide + 0.04, 0.025), 0.006), (0.01, 0, foot + high + 0.0125)), body
        )
    )
    if foot > 0.02:
        for x in (deep / 2 - 0.04, 0.04 - deep / 2):
            for y in (wide / 2 - 0.04, 0.04 - wide / 2):
                pieces.append(
                    Piece(
                        "feet", moved(cylinder(0.016, foot + 0.004, 12, top=0.026), (x, y, 0)), body.along_v()
                    )
                )
    return pieces


def clock(rng: np.random.Generator) -> list[Piece]:
    """A standing clock with a dial towards +X."""
    body = pick(rng, (looks.wood, looks.paint, looks.metal))(rng)
    dial = looks.of("dial", looks.patterns.plain(rng, 128, (0.95, 0.94, 0.9)), roughness=0.4)
    ink = looks.of("ink", looks.patterns.plain(rng, 64, (0.08, 0.08, 0.1)), roughness=0.5)
    radius, deep = 0.2, between(rng, 0.07, 0.14)
    if chance(rng, 0.5):
        case = turned(cylinder(radius * 1.12, deep, 40, bevel=0.015), "y", 90)
        pieces = [Piece("case", moved(case, (-deep, 0, 0)), body)]
        for side in (1, -1):
            pieces.append(
                Piece(
                    "feet",
                    rod((-deep / 2, side * 0.1, -0.18), (-deep / 2, side * 0.16, -0.28), 0.016),
                    body.along_v(),
                )
            )
            pieces.append(
                Piece(
                    "bells",
                    moved(ellipsoid((0.05, 0.06, 0.05), segments=18), (-deep / 2, side * 0.12, 0.24)),
                    looks.metal(rng),
                )
            )
    else:
        t = np.linspace(0, np.pi, 20)
        arch = np.stack([0.28 * np.cos(t), 0.05 + 0.25 * np.sin(t)], 1)
        outline = np.concatenate([arch, [(-0.34, -0.28), (0.34, -0.28)]])
        plate = turned(turned(extrude(outline, deep), "x", 90), "z", 90)
        pieces = [Piece("case", moved(plate, (-deep / 2, 0, 0)), body)]
    pieces.append(Piece("dial", moved(turned(cylinder(radius, 0.008, 40), "y", 90), (0, 0, 0)), dial))
    for k in range(12):
        a = 2 * np.pi * k / 12
        size = (0.006, 0.012, 0.035 if k % 3 == 0 else 0.02)
        mark = turned(moved(box(size), (0, 0, radius * 0.83)), "x", float(np.rad2deg(a)))
        pieces.append(Piece("marks", moved(mark, (0.009, 0, 0)), ink))
    for length in (radius * 0.5, radius * 0.75):
        hand = turned(
            moved(box((0.006, 0.014, length)), (0, 0, length / 2 - 0.01)), "x", between(rng, 0, 360)
        )
        pieces.append(Piece("hands", moved(hand, (0.012 + 0.02 * length, 0, 0)), ink))
    return pieces
