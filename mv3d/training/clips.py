"""Plain video clips as training samples, for adapters of camera motion (SVD, arXiv 2311.15127, section 4.3.1).

A clip has no camera: its angles are zero, and its first frame is the input view.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from mv3d.clips.video import frames_of, is_video, read_frames
from mv3d.core.errors import InputError
from mv3d.orbits.dataset import SampleFormat

KEPT_BYTES = 256 * 2**20
"""Clips that together need no more stay in memory once they are decoded, of every process that reads them."""


def is_clip_folder(folder: Path) -> bool:
    """Whether any video lies in it."""
    return any(is_video(path) for path in folder.iterdir())


class ClipSet:
    """The clips of a folder; sample g is a clip and a start in it, drawn by the seed.

    A sample: `images` (n, h, w, 3) uint8, cropped around the middle to the shape of the network's pictures; angles of
    zero. Raises InputError where no clip is long enough; single ones that cannot be used are left out with a warning.
    """

    format = SampleFormat("clips", latents=False, alpha=False, input_frame=0)

    @property
    def licences(self) -> dict[str, int]:
        """Unknown."""
        return {}

    def __init__(self, folder: Path, *, frames: int, size: tuple[int, int], seed: int) -> None:
        self._frames, self._size, self._seed = frames, size, seed
        self._clips: list[tuple[Path, int]] = []
        for path in sorted(p for p in folder.iterdir() if is_video(p)):
            try:
                count = sum(1 for _ in frames_of(path))
            except InputError as error:
                warnings.warn(f"left out: {error}", stacklevel=2)
                continue
            if count < frames:
                warnings.warn(
                    f"left out: {path}: expected at least {frames} frames, got {count}", stacklevel=2
                )
            else:
                self._clips.append((path, count))
        if not self._clips:
            raise InputError(f"{folder}: expected a clip of at least {frames} frames, found none")
        width, height = size
        self._keeps = sum(count for _, count in self._clips) * height * width * 3 <= KEPT_BYTES
        self._kept: dict[Path, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._clips)

    def sample(self, index: int) -> dict[str, Any]:
        """Sample number `index`: every clip once an epoch, from a random start, at the widest stride that fits up to 2."""
        epoch, inside = divmod(index, len(self._clips))
        order = np.random.default_rng([self._seed, 0, epoch]).permutation(len(self._clips))
        rng = np.random.default_rng([self._seed, 1, index])
        path, count = self._clips[order[inside]]
        stride = max(1, min(2, (count - 1) // max(self._frames - 1, 1)))
        start = int(rng.integers(count - stride * (self._frames - 1)))
        wanted = start + stride * np.arange(self._frames)
        angles = torch.zeros(self._frames)
        return {
            "uid": path.name,
            "index": index,
            "images": torch.from_numpy(self._pictures(path, count, wanted)),
            "elevations_deg": angles,
            "azimuths_deg": angles.clone(),
        }

    def _pictures(self, path: Path, count: int, wanted: np.ndarray) -> UInt8[np.ndarray, "n h w 3"]:
        if not self._keeps:
            return read_frames(path, wanted, self._size)
        if path not in self._kept:
            self._kept[path] = read_frames(path, np.arange(count), self._size)
        return self._kept[path][wanted]
