"""Similarity of two images: MSE, PSNR, SSIM, mask IoU.

All figures of mv3d follow one convention: images are sRGB values in [0, 1], composited on white (never linear light,
never a crop); each metric is taken over the whole frame, and a mean over views is the mean of the views' values.
NumPy and scikit-image only: importing this loads no torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mv3d.core.errors import InputError
from mv3d.views.views import composite

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
PSNR_CAP_DB = 100.0
"""PSNR of equal images: JSON has no infinity, and one such view must not decide a mean."""
CONVENTION = {
    "background": "white",
    "range": [0.0, 1.0],
    "color": "sRGB",
    "region": "whole frame",
    "psnr": f"-10 log10(MSE over pixels and channels), at most {PSNR_CAP_DB:g} dB",
    "ssim": "Gaussian window 11, sigma 1.5, K 0.01 and 0.03, population covariance, border of 5 pixels left out, "
    "mean of the channels (as scikit-image)",
    "ssim_padded": "the same with the border mirrored and taken in (as torchmetrics)",
    "mask_iou": "alpha above 0.5",
    "mean": "of the views' values",
}


def mse(pred: Float[np.ndarray, "h w 3"], gt: Float[np.ndarray, "h w 3"]) -> float:
    """Mean squared error over pixels and channels.

    Raises InputError where the sizes differ or a value is not a number in [0, 1].
    """
    checked_pair(pred, gt)
    return float(np.mean((pred.astype(np.float64) - gt.astype(np.float64)) ** 2))


def psnr(pred: Float[np.ndarray, "h w 3"], gt: Float[np.ndarray, "h w 3"]) -> float:
    """Peak signal-to-noise ratio in dB, peak 1: -10 log10(MSE), at most PSNR_CAP_DB."""
    return psnr_from_mse(mse(pred, gt))


def psnr_from_mse(error: float) -> float:
    """-10 log10(MSE) in dB, peak 1, at most PSNR_CAP_DB. `error`: a mean squared error, 0 or more."""
    return min(PSNR_CAP_DB, -10 * float(np.log10(max(error, 1e-30))))


def ssim(pred: Float[np.ndarray, "h w 3"], gt: Float[np.ndarray, "h w 3"]) -> float:
    """Structural similarity (Wang et al. 2004, equation 13), -1 to 1, as its authors set it up.

    Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03, range 1, population covariance; the mean over the
    pixels whose window lies in the frame (a border of 5 is left out), then over the channels. It is
    `skimage.metrics.structural_similarity(..., gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=1, channel_axis=-1)`; for torchmetrics' mean, which takes in the border, see `ssim_padded`.

    Raises InputError for pictures smaller than the window.
    """
    return _both_ssims(pred, gt)[0]


def ssim_padded(pred: Float[np.ndarray, "h w 3"], gt: Float[np.ndarray, "h w 3"]) -> float:
    """`ssim`, but the mean over all pixels of the pictures, mirrored beyond the border without repeating its pixels.

    It is `torchmetrics.image.StructuralSimilarityIndexMeasure(data_range=1.0)`. On white with an object in the middle
    it is the higher of the two: a white border is perfectly alike.
    """
    return _both_ssims(pred, gt)[1]


def _both_ssims(pred: Float[np.ndarray, "h w 3"], gt: Float[np.ndarray, "h w 3"]) -> tuple[float, float]:
    from skimage.metrics import structural_similarity  # noqa: PLC0415 - slow to import

    checked_pair(pred, gt)
    if min(pred.shape[:2]) < SSIM_WINDOW:
        raise InputError(
            f"ssim: expected pictures of at least {SSIM_WINDOW}x{SSIM_WINDOW}, got {pred.shape[1]}x{pred.shape[0]}"
        )
    border = SSIM_WINDOW // 2
    a, b = (
        np.pad(p.astype(np.float64), ((border, border), (border, border), (0, 0)), mode="reflect")
        for p in (pred, gt)
    )
    everywhere: Any = structural_similarity(
        a,
        b,
        data_range=1.0,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=SSIM_SIGMA,
        use_sample_covariance=False,
        full=True,
    )[1]
    framed = everywhere[border:-border, border:-border]
    return float(framed[border:-border, border:-border].mean()), float(framed.mean())


def mask_iou(pred: Float[np.ndarray, "*s"], gt: Float[np.ndarray, "*s"]) -> float:
    """Intersection over union of two masks, alpha above 0.5; 1 if both are empty.

    Raises InputError for masks of different sizes or with values that are not finite.
    """
    if pred.shape != gt.shape:
        raise InputError(f"masks: expected the same size, got {pred.shape} and {gt.shape}")
    if not (np.isfinite(pred).all() and np.isfinite(gt).all()):
        raise InputError("masks: expected finite values, got NaN or infinity")
    return overlap(pred > 0.5, gt > 0.5)


def overlap(a: Bool[np.ndarray, "*s"], b: Bool[np.ndarray, "*s"]) -> float:
    """Intersection over union of two sets of pixels or voxels, 0 to 1; 1 if both are empty."""
    union = int((a | b).sum())
    return float((a & b).sum() / union) if union else 1.0


def compare(pred: Float[np.ndarray, "h w 4"], gt: Float[np.ndarray, "h w 4"]) -> dict[str, float]:
    """All metrics of two straight-alpha RGBA images: psnr (dB), ssim, ssim_padded and mse on white, mask_iou."""
    a, b = composite(pred), composite(gt)
    error = mse(a, b)
    valid, padded = _both_ssims(a, b)
    return {
        "psnr": psnr_from_mse(error),
        "ssim": valid,
        "ssim_padded": padded,
        "mse": error,
        "mask_iou": mask_iou(pred[..., 3], gt[..., 3]),
    }


def checked_pair(pred: Float[np.ndarray, "h w 3"], gt: Float[np.ndarray, "h w 3"]) -> None:
    """Raise InputError unless both are images of one size with finite values in [0, 1]."""
    if pred.shape != gt.shape:
        raise InputError(f"pictures: expected one size, got {_size(pred)} against {_size(gt)}; resize one")
    if pred.ndim != 3 or pred.shape[-1] != 3:
        raise InputError(f"pictures: expected shape (h, w, 3), got {pred.shape}")
    for name, values in (("pred", pred), ("gt", gt)):
        if not np.isfinite(values).all():
            raise InputError(f"{name}: expected finite values, got NaN or infinity in the picture")
        if values.size and (values.min() < -1e-6 or values.max() > 1 + 1e-6):
            raise InputError(
                f"{name}: expected values in [0, 1], got {values.min():g} to {values.max():g}; divide by 255?"
            )


def _size(values: np.ndarray) -> str:
    return f"{values.shape[1]}x{values.shape[0]}" if values.ndim >= 2 else str(values.shape)
