"""Foreground alpha of frames on a uniform background: soft edges, holes kept, or a refusal with the reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from mv3d.core.errors import InputError
from mv3d.core.threads import in_threads
from mv3d.views.morphology import distance_to_false, labelled, nearest_true

_RIM = 12  # pixels around an enclosed region that tell what surrounds it
_LEAST_PIXELS = 6


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
    """An enclosed region whose median is this near to the background is exactly of its colour; a pale part is not."""
    hole_contrast: float = 0.1
    """What surrounds an enclosed region must be at least this far from the background for the region to be a gap: in a
    pale object it may be a light."""
    least_hole: float = 6e-4
    """Share of the frame; smaller exact regions are lights, not gaps, on a white, grey or black background."""
    least_colored_hole: float = 4e-5
    """The same on a coloured background, which no light looks like."""
    colored: float = 0.3
    """Difference of the background's channels above which it is coloured: few objects have its colour, and blocks of
    JPEG smear it, so that tolerance and exactness count twice."""
    least_object: float = 2e-3
    """Share of the frame; below it nothing is there."""


@dataclass(frozen=True)
class Enclosed:
    """Regions of the background's colour that the object encloses, in pixels. cut: taken as gaps. kept: exactly of that
    colour, too, but taken as parts of the object, since that is what they may be. object: of the object without `cut`."""

    cut: tuple[int, ...]
    kept: tuple[int, ...]
    object: int


def foreground_alpha(
    frames: Float[np.ndarray, "n h w 3"], config: MaskConfig | None = None
) -> Float[np.ndarray, "n h w 4"]:
    """RGBA with straight alpha: the background's colour is taken out of the edge pixels.

    Raises NoForegroundError for a frame where the background is not uniform or nothing stands out from it.
    """
    config = config or MaskConfig()
    return np.stack(
        in_threads(
            lambda index: _frame(frames[index], index, config)[0], range(len(frames)), torch.get_num_threads()
        )
    )


def cut_by_color(
    frame: Float[np.ndarray, "h w 3"], config: MaskConfig | None = None
) -> tuple[Float[np.ndarray, "h w 4"], Enclosed]:
    """`foreground_alpha` of one frame, and what the object encloses of the background's colour."""
    return _frame(frame, 0, config or MaskConfig())


def _frame(
    frame: Float[np.ndarray, "h w 3"], index: int, config: MaskConfig
) -> tuple[Float[np.ndarray, "h w 4"], Enclosed]:
    background, noise = _background(frame, index, config)
    away = np.abs(frame - background)
    # `max(-1)` would be ten times as slow.
    distance = np.maximum(np.maximum(away[..., 0], away[..., 1]), away[..., 2])
    threshold = max(config.tolerance, 4 * noise)
    exactness, least = max(config.hole_exactness, 3 * noise), config.least_hole
    if np.ptp(background) > config.colored:
        threshold, exactness, least = 2 * threshold, 2 * exactness, config.least_colored_hole
    solid, enclosed = _solid(distance, threshold, exactness, least * distance.size, config)
    share = float(solid.mean())
    if share < config.least_object:
        reason = f"nothing stands out from the background (foreground {share:.2%} of the frame)"
        raise NoForegroundError(index, reason)
    if share > 0.95:
        raise NoForegroundError(index, f"no background left (foreground {share:.0%})")
    return _matte(frame, distance, solid, background), enclosed


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
    distance: Float[np.ndarray, "h w"],
    threshold: float,
    exactness: float,
    least: float,
    config: MaskConfig,
) -> tuple[Bool[np.ndarray, "h w"], Enclosed]:
    smooth = ndimage.median_filter(distance, 3)
    pale = (smooth < threshold) | (distance < exactness)  # the median closes slits of two pixels
    labels, count = labelled(pale)
    if count == 0:
        return np.ones(distance.shape, bool), Enclosed((), (), distance.size)
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    around = np.arange(count + 1) > 0
    around[border] = False
    exact, gap = _enclosed(distance, labels, around, exactness, least, config)
    open_air = np.isin(labels, border[border > 0])
    solid = ~(open_air | gap[labels])
    solid = ndimage.binary_opening(solid, iterations=1) | (solid & (smooth > 3 * threshold))
    parts, found = labelled(solid, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    cut, kept = (tuple(int(size) for size in sizes[chosen]) for chosen in (gap, exact & ~gap))
    if found == 0:
        return solid, Enclosed(cut, kept, 0)
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    solid = areas[parts] > max(0.003 * areas.max(), 12)
    return solid, Enclosed(cut, kept, int(solid.sum()))


def _enclosed(
    distance: Float[np.ndarray, "h w"],
    labels: Int[np.ndarray, "h w"],
    around: Bool[np.ndarray, " regions"],
    exactness: float,
    least: float,
    config: MaskConfig,
) -> tuple[Bool[np.ndarray, " regions"], Bool[np.ndarray, " regions"]]:
    """Which regions are exactly of the background's colour, and which of these are gaps.

    A gap shows the background itself, while a white shirt on white has shading: half of its innermost pixels are exact. It
    ends abruptly at something that stands out, while a light fades into the object, and a pale object does not stand out.
    """
    exact, gap = np.zeros_like(around), np.zeros_like(around)
    sizes = np.bincount(labels.ravel(), minlength=len(around))
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        if not around[number] or sizes[number] < _LEAST_PIXELS:
            continue
        rows, columns = (slice(max(0, s.start - _RIM), s.stop + _RIM) for s in place)
        region, near = labels[rows, columns] == number, distance[rows, columns]
        deep = distance_to_false(region)
        core = near[deep >= min(3.0, float(deep.max()))]
        if float((core < exactness).mean()) <= 0.5:
            continue
        exact[number] = True
        outside = distance_to_false(~region)
        other = labels[rows, columns] == 0
        rim, beyond = near[other & (outside > 1) & (outside <= _RIM / 2)], near[other & (outside > _RIM / 2)]
        edge = float(np.percentile(rim, 75)) if len(rim) else 0.0
        abrupt = len(beyond) == 0 or edge > 0.35 * float(np.median(beyond))
        gap[number] = sizes[number] >= least and edge >= config.hole_contrast and abrupt
    return exact, gap


def _matte(
    frame: Float[np.ndarray, "h w 3"],
    distance: Float[np.ndarray, "h w"],
    solid: Bool[np.ndarray, "h w"],
    background: Float[np.ndarray, " 3"],
) -> Float[np.ndarray, "h w 4"]:
    """Alpha in the border band from how far a pixel lies between the background and the nearest inner colour."""
    inner = np.asarray(ndimage.binary_erosion(solid, iterations=2, border_value=1))
    # Of parts too thin to have an inside, the pixels that stand out most show their own colour.
    thin = np.logical_and(solid, np.logical_not(ndimage.binary_dilation(inner, iterations=4)))
    inner = np.logical_or(inner, thin & (distance >= 0.9 * ndimage.maximum_filter(distance, 5)))
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
