"""Normals of the surface that a photo shows, as the prior sees it, and how sure it is of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mv3d.models.prior.depths import (
    cleaned,
    depth_normals,
    enlarged,
    outline_distance,
    resized,
    smoothed,
    towards_camera,
    trusted,
)
from mv3d.models.prior.solid import ENTER, Solid

_COLUMNS = 192  # of the grid on which depths are differentiated
_DOUBT_DEG = 60.0  # between the two answers: no confidence is left
_GRAZING = 0.3  # cosine between ray and normal under which confidence fades


@dataclass(frozen=True, eq=False)
class VisibleNormals:
    """normals: (n, n, 3) float32 unit in the photo's camera axes (X right, Y up, Z towards the camera), 0 where the photo
    shows nothing. confidence: (n, n) float32 in [0, 1], 0 there."""

    normals: Float[np.ndarray, "n n 3"]
    confidence: Float[np.ndarray, "n n"]


def visible_normals(solid: Solid, size: int) -> VisibleNormals:
    """The normals of a solid's first surface, in its photo's camera at size x size pixels.

    The network answers twice, to the photo and to its mirror image: the normal is the direction of the mean of both, and
    confidence falls with the angle between them to 0 at 60 degrees, and where a ray meets the surface at a low angle,
    near which depths are known to a pixel only. Both are 0 beyond the frame that the network saw. A solid without its two
    answers has one normal, of confidence by the low angle alone.
    Raises InputError for a photo without an object.
    """
    valid = trusted(solid)
    answers = solid.depths[ENTER][None] if solid.enters is None else solid.enters
    scale = _COLUMNS / answers.shape[-1]
    each = np.stack(
        [
            depth_normals(smoothed(enlarged(cleaned(depth, valid), _COLUMNS), scale), solid.crop)
            for depth in answers
        ]
    )
    mean = each.mean(0)
    length = np.linalg.norm(mean, axis=-1)
    normals = mean / np.maximum(length, 1e-6)[..., None]
    # Two unit vectors at an angle a have a mean of length cos(a / 2).
    apart_deg = 2 * np.degrees(np.arccos(np.clip(length, 0, 1)))
    cosine = (normals * towards_camera(_COLUMNS, solid.crop)).sum(-1)
    confidence = np.clip(1 - apart_deg / _DOUBT_DEG, 0, 1) * np.clip(cosine / _GRAZING, 0, 1)
    inside = outline_distance(resized(solid.photo[..., 3], _COLUMNS)) > 0
    packed = np.concatenate([normals, confidence[..., None]], -1) * inside[..., None]
    seen = _in_image(np.concatenate([packed, inside[..., None]], -1).astype(np.float32), solid.crop, size)
    within = seen[..., 4] > 0.5
    unit = seen[..., :3] / np.maximum(np.linalg.norm(seen[..., :3], axis=-1, keepdims=True), 1e-6)
    sure = seen[..., 3] / np.maximum(seen[..., 4], 1e-6)
    return VisibleNormals(
        np.where(within[..., None], unit, 0).astype(np.float32), np.where(within, sure, 0).astype(np.float32)
    )


def _in_image(
    values: Float[np.ndarray, "n n c"], crop: tuple[float, float, float], size: int
) -> Float[np.ndarray, "s s c"]:
    """A frame's values at the pixels of the whole image, 0 beyond the frame."""
    import torch  # noqa: PLC0415

    x, y, half = crop
    at = (torch.arange(size) + 0.5) / size * 2 - 1
    grid = torch.stack(torch.meshgrid((at - x) / half, (at - y) / half, indexing="xy"), -1)[None]
    planes = torch.from_numpy(values).permute(2, 0, 1)[None]
    found = torch.nn.functional.grid_sample(planes, grid, align_corners=False)
    return found[0].permute(1, 2, 0).numpy()
