"""Samples of a run by number, and the loader that reads them ahead.

Sample g of a run is the same whoever reads it. Step s takes the samples s·batch to (s+1)·batch - 1: its micro-batches
are dealt out to the processes in turn, so one process and several see the same batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mv3d.core.errors import InputError
from mv3d.orbits.dataset import OrbitSet, OrbitSetConfig, Samples
from mv3d.orbits.index import INDEX, PIXELS, read_index
from mv3d.training.clips import ClipSet, is_clip_folder
from mv3d.training.config import TrainConfig


def open_samples(folder: Path, config: TrainConfig, size: tuple[int, int]) -> Samples:
    """Shards of `mv3d orbits`, or a folder of video clips. size: (width, height) of clips, pixels.

    Raises InputError for a folder that holds neither.
    """
    if not folder.is_dir():
        raise InputError(f"--data {folder}: expected a folder of orbit shards or of video clips, got none")
    if (folder / INDEX).exists():
        pixels = (read_index(folder) or {}).get("kind") == PIXELS
        mirror, backgrounds = config.mirror and pixels, config.backgrounds
        settings = OrbitSetConfig(
            frames=config.frames, backgrounds=backgrounds, mirror=mirror, seed=config.seed
        )
        return OrbitSet(folder, settings)
    if is_clip_folder(folder):
        return ClipSet(folder, frames=config.frames, size=size, seed=config.seed)
    raise InputError(
        f"--data {folder}: expected {INDEX} of mv3d orbits render or encode, or video clips (.mp4, .gif, …), found neither"
    )


def batch_numbers(config: TrainConfig, step: int, rank: int, processes: int) -> list[range]:
    """The micro-batches of a process in a step, as numbers of samples."""
    each = config.micro_batch
    starts = range(step * config.batch + rank * each, (step + 1) * config.batch, each * processes)
    return [range(start, start + each) for start in starts]


@dataclass(frozen=True)
class Schedule:
    """The micro-batches of one of `processes` processes from step `first` on."""

    config: TrainConfig
    first: int
    rank: int
    processes: int

    def __iter__(self) -> Iterator[range]:
        for step in range(self.first, self.config.steps):
            yield from batch_numbers(self.config, step, self.rank, self.processes)
