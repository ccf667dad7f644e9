"""Which alpha is an object's, and what in it is none of the object: specks, soft shadows, rounded corners."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from mv3d.core.errors import InputError
from mv3d.views.masks import NoForegroundError, foreground_alpha
from mv3d.views.morphology import labelled, nearest_true

LEAST_TRANSPARENT = 0.01
"""Share of an image that is transparent around any object that was cut out."""
LARGEST_SPECK = 1e-3
"""Share of an image; what is smaller and stands alone is a speck."""
_VISIBLE = 1 / 16
_SPECKS_OF_OBJECT = 0.03  # of all that is visible: more is an object of many small parts
_SIDE = 0.5  # share of each side that a photo with rounded corners or bands covers
_SOLID = 0.9  # alpha
_DARK = 0.3  # largest sRGB value of a shadow
_SHADOW_COLOR = 0.08  # largest difference of a shadow's colours
_SHADOW = 0.02  # of the solid area; below it, soft dark pixels are edges


def is_cut_out(alpha: Float[np.ndarray, "h w"]) -> bool:
    """Whether alpha can be the outline of an object in this image.

    It is not where all is opaque or nearly so (alpha 250), where less than 1 % is transparent, and where only corners or
    bands along the borders are: a photo with rounded corners, or padded to a square.
    """
    clear = alpha < 0.5
    share = float(clear.mean())
    if share < LEAST_TRANSPARENT:
        return False
    if share == 1:
        return True  # faint, or empty: not for this function to say
    return not (_is_band(clear) or _is_rounded(clear))


def _is_band(clear: Bool[np.ndarray, "h w"]) -> bool:
    """Whether the opaque part is a whole rectangle from border to border, with bands of one width beside it."""
    rows, columns = np.asarray((~clear).any(1)), np.asarray((~clear).any(0))
    top, left = int(rows.argmax()), int(columns.argmax())
    below, beside = int(rows[::-1].argmax()), int(columns[::-1].argmax())
    padded = (
        (top == below == 0) != (left == beside == 0) and abs(top - below) <= 2 and abs(left - beside) <= 2
    )
    return padded and not clear[top : len(rows) - below, left : len(columns) - beside].any()


def _is_rounded(clear: Bool[np.ndarray, "h w"]) -> bool:
    """Whether only the corners are clear, of an image that else reaches its borders."""
    sides = (clear[0], clear[-1], clear[:, 0], clear[:, -1])
    if any(side.mean() > 1 - _SIDE for side in sides):
        return False
    labels, count = labelled(clear)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    corners = {int(labels[row, column]) for row in (0, -1) for column in (0, -1)} - {0}
    outside = sum(int(size) for label, size in enumerate(sizes) if label and label not in corners)
    return bool(corners) and outside < LEAST_TRANSPARENT * clear.size


def opaque(rgba: Float[np.ndarray, "h w 4"]) -> Float[np.ndarray, "h w 4"]:
    """The image without its alpha: what was clear takes the colour of the nearest pixel that was not."""
    clear = rgba[..., 3] < 0.5
    made = rgba.copy()
    if clear.any() and not clear.all():
        # A few pixels in: those along a rounded corner are mixed with what lay behind them.
        inner = np.asarray(ndimage.binary_erosion(~clear, iterations=2, border_value=1), bool)
        rows, columns = nearest_true(inner if inner.any() else ~clear)
        made[clear] = rgba[rows, columns][clear]
        if inner.any():
            rim = ~inner & ~clear
            made[rim] = rgba[rows, columns][rim]
    made[..., 3] = 1
    return made


def with_alpha(
    frames: Float[np.ndarray, "n h w 4"], told: list[str] | None = None, *, keep_opaque: bool = False
) -> Float[np.ndarray, "n h w 4"]:
    """Each frame's own alpha where it is an object's, else a mask from its uniform background.

    told: takes a sentence where some frames are cut out and others are not. keep_opaque: leave those as they are that
    cannot be cut out, where others are. Raises NoForegroundError for frames that are not and cannot be.
    """
    own = [is_cut_out(frame[..., 3]) for frame in frames]
    if all(own):
        return frames
    made = frames.copy()
    for index, frame in enumerate(frames):
        if own[index]:
            continue
        try:
            made[index] = foreground_alpha(opaque(frame)[None, ..., :3])[0]
        except NoForegroundError as error:
            if (frame[..., 3] < 0.5).any():  # little, but all that there is
                continue
            if any(own) and keep_opaque:
                continue
            if any(own):
                raise InputError(
                    f"frame {index}: expected transparency as in the other frames, got an opaque one that cannot be cut "
                    f"out ({error.reason}); cut it out, or remove it"
                ) from error
            raise NoForegroundError(index, error.reason, error.advice) from error
    if any(own) and told is not None:
        bare = [str(index) for index, cut in enumerate(own) if not cut]
        told.append(
            f"frames {', '.join(bare[:8])}{', …' if len(bare) > 8 else ''} are not cut out, the others are; they were cut "
            "out by the colour of their background"
        )
    return made


def without_specks(alpha: Float[np.ndarray, "h w"]) -> tuple[Float[np.ndarray, "h w"], int]:
    """Alpha without what is small and stands alone, and the number of such specks."""
    labels, count = labelled(alpha > _VISIBLE, np.ones((3, 3)))
    if count < 2:
        return alpha, 0
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    small = (sizes < LARGEST_SPECK * alpha.size) & (sizes > 0)
    small[int(sizes.argmax())] = False
    total = int(sizes[small].sum())
    if not total or total > _SPECKS_OF_OBJECT * sizes.sum():
        return alpha, 0
    return np.where(small[labels], 0, alpha).astype(np.float32), int(small.sum())


def without_shadow(rgba: Float[np.ndarray, "h w 4"]) -> tuple[Float[np.ndarray, "h w 4"], bool]:
    """The image without a soft dark shadow beside its object, and whether it had one.

    A shadow is dark, never solid, and fades to nothing at its outer edge; smoked glass is as dark, but ends abruptly.
    """
    alpha = rgba[..., 3]
    visible, solid = alpha > 0.02, alpha >= _SOLID
    dark = rgba[..., :3].max(-1) < _DARK
    soft = visible & ~solid & dark
    wide = np.asarray(ndimage.binary_opening(soft, iterations=2), bool)
    if not solid.any() or wide.sum() < _SHADOW * solid.sum():
        return rgba, False
    labels, count = labelled(soft, np.ones((3, 3)))
    outer = np.asarray(ndimage.binary_dilation(~visible, iterations=4), bool) & soft
    faded = np.zeros(count + 1, bool)
    for label in np.unique(labels[wide & soft]):
        part = labels == label
        if (outer & part).any():
            faded[label] = np.median(alpha[outer & part]) < 0.5 * np.percentile(alpha[part], 90)
    shadow = faded[labels] & soft
    if (shadow & wide).sum() < _SHADOW * solid.sum():
        return rgba, False
    # Between bars of the object a shadow has no outer edge: there it is what is soft and of its colour.
    color = np.median(rgba[shadow][:, :3], 0)
    shadow |= soft & (np.abs(rgba[..., :3] - color).max(-1) < _SHADOW_COLOR)
    near = np.asarray(ndimage.binary_dilation(shadow, iterations=2), bool)
    made = rgba.copy()
    made[..., 3] = np.where(shadow | (near & ~solid & (alpha < 0.6)), 0, alpha)
    return made, True
