"""Videos, read frame by frame and written, with PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mv3d.core.errors import InputError, OutputError, shown
from mv3d.render.video import SAME_BYTES

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif")
_USUAL_FPS = Fraction(24)


@dataclass(frozen=True)
class VideoInfo:
    """width, height: pixels. fps: frames a second, 24 where the file does not say."""

    width: int
    height: int
    fps: Fraction


def is_video(path: Path) -> bool:
    """Whether the name says so."""
    return path.suffix.lower() in SUFFIXES


def probe(path: Path) -> VideoInfo:
    """Size and rate of a video. Raises InputError for what is none."""
    with closing(_opened(path)) as container:
        stream = _stream(container, path)
        rate = stream.average_rate or stream.guessed_rate or _USUAL_FPS
        return VideoInfo(stream.width, stream.height, Fraction(rate))


def frames_of(path: Path) -> Iterator[Any]:
    """The frames of a video as PyAV gives them, one after the other. Raises InputError where it cannot be decoded."""
    import av  # noqa: PLC0415 - loads FFmpeg

    container = _opened(path)
    try:
        stream = _stream(container, path)
        stream.codec_context.thread_count = 1  # of several processes side by side
        yield from container.decode(stream)
    # A ValueError: a title that is no UTF-8, for one.
    except (av.error.FFmpegError, IndexError, OSError, ValueError) as error:  # pyright: ignore[reportAttributeAccessIssue]
        raise _unreadable(path, error) from error
    finally:
        container.close()


def pictures_of(path: Path, short_side: int | None = None) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames as RGB, scaled down (area average) until the shorter side has so many pixels; never up."""
    for frame in frames_of(path):
        width, height = frame.width, frame.height
        if short_side is not None and min(width, height) > short_side:
            scale = short_side / min(width, height)
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            yield frame.to_ndarray(width=size[0], height=size[1], format="rgb24", interpolation="AREA")
        else:
            yield frame.to_ndarray(format="rgb24")


def read_frames(path: Path, wanted: np.ndarray, size: tuple[int, int]) -> UInt8[np.ndarray, "n h w 3"]:
    """The frames with these rising numbers, cropped around the middle and resized to (width, height)."""
    numbers, found = set(wanted.tolist()), []
    for number, frame in enumerate(frames_of(path)):
        if number in numbers:
            found.append(_fitted(frame.to_image(), size))
        if len(found) == len(numbers):
            return np.stack(found)
    raise InputError(f"{path}: expected {len(numbers)} frames, got {len(found)}")


class Writer:
    """H.264 in yuv420p, frame by frame; odd sizes lose their last row or column. Raises OutputError for the disk.

    crf: x264's constant quality, 0 (lossless) to 51. A context: leaving it finishes the file.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, width: int, height: int, fps: Fraction, crf: int
    ) -> None:
        import av  # noqa: PLC0415 - loads FFmpeg

        self._path, self._av = Path(path), av
        try:
            options = {"movflags": "+faststart"}
            self._container: Any = av.open(str(path), "w", format="mp4", options=options)
            # Of a bounded denominator: MPEG-4 refuses what some containers say.
            rate = fps.limit_denominator(1001)
            options = {"crf": str(crf), **SAME_BYTES}
            self._stream: Any = self._container.add_stream("libx264", rate=rate, options=options)
            self._stream.width, self._stream.height = width // 2 * 2, height // 2 * 2
            self._stream.pix_fmt = "yuv420p"
        except (OSError, av.error.FFmpegError) as error:  # pyright: ignore[reportAttributeAccessIssue]
            raise self._failed(error) from error

    def write(self, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        """Add a frame."""
        cut = np.ascontiguousarray(picture[: self._stream.height, : self._stream.width])
        self._mux(self._av.VideoFrame.from_ndarray(cut, format="rgb24"))

    def close(self) -> None:
        """Finish the file."""
        try:
            self._mux(None)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file as it is."""
        self._container.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _mux(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (OSError, self._av.error.FFmpegError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OutputError:
        return OutputError(f"{self._path}: cannot be written ({shown(error, 200)}); choose another --out")


def _opened(path: Path) -> Any:
    import av  # noqa: PLC0415 - loads FFmpeg

    try:
        return av.open(str(path))
    except (av.error.FFmpegError, IndexError, OSError, ValueError) as error:  # pyright: ignore[reportAttributeAccessIssue]
        raise _unreadable(path, error) from error


def _stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise InputError(f"{path}: expected a video, got a file without pictures")
    return container.streams.video[0]


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: cannot be read as a video ({shown(error, 200)})")


def _fitted(image: Image.Image, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    width, height = size
    scale = max(width / image.width, height / image.height)
    crop_w, crop_h = width / scale, height / scale
    left, top = (image.width - crop_w) / 2, (image.height - crop_h) / 2
    box = (left, top, left + crop_w, top + crop_h)
    return np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS, box=box))
