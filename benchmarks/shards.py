"""Speed of rendering objects into shards and of reading shards as training samples, in one run.

    python benchmarks/shards.py [--quick | --small] --out shards.json
    MV3D_BLENDER=.../python python benchmarks/shards.py      also times Blender Cycles on the same object

Rendering: 21 views at 576² of a textured object of about 50,000 triangles, 4 samples a pixel, compressed and written
into a shard: one object in one process, then eight objects by one and by two workers; workers are warm,
and one untimed object comes first. Memory: the peak of a process that renders 84 views of 500,000 triangles.
Readers: the pixel reader against bare decoding of the same frames of the same files, and the latent reader, whose
shards (random numbers in the form of mv3d orbits encode) were read once before. Medians of five rounds.
--small and --quick take smaller pictures, objects and fewer rounds.
"""

from __future__ import annotations

import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from cycles import speed
from latents import latent_shards
from part import (
    Cell,
    Part,
    Scale,
    Table,
    describe_machine,
    part_parser,
    rounded,
    scale_of,
    versions_of,
    write_part,
)
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from mv3d.core.errors import MissingPartError
from mv3d.orbits.build import build_shards
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig
from mv3d.orbits.infrastructure.isolate import Limits, LocalPool
from mv3d.orbits.jobs import render_object
from mv3d.orbits.shards import write_shard
from mv3d.render.loading import load_model
from mv3d.render.model import normalize_model
from mv3d.render.skies import builtin_environment


@dataclass(frozen=True)
class Sizes:
    """views: of a timed object and of a training sample. size: side of the pictures in pixels. stored_views: of an orbit in
    the shards that are read. rows: of the ball that is rendered, 4·rows² triangles; big_rows: of the one for the memory.
    objects: by one and by two workers. latent_orbits: in the latent shards."""

    views: int = 21
    size: int = 576
    stored_views: int = 84
    rows: int = 112
    big_rows: int = 353
    rounds: int = 5
    objects: int = 8
    latent_orbits: int = 128


SIZES: dict[Scale, Sizes] = {
    "quick": Sizes(
        views=3, size=64, stored_views=6, rows=20, big_rows=30, rounds=1, objects=2, latent_orbits=4
    ),
    "small": Sizes(size=256, big_rows=200, rounds=3, objects=4, stored_views=42, latent_orbits=32),
    "full": Sizes(),
}
PEAK = """
import sys
from pathlib import Path
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig
from mv3d.orbits.jobs import render_object
from mv3d.core.machine import peak_memory_bytes
config = OrbitConfig(views=int(sys.argv[2]), size=int(sys.argv[3]), elevation_deg=(10, 10)).resolved()
render_object(CatalogueItem("big", Path(sys.argv[1])), config)
print(peak_memory_bytes())
"""


def bumpy(rows: int, path: Path) -> Path:
    """A textured, bumpy ball of 4·rows² triangles with a 1024² texture."""
    v, u = np.mgrid[: rows + 1, : 2 * rows + 1] / [[[rows]], [[2 * rows]]]
    polar, azimuth = np.pi * v, 2 * np.pi * u
    radius = 1 + 0.08 * np.sin(9 * azimuth) * np.sin(polar) ** 2 * np.sin(7 * polar)
    points = np.stack(
        [
            radius * np.sin(polar) * np.cos(azimuth),
            radius * np.cos(polar),
            radius * np.sin(polar) * np.sin(azimuth),
        ],
        -1,
    )
    index = np.arange((rows + 1) * (2 * rows + 1)).reshape(rows + 1, 2 * rows + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).resize(
        (1024, 1024), Image.Resampling.BICUBIC
    )
    material = PBRMaterial(baseColorTexture=noise, metallicFactor=0.0, roughnessFactor=0.6)
    uv = np.stack([u, 1 - v], -1).reshape(-1, 2)
    solid = trimesh.Trimesh(points.reshape(-1, 3), faces, process=False)
    solid.visual = TextureVisuals(uv=uv, material=material)
    solid.export(path)
    return path


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def rendering(folder: Path, model: Path, sizes: Sizes) -> dict[str, float]:
    """Seconds of one object, and of an object among several by one and by two workers."""
    rounds, objects = sizes.rounds, sizes.objects
    config = OrbitConfig(views=sizes.views, size=sizes.size, elevation_deg=(10, 10)).resolved()
    limits = Limits()
    item = CatalogueItem("warm", model)

    def whole(number: int) -> None:
        sample = render_object(replace(item, uid=f"one-{number}"), config)
        write_shard(folder / f"one-{number}.tar", [sample], scratch=folder)

    whole(-1)
    clock, cpu = [], []
    for number in range(rounds):
        before = time.process_time()
        clock.append(seconds(lambda number=number: whole(number)))
        cpu.append(time.process_time() - before)
    found = {"one object, one process, s": statistics.median(clock)}
    found["of it on the processors, s"] = statistics.median(cpu)  # what a busy machine changes least
    items = [replace(item, uid=f"{n:02d}") for n in range(objects)]
    cores = sorted(os.sched_getaffinity(0))
    for workers, name, allowed in (
        (1, "1 worker", cores),
        (2, "2 workers", cores),
        (1, "1 worker on one core", cores[:1]),
    ):
        os.sched_setaffinity(0, allowed)  # workers inherit it
        try:
            with LocalPool(render_object, config, workers=workers, limits=limits) as pool:
                run_all(pool, [replace(item, uid=f"warm{n}") for n in range(workers)], folder)
                spent = seconds(lambda pool=pool: run_all(pool, items, folder))
        finally:
            os.sched_setaffinity(0, cores)
        found[f"an object, {name}, s"] = spent / objects
    # One worker compresses on a second thread, and so has the better part of two cores already.
    for name in ("1 worker", "1 worker on one core"):
        found[f"2 workers against {name}"] = found[f"an object, {name}, s"] / found["an object, 2 workers, s"]
    return found


def run_all(pool: LocalPool, items: list[CatalogueItem], folder: Path) -> None:
    """All of them, packed and written."""
    waiting, done = list(enumerate(items)), {}
    while len(done) < len(items):
        while waiting and pool.capacity():
            pool.submit(*waiting.pop(0))
        done |= dict(pool.results())
    record = write_shard(folder / "all.tar", [done[n] for n in range(len(items))], scratch=folder)
    assert len(record["samples"]) == len(items), record["rejects"]


def peak_bytes(model: Path, sizes: Sizes) -> int:
    result = subprocess.run(
        [sys.executable, "-P", "-c", PEAK, str(model), str(sizes.stored_views), str(sizes.size)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    return int(result.stdout)


def pixel_reader(shards: Path, samples: int, sizes: Sizes) -> dict[str, float]:
    """Orbits a second of the training set, and of nothing but decoding the same frames."""
    from mv3d.orbits.dataset import OrbitSet, OrbitSetConfig

    dataset = OrbitSet(shards, OrbitSetConfig(frames=sizes.views))
    places = {json.loads(bytes(dataset.store.members(p)["json"]))["uid"]: p for p in dataset.store.places}
    ours, bare, busy_ours, busy_bare = [], [], [], []
    for _ in range(sizes.rounds):
        spent = busy = 0.0
        frames: list[bytes] = []
        for index in range(samples):
            start, before = time.perf_counter(), time.process_time()
            sample = dataset.sample(index)
            spent, busy = spent + time.perf_counter() - start, busy + time.process_time() - before
            members = dataset.store.members(places[sample["uid"]])
            frames += [bytes(members[f"{n:03d}.webp"]) for n in sample["frames"].tolist()]
        ours.append(samples / spent)
        busy_ours.append(busy)
        before = time.process_time()
        bare.append(
            samples / seconds(lambda frames=frames: [np.asarray(Image.open(io.BytesIO(f))) for f in frames])
        )
        busy_bare.append(time.process_time() - before)
    pairs = zip(busy_bare, busy_ours, strict=True)
    return {
        "pixel reader, orbits/s": statistics.median(ours),
        "bare decoding, orbits/s": statistics.median(bare),
        "pixel reader against bare decoding": statistics.median(
            a / b for a, b in zip(ours, bare, strict=True)
        ),
        "the same by processor time": statistics.median(a / b for a, b in pairs),
    }


def latent_reader(folder: Path, sizes: Sizes) -> dict[str, float]:
    """Orbits a second from a warm disk."""
    from mv3d.orbits.dataset import OrbitSet, OrbitSetConfig

    dataset = OrbitSet(folder, OrbitSetConfig(frames=sizes.views))
    samples = 2 * sizes.latent_orbits
    for index in range(len(dataset)):  # the disk is warm then
        dataset.sample(index)
    clock, busy = [], []
    for _ in range(sizes.rounds):
        before = time.process_time()
        clock.append(samples / seconds(lambda: [dataset.sample(index) for index in range(samples)]))
        busy.append(samples / (time.process_time() - before))
    return {
        "latent reader, orbits/s": statistics.median(clock),
        "orbits per processor second": statistics.median(busy),
    }


def cycles(model: Path, sizes: Sizes) -> dict[str, float] | None:
    """Blender Cycles, 32 samples, on the same object, where Blender is."""
    normalized, _ = normalize_model(load_model(model))
    try:
        timing = speed(normalized, builtin_environment(0), size=sizes.size, views=sizes.views)
    except MissingPartError:
        return None
    return {
        "Cycles, s": timing.cycles_s,
        "Embree in the same run, s": timing.embree_s,
        "Cycles against Embree": timing.ratio,
    }


def part_of(found: dict[str, dict[str, float]], sizes: Sizes, seconds_spent: float) -> Part:
    """found: what was measured, by the caption of its table."""
    rows: dict[str, tuple[tuple[Cell, ...], ...]] = {
        caption: tuple((name, rounded(value, 4)) for name, value in values.items())
        for caption, values in found.items()
    }
    return Part(
        part="shards",
        title="Shards: writing and reading data",
        machine=describe_machine(),
        versions=versions_of("mv3d", "numpy", "pillow", "torch", "embreex"),
        seconds=seconds_spent,
        text=(
            f"Writing: {sizes.views} views at {sizes.size}² of {4 * sizes.rows**2:,} textured triangles, 4 samples a pixel, "
            "compressed and written into a shard, by one process and by workers that are warm. One worker compresses on a "
            "second thread, so two workers gain less on two cores than against one core alone. Memory: the peak of a "
            f"process that renders {sizes.stored_views} views of {4 * sizes.big_rows**2:,} triangles.",
            f"Reading: samples of {sizes.views} of {sizes.stored_views} frames at {sizes.size}², against Pillow decoding the "
            "same frames of the same files and nothing else: the most that any reader could do in one process. Latents "
            f"(fp16, {sizes.size // 8}²) have no peer; their figure says what caching them gains.",
            "Not fair: bare decoding neither composites nor stacks nor looks anything up, so 1 cannot be passed by much; "
            "files are in the system's cache for both; one process, no prefetching. Other loaders are not compared: the form "
            "of the shards is mv3d's own.",
        ),
        tables=tuple(Table(caption, ("", "measured"), lines) for caption, lines in rows.items()),
    )


def main() -> None:
    parser = part_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--pool-objects", type=int, default=None, help="by one and by two workers")
    parser.add_argument("--latent-orbits", type=int, default=None)
    parser.add_argument("--no-cycles", action="store_true")
    options = parser.parse_args()
    scale = scale_of(options)
    asked = {
        "rounds": options.rounds, "objects": options.pool_objects, "latent_orbits": options.latent_orbits,
    }  # fmt: skip
    sizes = replace(SIZES[scale], **{name: value for name, value in asked.items() if value is not None})
    found: dict[str, dict[str, float]] = {}
    started = time.perf_counter()

    def report(caption: str, values: dict[str, float]) -> None:
        for name, value in values.items():
            print(f"{name:>40} {value:10.2f}", flush=True)
        found.setdefault(caption, {}).update(values)

    print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = bumpy(sizes.rows, folder / "bumpy.glb")
        report("Writing shards", rendering(folder, model, sizes))
        # On a page Cycles has its place in the part on rendering.
        if scale == "full" and not options.no_cycles:
            timing = cycles(model, sizes)
            print("Blender: not found" if timing is None else "")
            report("Writing shards", timing or {})
        big = bumpy(sizes.big_rows, folder / "big.glb")
        peak = f"peak of a worker, {round(4 * sizes.big_rows**2, -3) // 1000}k triangles, MB"
        report("Writing shards", {peak: peak_bytes(big, sizes) / 1e6})
        others = [bumpy(sizes.rows * share // 100, folder / f"bumpy{share}.glb") for share in (54, 71)]
        build_shards(
            [CatalogueItem(path.stem, path) for path in (model, *others)],
            folder / "pixels",
            OrbitConfig(views=sizes.stored_views, size=sizes.size, elevation_deg=(10, 10)),
            workers=2,
        )
        report("Reading shards", pixel_reader(folder / "pixels", 4, sizes))
        latents = latent_shards(
            folder / "latents", orbits=sizes.latent_orbits, frames=sizes.stored_views, side=sizes.size // 8
        )
        report("Reading shards", latent_reader(latents, sizes))
    if options.out is not None:
        write_part(part_of(found, sizes, time.perf_counter() - started), options.out)


if __name__ == "__main__":
    main()
