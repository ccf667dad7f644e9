"""The training set: an endless, seeded stream of orbits as torch tensors. Needs torch.

The order is a permutation of (orbit, background) for every epoch, made of the seed alone. Rank r of w takes every
w-th. A loader takes the samples by their numbers, so what it yields does not depend on how many workers it has, and
"go on after n samples" is one number.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from mv3d.core.errors import InputError, UsageError
from mv3d.core.settings import with_settings
from mv3d.orbits.reading import BACKGROUNDS, Background, OrbitSample, OrbitStore, read_latents, read_pixels

_AHEAD = 4  # batches that a worker reads ahead
_SUBSTITUTES = 20  # tries to replace a broken sample before giving up


@dataclass(frozen=True)
class SampleFormat:
    """What the samples of a set hold."""

    name: str
    """For people."""
    latents: bool
    """Cached latents and embeddings instead of pictures."""
    alpha: bool
    """Pictures have an alpha channel."""
    input_frame: int
    """The frame that the network is given."""


LATENT_ORBITS = SampleFormat("latents", latents=True, alpha=False, input_frame=-1)
PIXEL_ORBITS = SampleFormat("pixels", latents=False, alpha=True, input_frame=-1)


class Samples(Protocol):
    """Training samples by number, the same on every machine. A sample holds its number as `index`."""

    @property
    def format(self) -> SampleFormat: ...

    @property
    def licences(self) -> dict[str, int]:
        """Objects of each licence, where they are known."""
        ...

    def sample(self, index: int) -> dict[str, Any]: ...

    def __len__(self) -> int:
        """Samples of one epoch."""
        ...


@dataclass(frozen=True)
class OrbitSetConfig:
    """What is drawn and in which order."""

    frames: int = 21
    """Frames a sample; a number that divides the stored ones."""
    backgrounds: tuple[Background, ...] = BACKGROUNDS
    """Each orbit comes once an epoch on each of these: white, and a random colour."""
    mirror: bool = False
    """Show every other orbit, by chance, in a mirror. Pixels only: a latent cannot be turned over."""
    batch_size: int = 1
    """Samples of a batch, of one rank."""
    seed: int = 0
    """Seed of the order, the starts and the colours."""
    rank: int = 0
    """This process among `world_size`."""
    world_size: int = 1
    """Processes that share an epoch."""
    epochs: int | None = None
    """Where to stop; None goes on for ever."""

    def __post_init__(self) -> None:
        if not self.backgrounds or not set(self.backgrounds) <= set(BACKGROUNDS):
            raise UsageError(
                f"backgrounds: expected some of {', '.join(BACKGROUNDS)}, got {self.backgrounds}"
            )
        if self.batch_size < 1 or self.frames < 1:
            raise UsageError(f"expected at least 1 frame and sample, got {self.frames}, {self.batch_size}")
        if not 0 <= self.rank < self.world_size:
            raise UsageError(f"rank: expected 0 to {self.world_size - 1}, got {self.rank}")


class OrbitSet:
    """Training samples from a folder of shards, pixels or latents.

    A sample is a dict. From pixels: `images` (n, h, w, 4) uint8, composited colours and the alpha as a mask;
    `normalized` makes them what networks take, best on the accelerator, where they arrive as a third of the bytes.
    From latents: `latents` (n, 4, y, x) float16, the unscaled mean of the VAE's posterior (multiply targets by
    0.18215, the condition not), and `image_embedding` (d,) float16 of the condition frame. Always: `elevations_deg`,
    `azimuths_deg` (n,) float32 (absolute; relative to the condition frame), `background` (3,) float32 in [0, 1],
    `frames` (n,) int64, `uid`, `index`, the number of the sample in this rank's stream. The condition frame is the
    last one.

    A broken shard is left out from the start, a broken sample is replaced by another one drawn by the same seed, so
    that epochs keep their length and resuming its meaning; each is warned of.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        config: OrbitSetConfig | None = None,
        *,
        start: int = 0,
        **settings: Any,
    ) -> None:
        """start: samples of this rank that were consumed before. settings: fields of OrbitSetConfig, over those of `config`."""
        self.config = with_settings(config or OrbitSetConfig(), settings, "OrbitSet")
        self.store = OrbitStore(folder)
        self._start = start
        self._tickets = -1, np.empty(0, np.int64)
        for line in self.store.broken:
            warnings.warn(f"{folder}: left out: {line}", stacklevel=2)
        views = self.store.index.get("config", {}).get("views")
        if views is not None and views % self.config.frames:
            raise UsageError(
                f"{folder}: expected a number of frames that divides its {views}, got {self.config.frames}; --frames {views} "
                "takes them all"
            )
        if self.config.mirror and self.store.latents:
            raise UsageError(f"{folder}: expected pixels for mirrored orbits, got latents; use mirror=False")
        if len(self) == 0:
            raise InputError(
                f"{folder}: expected at least {self.config.world_size} samples for as many ranks, "
                f"got {len(self.store.places)}"
            )

    def __len__(self) -> int:
        """Samples of one epoch of one rank, the same for all: what does not divide evenly is left for other epochs."""
        total = len(self.store.places) * len(self.config.backgrounds)
        return total // self.config.world_size

    @property
    def format(self) -> SampleFormat:
        return LATENT_ORBITS if self.store.latents else PIXEL_ORBITS

    @property
    def licences(self) -> dict[str, int]:
        return dict(self.store.index["licences"])

    def state_dict(self, consumed: int) -> dict[str, Any]:
        """What to save after this rank consumed `consumed` samples of this object's stream."""
        return {
            "consumed": self._start + consumed,
            "seed": self.config.seed,
            "samples": len(self.store.places),
            "world_size": self.config.world_size,
            "backgrounds": list(self.config.backgrounds),
            "mirror": self.config.mirror,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there. Raises InputError where the order would be another one."""
        for key, value in self.state_dict(0).items():
            if key != "consumed" and state.get(key) != value:
                raise InputError(
                    f"resume: expected {key} {value} as now, got {state.get(key)} in the saved state"
                )
        self._start = int(state["consumed"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self.sample(index) for batch in self.batches() for index in batch)

    def batches(self) -> Iterator[range]:
        """Numbers of the samples from `start` on, a batch at a time; the last one of the last epoch may be smaller."""
        batch = self.config.batch_size
        end = None if self.config.epochs is None else self.config.epochs * len(self)
        for begin in itertools.count(self._start, batch):
            if end is not None and begin >= end:
                return
            yield range(begin, begin + batch if end is None else min(begin + batch, end))

    def sample(self, index: int) -> dict[str, Any]:
        """Sample number `index` of this rank's stream, whatever was read before."""
        epoch, inside = divmod(index, len(self))
        order = self._order(epoch)
        rng = np.random.default_rng([self.config.seed, 1, epoch, inside, self.config.rank])
        ticket = int(order[inside * self.config.world_size + self.config.rank])
        read = read_latents if self.store.latents else read_pixels
        for _ in range(_SUBSTITUTES):
            place = self.store.places[ticket // len(self.config.backgrounds)]
            background = self.config.backgrounds[ticket % len(self.config.backgrounds)]
            try:
                members = self.store.members(place)
                orbit = read(members, frames=self.config.frames, background=background, rng=rng)
                if self.config.mirror and rng.random() < 0.5:
                    orbit = mirrored(orbit)
                return _tensors(orbit, index)
            except InputError as error:
                warnings.warn(f"sample {place.number} of shard {place.shard} skipped: {error}", stacklevel=2)
                ticket = int(order[int(rng.integers(len(order)))])
        raise InputError(
            f"{self.store.folder}: {_SUBSTITUTES} broken samples one after the other; check it with mv3d orbits info"
        )

    def _order(self, epoch: int) -> np.ndarray:
        """Tickets of an epoch; the one in use is kept."""
        kept, tickets = self._tickets  # one value: several threads may ask
        if kept != epoch:
            total = len(self.store.places) * len(self.config.backgrounds)
            tickets = np.random.default_rng([self.config.seed, 0, epoch]).permutation(total)
            self._tickets = epoch, tickets
        return tickets


def orbit_loader(
    dataset: OrbitSet, *, workers: int = 0, pin_memory: bool = False
) -> Iterable[dict[str, Any]]:
    """Batches of `dataset.config.batch_size` in the order of the stream, with any number of workers."""
    return sample_loader(dataset, dataset.batches(), workers=workers, pin_memory=pin_memory)


def sample_loader(
    samples: Samples, batches: Iterable[Sequence[int]], *, workers: int, pin_memory: bool
) -> Iterable[dict[str, Any]]:
    """The batches with these sample numbers, in this order, read ahead by `workers` processes.

    Latents are copies out of a memory map, cheaper to read than to hand from process to process: there the workers are
    threads (benchmarks/loading.py).
    """
    if workers and samples.format.latents:
        return _ReadAhead(samples, batches, workers, pin_memory)
    context = None
    if workers and sys.platform != "win32":
        # Forking a process with threads (torch has some) can lock up; a server that has loaded torch once
        # starts workers as fast.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch"])
    return DataLoader(
        _ByNumber(samples),
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=workers,
        pin_memory=pin_memory,
        multiprocessing_context=context,
        prefetch_factor=_AHEAD if workers else None,
    )


@dataclass(frozen=True, eq=False)
class _ReadAhead:
    """Batches in order, of which threads read some ahead."""

    samples: Samples
    batches: Iterable[Sequence[int]]
    workers: int
    pin_memory: bool

    def __iter__(self) -> Iterator[dict[str, Any]]:
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="latents")
        try:
            ahead: deque[Future[dict[str, Any]]] = deque()
            for numbers in self.batches:
                ahead.append(pool.submit(self._batch, numbers))
                if len(ahead) > _AHEAD * self.workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _batch(self, numbers: Sequence[int]) -> dict[str, Any]:
        batch = default_collate([self.samples.sample(number) for number in numbers])
        if not self.pin_memory:
            return batch
        return {k: v.pin_memory() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


class _ByNumber(Dataset):
    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.samples.sample(index)


def normalized(images: torch.Tensor, *, channels: int = 3) -> torch.Tensor:
    """(…, h, w, 4) uint8 → (…, 3, h, w) float32 in [-1, 1], on the device of the images. channels: 4 keeps the alpha."""
    return images[..., :channels].movedim(-1, -3).contiguous().float().mul_(2 / 255).sub_(1)


def mirrored(sample: OrbitSample) -> OrbitSample:
    """The orbit of the mirrored object: pictures turned over, azimuths negated, in the order of azimuths again."""
    assert sample.images is not None
    order = np.r_[np.arange(len(sample.images) - 1)[::-1], len(sample.images) - 1]
    return replace(
        sample,
        images=np.ascontiguousarray(sample.images[order, :, ::-1]),
        elevations_deg=sample.elevations_deg[order],
        azimuths_deg=(-sample.azimuths_deg[order]) % 360.0,
        frames=sample.frames[order],
    )


def _tensors(sample: OrbitSample, index: int) -> dict[str, Any]:
    tensors: dict[str, Any] = {
        "uid": sample.uid,
        "index": index,
        "elevations_deg": torch.from_numpy(sample.elevations_deg.astype(np.float32)),
        "azimuths_deg": torch.from_numpy(sample.azimuths_deg.astype(np.float32)),
        "background": torch.from_numpy(sample.background.astype(np.float32) / 255),
        "frames": torch.from_numpy(sample.frames),
    }
    if sample.images is not None:
        tensors["images"] = torch.from_numpy(sample.images)
    if sample.latents is not None and sample.image_embedding is not None:
        tensors["latents"] = torch.from_numpy(sample.latents)
        tensors["image_embedding"] = torch.from_numpy(sample.image_embedding)
    return tensors
