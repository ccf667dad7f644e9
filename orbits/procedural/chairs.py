"""Chairs of many styles: a base, a seat, a back and perhaps arms. The front faces +X."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.looks import Look
from mv3d.orbits.procedural.parts import box, ellipsoid, extrude, plank, sheet
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder, lathe, rod, tube
from mv3d.orbits.procedural.solids import Solid, bow, moved, planar, scaled, turned, warped


@dataclass(frozen=True, eq=False)
class Plan:
    """Sizes of a chair, and what it is made of. The seat's top is at `height`; lengths in metres."""

    width: float
    depth: float
    height: float
    thick: float
    back: float
    """Height of the back above the seat."""
    tilt_deg: float
    """Of the back, backwards."""
    bar: float
    """Half the width of a leg."""
    round_bars: bool
    frame: Look
    seat: Look
    rest: Look

    @property
    def under(self) -> float:
        """Height of the seat's lower side."""
        return self.height - self.thick


def chair(rng: np.random.Generator) -> list[Piece]:
    """A chair with a back: any base, seat and back together."""
    plan = _plan(rng)
    if chance(rng, 0.18):
        return [*_shell(rng, plan), *_base(rng, plan)]
    pieces = [*_base(rng, plan), *_seat(rng, plan), *_back(rng, plan)]
    if chance(rng, 0.35):
        pieces += _arms(rng, plan)
    return pieces


def stool(rng: np.random.Generator) -> list[Piece]:
    """A seat without a back, low or as high as a bar."""
    height = pick(rng, (between(rng, 0.35, 0.5), between(rng, 0.6, 0.8)))
    plan = _plan(rng, height=height, side=between(rng, 0.28, 0.42))
    pieces = [*_base(rng, plan), *_seat(rng, plan)]
    if chance(rng, 0.15):
        low = _plan(rng, height=height)
        pieces += _back(rng, Plan(**{**plan.__dict__, "back": between(rng, 0.12, 0.25), "tilt_deg": low.tilt_deg}))
    return pieces


def _plan(rng: np.random.Generator, *, height: float | None = None, side: float | None = None) -> Plan:
    wooden = chance(rng, 0.55)
    frame = looks.wood(rng) if wooden else (looks.paint(rng) if chance(rng, 0.55) else looks.metal(rng))
    soft = looks.fabric(rng)
    second = pick(rng, (looks.wood, looks.paint, looks.plastic, looks.printed), (3, 3, 2, 0.5))(rng)
    seat, rest = pick(
        rng, ((frame, frame), (soft, soft), (soft, frame), (second, second), (second, frame)), (4, 3, 2, 2, 1)
    )
    width = between(rng, 0.38, 0.54) if side is None else side
    return Plan(
        width=width,
        depth=between(rng, 0.38, 0.5) if side is None else side * between(rng, 0.85, 1.1),
        height=between(rng, 0.40, 0.52) if height is None else height,
        thick=between(rng, 0.02, 0.06) if seat is frame else between(rng, 0.035, 0.1),
        back=between(rng, 0.3, 0.62),
        tilt_deg=between(rng, 2, 16),
        bar=between(rng, 0.011, 0.026),
        round_bars=chance(rng, 0.5) or not wooden,
        frame=frame,
        seat=seat,
        rest=rest,
    )


def _bar(plan: Plan, start: tuple[float, ...], end: tuple[float, ...], size: float = 1.0, taper: float = 1.0) -> Solid:
    """A leg, a post or a rung."""
    radius = plan.bar * size
    if plan.round_bars:
        return rod(start, end, radius * 1.1, end_radius=radius * 1.1 * taper)
    return plank(start, end, 2 * radius, 2 * radius, radius * 0.3)


# Bases


def _base(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    makers = (_four_legs, _pedestal, _sled, _star, _turned_legs, _hairpins, _block, _crossed, _cantilever)
    return pick(rng, makers, (7, 1.2, 1.3, 1.2, 1.6, 1.0, 0.6, 0.8, 0.8))(rng, plan)


def _corners(plan: Plan, inset: float) -> list[tuple[float, float]]:
    x, y = plan.depth / 2 - inset, plan.width / 2 - inset
    return [(x, y), (x, -y), (-x, -y), (-x, y)]


def _four_legs(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    splay = pick(rng, (0.0, between(rng, 0.02, 0.1)))
    taper = pick(rng, (1.0, between(rng, 1.3, 2.0)))
    inset = plan.bar * (1.2 + taper * 0.5) + splay * 0.6
    frame = plan.frame.along_v() if plan.round_bars else plan.frame
    tops = _corners(plan, inset)
    feet = [(x + splay * np.sign(x), y + splay * np.sign(y)) for x, y in tops]
    pieces = [
        Piece("legs", _bar(plan, (*foot, 0.0), (*top, plan.under + 0.004), taper=taper), frame)
        for foot, top in zip(feet, tops, strict=True)
    ]

    def at(corner: int, share: float) -> tuple[float, ...]:
        return tuple(np.asarray((*feet[corner], 0.0)) * (1 - share) + np.asarray((*tops[corner], plan.under)) * share)

    kind = pick(rng, ("none", "ring", "h", "sides"), (4, 2, 2, 1.5))
    low = between(rng, 0.2, 0.5)
    if kind in ("ring", "sides", "h"):
        pairs = ((0, 3), (1, 2)) if kind != "ring" else ((0, 1), (1, 2), (2, 3), (3, 0))
        for k, (a, b) in enumerate(pairs):
            share = low + (0.08 * (k % 2) if kind == "ring" else 0.0)
            pieces.append(Piece("rungs", _bar(plan, at(a, share), at(b, share), 0.7), frame))
        if kind == "h":
            left, right = (np.add(at(a, low), at(b, low)) / 2 for a, b in pairs)
            pieces.append(Piece("rungs", _bar(plan, tuple(left), tuple(right), 0.7), frame))
    if chance(rng, 0.6) and not splay:  # the apron
        high = between(rng, 0.04, 0.08)
        for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)):
            (x0, y0), (x1, y1) = tops[a], tops[b]
            middle = ((x0 + x1) / 2, (y0 + y1) / 2, plan.under - high / 2)
            size = (abs(x1 - x0) + plan.bar, abs(y1 - y0) + plan.bar, high)
            pieces.append(Piece("apron", moved(box(size, 0.003), middle), plan.frame))
    return pieces


def _turned_legs(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """Legs from a lathe, with beads."""
    t = np.linspace(0, 1, 26)
    waves = 1 + 0.35 * np.sin(2 * np.pi * count(rng, 2, 4) * t + between(rng, 0, 6)) * np.sin(np.pi * t)
    radius = plan.bar * between(rng, 0.9, 1.3) * waves * (0.7 + 0.5 * t)
    profile = [(0.0, 0.0), *zip(radius.tolist(), (t * (plan.under + 0.004)).tolist(), strict=True), (0.0, plan.under + 0.004)]
    leg = lathe(profile, 14)
    corners = _corners(plan, plan.bar * 1.6)
    pieces = [Piece("legs", moved(leg, (x, y, 0)), plan.frame.along_v()) for x, y in corners]
    if chance(rng, 0.5):
        z = plan.under * between(rng, 0.3, 0.5)
        for a, b in ((0, 3), (1, 2)):
            pieces.append(Piece("rungs", rod((*corners[a], z), (*corners[b], z), plan.bar * 0.6), plan.frame.along_v()))
    return pieces


def _pedestal(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    foot = min(plan.width, plan.depth) * between(rng, 0.36, 0.5)
    post, rim = between(rng, 0.02, 0.05), between(rng, 0.012, 0.03)
    if chance(rng, 0.5):  # one curve, as of a tulip
        profile = [(0, 0), (foot, 0), (foot, rim), (foot * 0.5, rim * 2.2), (post * 1.2, plan.under * 0.3),
                   (post, plan.under * 0.6), (post * 1.6, plan.under * 0.9), (foot * 0.6, plan.under + 0.004),
                   (0, plan.under + 0.004)]
        return [Piece("pedestal", lathe(profile, 32), plan.frame)]
    return [
        Piece("foot", cylinder(foot, rim, 32, bevel=0.005), plan.frame),
        Piece("post", moved(cylinder(post, plan.under - rim + 0.004, 18), (0, 0, rim)), plan.frame),
    ]


def _star(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """The base of an office chair."""
    arms, reach = count(rng, 4, 5), between(rng, 0.24, 0.32)
    castor = between(rng, 0.022, 0.034)
    hub = between(rng, 0.08, 0.14)
    dark, wheels = looks.metal(rng), chance(rng, 0.75)
    tyre = looks.rubber(rng)
    pieces = [
        Piece("post", moved(cylinder(0.025, plan.under - 0.05, 16), (0, 0, 0.05)), dark),
        Piece("sleeve", moved(cylinder(0.04, hub * 1.6, 16), (0, 0, 0.05)), tyre),
        Piece("plate", moved(box((plan.depth * 0.5, plan.width * 0.5, 0.03), 0.006), (0, 0, plan.under - 0.012)), tyre),
    ]
    for k in range(arms):
        angle = 2 * np.pi * (k + 0.5) / arms
        x, y = reach * np.cos(angle), reach * np.sin(angle)
        arm = plank((0, 0, hub), (x, y, 2 * castor + 0.012), 0.045, 0.03, 0.008)
        pieces.append(Piece("star", arm, dark))
        if wheels:
            wheel = turned(moved(cylinder(castor, castor * 1.2, 14), (0, 0, -castor * 0.6)), "x", 90)
            pieces.append(Piece("castors", moved(turned(wheel, "z", float(np.rad2deg(angle))), (x, y, castor)), tyre))
        else:
            pieces.append(Piece("castors", moved(cylinder(0.02, 2 * castor, 12), (x, y, 0)), tyre))
    return pieces


def _sled(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """Two runners of bent tube."""
    r = plan.bar * 0.75
    x, y, top = plan.depth / 2 - 0.02, plan.width / 2 - 0.03, plan.under - r * 0.4
    lean = between(rng, 0.0, 0.06)
    run = _rounded_path([(x - 0.04, top), (x + lean, r), (-x - lean, r), (-x + 0.04, top)], 0.05)
    frame = plan.frame.along_v()
    pieces = [
        Piece("runners", tube([(px, side, pz) for px, pz in run], r, 10, round_ends=True), frame) for side in (y, -y)
    ]
    for place in (x - 0.05, -x + 0.05):
        pieces.append(Piece("rails", rod((place, -y, top), (place, y, top), r), frame))
    return pieces


def _cantilever(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """One tube: along the floor, up in front, back under the seat."""
    r = plan.bar * 0.75
    x, y, top = plan.depth / 2 - 0.01, plan.width / 2 - 0.03, plan.under - r * 0.4
    side = [(-x, r), (x, r), (x + between(rng, 0.0, 0.04), top), (-x + 0.05, top)]
    path = _rounded_path(side, 0.07)
    frame = plan.frame.along_v()
    pieces = [Piece("tubes", tube([(px, s, pz) for px, pz in path], r, 10, round_ends=True), frame) for s in (y, -y)]
    pieces.append(Piece("tubes", rod((-x, -y, r), (-x, y, r), r), frame))
    return pieces


def _hairpins(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """Legs of thin wire, two bars each."""
    r, spread = between(rng, 0.004, 0.007), between(rng, 0.03, 0.06)
    wire = looks.metal(rng) if chance(rng, 0.6) else looks.paint(rng, (0.07, 0.07, 0.08))
    pieces = []
    for x, y in _corners(plan, 0.08):
        foot = (x * 1.25, y * 1.25, r)
        for dx, dy in ((spread, -spread), (-spread, spread)):
            pieces.append(Piece("legs", rod(foot, (x + dx * np.sign(x * y), y + dy, plan.under + 0.004), r, segments=8), wire))
    return pieces


def _block(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """Two boards, or a box."""
    if chance(rng, 0.5):
        size = (plan.depth * 0.8, 0.03, plan.under + 0.004)
        return [
            Piece("sides", moved(box(size, 0.004), (0, y, size[2] / 2)), plan.frame)
            for y in (plan.width / 2 - 0.03, 0.03 - plan.width / 2)
        ]
    size = (plan.depth * 0.85, plan.width * 0.85, plan.under + 0.004)
    return [Piece("block", moved(box(size, 0.01), (0, 0, size[2] / 2)), plan.frame)]


def _crossed(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """Legs that cross, as of a folding chair."""
    x, y, top = plan.depth / 2 - 0.02, plan.width / 2 - 0.02, plan.under + 0.004
    pieces = []
    for side in (y, -y):
        inner = side - np.sign(side) * 2.2 * plan.bar
        pieces.append(Piece("legs", _bar(plan, (x, side, 0.0), (-x, side, top)), plan.frame))
        pieces.append(Piece("legs", _bar(plan, (-x, inner, 0.0), (x, inner, top)), plan.frame))
    for px in (x, -x):
        low = between(rng, 0.1, 0.25)
        place = px * (1 - 2 * low)
        pieces.append(Piece("rungs", _bar(plan, (place, -y, top * low), (place, y, top * low), 0.7), plan.frame))
    return pieces


def _rounded_path(corners: list[tuple[float, float]], radius: float) -> list[tuple[float, float]]:
    """A line of corners with its bends cut by quadratic curves."""
    points = [np.asarray(corner, np.float64) for corner in corners]
    path = [points[0]]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        a = corner + (before - corner) * min(0.45, radius / np.linalg.norm(before - corner))
        b = corner + (after - corner) * min(0.45, radius / np.linalg.norm(after - corner))
        path += [(1 - t) ** 2 * a + 2 * t * (1 - t) * corner + t**2 * b for t in np.linspace(0, 1, 7)]
    path.append(points[-1])
    return [(float(p[0]), float(p[1])) for p in path]


# Seats


def _seat(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    z = plan.height - plan.thick / 2
    size = (plan.depth, plan.width, plan.thick)
    kind = pick(rng, ("slab", "cushion", "round", "outline", "slats"), (4, 3, 1, 3, 1))
    if plan.seat is plan.frame and kind == "cushion":
        kind = "slab"
    if kind == "slab":
        return [Piece("seat", moved(box(size, plan.thick * between(rng, 0.1, 0.4)), (0, 0, z)), plan.seat)]
    if kind == "round":
        radius = min(plan.depth, plan.width) / 2 * 1.12
        disc = moved(cylinder(radius, plan.thick, 36, bevel=plan.thick * 0.35), (0, 0, plan.under))
        disc = scaled(planar(disc, "x", "y"), (plan.depth / 2 / radius, plan.width / 2 / radius, 1))
        return [Piece("seat", disc, plan.seat)]
    if kind == "outline":
        t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        power = between(rng, 0.3, 0.8)
        x, y = (np.sign(f) * np.abs(f) ** power for f in (np.cos(t), np.sin(t)))
        y = y * (1 + between(rng, 0.0, 0.12) * x)
        outline = np.stack([x * plan.depth / 2, y * plan.width / 2], 1)
        return [Piece("seat", moved(extrude(outline, plan.thick), (0, 0, z)), plan.seat)]
    if kind == "slats":
        number = count(rng, 4, 8)
        step = plan.depth / number
        slat = box((step * 0.8, plan.width, min(plan.thick, 0.025)), 0.003)
        rails = [
            Piece("rails", moved(box((plan.depth, 0.03, max(plan.thick, 0.03)), 0.003), (0, y, plan.height - 0.005 - max(plan.thick, 0.03) / 2)), plan.frame)
            for y in (plan.width * 0.4, -plan.width * 0.4)
        ]
        return rails + [
            Piece("seat", moved(slat, (-plan.depth / 2 + (k + 0.5) * step, 0, plan.height - 0.0125)), plan.seat)
            for k in range(number)
        ]
    board = 0.018
    soft = ellipsoid((plan.depth / 2, plan.width / 2, plan.thick * 0.62), roundness=(0.45, 0.3), segments=28)
    soft = planar(soft, "x", "y")
    return [
        Piece("seat_board", moved(box((*size[:2], board), 0.004), (0, 0, plan.under + board / 2)), plan.frame),
        Piece("cushion", moved(soft, (0, 0, plan.under + board + plan.thick * 0.4)), plan.seat),
    ]


# Backs: made upright in the plane x = 0 from z = 0 up, then tilted and set on the seat's rear edge.


def _back(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    makers = (_solid_back, _ladder_back, _slat_back, _spindle_back, _cross_back, _padded_back, _hoop_back, _splat_back)
    upright = pick(rng, makers, (2.5, 2.5, 2, 2, 1, 2.5, 1.5, 1))(rng, plan)
    depth = between(rng, 0.0, 0.07) if chance(rng, 0.6) else 0.0
    bend = bow(depth, plan.width / 2)
    place = (-plan.depth / 2 + plan.bar * 1.1, 0, plan.height - plan.thick * 0.5)
    return [
        Piece(piece.name, moved(turned(warped(piece.solid, bend) if depth else piece.solid, "y", -plan.tilt_deg), place), piece.look)
        for piece in upright
    ]


def _posts(plan: Plan, height: float, name: str = "posts") -> list[Piece]:
    y = plan.width / 2 - plan.bar * 1.2
    look = plan.frame.along_v() if plan.round_bars else plan.frame
    return [Piece(name, _bar(plan, (0, side, 0), (0, side, height), 0.95), look) for side in (y, -y)]


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
        Piece("slats", _board(plan, start + (k + 1) * step - high, start + (k + 1) * step, 0.016, 0.97), plan.rest)
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
        slat = moved(box((0.012, step * between(rng, 0.45, 0.6), plan.back - low - rail), 0.002), (0, y, (plan.back + low) / 2))
        pieces.append(Piece("slats", slat, plan.rest))
    return pieces


def _spindle_back(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """Thin round bars under a crest, as of a Windsor chair."""
    number, crest = count(rng, 4, 9), between(rng, 0.04, 0.1)
    fan = between(rng, 1.0, 1.25)
    y = np.linspace(-1, 1, number) * (plan.width / 2 - 0.025)
    look = plan.frame.along_v()
    pieces = [
        Piece("spindles", rod((0, side, 0), (0, side * fan, plan.back - crest * 0.5), 0.009 if 0 < k < number - 1 else 0.014, segments=9), look)
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
        pieces.append(Piece("cross", _bar(plan, (0, -y * sign, low + rail), (0, y * sign, top - rail), 0.7), plan.frame))
    return pieces


def _padded_back(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    low = plan.back * pick(rng, (0.02, between(rng, 0.15, 0.4)))
    soft = plan.rest if plan.rest is not plan.frame else plan.seat
    thick = between(rng, 0.025, 0.06)
    half = (plan.back - low) / 2
    pad = ellipsoid((thick, plan.width / 2 * between(rng, 0.9, 1.05), half), roundness=(between(rng, 0.25, 0.7),) * 2, segments=28)
    pieces = [Piece("pad", moved(planar(pad, "y", "z"), (0, 0, low + half)), soft)]
    if low > 0.05 * plan.back or chance(rng, 0.3):
        pieces += [Piece("posts", moved(piece.solid, (-thick * 0.4, 0, 0)), piece.look) for piece in _posts(plan, plan.back * 0.85)]
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
            pieces.append(Piece("spindles", rod((0, side * half * 0.9, 0), (0, side * half, top), 0.008, segments=8), look))
    else:
        scale = between(rng, 0.6, 0.8)
        inner = np.stack([0 * t, y * scale, z * scale], 1)
        pieces.append(Piece("inner_hoop", tube(inner, plan.bar * 0.6, 10), look))
    return pieces


def _splat_back(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """A shaped board in the middle, between posts and a crest."""
    z = np.linspace(0, plan.back * 0.95, 16)
    half = plan.width * (between(rng, 0.1, 0.16) + between(rng, 0.02, 0.07) * np.cos(z / plan.back * 2 * np.pi * count(rng, 1, 2)))
    outline = np.concatenate([np.stack([half, z], 1), np.stack([-half, z], 1)[::-1]])
    # x, y of the outline become y, z of the back: turn the plate upright and its face to the front.
    plate = turned(turned(extrude(outline, 0.014), "x", 90), "z", 90)
    rail = between(rng, 0.05, 0.09)
    crest = Piece("crest", _board(plan, plan.back - rail * 0.6, plan.back + rail * 0.4, 0.026, 1.06), plan.rest)
    return [*_posts(plan, plan.back), Piece("splat", plate, plan.rest), crest]


def _arms(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    y = plan.width / 2 + plan.bar * 0.5
    height = plan.height + between(rng, 0.16, 0.25)
    rear = -plan.depth / 2 + plan.bar - np.tan(np.deg2rad(plan.tilt_deg)) * (height - plan.height)
    if plan.back < height - plan.height + 0.05:
        return []
    front = plan.depth / 2 * between(rng, 0.4, 0.95)
    pieces = []
    for side in (y, -y):
        if plan.round_bars:
            path = _rounded_path([(rear, height), (front, height), (front - 0.02, plan.height - plan.thick * 0.5)], 0.06)
            solid = tube([(px, side, pz) for px, pz in path], plan.bar * 0.85, 10)
            pieces.append(Piece("arms", solid, plan.frame.along_v()))
        else:
            pieces.append(Piece("arm_posts", _bar(plan, (front - 0.03, side, plan.height - plan.thick * 0.5), (front - 0.03, side, height)), plan.frame))
            rest = box((front - rear + 0.02, max(0.05, 3 * plan.bar), 0.025), 0.008)
            pieces.append(Piece("arm_rests", moved(rest, ((front + rear) / 2, side, height)), plan.frame))
    return pieces


def _shell(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """Seat and back of one bent sheet, as of plywood or plastic."""
    half, back = plan.depth / 2, plan.back
    profile = [(half + 0.01, -0.03), (half * 0.8, 0.0), (0.0, -0.015), (-half * 0.65, 0.0), (-half * 0.95, 0.06),
               (-half - back * 0.1, back * 0.45), (-half - back * between(rng, 0.15, 0.3), back)]
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
    shell = sheet(grid, between(rng, 0.01, 0.022))
    return [Piece("shell", moved(shell, (0, 0, plan.under + 0.022)), look)]
