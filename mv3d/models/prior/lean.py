"""Solids that the network saw from a wrong elevation, turned upright for a camera whose elevation is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mv3d.models.prior.depths import trusted
from mv3d.models.prior.layers import RANGE, SLOPE
from mv3d.models.prior.solid import ENTER, LEAVE, Solid

_STEEPEST_DEG, _MOST_DEG = 60.0, 20.0
_NEAREST = 0.05  # distances
_UNSURE = 0.02  # square of a slope that says nothing: 8 degrees
_FEWEST = 12  # pairs of pixels


@dataclass(frozen=True)
class Lean:
    """seen_at_deg: the elevation from which the network sees the photo. share: in [0, 1], how much of the lean that this
    elevation gives to what stands upright is found in the solid: 1 for a bottle, little for a ball, which has no upright,
    and none for what lies flat."""

    seen_at_deg: float
    share: float


def lean_of(solid: Solid) -> Lean:
    """How a solid leans, by the median slope of its middle from the lower to the upper neighbour of each pixel.

    The middle of what stands upright comes nearer by tan(e) with its height, seen at the elevation e. Raises InputError for
    a photo without an object.
    """
    inside = trusted(solid)
    half = solid.crop[2]
    pitch = 2 * half * SLOPE / len(inside)
    middle = (solid.depths[ENTER] + solid.depths[LEAVE]) / 2 * (RANGE * half)
    slopes = (middle[:-1] - middle[1:])[inside[1:] & inside[:-1]] / pitch
    if len(slopes) < _FEWEST:
        return Lean(solid.elevation_deg, 0.0)
    expected = -np.tan(np.radians(np.clip(solid.elevation_deg, -_STEEPEST_DEG, _STEEPEST_DEG)))
    # The share slope / expected, drawn to 1 where the elevation is so low that a wall and a ball look alike.
    share = (float(np.median(slopes)) * expected + _UNSURE) / (expected**2 + _UNSURE)
    return Lean(solid.elevation_deg, float(np.clip(share, 0, 1)))


def upright(points: Float[np.ndarray, "v 3"], lean: Lean, elevation_deg: float) -> Float[np.ndarray, "v 3"]:
    """Points of a solid in camera axes, for a camera that is known to stand at `elevation_deg`.

    A wall across the line of sight has z + y tan(e) constant, y up and z ahead of a camera at the elevation e. Every point
    moves along its line of sight until what was constant at one elevation is so at the other, so the photo's picture
    stays; `lean.share` of the difference counts. The network that says how far a photo's pixels are also says from what
    elevation it sees them, and where that is wrong its solids lean. Beyond 20 degrees of difference the points move as
    for 20, beyond an elevation of 60 as for 60.
    """
    true = float(np.clip(elevation_deg, -_STEEPEST_DEG, _STEEPEST_DEG))
    off = float(np.clip(lean.seen_at_deg, -_STEEPEST_DEG, _STEEPEST_DEG)) - true
    seen = true + lean.share * float(np.clip(off, -_MOST_DEG, _MOST_DEG))
    y, z = points[:, 1], -points[:, 2]
    wall, wanted = z + y * np.tan(np.radians(seen)), z + y * np.tan(np.radians(true))
    return points * np.maximum(wall / np.maximum(wanted, _NEAREST), _NEAREST)[:, None]
