"""A photo → the frame that the generator sees: the object cut out, centred and scaled."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps
from scipy import sparse

from mv3d.core.errors import InputError, MissingPartError, UsageError
from mv3d.core.installing import install_command, running_python
from mv3d.generation.config import FOREGROUND_RATIO, Matting
from mv3d.views.cutouts import LARGEST_SPECK, is_cut_out, opaque, without_shadow, without_specks
from mv3d.views.images import read_rgba, rgba_from_pil
from mv3d.views.masks import Enclosed, NoForegroundError, cut_by_color
from mv3d.views.views import composite

REMBG_INSTALL = install_command("rembg[cpu]")
_BETTER_EDGES = "rembg finds better edges: docs/troubleshooting.md, or --matting rembg, says what to install"
REMBG_FETCH = f"""{running_python()} -c "import rembg; rembg.new_session('u2net')\""""
_REMBG_MODELS = ("birefnet-general", "isnet-general-use", "u2net")
_VISIBLE = 1 / 16  # alpha: fainter halos of a matte do not move the frame
_LEAST_SIDE = 16  # pixels: below it any shape would be a guess
_MATTING_SIDE = 2048  # the colour-based matte works on at most this; frames are smaller
_LANCZOS = 3
_TOLD_SHARE = 1e-3  # of the object, in enclosed regions of the background's colour
_RINGING = 0.02  # alpha that Lanczos leaves around a hard edge


@dataclass(frozen=True, eq=False)
class PreparedPhoto:
    """rgba: the frame, sRGB in [0, 1], straight alpha, the object centred. matting: where its alpha came from.
    warnings: whole sentences for the user."""

    rgba: Float[np.ndarray, "h w 4"]
    matting: Literal["alpha", "rembg", "colour"]
    warnings: tuple[str, ...] = ()

    def on_white(self, *, alpha: bool = False) -> Float[np.ndarray, "h w channels"]:
        """Composited on white, as the network sees it. alpha: append alpha as a fourth channel."""
        white = composite(self.rgba)
        return np.concatenate([white, self.rgba[..., 3:]], -1) if alpha else white


def prepare_image(
    image: str | os.PathLike[str] | Image.Image,
    *,
    width: int,
    height: int | None = None,
    foreground_ratio: float = FOREGROUND_RATIO,
    matting: Matting = "auto",
) -> PreparedPhoto:
    """Read, cut out and frame one photo.

    width, height: pixels of the frame; square by default. foreground_ratio: share of the frame that the object's larger
    side fills, 0.2 to 1. matting: how images without transparency are cut out; `auto` uses rembg if it and one of its
    models are on this machine, else the colour of the background.
    Raises UsageError for a ratio out of range, InputError for a file that is no image or has no foreground,
    MissingPartError where rembg is asked for and not installed.
    """
    if not 0.2 <= foreground_ratio <= 1:
        raise UsageError(f"--foreground-ratio: expected 0.2 to 1, got {foreground_ratio}")
    if not isinstance(image, str | os.PathLike | Image.Image):
        raise UsageError(
            f"image: expected a path or a PIL image, got {type(image).__name__}; PIL.Image.fromarray makes one of an array"
        )
    name = "image" if isinstance(image, Image.Image) else str(image)
    warnings: list[str] = []
    if isinstance(image, Image.Image):
        rgba = rgba_from_pil(ImageOps.exif_transpose(image), name, warnings)
    else:
        rgba = read_rgba(Path(image), told=warnings)
    rgba, used, more = cut_out(rgba, name, matting)
    warnings += more
    left, top, right, bottom = foreground_box(rgba[..., 3], name)
    if left == 0 or top == 0 or right == rgba.shape[1] or bottom == rgba.shape[0]:
        warnings.append(
            f"{name}: the object touches the border of the image; what is cut off there is missing"
        )
    frame = frame_object(rgba, name, width=width, height=height or width, foreground_ratio=foreground_ratio)
    magnified = foreground_ratio * width / max(right - left, bottom - top)
    if magnified > 4:
        warnings.append(
            f"{name}: the object is small ({max(right - left, bottom - top)} pixels) and was magnified {magnified:.0f} times: "
            "what is made of it is blurred, or a lump; give a larger image"
        )
    return PreparedPhoto(frame, used, tuple(warnings))


def cut_out(
    rgba: Float[np.ndarray, "h w 4"], name: str, matting: Matting = "auto"
) -> tuple[Float[np.ndarray, "h w 4"], Literal["alpha", "rembg", "colour"], list[str]]:
    """The image with the alpha of its object, the source of that alpha, and warnings.

    Alpha in the file is kept where it can be an object's (`is_cut_out`), without specks and a soft shadow.
    """
    if is_cut_out(rgba[..., 3]):
        rgba, warnings = _cleaned(rgba, name)
        return rgba, "alpha", warnings
    warnings, reason = [], ""
    if float(rgba[..., 3].min()) < 1:
        share = float((rgba[..., 3] < 0.5).mean())
        warnings.append(
            f"{name}: its transparency ({share:.1%} of the pixels) is not the outline of an object; the object was cut out "
            "of the whole picture"
        )
        rgba = opaque(rgba)
    if matting != "colour":
        model = rembg_model()
        if model is not None:
            return _with_rembg(rgba, model, name), "rembg", warnings
        reason = _why_no_rembg()
        if matting == "rembg":
            raise MissingPartError(f"--matting rembg: {reason}")
    cut, enclosed = _by_colour(rgba, name, reason)
    if reason:
        warnings.append(f"{name}: cut out by the colour of its background; {_BETTER_EDGES}")
    warnings += _regions_told(enclosed, name)
    return cut, "colour", warnings


def _regions_told(enclosed: Enclosed, name: str) -> list[str]:
    """A sentence where the object encloses regions that are exactly of the background's colour."""
    told = []
    for sizes, done in ((enclosed.cut, "cut out as gaps"), (enclosed.kept, "kept as parts of the object")):
        share = sum(sizes) / max(1, enclosed.object)
        if share >= _TOLD_SHARE:
            what = "1 enclosed region" if len(sizes) == 1 else f"{len(sizes)} enclosed regions"
            told.append(f"{what} of the background's colour, {share:.1%} of the object, {done}")
    if not told:
        return []
    return [f"{name}: {'; '.join(told)}; if that is wrong, give a photo with alpha, or on another background"]


def _cleaned(rgba: Float[np.ndarray, "h w 4"], name: str) -> tuple[Float[np.ndarray, "h w 4"], list[str]]:
    """Without specks and a soft shadow, and a sentence for each."""
    warnings = []
    rgba, shaded = without_shadow(rgba)
    if shaded:
        warnings.append(f"{name}: a soft shadow beside the object was cut off")
    alpha, specks = without_specks(rgba[..., 3])
    if specks:
        what = "a speck" if specks == 1 else f"{specks} specks"
        warnings.append(
            f"{name}: {what} beside the object, below {LARGEST_SPECK:.1%} of the picture, dropped"
        )
        rgba = np.concatenate([rgba[..., :3], alpha[..., None]], -1)
    return rgba, warnings


def foreground_box(alpha: Float[np.ndarray, "h w"], name: str = "image") -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the visible pixels; right and bottom are exclusive.

    Raises InputError for an image without visible pixels and for an object below 16 pixels.
    """
    visible = alpha > _VISIBLE
    columns, rows = np.nonzero(visible.any(0))[0], np.nonzero(visible.any(1))[0]
    if len(columns) == 0:
        raise InputError(
            f"{name}: expected an object, got an image without any foreground (all is transparent)"
        )
    left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    if max(right - left, bottom - top) < _LEAST_SIDE:
        raise InputError(
            f"{name}: expected an object of at least {_LEAST_SIDE} pixels, got {right - left}x{bottom - top}"
        )
    return left, top, right, bottom


def frame_object(
    rgba: Float[np.ndarray, "h w 4"], name: str, *, width: int, height: int, foreground_ratio: float
) -> Float[np.ndarray, "height width 4"]:
    """Centre the object's box in a frame and scale it, aspect kept, until its larger side fills `foreground_ratio`.

    This is SV3D's rule for square frames. Pixels beyond the image are transparent. Lanczos resampling in premultiplied
    colours, so that hidden colours do not bleed in.
    """
    left, top, right, bottom = foreground_box(rgba[..., 3], name)
    # Pixels of the image per pixel of the frame.
    scale = max((right - left) / width, (bottom - top) / height) / foreground_ratio
    across = _lanczos(rgba.shape[1], width, (left + right) / 2 - scale * width / 2, scale)
    down = _lanczos(rgba.shape[0], height, (top + bottom) / 2 - scale * height / 2, scale)
    planes = [
        (down @ (across @ plane.T).T)
        for plane in (*np.moveaxis(rgba[..., :3] * rgba[..., 3:], -1, 0), rgba[..., 3])
    ]
    alpha = np.where(planes[3] < _RINGING, 0, np.clip(planes[3], 0, 1))
    color = np.stack(planes[:3], -1) / np.maximum(planes[3], 1e-6)[..., None]
    color = np.where(alpha[..., None] > 0, np.clip(color, 0, 1), 1.0)
    return np.concatenate([color, alpha[..., None]], -1).astype(np.float32)


def _lanczos(source: int, target: int, start: float, scale: float) -> sparse.csr_matrix:
    """Resampling weights (target, source): target pixel i is centred at start + (i + ½)·scale; beyond its ends the source
    is 0."""
    stretch = max(1.0, scale)
    centers = start + (np.arange(target) + 0.5) * scale - 0.5
    first = np.ceil(centers - _LANCZOS * stretch).astype(int)
    taps = first[:, None] + np.arange(int(2 * _LANCZOS * stretch) + 1)
    offset = (taps - centers[:, None]) / stretch
    weights = np.where(np.abs(offset) < _LANCZOS, np.sinc(offset) * np.sinc(offset / _LANCZOS), 0.0)
    weights /= weights.sum(1, keepdims=True)
    inside = (taps >= 0) & (taps < source)
    rows = np.broadcast_to(np.arange(target)[:, None], taps.shape)
    return sparse.csr_matrix((weights[inside], (rows[inside], taps[inside])), shape=(target, source))


def rembg_model() -> str | None:
    """A model that rembg can run without a download, or None if rembg or its models are missing."""
    if not _has_rembg():
        return None
    return next((name for name in _REMBG_MODELS if any(p.is_file() for p in _rembg_places(name))), None)


def _has_rembg() -> bool:
    """Whether rembg can be imported. Without onnxruntime it would end the process."""
    return find_spec("rembg") is not None and find_spec("onnxruntime") is not None


def _rembg_places(name: str) -> list[Path]:
    """Paths where rembg looks for a model: later versions have a folder per model, earlier ones one for all."""
    data, own = os.environ.get("XDG_DATA_HOME"), os.environ.get("U2NET_HOME")
    flat = own or os.path.join(data or "~", ".u2net")
    home = own or os.environ.get("REMBG_HOME") or (os.path.join(data, "rembg") if data else "~/.rembg")
    file = f"{name}.onnx"
    return [Path(home, "models", name, file).expanduser(), Path(flat, file).expanduser()]


def _why_no_rembg() -> str:
    if not _has_rembg():
        return f"install rembg: {REMBG_INSTALL}, then fetch a model: {REMBG_FETCH}"
    return f"fetch a model of rembg (none of {', '.join(_REMBG_MODELS)} is here): {REMBG_FETCH}"


def _with_rembg(rgba: Float[np.ndarray, "h w 4"], model: str, name: str) -> Float[np.ndarray, "h w 4"]:
    import rembg  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

    picture = Image.fromarray((rgba[..., :3] * 255 + 0.5).astype(np.uint8))
    try:
        mask: Any = rembg.remove(picture, session=rembg.new_session(model), only_mask=True)
    except Exception as error:  # ONNX runtime's errors have many classes
        raise InputError(
            f"{name}: rembg failed with its model {model} ({type(error).__name__}: {error}); use --matting colour, or "
            "give a PNG with transparency"
        ) from error
    alpha = np.asarray(mask.convert("L"), np.float32) / 255
    return np.concatenate([rgba[..., :3], alpha[..., None]], -1)


def _by_colour(
    rgba: Float[np.ndarray, "h w 4"], name: str, reason: str
) -> tuple[Float[np.ndarray, "h w 4"], Enclosed]:
    rgb = rgba[..., :3]
    side = max(rgb.shape[:2])
    if side > _MATTING_SIDE:
        share = _MATTING_SIDE / side
        size = (max(1, round(rgb.shape[1] * share)), max(1, round(rgb.shape[0] * share)))
        small = Image.fromarray((rgb * 255 + 0.5).astype(np.uint8)).resize(size, Image.Resampling.BOX)
        rgb = np.asarray(small, np.float32) / 255
    try:
        return cut_by_color(rgb)
    except NoForegroundError as error:
        way = f", or {reason}" if reason else ""
        raise InputError(
            f"{name}: the object cannot be cut out: {error.reason}; give a PNG with transparency{way}"
        ) from error
