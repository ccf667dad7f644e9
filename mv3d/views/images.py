"""Image and animation files → float RGBA, whatever their mode, depth and rotation; bounded before decoding."""

from __future__ import annotations

import itertools
import math
import os
import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps

from mv3d.core.errors import InputError, shown

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
OTHER_IMAGE_SUFFIXES = (
    ".gif",
    ".apng",
    ".heic",
    ".heif",
    ".avif",
    ".jxl",
    ".jfif",
    ".jp2",
    ".svg",
    ".dng",
    ".cr2",
    ".nef",
    ".arw",
)
"""Pictures that are not read as photos."""
ANIMATION_SUFFIXES = (".gif", ".webp", ".mp4", ".webm", ".mov", ".mkv", ".avi", ".apng", ".png")
MAX_PIXELS = 64_000_000
"""Largest image: 8000 x 8000. A decompression bomb stops here, before it is decoded."""
MAX_FRAMES = 512
MAX_TOTAL_PIXELS = 300_000_000
"""Largest sum over all views; 4.8 GB as float RGBA."""

# What Pillow's decoders raise for damaged files; a file that ends within a field is an IndexError or a struct.error.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error)


def read_rgba(path: str | os.PathLike[str]) -> Float[np.ndarray, "h w 4"]:
    """One image, straight alpha (1 where the file has none), upright by its EXIF tag.

    Palette, grey, CMYK, 16-bit integer and float files are converted. Raises InputError for what cannot be read.
    """
    path = Path(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is stricter
        try:
            with Image.open(path) as image:
                check_size(path, *image.size)
                return rgba_from_pil(ImageOps.exif_transpose(image))
        except InputError:
            raise
        except FileNotFoundError as error:
            raise InputError(f"{path}: expected an image, found no such file") from error
        except Image.DecompressionBombError as error:
            raise InputError(
                f"{path}: expected at most {MAX_PIXELS} pixels, got a far larger image; scale it down"
            ) from error
        except _BROKEN as error:
            raise InputError(
                f"{path}: expected an image, got a corrupt or unknown file ({shown(error, 200)})"
            ) from error


def check_size(path: str | os.PathLike[str], width: int, height: int) -> None:
    """Refuse an image without pixels, and one that would need gigabytes once decoded."""
    if width < 1 or height < 1:
        raise InputError(f"{path}: expected at least one pixel, got {width}x{height}; the file is damaged")
    if width * height > MAX_PIXELS:
        raise InputError(f"{path}: expected at most {MAX_PIXELS} pixels, got {width}x{height}; scale it down")


def rgba_from_pil(image: Image.Image) -> Float[np.ndarray, "h w 4"]:
    """Any Pillow mode → RGBA in [0, 1]."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        top = 65535.0 if image.mode.startswith("I") else max(1.0, float(np.nanmax(values)))
        grey = np.clip(np.nan_to_num(values) / top, 0, 1).astype(np.float32)
        return np.stack([grey, grey, grey, np.ones_like(grey)], -1)
    if image.mode in ("P", "PA", "LA", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode not in ("RGB", "RGBA"):
        image = image.convert("RGB")
    values = np.asarray(image, np.float32) / 255
    if values.shape[-1] == 3:
        values = np.concatenate([values, np.ones((*values.shape[:2], 1), np.float32)], -1)
    return values


def read_animation(path: str | os.PathLike[str]) -> Float[np.ndarray, "n h w 4"]:
    """All frames of a gif, webp, png (animated) or video file, in order."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected a video or an animation, found no such file")
    frames: list[np.ndarray] = []
    by_pillow = path.suffix.lower() in (".gif", ".webp", ".apng", ".png")
    for frame in _pillow_frames(path) if by_pillow else _video_frames(path):
        frames.append(frame)
        if len(frames) > MAX_FRAMES or len(frames) * frame.shape[0] * frame.shape[1] > MAX_TOTAL_PIXELS:
            raise InputError(
                f"{path}: expected at most {MAX_FRAMES} frames and {MAX_TOTAL_PIXELS} pixels in all, got more; "
                "thin it out or scale it down"
            )
    return stack_frames(frames, str(path))


def stack_frames(frames: list[np.ndarray], what: str) -> Float[np.ndarray, "n h w 4"]:
    """Frames of one size as one array. Raises InputError where sizes differ or nothing is there."""
    if not frames:
        raise InputError(f"{what}: expected frames, got none")
    for index, frame in enumerate(frames):
        if frame.shape != frames[0].shape:
            raise InputError(
                f"{what}: expected every frame {frames[0].shape[1]}x{frames[0].shape[0]} as the first, "
                f"got {frame.shape[1]}x{frame.shape[0]} in frame {index}; resize them to one size"
            )
    return np.stack(frames)


def numbered_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Image files of a folder in the order of the numbers in their names."""

    def key(path: Path) -> tuple[Any, ...]:
        return tuple(int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.stem))

    return sorted((path for path in image_files(folder) if re.search(r"\d", path.stem)), key=key)


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Image files of a folder, hidden ones left out, by name."""
    files = (path for path in Path(folder).iterdir() if path.is_file() and path.name[0] != ".")
    return sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES)


def skipped_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Pictures in a folder of photos that are no photos to us, in order."""
    return sorted(
        p for p in Path(folder).iterdir() if p.suffix.lower() in OTHER_IMAGE_SUFFIXES and p.name[0] != "."
    )


def turn_places(files: list[Path]) -> tuple[list[int], int]:
    """The places of numbered frames (at least two, in order) in their turn, from 0, and the number of places.

    A number that is missing in even steps leaves its place free. Raises InputError for frames of several objects and
    for numbers in no even steps.
    """
    folder = files[0].parent
    parts = [re.split(r"(\d+)", file.stem) for file in files]
    numbers = [[int(number) for number in words[1::2]] for words in parts]
    prefixes = sorted({_prefix(words) for words in parts})
    if len({tuple(words[::2]) for words in parts}) == 1:
        varying = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1]
        last = varying[-1] if varying else (0,) * len(files)
        if len(set(last)) == len(files):
            if len(varying) > 1:  # times, for one: in order, and no more is known
                return list(range(len(files))), len(files)
            step = math.gcd(*(b - a for a, b in itertools.pairwise(last)))
            places = [(number - last[0]) // step for number in last]
            if places[-1] + 1 > 2 * len(files):
                raise InputError(
                    f"{folder}: expected frames numbered in even steps, got {len(files)} of {last[0]} to {last[-1]}; number "
                    "them anew, or write their cameras into transforms.json"
                )
            return places, places[-1] + 1
    names = " and ".join(f"{name}…" for name in prefixes[:2]) if len(prefixes) > 1 else "one number twice"
    raise InputError(
        f"{folder}: expected the frames of one object, got {names}; move each object's frames to a folder of its own"
    )


def _prefix(words: list[str]) -> str:
    """A name up to its last number."""
    return "".join(words[:-2])


def _pillow_frames(path: Path) -> Iterator[np.ndarray]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                check_size(path, *image.size)
                for index in range(min(getattr(image, "n_frames", 1), MAX_FRAMES + 1)):
                    image.seek(index)
                    yield rgba_from_pil(image)
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path}: expected an animation, got a corrupt or unknown file ({shown(error, 200)})"
        ) from error


def _video_frames(path: Path) -> Iterator[np.ndarray]:
    import imageio.v3 as iio  # noqa: PLC0415 - loads FFmpeg

    try:
        for frame in iio.imiter(path, plugin="pyav", format="rgb24"):
            check_size(path, frame.shape[1], frame.shape[0])
            values = frame.astype(np.float32) / 255
            yield np.concatenate([values, np.ones((*values.shape[:2], 1), np.float32)], -1)
    except InputError:
        raise
    except Exception as error:  # FFmpeg's errors have many classes, all of them mean: unreadable
        raise InputError(
            f"{path}: expected a video, got a corrupt or unknown file ({type(error).__name__})"
        ) from error
