"""How much moves in a clip, and what: the camera or things before it.

Flow: Farnebäck (2003), as OpenCV computes it. Motion score: Stable Video Diffusion (arXiv 2311.15127, appendix C): flow
between frames of 2 a second, averaged down to a shortest side of 16, its length averaged over time and place. Farnebäck's
method loses shifts above a sixth of the picture, so it starts from the sum of the flows at 8 frames a second. Lengths are
shares of the picture's shorter side a second here, so that they do not depend on the size.

Camera: a similarity (u, v) = (a + s·x − r·y, b + r·x + s·y), x and y from the middle in shorter sides, fitted to the flow
by iteratively reweighted least squares with Geman and McClure's weights (1 + (e/σ)²)⁻², so that it follows the larger
part of the picture. What it leaves is the motion of objects, or parallax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from mv3d.clips.parts import opencv

CELLS = 16
"""Flow is averaged down to so many cells on the shorter side."""
MOTION_FPS, CAMERA_FPS = 2.0, 8.0
KINDS = ("static", "object", "pan", "zoom", "roll", "orbit")
_MOST_PAIRS = 16
_ROUNDS = 20
_STILL = 0.01
_MOVES = 0.04
_OBJECT_AREA = 0.02
_PARALLAX, _PARALLAX_AREA = 0.25, 0.6


@dataclass(frozen=True)
class Motion:
    """All lengths are shares of the shorter side a second.

    motion: mean length of the flow at 2 frames a second. camera: of the camera's part of it, object: of the rest, at 8
    frames a second. moving_area: share of the picture that does not move with the camera. pan: (right, down), zoom: ln of
    the scale a second, roll: radians a second, means with their signs of how the picture moves. kind: one of KINDS.
    """

    motion: float
    camera: float
    object: float
    moving_area: float
    pan: tuple[float, float]
    zoom: float
    roll: float
    kind: str


def motion_of(greys: Sequence[UInt8[np.ndarray, "h w"]], fps: float) -> Motion:
    """Of frames at `fps`, about CAMERA_FPS of them a second and at least two in all."""
    far = min(max(1, round(fps / MOTION_FPS)), len(greys) - 1)
    starts = np.arange(0, len(greys) - far, far)
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, _MOST_PAIRS).round().astype(int))]
    lengths: list[float] = []
    rows: list[list[float]] = []
    for start in starts.tolist():
        steps = [_flow(greys[n], greys[n + 1]) for n in range(start, start + far)]
        whole = steps[0] if far == 1 else _flow(greys[start], greys[start + far], np.sum(steps, 0))
        lengths.append(float(np.linalg.norm(_in_cells(whole), axis=-1).mean()) * fps / far)
        for n, step in enumerate(steps, start):
            rows.append(_camera_part(_in_cells(step) * fps, texture_of(greys[n])))
    camera, left, area, a, b, s, r = (float(value) for value in np.mean(rows, 0))
    kind = _kind(camera, left, area, (a, b), s, r)
    return Motion(float(np.mean(lengths)), camera, left, area, (a, b), s, r, kind)


def _flow(
    first: UInt8[np.ndarray, "h w"],
    second: UInt8[np.ndarray, "h w"],
    start: Float[np.ndarray, "h w 2"] | None = None,
) -> Float[np.ndarray, "h w 2"]:
    """Farnebäck's flow (right, down) from one frame to the other, pixels. start: a first guess of it."""
    cv2 = opencv()
    # Scale and levels of the pyramid, window, rounds, neighbourhood, its sigma.
    settings = (0.5, 5, 9, 3, 5, 1.2)
    if start is None:
        return cv2.calcOpticalFlowFarneback(first, second, None, *settings, 0)
    guess = np.ascontiguousarray(start, np.float32)
    return cv2.calcOpticalFlowFarneback(first, second, guess, *settings, cv2.OPTFLOW_USE_INITIAL_FLOW)


def _in_cells(flow: Float[np.ndarray, "h w 2"]) -> Float[np.ndarray, "rows columns 2"]:
    """Averaged in cells, shares of the shorter side."""
    height, width = flow.shape[:2]
    cells = opencv().resize(flow, _cells(height, width), interpolation=opencv().INTER_AREA)
    return cells / min(height, width)


def texture_of(grey: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "rows columns"]:
    """How well each cell's motion can be seen, 0 to 1: its weaker direction of contrast (Shi and Tomasi 1994)."""
    cv2 = opencv()
    corner = cv2.cornerMinEigenVal(cv2.GaussianBlur(grey, (0, 0), 1.0).astype(np.float32) / 255, 7)
    level = cv2.resize(np.sqrt(np.maximum(corner, 0)), _cells(*grey.shape), interpolation=cv2.INTER_AREA)
    return level / (level + 0.02)


def fit_similarity(
    flow: Float[np.ndarray, "rows columns 2"], weight: Float[np.ndarray, "rows columns"]
) -> tuple[Float[np.ndarray, " 4"], Float[np.ndarray, "rows columns 2"]]:
    """(a, b, s, r) and the flow that they stand for."""
    rows, columns = flow.shape[:2]
    side = min(rows, columns)
    y, x = (np.indices((rows, columns)) + 0.5 - np.array([rows, columns])[:, None, None] / 2) / side
    one, none = np.ones_like(x), np.zeros_like(x)
    across, down = np.stack([one, none, x, -y], -1), np.stack([none, one, y, x], -1)
    basis = np.stack([across, down], -2)  # rows columns 2 4
    design, target, trust = basis.reshape(-1, 4), flow.reshape(-1), np.repeat(weight.reshape(-1), 2)
    use, theta = trust, np.zeros(4)
    for _ in range(_ROUNDS):
        scaled = design * use[:, None]
        theta = np.linalg.solve(scaled.T @ design + 1e-9 * np.eye(4), scaled.T @ target)
        error = np.linalg.norm((flow - basis @ theta).reshape(-1, 2), axis=1)
        spread = max(1.5 * _weighted_median(error, weight.reshape(-1)), 1e-3)
        use = trust * np.repeat((1 + (error / spread) ** 2) ** -2, 2)
    return theta, basis @ theta


def _camera_part(
    velocity: Float[np.ndarray, "rows columns 2"], weight: Float[np.ndarray, "rows columns"]
) -> list[float]:
    theta, model = fit_similarity(velocity, weight)
    left = np.linalg.norm(velocity - model, axis=-1)
    camera = float(np.linalg.norm(model, axis=-1).mean())
    total = weight.sum() + 1e-9
    moving = left > np.maximum(_MOVES, 0.25 * camera)
    return [
        camera,
        float((left * weight).sum() / total),
        float((moving * weight).sum() / total),
        *theta,
    ]


def _kind(camera: float, left: float, area: float, pan: tuple[float, float], zoom: float, roll: float) -> str:
    if camera < _STILL:
        return "object" if area > _OBJECT_AREA else "static"
    if left > _PARALLAX * (camera + left) and area > _PARALLAX_AREA:
        return "orbit"
    # Mean lengths of x and y over the picture weigh turns against shifts.
    parts = {"pan": float(np.hypot(*pan)), "zoom": 0.45 * abs(zoom), "roll": 0.45 * abs(roll)}
    return max(parts, key=parts.__getitem__)


def _cells(height: int, width: int) -> tuple[int, int]:
    """(columns, rows)"""
    scale = CELLS / min(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    mass = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(mass, mass[-1] / 2)]])
