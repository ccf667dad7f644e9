"""Frames → an mp4 that every browser and phone plays."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mv3d.core.errors import InputError, OutputError

SAME_BYTES = {"threads": "1", "x264-params": "cpu-independent=1"}
"""Options of libx264 by which equal frames become equal files on every processor. Without them its AVX-512 code gives other
bytes from one call to the next: 17 files of 80 equal calls, at 62 x 62 pixels."""


def encode_mp4(frames: UInt8[np.ndarray, "n h w 3"], path: str | os.PathLike[str], *, fps: int = 12) -> Path:
    """H.264, yuv420p; odd sizes lose their last row or column. Equal frames give equal files.

    Raises OutputError where the file cannot be written.
    """
    import av  # noqa: PLC0415 - loads FFmpeg
    from av.error import FFmpegError  # noqa: PLC0415

    if frames.ndim != 4 or frames.shape[-1] != 3 or min(frames.shape[:3]) < 1 or min(frames.shape[1:3]) < 2:
        raise InputError(f"frames: expected shape (n, h, w, 3) of at least 2x2, got {frames.shape}")
    height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2
    path = Path(path)
    try:
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": "20", **SAME_BYTES})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(
                    np.ascontiguousarray(frame[:height, :width]), format="rgb24"
                )
                for packet in stream.encode(picture):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
    except (OSError, FFmpegError) as error:
        raise OutputError(f"{path}: cannot be written ({error}); choose another --out") from error
    return path
