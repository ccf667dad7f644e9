"""How fast objects become shards and shards become training samples, in one run, side by side.

    python benchmarks/orbits.py --out orbits.json
    MV3D_BLENDER=.../python python benchmarks/orbits.py      also times Blender Cycles on the same object

Rendering: 21 views at 576² of a textured object of about 50,000 triangles, 4 samples a pixel, compressed and written
into a shard: one object in one process, then eight objects by one and by two workers; workers are warm,
and one untimed object comes first. Memory: the peak of a process that renders 84 views of 500,000 triangles.
Readers: the pixel reader against bare decoding of the same frames of the same files, and the latent reader, whose
shards (random numbers in the form of mv3d orbits encode) were read once before. Medians of five rounds.
"""

from __future__ import annotations

import argparse
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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from mv3d.orbits.build import build_shards
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig, sha256_of_json
from mv3d.orbits.isolate import Limits, LocalPool
from mv3d.orbits.jobs import render_object
from mv3d.orbits.reading import LATENTS
from mv3d.orbits.sample import Sample
from mv3d.orbits.shards import tar_fragment, write_pieces, write_shard
from mv3d.runs import SCHEMA, library_versions, to_json

VIEWS, SIZE = 21, 576
PEAK = """
import sys
from pathlib import Path
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig
from mv3d.orbits.jobs import render_object
from mv3d.runs import peak_memory_bytes
config = OrbitConfig(views=84, elevation_deg=(10, 10)).resolved()
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


def rendering(folder: Path, model: Path, rounds: int, objects: int) -> dict[str, float]:
    """Seconds of one object, and of an object among several by one and by two workers."""
    config = OrbitConfig(views=VIEWS, size=SIZE, elevation_deg=(10, 10)).resolved()
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


def peak_bytes(model: Path) -> int:
    result = subprocess.run(
        [sys.executable, "-P", "-c", PEAK, str(model)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    return int(result.stdout)


def pixel_reader(shards: Path, samples: int, rounds: int) -> dict[str, float]:
    """Orbits a second of the training set, and of nothing but decoding the same frames."""
    from mv3d.orbits.dataset import OrbitSet, OrbitSetConfig

    dataset = OrbitSet(shards, OrbitSetConfig(frames=VIEWS))
    places = {json.loads(bytes(dataset.store.members(p)["json"]))["uid"]: p for p in dataset.store.places}
    ours, bare, busy_ours, busy_bare = [], [], [], []
    for _ in range(rounds):
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


def latent_shards(folder: Path, orbits: int) -> Path:
    """Random latents in the form that mv3d orbits encode writes: 84 frames of 576²."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    angles = {"elevations_deg": [10.0] * 84, "azimuths_deg": (np.arange(1, 85) * 360 / 84).tolist()}

    def samples() -> Any:
        for number in range(orbits):
            head = {"uid": f"o{number}", "licence": "CC0-1.0", **angles}
            head["backgrounds"] = {"white": [255] * 3, "color": [1, 2, 3]}
            files = [("json", json.dumps(head).encode())]
            for name in ("white", "color"):
                for what, shape in (("latents", (84, 4, SIZE // 8, SIZE // 8)), ("embeddings", (84, 1024))):
                    buffer = io.BytesIO()
                    np.save(buffer, rng.standard_normal(shape, np.float32).astype(np.float16))
                    files.append((f"{what}.{name}.npy", buffer.getvalue()))
            yield Sample(tar_fragment(f"o{number}", files), {"uid": f"o{number}", "licence": "CC0-1.0"})

    record = write_shard(folder / "shard-000000.tar", samples(), scratch=folder)
    shard = {"name": record["shard"], "samples": orbits, "bytes": record["bytes"], "sha256": record["sha256"]}
    index = {"schema": SCHEMA, "kind": LATENTS, "finished": True, "shards": [shard], "objects": orbits}
    index |= {
        "samples": orbits,
        "rejected": {},
        "licences": {},
        "config": {},
        "identity_sha256": sha256_of_json(shard),
    }
    write_pieces(folder / "index.json", [to_json(index).encode()])
    return folder


def latent_reader(folder: Path, samples: int, rounds: int) -> dict[str, float]:
    """Orbits a second from a warm disk."""
    from mv3d.orbits.dataset import OrbitSet, OrbitSetConfig

    dataset = OrbitSet(folder, OrbitSetConfig(frames=VIEWS))
    for index in range(len(dataset)):  # the disk is warm then
        dataset.sample(index)
    clock, busy = [], []
    for _ in range(rounds):
        before = time.process_time()
        clock.append(samples / seconds(lambda: [dataset.sample(index) for index in range(samples)]))
        busy.append(samples / (time.process_time() - before))
    return {
        "latent reader, orbits/s": statistics.median(clock),
        "orbits per processor second": statistics.median(busy),
    }


def cycles(model: Path) -> dict[str, float] | None:
    """Blender Cycles, 32 samples, on the same object, where Blender is."""
    from mv3d.errors import MissingPartError
    from mv3d.render.environment import builtin_environment
    from mv3d.render.loading import load_model
    from mv3d.render.model import normalize_model

    sys.path.insert(0, str(Path(__file__).parent))
    from cycles import speed

    normalized, _ = normalize_model(load_model(model))
    try:
        timing = speed(normalized, builtin_environment(0), size=SIZE, views=VIEWS)
    except MissingPartError:
        return None
    return {
        "Cycles, s": timing.cycles_s,
        "Embree in the same run, s": timing.embree_s,
        "Cycles against Embree": timing.ratio,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--objects", type=int, default=8, help="by one and by two workers")
    parser.add_argument("--latent-orbits", type=int, default=128)
    parser.add_argument("--no-cycles", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    found: dict[str, Any] = {}

    def report(values: dict[str, float]) -> None:
        for name, value in values.items():
            print(f"{name:>40} {value:10.2f}", flush=True)
        found.update(values)

    print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = bumpy(112, folder / "bumpy.glb")
        report(rendering(folder, model, options.rounds, options.objects))
        if not options.no_cycles:
            timing = cycles(model)
            print("Blender: not found" if timing is None else "")
            report(timing or {})
        report({"peak of a worker, 500k triangles, MB": peak_bytes(bumpy(353, folder / "big.glb")) / 1e6})
        others = [bumpy(rows, folder / f"bumpy{rows}.glb") for rows in (60, 80)]
        build_shards(
            [CatalogueItem(path.stem, path) for path in (model, *others)],
            folder / "pixels",
            OrbitConfig(elevation_deg=(10, 10)),
            workers=2,
        )
        report(pixel_reader(folder / "pixels", 4, options.rounds))
        latents = latent_shards(folder / "latents", options.latent_orbits)
        report(latent_reader(latents, 2 * options.latent_orbits, options.rounds))
    if options.out is not None:
        document = {
            "machine": platform.platform(),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
            "versions": library_versions(),
            "measured": {name: round(value, 3) for name, value in found.items()},
        }
        options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
