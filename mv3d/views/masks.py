"""Foreground alpha of frames on a uniform background: soft edges, holes kept, or a refusal with the reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage

from mv3d.core.errors import InputError
from mv3d.core.threads import in_threads
from mv3d.views.morphology import labelled, nearest_true


class NoForegroundError(InputError):
    """A frame that cannot be cut out. frame: its number. reason: what is wrong with it, without what to do, which is
    `advice`."""

    def __init__(self, frame: int, reason: str, advice: str = "give RGBA images or masks") -> None:
        super().__init__(f"frame {frame}: {reason}; {advice}")
        self.frame, self.reason, self.advice = frame, reason, advice


@dataclass(frozen=True)
class MaskConfig:
    """Numbers of the mask, colours in sRGB from 0 to 1."""

    tolerance: float = 0.03
    """A pixel nearer than this to the background's colour is background, if it hangs together with it."""
    uniform: float = 0.06
    """Border pixels nearer than this to their median count as the same background."""
    least_uniform_share: float = 0.6
    """Share of the border; below it the background is not uniform."""
    hole_exactness: float = 0.02
    """An enclosed region whose median is this near to the background is a hole; a pale part is less exact."""
    least_hole: float = 6e-4
    """Share of the frame; smaller enclosed regions are highlights, not holes."""
    least_object: float = 2e-3
    """Share of the frame; below it nothing is there."""


def foreground_alpha(
    frames: Float[np.ndarray, "n h w 3"], config: MaskConfig | None = None
) -> Float[np.ndarray, "n h w 4"]:
    """RGBA with straight alpha: the background's colour is taken out of the edge pixels.

    Raises NoForegroundError for a frame where the background is not uniform or nothing stands out from it.
    """
    config = config or MaskConfig()
    return np.stack(
        in_threads(
            lambda index: _frame(frames[index], index, config), range(len(frames)), torch.get_num_threads()
        )
    )


def _frame(frame: Float[np.ndarray, "h w 3"], index: int, config: MaskConfig) -> Float[np.ndarray, "h w 4"]:
    background, noise = _background(frame, index, config)
    away = np.abs(frame - background)
    # `max(-1)` would be ten times as slow.
    distance = np.maximum(np.maximum(away[..., 0], away[..., 1]), away[..., 2])
    threshold = max(config.tolerance, 4 * noise)
    solid = _solid(distance, threshold, max(config.hole_exactness, 3 * noise), config)
    share = float(solid.mean())
    if share < config.least_object:
        reason = f"nothing stands out from the background (foreground {share:.2%} of the frame)"
        raise NoForegroundError(index, reason)
    if share > 0.95:
        raise NoForegroundError(index, f"no background left (foreground {share:.0%})")
    return _matte(frame, distance, solid, background)


def _background(
    frame: Float[np.ndarray, "h w 3"], index: int, config: MaskConfig
) -> tuple[Float[np.ndarray, " 3"], float]:
    """Colour of the border, and its noise."""
    ring = max(2, round(0.02 * min(frame.shape[:2])))
    sides = (frame[:ring], frame[-ring:], frame[:, :ring], frame[:, -ring:])
    border = np.concatenate([side.reshape(-1, 3) for side in sides])
    color = np.median(border, axis=0)
    near = np.abs(border - color).max(1) < config.uniform
    if near.mean() < config.least_uniform_share:
        reason = (
            f"the background is not uniform ({1 - near.mean():.0%} of the border differs from its median colour by more "
            f"than {config.uniform:.0%})"
        )
        raise NoForegroundError(index, reason, "give RGBA images or masks, or remove the background first")
    color = np.median(border[near], axis=0)
    return color, float(np.abs(border[near] - color).max(1).mean())


def _solid(
    distance: Float[np.ndarray, "h w"], threshold: float, exactness: float, config: MaskConfig
) -> Bool[np.ndarray, "h w"]:
    smooth = ndimage.median_filter(distance, 3)
    pale = smooth < threshold
    labels, count = labelled(pale)
    if count == 0:
        return np.ones(distance.shape, bool)
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    open_air = np.isin(labels, border[border > 0])
    index = np.arange(1, count + 1)
    sizes = ndimage.sum_labels(pale, labels, index)
    # A hole shows the background itself; a white shirt on white has shading.
    inner = ndimage.binary_erosion(pale, iterations=2)
    exact = ndimage.sum_labels(inner & (smooth < exactness), labels, index)
    core = ndimage.sum_labels(inner, labels, index)
    hole = (sizes > config.least_hole * distance.size) & (core > 0) & (exact > 0.5 * core)
    solid = ~(open_air | np.concatenate([[False], hole])[labels])
    solid = ndimage.binary_opening(solid, iterations=1) | (solid & (smooth > 3 * threshold))
    parts, found = labelled(solid, np.ones((3, 3)))
    if found == 0:
        return solid
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    return areas[parts] > max(0.003 * areas.max(), 12)


def _matte(
    frame: Float[np.ndarray, "h w 3"],
    distance: Float[np.ndarray, "h w"],
    solid: Bool[np.ndarray, "h w"],
    background: Float[np.ndarray, " 3"],
) -> Float[np.ndarray, "h w 4"]:
    """Alpha in the border band from how far a pixel lies between the background and the nearest inner colour."""
    inner = np.asarray(ndimage.binary_erosion(solid, iterations=2, border_value=1))
    # Parts too thin to have an inside count as a whole.
    thin = np.logical_and(solid, np.logical_not(ndimage.binary_dilation(inner, iterations=4)))
    inner = np.logical_or(inner, thin)
    rows, columns = nearest_true(inner)
    own = frame[rows, columns]
    span = own - background
    power = np.einsum("hwk,hwk->hw", span, span)
    along = np.einsum("hwk,hwk->hw", frame - background, span) / np.maximum(power, 1e-6)
    band = ndimage.binary_dilation(solid, iterations=1) & ~inner
    # Where the inner colour is the background's, the mix cannot be told: keep the hard edge.
    clear = power > 0.02
    alpha = solid.astype(np.float32)
    alpha[band & clear] = np.clip(along[band & clear], 0, 1)
    alpha[band & solid] = np.maximum(alpha[band & solid], 0.3)
    alpha[band & ~solid] = np.minimum(alpha[band & ~solid], 0.7)
    alpha[alpha < 0.04] = 0
    mixed = (frame - (1 - alpha[..., None]) * background) / np.maximum(alpha[..., None], 0.3)
    color = np.where((alpha > 0.3)[..., None], np.clip(mixed, 0, 1), own)
    color = np.where((alpha >= 1)[..., None], frame, color)
    return np.concatenate([color, alpha[..., None]], -1).astype(np.float32)
