"""Sizes and looks of a chair, and the bars that it is built of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mv3d.orbits.procedural import looks
from mv3d.orbits.procedural.draws import between, chance, pick
from mv3d.orbits.procedural.looks import Look
from mv3d.orbits.procedural.parts import plank
from mv3d.orbits.procedural.rounds import rod
from mv3d.orbits.procedural.solids import Solid


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
    """Lean of the back, backwards."""
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


def drawn_plan(rng: np.random.Generator, *, height: float | None = None, side: float | None = None) -> Plan:
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


def bar(
    plan: Plan, start: tuple[float, ...], end: tuple[float, ...], size: float = 1.0, taper: float = 1.0
) -> Solid:
    """A leg, a post or a rung."""
    radius = plan.bar * size
    if plan.round_bars:
        return rod(start, end, radius * 1.1, end_radius=radius * 1.1 * taper)
    return plank(start, end, 2 * radius, 2 * radius, radius * 0.3)


def rounded_path(corners: list[tuple[float, float]], radius: float) -> list[tuple[float, float]]:
    """A line of corners with its bends cut by quadratic curves."""
    points = [np.asarray(corner, np.float64) for corner in corners]
    path = [points[0]]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        a = corner + (before - corner) * min(0.45, radius / np.linalg.norm(before - corner))
        b = corner + (after - corner) * min(0.45, radius / np.linalg.norm(after - corner))
        path += [(1 - t) ** 2 * a + 2 * t * (1 - t) * corner + t**2 * b for t in np.linspace(0, 1, 7)]
    path.append(points[-1])
    return [(float(p[0]), float(p[1])) for p in path]
