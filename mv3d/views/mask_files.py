"""Masks in files of their own: where they lie, what their pixels mean, and whether they are inverted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError
from mv3d.views.images import read_rgba

MASK_SUFFIXES = (".png", ".jpg", ".jpeg")
MASK_ENDINGS = ("_mask", ".mask", "-mask")
"""What the stem of a mask beside its frame has more than the frame's."""
MASK_FOLDERS = ("masks", "mask")
_BORDER = 0.95  # share of the border that an inverted mask fills
_LEAST_OBJECT, _MOST_OBJECT = 1e-3, 0.9  # share of the frame


def mask_of(image: Path, root: Path) -> Path | None:
    """The mask of an image, by its place: NAME_mask.png or NAME.mask.png beside it; NAME.png or NAME.jpg.png (COLMAP's
    form) in masks/, in its folder or beside that; nothing outside of `root`, and no link that leads out."""
    names = [f"{image.name}{suffix}" for suffix in MASK_SUFFIXES]
    names += [f"{image.stem}{suffix}" for suffix in MASK_SUFFIXES]
    beside = [
        image.with_name(f"{image.stem}{ending}{suffix}")
        for ending in MASK_ENDINGS
        for suffix in MASK_SUFFIXES
    ]
    beside += [
        image.with_name(f"{image.name}{ending}{suffix}") for ending in MASK_ENDINGS for suffix in (".png",)
    ]
    folders = [image.parent / name for name in MASK_FOLDERS]
    inner = image.parent.relative_to(root).parts
    for depth in range(len(inner)):  # images/left/0.png → masks/left/0.png, images/masks/left/0.png
        before, here, after = inner[:depth], inner[depth], inner[depth + 1 :]
        twin = here.replace("images", "masks").replace("image", "mask")
        folders += [root.joinpath(*before, name, *after) for name in dict.fromkeys((twin, *MASK_FOLDERS))]
    places = [*beside, *(folder / name for folder in folders if folder != image.parent for name in names)]
    inside = root.resolve()
    return next((p for p in places if p.is_file() and p.resolve().is_relative_to(inside)), None)


def masks_of(images: Sequence[Path], root: Path) -> list[Path] | None:
    """A mask for every image, or None where there are none. Raises InputError where some have one and others do not."""
    found = [mask_of(image, root) for image in images]
    masks = [mask for mask in found if mask is not None]
    if not masks:
        return None
    if len(masks) < len(found):
        bare = images[found.index(None)]
        raise InputError(
            f"{root}: expected a mask for every image or for none, found {len(masks)} for {len(images)} (none for "
            f"{bare.name}, but {masks[0].relative_to(root)}); add the missing ones, or move these away"
        )
    return masks


def without_masks(files: list[Path]) -> list[Path]:
    """Frames without the masks that lie among them by name."""
    stems = {name for file in files for name in (file.stem, file.name)}

    def is_mask(file: Path) -> bool:
        return any(file.stem.endswith(end) and file.stem[: -len(end)] in stems for end in MASK_ENDINGS)

    return [file for file in files if not is_mask(file)]


def read_mask(path: Path, *, upright: bool = False) -> Float[np.ndarray, "h w"]:
    """0 to 1, 1 for the object: grey values (the brightest channel), of a picture in one colour its alpha; labels of 0
    and 1 are scaled. Raises InputError for what cannot be read."""
    rgba = read_rgba(path, upright=upright, told=[])
    values = rgba[..., :3].max(-1)
    if rgba[..., 3].min() < 0.5:
        values = rgba[..., 3] * (values if np.ptp(values) > 1 / 512 else 1.0)
    top = float(values.max())
    return values / top if 0 < top < 1 / 64 else values


def without_inversion(
    masks: Float[np.ndarray, "n h w"], what: str, told: list[str]
) -> Float[np.ndarray, "n h w"]:
    """Masks with 1 for the object. One that fills the border of its frame, around something that it leaves out, is that
    of the background: it is turned over.

    what: names the masks in the sentence that `told` takes.
    """
    turned = [index for index, mask in enumerate(masks) if _is_inverted(mask)]
    if not turned:
        return masks
    if len(turned) == len(masks):
        which = f"all {len(masks)}"
    else:
        which = ", ".join(map(str, turned[:8])) + (", …" if len(turned) > 8 else "")
    told.append(
        f"{what} are inverted (frames {which}): white fills the border, black is the object; they were turned over"
    )
    made = masks.copy()
    made[turned] = 1 - made[turned]
    return made


def _is_inverted(mask: Float[np.ndarray, "h w"]) -> bool:
    white = mask > 0.5
    border = np.concatenate([white[0], white[-1], white[:, 0], white[:, -1]])
    return bool(border.mean() >= _BORDER and _LEAST_OBJECT <= 1 - white.mean() <= _MOST_OBJECT)
