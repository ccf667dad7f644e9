"""Does the loader keep up with a step of 5 ms? Latents at full size against the share of time that steps wait.

    python benchmarks/loading.py [--step-ms 5] [--steps 2000] [--workers 0 1 2]

A step of a GPU is stood in for by a sleep: it takes no core from the readers, as a GPU takes none. Each row is a new
loader of the trainer (`sample_loader`) on shards in the form of `mv3d orbits encode`: 21 frames, latents of 72² (those
of pictures of 576²), 915 kB a sample with its embeddings, read once before, as after a first epoch. The first 100 steps
are left out: readers start. Besides: what the readers can give where nobody sleeps.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from latents import latent_shards

from mv3d.orbits.dataset import OrbitSet, OrbitSetConfig, orbit_loader

_LEFT_OUT = 100


def kept_up(
    folder: Path, *, workers: int, batch: int, step_s: float, steps: int, left_out: int = _LEFT_OUT
) -> tuple[float, float]:
    """(share of the time that was not spent on waiting for data, steps a second) of a loop of `steps` steps."""
    config = OrbitSetConfig(batch_size=batch, frames=21)
    feed = iter(orbit_loader(OrbitSet(folder, config), workers=workers))
    waited, begun = 0.0, time.perf_counter()
    for step in range(steps + left_out):
        if step == left_out:
            waited, begun = 0.0, time.perf_counter()
        before = time.perf_counter()
        _touched(next(feed))
        waited += time.perf_counter() - before
        time.sleep(step_s)
    elapsed = time.perf_counter() - begun
    return 1 - waited / elapsed, steps / elapsed


def _touched(raw: dict[str, Any]) -> float:
    """Every page of a batch, as a copy to a device reads it."""
    return float(raw["latents"].view(-1)[::512].float().sum())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--step-ms", type=float, default=5.0)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--orbits", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = latent_shards(Path(scratch, "latents"), orbits=arguments.orbits, frames=21, side=72)
        print(
            f"{sum(p.stat().st_size for p in folder.iterdir()) / 1e6:.0f} MB of latents; a step of {arguments.step_ms:g} ms"
        )
        print("| workers | batch | kept up | steps a second | readers alone, samples a second |")
        print("|---|---|---|---|---|")
        for batch in arguments.batches:
            for workers in arguments.workers:
                share, rate = kept_up(
                    folder,
                    workers=workers,
                    batch=batch,
                    step_s=arguments.step_ms / 1e3,
                    steps=arguments.steps,
                )
                _, alone = kept_up(
                    folder, workers=workers, batch=batch, step_s=0.0, steps=arguments.steps // 4
                )
                print(f"| {workers} | {batch} | {share:.1%} | {rate:.0f} | {alone * batch:.0f} |", flush=True)


if __name__ == "__main__":
    main()
