"""Chairs of many styles: a base, a seat, a back and perhaps arms. The front faces +X."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mv3d.orbits.procedural.chair_backs import arms, back, shell
from mv3d.orbits.procedural.chair_bases import base
from mv3d.orbits.procedural.chair_plan import Plan, drawn_plan
from mv3d.orbits.procedural.draws import between, chance, count, pick
from mv3d.orbits.procedural.parts import box, ellipsoid, extrude
from mv3d.orbits.procedural.pieces import Piece
from mv3d.orbits.procedural.rounds import cylinder
from mv3d.orbits.procedural.solids import moved, planar, scaled


def chair(rng: np.random.Generator) -> list[Piece]:
    """A chair with a back: any base, seat and back together."""
    plan = drawn_plan(rng)
    if chance(rng, 0.18):
        return [*shell(rng, plan), *base(rng, plan)]
    pieces = [*base(rng, plan), *_seat(rng, plan), *back(rng, plan)]
    if chance(rng, 0.35):
        pieces += arms(rng, plan)
    return pieces


def stool(rng: np.random.Generator) -> list[Piece]:
    """A seat without a back, low or as high as a bar."""
    height = pick(rng, (between(rng, 0.35, 0.5), between(rng, 0.6, 0.8)))
    plan = drawn_plan(rng, height=height, side=between(rng, 0.28, 0.42))
    pieces = [*base(rng, plan), *_seat(rng, plan)]
    if chance(rng, 0.15):
        pieces += back(rng, replace(plan, back=between(rng, 0.12, 0.25)))
    return pieces


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
            Piece(
                "rails",
                moved(
                    box((plan.depth, 0.03, max(plan.thick, 0.03)), 0.003),
                    (0, y, plan.height - 0.005 - max(plan.thick, 0.03) / 2),
                ),
                plan.frame,
            )
            for y in (plan.width * 0.4, -plan.width * 0.4)
        ]
        return rails + [
            Piece(
                "seat", moved(slat, (-plan.depth / 2 + (k + 0.5) * step, 0, plan.height - 0.0125)), plan.seat
            )
            for k in range(number)
        ]
    board = 0.018
    soft = ellipsoid((plan.depth / 2, plan.width / 2, plan.thick * 0.62), roundness=(0.45, 0.3), segments=28)
    soft = planar(soft, "x", "y")
    return [
        Piece(
            "seat_board", moved(box((*size[:2], board), 0.004), (0, 0, plan.under + board / 2)), plan.frame
        ),
        Piece("cushion", moved(soft, (0, 0, plan.under + board + plan.thick * 0.4)), plan.seat),
    ]
