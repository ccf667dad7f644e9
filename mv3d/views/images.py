"""Image and animation files → float RGBA, whatever their mode, depth and rotation; bounded before decoding."""

from __future__ import annotations

import importlib
import itertools
import math
import os
import re
import struct
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from mv3d.core.errors import InputError, MissingPartError, Mv3dWarning, shown
from mv3d.core.icc import in_srgb
from mv3d.core.installing import install_command

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".avif")
HEIC_SUFFIXES = (".heic", ".heif", ".hif")
"""Read where the extra `heic` is installed."""
OTHER_IMAGE_SUFFIXES = (
    *(
        ".gif",
        ".apng",
        ".jxl",
        ".jp2",
        ".j2k",
        ".jpe",
        ".svg",
        ".psd",
        ".exr",
        ".hdr",
        ".tga",
        ".eps",
        ".pdf",
    ),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
)
"""Pictures that are not read as photos."""
HEIC_INSTALL = install_command("pi-heif")
ANIMATION_SUFFIXES = (".gif", ".webp", ".mp4", ".webm", ".mov", ".mkv", ".avi", ".apng", ".png")
MAX_PIXELS = 64_000_000
"""Largest image: 8000 x 8000. A decompression bomb stops here, before it is decoded."""
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_ORIENTATION = 0x0112
MAX_FRAMES = 512
MAX_TOTAL_PIXELS = 300_000_000
"""Largest sum over all views; 4.8 GB as float RGBA."""

_MOVING = ("GIF", "WEBP", "PNG")  # several pictures in a TIFF or an MPO are pages, depths or sizes of one
# What Pillow's decoders raise for damaged files; a file that ends within a field is an IndexError or a struct.error.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error)


def read_rgba(
    path: str | os.PathLike[str], *, upright: bool = True, told: list[str] | None = None
) -> Float[np.ndarray, "h w 4"]:
    """One image, straight alpha (1 where the file has none), colours in sRGB.

    Palette, grey, CMYK, 16-bit integer and float files are converted, and so are colour profiles. upright: turned by
    its EXIF tag, as photos are looked at; False: the pixels as they are stored, which the poses of cameras belong to.
    told: takes what a user should know; without it, these sentences are issued as Mv3dWarning.
    Raises InputError for what cannot be read, MissingPartError for HEIC without its extra.
    """
    path, notes = Path(path), [] if told is None else told
    before = len(notes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is stricter
        try:
            with _opened(path) as image:
                check_size(path, *image.size)
                turned = ImageOps.exif_transpose(image) if upright else image
                pixels = rgba_from_pil(turned, str(path), notes)
                if (count := getattr(image, "n_frames", 1)) > 1 and image.format in _MOVING:
                    notes.append(f"{path}: an animation of {count} pictures; the first one is taken")
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
    for text in [] if told is not None else notes[before:]:
        warnings.warn(text, Mv3dWarning, stacklevel=2)
    return pixels


def require_image(path: Path) -> None:
    """Refuse, by its head alone, what is no image. Raises InputError, and MissingPartError for HEIC without its extra."""
    if not path.is_file():
        raise InputError(f"{path}: expected an image, found no such file")
    width, height, _ = stored_size(path)
    check_size(path, width, height)


def require_views(path: Path) -> None:
    """Refuse, by its name alone, what is no source of views. Raises InputError."""
    if not path.exists():
        raise InputError(f"{path}: expected a folder of views or an orbit video, found nothing there")
    suffix = path.suffix.lower()
    if path.is_file() and suffix != ".json" and suffix not in ANIMATION_SUFFIXES:
        raise InputError(
            f"{path}: expected a folder, a transforms.json, or one of {', '.join(ANIMATION_SUFFIXES)}, got "
            f"{path.suffix or 'no suffix'}{photo_hint(path)}"
        )


def photo_hint(path: Path) -> str:
    """The way out for a photo among sources of views."""
    photo = path.suffix.lower() in IMAGE_SUFFIXES
    return f"; one photo becomes a mesh with: mv3d make {path}" if photo else ""


def stored_size(path: Path) -> tuple[int, int, bool]:
    """Width and height of the stored pixels, and whether the EXIF tag turns them by a quarter. Raises InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with _opened(path) as image:
                return *image.size, image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path}: expected an image, got a corrupt or unknown file ({shown(error, 200)})"
        ) from error


def _opened(path: Path) -> Image.Image:
    """The file opened by Pillow, or by the library for HEIC, whose images are upright already."""
    with path.open("rb") as stream:
        head = stream.read(12)
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    if brand not in _HEIC_BRANDS:
        try:
            return Image.open(path)
        except UnidentifiedImageError as error:
            if brand in (b"avif", b"avis"):
                raise InputError(
                    f"{path}: expected an image that Pillow can read, got AVIF, which Pillow reads from 11.3 on; "
                    f"update it with {install_command('-U', 'pillow')}, or convert the file to JPEG or PNG"
                ) from error
            raise
    library = _heic_library()
    if library is None:
        raise MissingPartError(
            f"{path}: HEIC is read with pi-heif or pillow-heif, and neither is installed; {HEIC_INSTALL}, or convert "
            "the file to JPEG or PNG"
        )
    heif = importlib.import_module(library).open_heif(path)
    check_size(path, *heif.size)
    return heif.to_pillow()


def _heic_library() -> str | None:
    return next((name for name in ("pillow_heif", "pi_heif") if find_spec(name) is not None), None)


def image_suffixes() -> tuple[str, ...]:
    """Endings of the files that are read as images on this machine."""
    return IMAGE_SUFFIXES + (HEIC_SUFFIXES if _heic_library() else ())


def check_size(path: str | os.PathLike[str], width: int, height: int) -> None:
    """Refuse an image without pixels, and one that would need gigabytes once decoded."""
    if width < 1 or height < 1:
        raise InputError(f"{path}: expected at least one pixel, got {width}x{height}; the file is damaged")
    if width * height > MAX_PIXELS:
        raise InputError(f"{path}: expected at most {MAX_PIXELS} pixels, got {width}x{height}; scale it down")


def rgba_from_pil(
    image: Image.Image, name: str = "image", told: list[str] | None = None
) -> Float[np.ndarray, "h w 4"]:
    """Any Pillow mode and colour profile → sRGB with alpha in [0, 1].

    told: takes the sentence about a profile that cannot be used, by `name`; its colours are taken as sRGB.
    """
    image, trouble = in_srgb(image)
    if trouble and told is not None:
        told.append(f"{name}: {trouble}; its colours are taken as sRGB")
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
    return sorted(path for path in files if path.suffix.lower() in image_suffixes())


def skipped_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Pictures in a folder of photos that are no photos to us, in order."""
    known = {*OTHER_IMAGE_SUFFIXES, *HEIC_SUFFIXES} - {*image_suffixes()}
    return sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in known and p.name[0] != ".")


def skipped_sentence(folder: str | os.PathLike[str]) -> str:
    """What a folder holds that is not read, and how it would be; empty where there is nothing."""
    files = skipped_images(folder)
    if not files:
        return ""
    names = ", ".join(path.name for path in files[:8]) + (", …" if len(files) > 8 else "")
    heic = any(path.suffix.lower() in HEIC_SUFFIXES for path in files)
    way = f"; HEIC is read after {HEIC_INSTALL}" if heic else ""
    return f"skipped {names}: expected {', '.join(image_suffixes())}{way}"


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
    """Frames as players show them: turned by the display matrix, pixels made square."""
    import av  # noqa: PLC0415 - loads FFmpeg

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path}: expected a video, got a file without pictures")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                check_size(path, frame.width, frame.height)
                pixels = frame.to_ndarray(format="rgb24")
                stretch = float(stream.sample_aspect_ratio or 1)
                pixels = _turned(_square(pixels, stretch, path), _display_matrix(frame))
                values = pixels.astype(np.float32) / 255
                yield np.concatenate([values, np.ones((*values.shape[:2], 1), np.float32)], -1)
    except InputError:
        raise
    except Exception as error:  # FFmpeg's errors have many classes, all of them mean: unreadable
        raise InputError(
            f"{path}: expected a video, got a corrupt or unknown file ({type(error).__name__})"
        ) from error


def _square(pixels: UInt8[np.ndarray, "h w 3"], stretch: float, path: Path) -> UInt8[np.ndarray, "h v 3"]:
    """Made wider by `stretch`, the width of a pixel over its height."""
    height, width = pixels.shape[:2]
    wider = round(width * stretch)
    if wider == width or not 0.1 < stretch < 10:
        return pixels
    check_size(path, wider, height)
    return np.asarray(Image.fromarray(pixels).resize((wider, height), Image.Resampling.BICUBIC))


def _display_matrix(frame: Any) -> Float[np.ndarray, "2 2"]:
    """Where the axes of the stored pixels point on the screen: stored (x, y) → shown (x, y) @ matrix."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return np.eye(2)
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5] / 65536
    return np.array([[a, b], [c, d]])


def _turned(
    pixels: UInt8[np.ndarray, "h w 3"], matrix: Float[np.ndarray, "2 2"]
) -> UInt8[np.ndarray, "v u 3"]:
    """Pixels turned and mirrored as the matrix says, to the nearest quarter turn (ISO/IEC 14496-12, 6.2.2)."""
    if abs(matrix[0, 1]) > abs(matrix[0, 0]):  # stored x runs along shown y
        pixels, matrix = pixels.swapaxes(0, 1), matrix[::-1]
    pixels = pixels[:, ::-1] if matrix[0, 0] < 0 else pixels
    return pixels[::-1] if matrix[1, 1] < 0 else pixels
