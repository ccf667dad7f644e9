"""Images to compare."""

from __future__ import annotations

import numpy as np


def noisy_pair(seed: int, shape: tuple[int, ...] = (61, 47, 3)) -> tuple[np.ndarray, np.ndarray]:
    """Something smooth with an edge, and the same with noise; float32 in [0, 1]."""
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[: shape[0], : shape[1]] / 20
    base = np.stack([0.5 + 0.4 * np.sin(xs + k) * np.cos(ys - k) for k in range(3)], -1)
    base[10:30, 12:] *= 0.3
    noisy = np.clip(base + rng.normal(0, 0.1, shape), 0, 1)
    return base.clip(0, 1).astype(np.float32), noisy.astype(np.float32)
