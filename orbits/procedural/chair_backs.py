"""Backs and arms of chairs, and shells that are seat and back in one.

Backs are made upright in the plane x = 0 from z = 0 up, then tilted and set on the seat's rear edge.
"""

from __future__ import annotations

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.chair_plan import Plan, bar, rounded_path
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.parts import box, ellipsoid, extrude, sheet
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import rod, tube
from mv3d.orbits.procedural.solids import Solid, bow, moved, planar, turned, warped


def back(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    makers = (
        _solid_back,
        _ladder_back,
        _slat_back,
        _spindle_back,
        _cross_back,
        _padded_back,
        _hoop_back,
        _splat_back,
    )
    upright = pick(rng, makers, (2.5, 2.5, 2, 2, 1, 2.5, 1.5, 1))(rng, plan)
    depth = between(rng, 0.0, 0.07) if chance(rng, 0.6) else 0.0
    bend = bow(depth, plan.width / 2)
    place = (-plan.depth / 2 + plan.bar * 1.1, 0, plan.height - plan.thick * 0.5)
    return [
        Piece(
            piece.name,
            moved(turned(warped(piece.solid, bend) if depth else piece.solid, "y", -plan.tilt_deg), place),
            piece.look,
        )
        for piece in upright
    ]


def _posts(plan: Plan, height: float, name: str = "posts") -> list[Piece]:
    y = plan.width / 2 - plan.bar * 1.2
    look = plan.frame.along_v() if plan.round_bars else plan.frame
    return [Piece(name, bar(plan, (0, side, 0), (0, side, height), 0.95), look) for side in (y, -y)]


def _board(plan: Plan, low: float, high: float, thick: float, share: float = 1.0) -> Solid:
    """A board across the back, in slices so that it can be bent."""
    y = np.linspace(-plan.width / 2 * share, plan.width / 2 * share, 13)
    grid = np.stack(np.meshgrid(y, np.linspace(high, low, 4)), 2)
    return sheet(np.concatenate([np.zeros((4, 13, 1)), grid], 2), thick)


def _solid_back(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    low = pick(rng, (0.0, plan.back * between(rng, 0.2, 0.5)))
    pieces = [Piece("back", _board(plan, low, plan.back, between(rng, 0.012, 0.04)), plan.rest)]
    return pieces + (_posts(plan, plan.back * 0.97) if low else [])


def _ladder_back(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    number = count(rng, 2, 5)
    start = plan.back * between(rng, 0.15, 0.4)
    step = (plan.back - start) / number
    high = step * between(rng, 0.35, 0.75)
    return _posts(plan, plan.back) + [
        Piece(
            "slats",
            _board(plan, start + (k + 1) * step - high, start + (k + 1) * step, 0.016, 0.97),
            plan.rest,
        )
        for k in range(number)
    ]


def _slat_back(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    number, rail = count(rng, 3, 7), between(rng, 0.04, 0.09)
    low = plan.back * between(rng, 0.0, 0.3)
    step = (plan.width - 4 * plan.bar) / number
    pieces = _posts(plan, plan.back * 0.98)
    for z in (plan.back - rail, low):
        pieces.append(Piece("rails", _board(plan, z, z + rail, 0.022), plan.frame))
    for k in range(number):
        y = (k - (number - 1) / 2) * step
        slat = moved(
            box((0.012, step * between(rng, 0.45, 0.6), plan.back - low - rail), 0.002),
            (0, y, (plan.back + low) / 2),
        )
        pieces.append(Piece("slats", slat, plan.rest))
    return pieces


def _spindle_back(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """Thin round bars under a crest, as of a Windsor chair."""
    number, crest = count(rng, 4, 9), between(rng, 0.04, 0.1)
    fan = between(rng, 1.0, 1.25)
    y = np.linspace(-1, 1, number) * (plan.width / 2 - 0.025)
    look = plan.frame.along_v()
    pieces = [
        Piece(
            "spindles",
            rod(
                (0, side, 0),
                (0, side * fan, plan.back - crest * 0.5),
                0.009 if 0 < k < number - 1 else 0.014,
                segments=9,
            ),
            look,
        )
        for k, side in enumerate(y)
    ]
    return [*pieces, Piece("crest", _board(plan, plan.back - crest, plan.back, 0.026, fan * 1.03), plan.rest)]


def _cross_back(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    y, top = plan.width / 2 - plan.bar * 1.2, plan.back
    rail = between(rng, 0.04, 0.07)
    low = plan.back * between(rng, 0.1, 0.25)
    pieces = _posts(plan, top)
    for z in (low, top - rail):
        pieces.append(Piece("rails", _board(plan, z, z + rail, 0.022), plan.rest))
    for sign in (1, -1):
        pieces.append(
            Piece("cross", bar(plan, (0, -y * sign, low + rail), (0, y * sign, top - rail), 0.7), plan.frame)
        )
    return pieces


def _padded_back(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    low = plan.back * pick(rng, (0.02, between(rng, 0.15, 0.4)))
    soft = plan.rest if plan.rest is not plan.frame else plan.seat
    thick = between(rng, 0.025, 0.06)
    half = (plan.back - low) / 2
    wide = plan.width / 2 * between(rng, 0.9, 1.05)
    soft_edge = between(rng, 0.25, 0.7)
    pad = ellipsoid(
        (thick, wide, half),
        roundness=(soft_edge, soft_edge),
        segments=28,
    )
    pieces = [Piece("pad", moved(planar(pad, "y", "z"), (0, 0, low + half)), soft)]
    if low > 0.05 * plan.back or chance(rng, 0.3):
        pieces += [
            Piece("posts", moved(piece.solid, (-thick * 0.4, 0, 0)), piece.look)
            for piece in _posts(plan, plan.back * 0.85)
        ]
    return pieces


def _hoop_back(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """A bent rod, empty or with spindles."""
    t = np.linspace(0, np.pi, 30)
    half, power = plan.width / 2 - plan.bar, between(rng, 0.45, 1.0)
    y = half * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** power
    z = plan.back * np.sin(t) ** power
    look = plan.frame.along_v()
    pieces = [Piece("hoop", tube(np.stack([0 * t, y, z], 1), plan.bar * 0.8, 10), look)]
    if chance(rng, 0.75):
        for side in np.linspace(-0.75, 0.75, count(rng, 3, 7)):
            top = plan.back * np.sqrt(max(0.0, 1 - abs(side) ** (2 / power))) ** power
            pieces.append(
                Piece(
                    "spindles", rod((0, side * half * 0.9, 0), (0, side * half, top), 0.008, segments=8), look
                )
            )
    else:
        scale = between(rng, 0.6, 0.8)
        inner = np.stack([0 * t, y * scale, z * scale], 1)
        pieces.append(Piece("inner_hoop", tube(inner, plan.bar * 0.6, 10), look))
    return pieces


def _splat_back(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """A shaped board in the middle, between posts and a crest."""
    z = np.linspace(0, plan.back * 0.95, 16)
    half = plan.width * (
        between(rng, 0.1, 0.16)
        + between(rng, 0.02, 0.07) * np.cos(z / plan.back * 2 * np.pi * count(rng, 1, 2))
    )
    outline = np.concatenate([np.stack([half, z], 1), np.stack([-half, z], 1)[::-1]])
    # x, y of the outline become y, z of the back: turn the plate upright and its face to the front.
    plate = turned(turned(extrude(outline, 0.014), "x", 90), "z", 90)
    rail = between(rng, 0.05, 0.09)
    crest = Piece(
        "crest", _board(plan, plan.back - rail * 0.6, plan.back + rail * 0.4, 0.026, 1.06), plan.rest
    )
    return [*_posts(plan, plan.back), Piece("splat", plate, plan.rest), crest]


def arms(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    y = plan.width / 2 + plan.bar * 0.5
    height = plan.height + between(rng, 0.16, 0.25)
    rear = -plan.depth / 2 + plan.bar - np.tan(np.deg2rad(plan.tilt_deg)) * (height - plan.height)
    if plan.back < height - plan.height + 0.05:
        return []
    front = plan.depth / 2 * between(rng, 0.4, 0.95)
    pieces = []
    for side in (y, -y):
        if plan.round_bars:
            path = rounded_path(
                [(rear, height), (front, height), (front - 0.02, plan.height - plan.thick * 0.5)], 0.06
            )
            solid = tube([(px, side, pz) for px, pz in path], plan.bar * 0.85, 10)
            pieces.append(Piece("arms", solid, plan.frame.along_v()))
        else:
            pieces.append(
                Piece(
                    "arm_posts",
                    bar(
                        plan,
                        (front - 0.03, side, plan.height - plan.thick * 0.5),
                        (front - 0.03, side, height),
                    ),
                    plan.frame,
                )
            )
            rest = box((front - rear + 0.02, max(0.05, 3 * plan.bar), 0.025), 0.008)
            pieces.append(Piece("arm_rests", moved(rest, ((front + rear) / 2, side, height)), plan.frame))
    return pieces


def shell(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """Seat and back of one bent sheet, as of plywood or plastic."""
    half, back = plan.depth / 2, plan.back
    profile = [
        (half + 0.01, -0.03),
        (half * 0.8, 0.0),
        (0.0, -0.015),
        (-half * 0.65, 0.0),
        (-half * 0.95, 0.06),
        (-half - back * 0.1, back * 0.45),
        (-half - back * between(rng, 0.15, 0.3), back),
    ]
    knots = np.linspace(0, 1, len(profile))
    t = np.linspace(0, 1, 26)
    line = np.stack([np.interp(t, knots, [p[k] for p in profile]) for k in range(2)], 1)
    for _ in range(3):  # rounder
        line[1:-1] = (line[:-2] + 2 * line[1:-1] + line[2:]) / 4
    y = np.linspace(-1, 1, 15)
    curl = between(rng, 0.03, 0.14)
    waist = 1 - between(rng, 0.0, 0.25) * np.sin(np.pi * np.clip(t, 0, 1)) ** 4
    taper = np.minimum(1, 1 - between(rng, 0.1, 0.35) * np.maximum(0, (t - 0.75) / 0.25) ** 2)
    tangent = np.gradient(line, axis=0)
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    lift = curl * np.abs(y)[None] ** 2.5 * np.sin(np.pi * np.clip(t * 0.9 + 0.08, 0, 1))[:, None]
    grid = np.empty((len(t), len(y), 3))
    grid[..., 0] = line[:, :1] + normal[:, :1] * lift
    grid[..., 2] = line[:, 1:] + normal[:, 1:] * lift
    grid[..., 1] = plan.width / 2 * (waist * taper)[:, None] * y[None]
    look = plan.seat if plan.seat is not plan.frame else looks.plastic(rng)
    bent = sheet(grid, between(rng, 0.01, 0.022))
    return [Piece("shell", moved(bent, (0, 0, plan.under + 0.022)), look)]
