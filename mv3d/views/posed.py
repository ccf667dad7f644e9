"""Image files with a camera each → images with alpha and pinhole cameras: what all camera formats have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mv3d.core.errors import InputError
from mv3d.render.cameras import Cameras
from mv3d.views.cutouts import with_alpha
from mv3d.views.images import MAX_FRAMES, MAX_TOTAL_PIXELS, read_rgba, stored_size
from mv3d.views.lens import Lens, straightened
from mv3d.views.mask_files import masks_of, read_mask, without_inversion
from mv3d.views.views import Views

MIN_VIEWS = 3
_COVERED = 0.99  # of the foreground, by a lens that can be made straight
_SAME_SHAPE = 0.02  # relative difference of two aspect ratios


@dataclass(frozen=True)
class PosedFrame:
    """image, mask: files. c2w: OpenGL axes. lens: of the image or of a scaled copy. where: names it in messages."""

    image: Path
    mask: Path | None
    c2w: Float[np.ndarray, "4 4"]
    lens: Lens
    where: str


def check_count(path: Path, count: int) -> None:
    """Raises InputError for fewer than three views, and for more than 512."""
    if count < MIN_VIEWS:
        raise InputError(f"{path}: expected at least {MIN_VIEWS} views, got {count}")
    if count > MAX_FRAMES:
        raise InputError(f"{path}: expected at most {MAX_FRAMES} views, got {count}; thin them out")


def read_posed(frames: Sequence[PosedFrame], path: Path, root: Path, *, made_here: bool = False) -> Views:
    """Read the pixels as they are stored, since poses belong to these; masks that no frame names are looked for.

    path: of the cameras, for messages. root: the folder that masks may lie in. An EXIF tag that turns an image counts
    only where the camera's own width and height are those of the turned image. Lenses that bend are made straight.
    made_here: views of mv3d, whose generator says which of them it could not cut out; these stay opaque.
    Raises InputError for images of several sizes and for frames without an object.
    """
    told: list[str] = []
    images, lenses, turned = _images(frames, path, told)
    masks = _masks(frames, images, turned, root)
    if masks is not None:
        masks = without_inversion(masks, f"{path.name}: the masks", told)
        images[..., 3] *= masks
    images = with_alpha(images, told, keep_opaque=made_here)
    if masks is None:
        images[..., 3] = without_inversion(images[..., 3], f"{path.name}: the alphas of the images", told)
    require_foreground(images, path)
    reading: dict[str, Any] = {}
    if any(turned):
        reading["turned_by_exif"] = sum(turned)
    bending = sorted({lens for lens in lenses if lens.bends}, key=str)
    for lens in bending:
        views = [index for index, own in enumerate(lenses) if own == lens]
        ys, xs = np.nonzero((images[views, ..., 3] > 0.5).any(0))
        if not lens.covers(np.stack([xs + 0.5, ys + 0.5], 1)).mean() > _COVERED:
            raise InputError(
                f"{frames[views[0]].where}: expected a lens that images the whole object, got distortion that turns back "
                "before its edge; check k1 to k4, p1 and p2, or undistort the images first"
            )
        images[views], target = straightened(images[views], lens)
        for index in views:
            lenses[index] = target
        reading.setdefault("undistorted", []).append({"views": views, **target.details()})
    height, width = images.shape[1:3]
    focal_x, focal_y, center_x, center_y = np.array([[i.fl_x, i.fl_y, i.cx, i.cy] for i in lenses]).T
    try:
        cameras = Cameras(
            np.stack([frame.c2w for frame in frames]), focal_x, focal_y, center_x, center_y, width, height
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return Views(images, cameras, warnings=tuple(told), reading=reading)


def _images(
    frames: Sequence[PosedFrame], path: Path, told: list[str]
) -> tuple[Float[np.ndarray, "n h w 4"], list[Lens], list[bool]]:
    images, lenses, turned = [], [], []
    for frame in frames:
        turn = _is_turned(frame)
        image = read_rgba(frame.image, upright=turn, told=told)
        height, width = image.shape[:2]
        if images and image.shape != images[0].shape:
            raise InputError(
                f"{frame.where}: expected {images[0].shape[1]}x{images[0].shape[0]} as the first image, got "
                f"{width}x{height}; resize them to one size"
            )
        if len(frames) * height * width > MAX_TOTAL_PIXELS:
            raise InputError(
                f"{path}: expected at most {MAX_TOTAL_PIXELS} pixels in all views, got more; scale them down"
            )
        if not _alike(width, height, frame.lens):
            raise InputError(
                f"{frame.where}: expected an image of {frame.lens.width:g}x{frame.lens.height:g} or a scaled copy, got "
                f"{width}x{height}"
            )
        images.append(image)
        lenses.append(frame.lens.scaled(width, height))
        turned.append(turn)
    return np.stack(images), lenses, turned


def _is_turned(frame: PosedFrame) -> bool:
    """Whether the camera is that of the image as its EXIF tag turns it: only then do the sizes agree."""
    width, height, tagged = stored_size(frame.image)
    return tagged and not _alike(width, height, frame.lens) and _alike(height, width, frame.lens)


def _alike(width: int, height: int, lens: Lens) -> bool:
    return abs(width * lens.height - height * lens.width) <= _SAME_SHAPE * height * lens.width


def _masks(
    frames: Sequence[PosedFrame],
    images: Float[np.ndarray, "n h w 4"],
    turned: list[bool],
    root: Path,
) -> Float[np.ndarray, "n h w"] | None:
    files = [frame.mask for frame in frames if frame.mask is not None]
    if not files:
        files = masks_of([frame.image for frame in frames], root)
        if files is None:
            return None
    masks = []
    for file, frame, turn in zip(files, frames, turned, strict=True):
        mask = read_mask(file, upright=turn)
        if mask.shape != images.shape[1:3]:
            raise InputError(
                f"{frame.where}: expected a mask of {images.shape[2]}x{images.shape[1]}, got "
                f"{mask.shape[1]}x{mask.shape[0]} ({file.name})"
            )
        masks.append(mask)
    return np.stack(masks)


def require_foreground(images: Float[np.ndarray, "n h w 4"], path: Path) -> None:
    """Raises InputError for a view where nothing is opaque."""
    empty: Bool[np.ndarray, " n"] = ~np.asarray((images[..., 3] > 0.5).any((1, 2)))
    if empty.any():
        raise InputError(
            f"{path}: view {int(empty.argmax())} is fully transparent; expected an object in every view; remove the view"
        )


def moved(views: Views, **more: Any) -> Views:
    """The same views with further entries of `reading`."""
    return replace(views, reading={**views.reading, **more})
