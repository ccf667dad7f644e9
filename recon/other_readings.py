"""Other readings of views that fit no object: masks the other way round, other axes of the cameras, turned frames.

Each is tried on small silhouettes: with the right reading their hull covers them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from mv3d.core.errors import InputError
from mv3d.render.cameras import Cameras, invert_rigid, opengl_from_opencv
from mv3d.views.elevation import hull_recall
from mv3d.views.views import Views

_SIDE = 96  # pixels
_TIE = 0.005  # silhouettes of an upright orbit do not tell mirrored frames from the reverse order
_GOOD, _BETTER = 0.9, 0.05  # covered share of the silhouettes, and how far above that of the given reading


def fitting_reading(views: Views) -> tuple[float, str] | None:
    """The reading of the same views that fits an object: the share of the silhouettes that a common object covers then,
    and a sentence; None where none fits, or none better than the given one."""
    alphas, cameras = _small(views)
    given, found = _covered(alphas, cameras), []
    for sentence, other_alphas, other_cameras in _readings(alphas, cameras):
        found.append((_covered(other_alphas, other_cameras), sentence))
    best = max(covered for covered, _ in found)
    if best < max(_GOOD, given + _BETTER):
        return None
    sentence = ", or ".join(text for covered, text in found if covered > best - _TIE)
    return (
        best,
        f"{sentence} ({best:.0%} of the silhouettes covered by a common object that way, {given:.0%} as they are)",
    )


def _readings(
    alphas: Float[np.ndarray, "n h w"], cameras: Cameras
) -> Iterator[tuple[str, Float[np.ndarray, "n h w"], Cameras]]:
    yield "the masks are inverted: white is the object", 1 - alphas, cameras
    c2w = cameras.c2w
    for sentence, poses in (
        ("the poses have OpenCV axes (+Y down, +Z forward), OpenGL's are expected", opengl_from_opencv(c2w)),
        ("the poses are world to camera, camera to world is expected", invert_rigid(c2w)),
        (
            "the poses are world to camera with OpenCV axes, camera to world with OpenGL axes is expected",
            opengl_from_opencv(invert_rigid(c2w)),
        ),
    ):
        yield sentence, alphas, replace(cameras, c2w=poses)
    square = cameras.width == cameras.height
    for quarters in (1, 2, 3) if square else (2,):
        turned = np.ascontiguousarray(np.rot90(alphas, -quarters, (1, 2)))
        yield f"the frames are turned: turn them by {90 * quarters} degrees clockwise", turned, cameras
    yield "the frames are mirrored left to right", np.ascontiguousarray(alphas[:, :, ::-1]), cameras
    yield "the frames are in the reverse order of the cameras", np.ascontiguousarray(alphas[::-1]), cameras


def _covered(alphas: Float[np.ndarray, "n h w"], cameras: Cameras) -> float:
    """`hull_recall`; 0 for silhouettes of no object, and for those that fill the border, which any hull covers."""
    border = np.concatenate([alphas[:, 0], alphas[:, -1], alphas[:, :, 0], alphas[:, :, -1]], 1) > 0.5
    if border.mean() > 0.5 or not (alphas > 0.5).any((1, 2)).all():
        return 0.0
    try:
        return hull_recall(alphas, cameras)
    except InputError:
        return 0.0


def _small(views: Views) -> tuple[Float[np.ndarray, "n h w"], Cameras]:
    share = min(1.0, _SIDE / max(views.cameras.width, views.cameras.height))
    height, width = (max(8, round(side * share)) for side in (views.cameras.height, views.cameras.width))
    alphas = torch.tensor(views.images[..., 3])[:, None]
    small = torch.nn.functional.interpolate(alphas, (height, width), mode="area")[:, 0].numpy()
    return small, views.cameras.resized(width, height)
