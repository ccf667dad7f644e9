"""Percentile bootstrap intervals of a mean over objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError, UsageError

RESAMPLES = 2000
LEVEL = 0.95
_BLOCK = 2**22  # numbers drawn at a time


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its interval. The interval of a single value has no width and means nothing."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float] | Float[np.ndarray, " n"],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """The mean and its percentile interval (Efron and Tibshirani 1993, section 13.3).

    `resamples` times as many values are drawn from `values` with replacement; the interval lies between the
    (1 - level)/2 and (1 + level)/2 quantiles of their means. The draws depend on the seed and on the number of values
    alone, so that measures of the same objects are drawn together, and the interval of a difference is a paired one.

    Raises InputError for no values and for values that are not finite, UsageError for resamples below 1 or a level
    outside of (0, 1).
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array):
        raise InputError(f"bootstrap: expected at least one value, got an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise InputError("bootstrap: expected finite values, got NaN or infinity")
    if resamples < 1:
        raise UsageError(f"--resamples: expected 1 or more, got {resamples}")
    if not 0 < level < 1:
        raise UsageError(f"bootstrap: expected a level between 0 and 1, got {level}")
    rng = np.random.default_rng(seed)
    count, means = len(array), np.empty(resamples)
    rows = max(1, _BLOCK // count)
    # Around the mean, so that equal values have an interval of exactly no width.
    middle = float(array.mean()) if np.ptp(array) else float(array[0])
    centred = array - middle
    for begin in range(0, resamples, rows):
        part = means[begin : begin + rows]
        part[:] = centred[rng.integers(count, size=(len(part), count))].mean(1)
    low, high = middle + np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(middle, float(low), float(high))
