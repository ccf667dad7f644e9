"""Samples of a run by number, and the loader that reads them ahead.

Sample g of a run is the same whoever reads it. Step s takes the samples s·batch to (s+1)·batch - 1: its micro-batches
are dealt out to the processes in turn, so one process and several see the same batch.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from torch.utils.data import DataLoader, Dataset

from mv3d.core.errors import InputError
from mv3d.orbits.dataset import OrbitSet, OrbitSetConfig
from mv3d.orbits.index import INDEX, PIXELS, read_index
from mv3d.training.clips import ClipSet, is_clip_folder
from mv3d.training.config import TrainConfig


class Samples(Protocol):
    """Training samples by number, the same on every machine."""

    @property
    def kind(self) -> str: ...  # latents, pixels or clips

    def sample(self, index: int) -> dict[str, Any]: ...

    def __len__(self) -> int: ...  # samples of an epoch


class OrbitSamples:
    """Orbit shards, pixels or latents."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        index = read_index(folder) or {}
        mirror = config.mirror and index.get("kind") == PIXELS
        settings = OrbitSetConfig(
            frames=config.frames, backgrounds=config.backgrounds, mirror=mirror, seed=config.seed
        )
        self._set = OrbitSet(folder, settings)
        self.kind = "latents" if self._set.store.latents else "pixels"
        self.sample = self._set.sample

    def __len__(self) -> int:
        return len(self._set)

    @property
    def licences(self) -> dict[str, int]:
        """Objects of each licence."""
        return dict(self._set.store.index.get("licences", {}))


def open_samples(folder: Path, config: TrainConfig, size: tuple[int, int]) -> Samples:
    """Shards of `mv3d orbits`, or a folder of video clips. size: (width, height) of clips, pixels."""
    if not folder.is_dir():
        raise InputError(f"--data {folder}: expected a folder of orbit shards or of video clips, got none")
    if (folder / INDEX).exists():
        return OrbitSamples(folder, config)
    if is_clip_folder(folder):
        return ClipSet(folder, frames=config.frames, size=size, seed=config.seed)
    raise InputError(
        f"--data {folder}: expected {INDEX} of mv3d orbits render or encode, or video clips (.mp4, .gif, …), found neither"
    )


def batch_numbers(config: TrainConfig, step: int, rank: int, processes: int) -> list[list[int]]:
    """The micro-batches of a process in a step, as numbers of samples."""
    each = config.micro_batch
    starts = range(step * config.batch + rank * each, (step + 1) * config.batch, each * processes)
    return [list(range(start, start + each)) for start in starts]


class _ByNumber(Dataset):
    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, number: int) -> dict[str, Any]:
        # The number of the run, not of the epoch: the draws of the loss depend on it.
        return self.samples.sample(number) | {"number": number}


class _Schedule:
    """The micro-batches of a process from a step on."""

    def __init__(self, config: TrainConfig, first: int, rank: int, processes: int) -> None:
        self._config, self._first, self._rank, self._processes = config, first, rank, processes

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self._first, self._config.steps):
            yield from batch_numbers(self._config, step, self._rank, self._processes)

    def __len__(self) -> int:
        steps = max(self._config.steps - self._first, 0)
        return steps * self._config.accumulation(self._processes)


def loader(
    samples: Samples, config: TrainConfig, *, first: int, rank: int, processes: int, pin_memory: bool
) -> DataLoader:
    """The micro-batches of one process from step `first` on, read ahead by `config.workers` processes."""
    context = None
    if config.workers and sys.platform != "win32":
        # Forking a process with threads (torch has some) can lock up.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch"])
    return DataLoader(
        _ByNumber(samples),
        batch_sampler=_Schedule(config, first, rank, processes),  # type: ignore[arg-type]
        num_workers=config.workers,
        pin_memory=pin_memory,
        multiprocessing_context=context,
        prefetch_factor=4 if config.workers else None,
    )
