"""Metrics of image pairs: equal to scikit-image and torchmetrics, and to their definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.images import noisy_pair

from mv3d.core.errors import InputError
from mv3d.views.metrics import mask_iou, mse, overlap, psnr, psnr_from_mse, ssim, ssim_padded


def ssim_written_out(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004: the window at every place where it fits, one by one."""
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    values = []
    for channel in range(3):
        for top in range(a.shape[0] - 10):
            for left in range(a.shape[1] - 10):
                x, y = (p[top : top + 11, left : left + 11, channel].astype(np.float64) for p in (a, b))
                mx, my = (window * x).sum(), (window * y).sum()
                vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
                cov = (window * (x - mx) * (y - my)).sum()
                c1, c2 = 0.01**2, 0.03**2
                values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("seed", range(3))
def test_psnr_and_ssim_equal_the_libraries_and_the_definition(seed):
    import skimage.metrics
    import torchmetrics.image

    a, b = noisy_pair(seed)
    assert mse(a, b) == pytest.approx(np.mean((a.astype(float) - b) ** 2), rel=1e-9)
    assert psnr(a, b) == pytest.approx(
        skimage.metrics.peak_signal_noise_ratio(b, a, data_range=1.0), abs=1e-4
    )
    left, right = (torch.from_numpy(p).permute(2, 0, 1)[None] for p in (a, b))
    metric = torchmetrics.image.PeakSignalNoiseRatio(data_range=1.0)
    assert psnr(a, b) == pytest.approx(float(metric(left, right)), abs=1e-4)
    assert ssim(a, b) == pytest.approx(ssim_written_out(a, b), abs=1e-6)
    similarity = torchmetrics.image.StructuralSimilarityIndexMeasure(data_range=1.0)
    assert ssim_padded(a, b) == pytest.approx(float(similarity(left, right)), abs=1e-4)
    mapped = torchmetrics.functional.image.structural_similarity_index_measure(
        left, right, data_range=1.0, return_full_image=True
    )[1]
    assert ssim(a, b) == pytest.approx(float(mapped[0, :, 5:-5, 5:-5].mean()), abs=1e-4)
    per_channel = [
        skimage.metrics.structural_similarity(
            a[..., k],
            b[..., k],
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for k in range(3)
    ]
    assert ssim(a, b) == pytest.approx(np.mean(per_channel), abs=1e-4)


def test_values_known_by_hand():
    grey, white = np.full((16, 16, 3), 0.5, np.float32), np.ones((16, 16, 3), np.float32)
    assert mse(grey, white) == 0.25 and psnr(grey, white) == pytest.approx(10 * np.log10(4))
    assert psnr(white, white) == 100 and ssim(white, white) == pytest.approx(1)
    # Flat pictures have no variance: what is left is the term of the means.
    assert ssim(grey, white) == pytest.approx((2 * 0.5 + 1e-4) / (1.25 + 1e-4), abs=1e-6)
    assert psnr_from_mse(0) == 100 and psnr_from_mse(0.01) == pytest.approx(20)
    mask = np.zeros((4, 4))
    mask[:2] = 1
    assert mask_iou(mask, np.ones((4, 4))) == 0.5 and mask_iou(mask, 1 - mask) == 0


def test_two_empty_masks_are_equal():
    empty = np.zeros((2, 4, 4))
    assert mask_iou(empty, empty) == 1 and overlap(empty > 0.5, empty > 0.5) == 1


def test_values_out_of_range_are_refused():
    a, b = noisy_pair(0)
    with pytest.raises(InputError, match="NaN"):
        psnr(np.where(a > 0.5, np.nan, a), b)
    with pytest.raises(InputError, match="divide by 255"):
        ssim(a * 255, b)
    with pytest.raises(InputError, match="NaN"):
        mask_iou(np.full((2, 2), np.nan), np.ones((2, 2)))
