"""Every command that works for long, on inputs so small that it takes a moment: the same bytes each time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from helpers.lifted import SpherePrior, write_photo, write_prior
from helpers.objects import colourful
from helpers.painted import painted
from helpers.shapes import cube, orbit_of
from helpers.stand_ins import Box, Repeat
from helpers.tiny_model import write_model
from helpers.training_data import save_base, save_clip, save_orbits
from mv3d.core.locking import LOCK_NAME
from mv3d.generation.generator import GENERATORS
from mv3d.models.network import MicroConditioning
from mv3d.models.prior.solid import Solid
from mv3d.models.prior.surface import SurfaceConfig, solid_mesh
from mv3d.orbits.build import build_shards
from mv3d.orbits.infrastructure.isolate import Item, Pool
from mv3d.orbits.sample import Outcome
from mv3d.recon.representation import METHODS
from mv3d.render.mesh import Mesh

INPUTS = ("photo.png", "model", "prior", "views", "objects", "set", "shards", "base", "videos")
OUT = "{out}"
"""Stands in `Job.arguments` for the place of the results."""
TIMES = {
    "seconds", "peak_memory_bytes", "versions", "report", "arguments", "seconds_of_the_last_run", "input", "mv3d", "workers",
    "seconds_per_step", "data_wait_share", "memory_bytes",
}  # fmt: skip
"""Fields of records that are not the same each time, or name a place."""
_STATE = ("optimizer.pt", "checkpoint.json")  # the same values, pickled in another order after a restart


@dataclass(frozen=True)
class Job:
    """One command. goes_on: names of what an interrupted run leaves for the next one, beside its log and whole results."""

    name: str
    arguments: tuple[str, ...]
    other: tuple[str, ...]
    """Further flags that ask for another result."""
    goes_on: tuple[str, ...] = ()

    def command(self, out: Path | str, *more: str) -> list[str]:
        return [a.replace(OUT, str(out)) for a in self.arguments] + list(more)


JOBS = {
    job.name: job
    for job in (
        Job(
            "generate",
            ("generate", "photo.png", "--model", "model", "--device", "cpu", "--steps", "2", "--out", OUT),
            ("--seed", "1"),
        ),
        Job(
            "lift",
            ("lift", "photo.png", "--model", "prior", "--device", "cpu", "--texture-size", "64", "--faces", "500",
             "--no-turntable", "--format", "glb,obj", "--out", OUT),
            ("--elevation", "5"),
        ),
        Job(
            "recon",
            ("recon", "views", "--quality", "draft", "--faces", "300", "--texture-size", "64", "--device", "cpu",
             "--format", "glb,obj", "--out", OUT),
            ("--faces", "200"),
        ),
        Job(
            "orbits render",
            ("orbits", "render", "objects", "--views", "4", "--size", "32", "--workers", "1", "--environments", "uniform",
             "--shard-size", "2", "--out", OUT),
            ("--seed", "1"),
            ("index.json", ".work"),
        ),
        Job(
            "train",
            ("train", "--data", "shards", "--base", "base", "--preset", "sv3d_p", "--frames", "4", "--steps", "3",
             "--batch", "2", "--micro-batch", "2", "--lr", "0.001", "--warmup", "1", "--precision", "fp32", "--device", "cpu",
             "--workers", "0", "--log-every", "1", "--checkpoint-every", "1", "--keep-checkpoints", "2",
             "--validate-every", "0", "--no-gradient-checkpointing", "--out", OUT),
            ("--lr", "0.002"),
            ("log.jsonl", "settings.json", "checkpoints"),
        ),
        Job(
            "eval run",
            ("eval", "run", "set", "--model", "model", "--device", "cpu", "--environment", "uniform", "--samples", "1",
             "--clip-s", "no", "--steps", "2", "--out", OUT),
            ("--seed", "1"),
            ("protocol.json",),
        ),
        Job(
            "clips split",
            ("clips", "split", "videos", "--workers", "1", "--min-seconds", "0.5", "--out", OUT),
            ("--crf", "30"),
            ("split.jsonl",),
        ),
        Job(
            "clips score",
            ("clips", "score", OUT, "--workers", "1", "--no-text"),
            ("--flow-side", "96"),
            ("scores.jsonl",),
        ),
    )
}  # fmt: skip


each_job = pytest.mark.parametrize(
    "job",
    # Networks and pictures take seconds: interruptions of these two are tested on their own, too.
    [
        pytest.param(job, marks=[pytest.mark.slow] * (job.name in ("train", "eval run")))
        for job in JOBS.values()
    ],
    ids=list(JOBS),
)


def write_inputs(folder: Path) -> None:
    """What the commands above read, by the names that they give."""
    write_photo(folder / "photo.png", 64)
    vector = MicroConditioning(("cond_aug", "polar", "azimuth"), (16, 32, 32))
    write_model(folder / "model", vector, kind="sv3d_p")
    write_prior(folder / "prior")
    orbit_of(cube(), count=6, size=64).save(folder / "views")
    (folder / "objects").mkdir()
    colourful(trimesh.creation.box((1, 2, 3)).subdivide().subdivide(), folder / "objects" / "block.glb")
    colourful(trimesh.creation.torus(2.0, 0.7), folder / "objects" / "torus.glb")
    colourful(trimesh.creation.icosphere(2), folder / "objects" / "ball.glb")
    (folder / "set").mkdir()
    shutil.copy(folder / "objects" / "block.glb", folder / "set")
    save_orbits(folder / "shards", objects=2)
    save_base(folder / "base")
    (folder / "videos").mkdir()
    save_clip(folder / "videos" / "one.mp4")
    save_clip(folder / "videos" / "two.mp4", frames=16)


def with_known_prior(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("mv3d.generation.prior.load_prior", lambda folder: SpherePrior().eval())


def _coarse(solid: Solid, config: SurfaceConfig) -> Mesh:
    return solid_mesh(solid, replace(config, columns=24, step=0.08))


def quickened(patch: pytest.MonkeyPatch) -> None:
    """Stand-ins for all that computes; objects are worked on in this process instead of children."""
    with_known_prior(patch)
    patch.setattr("mv3d.generation.prior.solid_mesh", _coarse)
    patch.setitem(GENERATORS, "sv3d_p", Repeat)
    patch.setitem(METHODS, "mesh", lambda config: Box(makes_mesh=True))
    patch.setattr("mv3d.recon.pipeline.turntable", lambda mesh, **looks: np.zeros((2, 16, 16, 3), np.uint8))
    patch.setitem(build_shards.__kwdefaults__, "work", painted)
    for place in ("mv3d.orbits.build", "mv3d.clips.work", "mv3d.evaluation.run.evaluate"):
        patch.setattr(f"{place}.LocalPool", Inline)


class Inline(Pool):
    """Objects worked on as they are asked for."""

    def __init__(self, work: Callable[[Any, Any], Any], config: Any, **limits: Any) -> None:
        self._work, self._config = work, config
        self._waiting: list[tuple[int, Item]] = []

    def capacity(self) -> int:
        return 1 - len(self._waiting)

    def submit(self, position: int, item: Item) -> None:
        self._waiting.append((position, item))

    def results(self) -> list[tuple[int, Outcome]]:
        position, item = self._waiting.pop()
        return [(position, self._work(item, self._config))]

    def close(self) -> None:
        pass


def prepared(job: Job, out: Path, name: str = "") -> dict[str, bytes]:
    """The results that are there before a run, in the output folder of a command that works on one."""
    if job.name == "clips score":
        out.mkdir(parents=True, exist_ok=True)
        for video in Path("videos").iterdir():
            shutil.copy(video, out / f"{video.stem}{name}{video.suffix}")
    return results(out)


def results(folder: Path) -> dict[str, bytes]:
    """All files of a folder that are nobody's scratch, by name; records without what differs from run to run."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (
            path.is_file()
            and path.name not in (LOCK_NAME, *_STATE)
            and not any(part.startswith(".") for part in Path(name).parts)
        ):
            found[name] = _timeless(path)
    return found


def half_written(job: Job, found: dict[str, bytes], whole: dict[str, bytes]) -> list[str]:
    """Files of final names that are none of the result. A record without settings claims none: it lists what goes."""
    return [
        name
        for name, data in found.items()
        if whole.get(name) != data
        and Path(name).parts[0] not in job.goes_on
        and not (name.endswith(".json") and b'"settings"' not in data and b'"outputs"' in data)
    ]


def _timeless(path: Path) -> bytes:
    if path.suffix not in (".json", ".jsonl"):
        return path.read_bytes()
    text = path.read_text(encoding="utf-8")
    documents = (
        [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
    )
    return json.dumps(_without_times(documents), sort_keys=True).encode()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in TIMES}
    return [_without_times(v) for v in value] if isinstance(value, list) else value
