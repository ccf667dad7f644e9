"""Frames on white → RGBA views."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from mv3d.core.errors import InputError
from mv3d.generation.consensus import consistent_alpha
from mv3d.render.cameras import Cameras
from mv3d.views.masks import foreground_alpha

_LEAST_ALPHA = 0.04


def apply_matting(
    frames: Float[np.ndarray, "n h w channels"], *, alpha_threshold: float = 0.5
) -> tuple[Float[np.ndarray, "n h w 4"], list[int]]:
    """Straight-alpha views, and the numbers of those whose background is not uniform: their alpha is 1.

    frames: in [0, 1] on white. A fourth channel is taken as alpha (`unblend_white`); otherwise alpha comes from the
    distance to the background's colour.
    """
    if frames.shape[-1] == 4:
        return unblend_white(frames, alpha_threshold), []
    images, failed_views = [], []
    for index, frame in enumerate(frames):
        try:
            images.append(foreground_alpha(frame[None])[0])
        except InputError:
            images.append(np.concatenate([frame, np.ones((*frame.shape[:2], 1), np.float32)], -1))
            failed_views.append(index)
    return np.stack(images), failed_views


def unblend_white(
    frames: Float[np.ndarray, "n h w 4"], alpha_threshold: float = 0.5
) -> Float[np.ndarray, "n h w 4"]:
    """Colours on white with alpha → straight alpha. Composited on white, the result gives the same colours again, except
    where no colour in [0, 1] could. Alpha below 4 % becomes 0.

    Alpha is scaled so that `alpha_threshold` becomes one half. The alpha of a blurred view is a probability, and the mask
    with the best expected overlap is not where it exceeds one half, but less: half of the F1 score that can be reached
    (Lipton et al. 2014, "Optimal thresholding of classifiers to maximize F1 measure").
    """
    scaled = (frames[..., 3:] * (0.5 / alpha_threshold)).clip(0, 1)
    alpha = np.where(frames[..., 3:] < _LEAST_ALPHA, 0, scaled)
    colors = np.clip(1 - (1 - frames[..., :3]) / np.maximum(alpha, _LEAST_ALPHA), 0, 1)
    return np.concatenate([colors, alpha], -1).astype(np.float32)


def with_consistent_alpha(
    frames: Float[np.ndarray, "n h w 4"],
    cameras: Cameras,
    photo_alpha: Float[np.ndarray, "h w"],
    input_view: int,
    device: torch.device,
) -> tuple[Float[np.ndarray, "n h w 4"], str]:
    """The frames with alphas of one visual hull, which the photo's sharp alpha carves, too.

    Returns a sentence instead of "", and the frames unchanged, where the views have no hull in common.
    """
    alphas = frames[..., 3].clip(0, 1)
    alphas[input_view] = photo_alpha
    try:
        consistent = consistent_alpha(alphas, cameras, device=device)
    except InputError as error:
        return frames, f"the views' alphas could not be made consistent ({error})"
    return np.concatenate([frames[..., :3], consistent[..., None]], -1), ""
