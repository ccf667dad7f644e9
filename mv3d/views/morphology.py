"""Typed faces of the few scipy.ndimage calls whose return type depends on their flags."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage


def distance_to_false(mask: Bool[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """Euclidean distance of every element to the nearest False one, in elements."""
    return np.asarray(ndimage.distance_transform_edt(mask))


def nearest_true(mask: Bool[np.ndarray, "h w"]) -> tuple[Int[np.ndarray, "h w"], Int[np.ndarray, "h w"]]:
    """Row and column of the nearest True element."""
    found: Any = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return found[0], found[1]


def labelled(
    mask: Bool[np.ndarray, "*s"], structure: np.ndarray | None = None
) -> tuple[Int[np.ndarray, "*s"], int]:
    """Connected components: 0 outside, 1..count inside, and the count."""
    answer: Any = ndimage.label(mask, structure)
    return answer[0], int(answer[1])
