"""What chairs stand on: legs, pedestals, runners, tubes."""

from __future__ import annotations

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.chair_plan import Plan, bar, rounded_path
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.parts import box, plank
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder, lathe, rod, tube
from mv3d.orbits.procedural.solids import moved, turned


def base(rng: np.random.Generator, plan: Plan) -> list[Piece]:
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
        Piece("legs", bar(plan, (*foot, 0.0), (*top, plan.under + 0.004), taper=taper), frame)
        for foot, top in zip(feet, tops, strict=True)
    ]

    def at(corner: int, share: float) -> tuple[float, ...]:
        return tuple(
            np.asarray((*feet[corner], 0.0)) * (1 - share) + np.asarray((*tops[corner], plan.under)) * share
        )

    kind = pick(rng, ("none", "ring", "h", "sides"), (4, 2, 2, 1.5))
    low = between(rng, 0.2, 0.5)
    if kind in ("ring", "sides", "h"):
        pairs = ((0, 3), (1, 2)) if kind != "ring" else ((0, 1), (1, 2), (2, 3), (3, 0))
        for k, (a, b) in enumerate(pairs):
            share = low + (0.08 * (k % 2) if kind == "ring" else 0.0)
            pieces.append(Piece("rungs", bar(plan, at(a, share), at(b, share), 0.7), frame))
        if kind == "h":
            left, right = (np.add(at(a, low), at(b, low)) / 2 for a, b in pairs)
            pieces.append(Piece("rungs", bar(plan, tuple(left), tuple(right), 0.7), frame))
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
    profile = [
        (0.0, 0.0),
        *zip(radius.tolist(), (t * (plan.under + 0.004)).tolist(), strict=True),
        (0.0, plan.under + 0.004),
    ]
    leg = lathe(profile, 14)
    corners = _corners(plan, plan.bar * 1.6)
    pieces = [Piece("legs", moved(leg, (x, y, 0)), plan.frame.along_v()) for x, y in corners]
    if chance(rng, 0.5):
        z = plan.under * between(rng, 0.3, 0.5)
        for a, b in ((0, 3), (1, 2)):
            pieces.append(
                Piece("rungs", rod((*corners[a], z), (*corners[b], z), plan.bar * 0.6), plan.frame.along_v())
            )
    return pieces


def _pedestal(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    foot = min(plan.width, plan.depth) * between(rng, 0.36, 0.5)
    post, rim = between(rng, 0.02, 0.05), between(rng, 0.012, 0.03)
    if chance(rng, 0.5):  # one curve, as of a tulip
        profile = [
            (0, 0),
            (foot, 0),
            (foot, rim),
            (foot * 0.5, rim * 2.2),
            (post * 1.2, plan.under * 0.3),
            (post, plan.under * 0.6),
            (post * 1.6, plan.under * 0.9),
            (foot * 0.6, plan.under + 0.004),
            (0, plan.under + 0.004),
        ]
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
        Piece(
            "plate",
            moved(box((plan.depth * 0.5, plan.width * 0.5, 0.03), 0.006), (0, 0, plan.under - 0.012)),
            tyre,
        ),
    ]
    for k in range(arms):
        angle = 2 * np.pi * (k + 0.5) / arms
        x, y = reach * np.cos(angle), reach * np.sin(angle)
        arm = plank((0, 0, hub), (x, y, 2 * castor + 0.012), 0.045, 0.03, 0.008)
        pieces.append(Piece("star", arm, dark))
        if wheels:
            wheel = turned(moved(cylinder(castor, castor * 1.2, 14), (0, 0, -castor * 0.6)), "x", 90)
            pieces.append(
                Piece("castors", moved(turned(wheel, "z", float(np.rad2deg(angle))), (x, y, castor)), tyre)
            )
        else:
            pieces.append(Piece("castors", moved(cylinder(0.02, 2 * castor, 12), (x, y, 0)), tyre))
    return pieces


def _sled(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """Two runners of bent tube."""
    r = plan.bar * 0.75
    x, y, top = plan.depth / 2 - 0.02, plan.width / 2 - 0.03, plan.under - r * 0.4
    lean = between(rng, 0.0, 0.06)
    run = rounded_path([(x - 0.04, top), (x + lean, r), (-x - lean, r), (-x + 0.04, top)], 0.05)
    frame = plan.frame.along_v()
    pieces = [
        Piece("runners", tube([(px, side, pz) for px, pz in run], r, 10, round_ends=True), frame)
        for side in (y, -y)
    ]
    for place in (x - 0.05, -x + 0.05):
        pieces.append(Piece("rails", rod((place, -y, top), (place, y, top), r), frame))
    return pieces


def _cantilever(rng: np.random.Generator, plan: Plan) -> list[Piece]:
    """One tube: along the floor, up in front, back under the seat."""
    r = plan.bar * 0.75
    x, y, top = plan.depth / 2 - 0.01, plan.width / 2 - 0.03, plan.under - r * 0.4
    side = [(-x, r), (x, r), (x + between(rng, 0.0, 0.04), top), (-x + 0.05, top)]
    path = rounded_path(side, 0.07)
    frame = plan.frame.along_v()
    pieces = [
        Piece("tubes", tube([(px, s, pz) for px, pz in path], r, 10, round_ends=True), frame) for s in (y, -y)
    ]
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
            pieces.append(
                Piece(
                    "legs",
                    rod(foot, (x + dx * np.sign(x * y), y + dy, plan.under + 0.004), r, segments=8),
                    wire,
                )
            )
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
        pieces.append(Piece("legs", bar(plan, (x, side, 0.0), (-x, side, top)), plan.frame))
        pieces.append(Piece("legs", bar(plan, (-x, inner, 0.0), (x, inner, top)), plan.frame))
    for px in (x, -x):
        low = between(rng, 0.1, 0.25)
        place = px * (1 - 2 * low)
        pieces.append(
            Piece("rungs", bar(plan, (place, -y, top * low), (place, y, top * low), 0.7), plan.frame)
        )
    return pieces
