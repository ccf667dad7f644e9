"""Growth of time and memory: of `mv3d recon` against views, resolution, faces and the field's grid, of rendering against
views, resolution and faces.

    python benchmarks/growth.py [--quick | --small] [--objects ../shared/assets/eval] --out growth.json

One thing grows at a time, the others stay at their base. Each run is a process of its own, for its peak memory, forked from
one that has imported everything and computed nothing. Seconds are of the work, from the views folder to the written
results, or from the model in memory to the last picture.
"""

from __future__ import annotations

import math
import multiprocessing
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cycles import framed
from part import (
    Chart,
    Part,
    Scale,
    Series,
    Table,
    describe_machine,
    part_parser,
    scale_of,
    versions_of,
    write_part,
)
from rendering import object_of, textured

from mv3d.core.machine import peak_memory_bytes
from mv3d.recon import stages
from mv3d.recon.config import ReconConfig
from mv3d.recon.field import FieldConfig
from mv3d.recon.pipeline import run
from mv3d.recon.tighten import TightenConfig
from mv3d.render.embree import EmbreeRenderer
from mv3d.render.raycast import render_views
from mv3d.render.renderer import RenderSettings
from mv3d.render.skies import builtin_environment
from mv3d.render.trajectories import static_orbit
from mv3d.views.readers import load_views
from mv3d.views.views import Views

RECONSTRUCT, RENDER = "reconstruct", "render"
AXES = {
    "views": "views",
    "size": "side of the views, pixels",
    "faces": "triangles, of the result (reconstruct) or of the object (render)",
    "grid": "samples along the side of the field's grid",
}


@dataclass(frozen=True)
class Point:
    """The settings of one run. faces: at most so many of the reconstructed mesh; at least so many of the rendered object.
    grid, hull: samples along the longest side of the field's finer level and of the hull. steps: of that level. quality: of
    everything else."""

    views: int
    size: int
    faces: int
    grid: int = 96
    hull: int = 128
    steps: int = 100
    texture: int = 1024
    quality: Literal["draft", "standard"] = "standard"


@dataclass(frozen=True)
class Plan:
    """The base of each work, and the values that each axis takes instead."""

    base: dict[str, Point]
    axes: dict[str, dict[str, tuple[int, ...]]]


PLANS: dict[Scale, Plan] = {
    "quick": Plan(
        {RECONSTRUCT: Point(9, 64, 1000, 24, 32, 6, 256, "draft"), RENDER: Point(6, 64, 10_000)},
        {
            RECONSTRUCT: {"views": (6, 9, 12), "size": (48, 64, 96), "faces": (500, 1000, 2000), "grid": (16, 24, 32)},
            RENDER: {"views": (3, 6, 9), "size": (48, 64, 96), "faces": (10_000, 20_000, 50_000)},
        },
    ),
    "small": Plan(
        {RECONSTRUCT: Point(21, 256, 20_000), RENDER: Point(21, 256, 40_000)},
        {
            RECONSTRUCT: {
                "views": (6, 21, 84), "size": (128, 256, 512, 1024), "faces": (5000, 20_000, 40_000), "grid": (48, 72, 96),
            },
            RENDER: {
                "views": (6, 21, 84), "size": (128, 256, 512, 1024), "faces": (10_000, 40_000, 160_000),
            },
        },
    ),
    "full": Plan(
        {RECONSTRUCT: Point(21, 576, 20_000), RENDER: Point(21, 576, 40_000)},
        {
            RECONSTRUCT: {
                "views": (6, 12, 21, 42, 84), "size": (128, 256, 576, 1024),
                "faces": (5000, 10_000, 20_000, 40_000, 80_000), "grid": (48, 96, 144, 192),
            },
            RENDER: {
                "views": (6, 12, 21, 42, 84), "size": (128, 256, 576, 1024), "faces": (10_000, 40_000, 160_000, 640_000),
            },
        },
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """seconds of the clock. cpu_s: of all cores together, which other programs on the machine disturb less. peak_gb: of
    the process. stages: seconds by name, empty for rendering. faces: there were."""

    seconds: float
    cpu_s: float
    peak_gb: float
    stages: dict[str, float]
    faces: int


def values_of(plan: Plan, work: str) -> list[Point]:
    """Every point of a work once, the base first."""
    base = plan.base[work]
    varied = [replace(base, **{axis: v}) for axis, values in plan.axes[work].items() for v in values]
    return list(dict.fromkeys([base, *varied]))


# -- in a process of its own


def reconstruct_once(folder: Path, point: Point) -> Cost:
    preset = stages.PRESETS[point.quality]
    fit = FieldConfig(levels=((point.grid // 2, round(0.6 * point.steps)), (point.grid, point.steps)))
    preset = replace(preset, hull=point.hull, fit=fit)
    if point.quality == "draft":
        # What does not grow is made as small as it goes: --quick shows that all of it runs.
        preset = replace(
            preset,
            fit=replace(fit, rays=1024),
            tighten=TightenConfig(levels=((16, 20),)),
            turntable=(6, 64),
        )
    # The grid is no setting of a user's; the process ends with this run.
    stages.PRESETS[point.quality] = preset
    started, busy = time.perf_counter(), time.process_time()
    config = ReconConfig(quality=point.quality, faces=point.faces, texture_size=point.texture, device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        report = run(config, lambda: load_views(folder), Path(scratch) / "out").report
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    parts = {name: spent for name, spent in report["seconds"].items() if name != "total"}
    return Cost(seconds, busy, peak_memory_bytes() / 1e9, parts, int(report["faces"]))


def render_once(path: Path, point: Point) -> Cost:
    _, model = textured(path, point.faces)
    cameras = framed(model, static_orbit(point.views, 10.0), point.size)
    started, busy = time.perf_counter(), time.process_time()
    # As `mv3d orbits render` does it: no more than one picture is in memory.
    for _ in EmbreeRenderer().frames(model, cameras, builtin_environment(0), RenderSettings(samples=4)):
        pass
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    return Cost(seconds, busy, peak_memory_bytes() / 1e9, {}, len(model.faces))


def alone(work: Callable[..., Cost], *arguments: Any) -> Cost:
    """In a new process, forked from a server that has imported this module and computed nothing."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        return pool.submit(work, *arguments).result()


# -- all of them


def save_views(path: Path, point: Point, out: Path) -> Path:
    """A views folder of the unlit object, as ground truth is made elsewhere."""
    mesh, model = textured(path, 0)
    orbit = static_orbit(point.views, 10.0)
    cameras = framed(model, orbit, point.size)
    Views(render_views(mesh, cameras, supersample=2), cameras, orbit, point.views - 1).save(out)
    return out


def costs(path: Path, plan: Plan, scratch: Path) -> dict[str, dict[Point, Cost]]:
    found: dict[str, dict[Point, Cost]] = {RECONSTRUCT: {}, RENDER: {}}
    for point in values_of(plan, RECONSTRUCT):
        folder = scratch / f"{point.views}-{point.size}"
        if not folder.exists():
            save_views(path, point, folder)
        found[RECONSTRUCT][point] = told(RECONSTRUCT, point, alone(reconstruct_once, folder, point))
    for point in values_of(plan, RENDER):
        found[RENDER][point] = told(RENDER, point, alone(render_once, path, point))
    return found


def told(work: str, point: Point, cost: Cost) -> Cost:
    print(
        f"{work}: {point}: {cost.seconds:.1f} s ({cost.cpu_s:.1f} s on processors), {cost.peak_gb:.2f} GB, {cost.faces} faces",
        flush=True,
    )
    return cost


def along(plan: Plan, found: dict[Point, Cost], work: str, axis: str) -> list[tuple[int, Cost]]:
    """(value, cost) by growing value; for faces the value is how many there were."""
    chosen = [(value, found[replace(plan.base[work], **{axis: value})]) for value in plan.axes[work][axis]]
    if axis == "faces":
        # An object cannot be cut to any number, so two wishes may have the same answer.
        return sorted({cost.faces: (cost.faces, cost) for _, cost in chosen}.values(), key=lambda one: one[0])
    return sorted(chosen, key=lambda one: one[0])


def exponent(points: list[tuple[float, float]]) -> float | None:
    """n of y ~ xⁿ between the last two points."""
    if len(points) < 2:
        return None
    (a, one), (b, two) = points[-2:]
    return math.log(two / one) / math.log(b / a)


def charts_and_rows(
    plan: Plan, found: dict[str, dict[Point, Cost]]
) -> tuple[list[Chart], list[tuple[Any, ...]]]:
    """Per axis a chart of the seconds and one of the memory; a row for each work and axis."""
    charts: list[Chart] = []
    rows: list[tuple[Any, ...]] = []
    for axis, label in AXES.items():
        time_lines, memory_lines = [], []
        for work in (RECONSTRUCT, RENDER):
            if axis not in plan.axes[work]:
                continue
            line = along(plan, found[work], work, axis)
            spent = [(float(value), cost.seconds) for value, cost in line]
            memory = [(float(value), cost.peak_gb) for value, cost in line]
            time_lines.append(Series(work, tuple(spent)))
            memory_lines.append(Series(work, tuple(memory)))
            seconds_n, memory_n = exponent(spent), exponent(memory)
            rows.append((
                work, axis, f"{line[0][0]:,} to {line[-1][0]:,}",
                f"{spent[0][1]:.1f} to {spent[-1][1]:.1f} s", None if seconds_n is None else f"{seconds_n:.2f}",
                f"{memory[0][1]:.2f} to {memory[-1][1]:.2f} GB", None if memory_n is None else f"{memory_n:.2f}",
            ))  # fmt: skip
        for name, y, lines in (("time", "seconds", time_lines), ("memory", "peak GB", memory_lines)):
            title = f"{name.capitalize()} against {axis}"
            charts.append(Chart(f"{axis}-{name}", title, label, y, tuple(lines), log_x=True, log_y=True))
    return charts, rows


def stage_table(plan: Plan, found: dict[Point, Cost]) -> Table:
    """The seconds of each stage of the runs."""
    names = list(dict.fromkeys(name for cost in found.values() for name in cost.stages))
    rows = [
        (
            point.views, point.size, f"{point.faces:,}", point.grid, round(cost.seconds, 1), round(cost.cpu_s, 1),
            *(round(cost.stages.get(name, 0.0), 1) for name in names),
        )
        for point, cost in found.items()
    ]  # fmt: skip
    return Table(
        "Reconstruct: seconds by stage",
        ("views", "side", "faces", "grid", "all", "of processors", *names),
        tuple(rows),
    )


def measure(options: Namespace) -> Part:
    plan, started = PLANS[scale_of(options)], time.perf_counter()
    path = object_of(options.objects)
    with tempfile.TemporaryDirectory() as scratch:
        found = costs(path, plan, Path(scratch))
    charts, rows = charts_and_rows(plan, found)
    recon, render = plan.base[RECONSTRUCT], plan.base[RENDER]
    text = (
        f"{path.stem}, one thing grown at a time, each run in a process of its own. Base of reconstruct: {recon.views} views "
        f"of {recon.size}², at most {recon.faces:,} faces, field grid of {recon.grid} samples, quality {recon.quality}; seconds "
        "from the views folder to the written GLB, turntable and record. Base of render: "
        f"{render.views} views of {render.size}², at least {render.faces:,} triangles, 4 samples at edges, lit; seconds "
        "from the model in memory to the last picture, none of them kept.",
        "Exponents are of the last two points of each line: 1 means twice as much of it takes twice the time. Peak memory "
        "holds Python and the libraries, about 0.4 GB, so small cases look flat. Faces of reconstruct are asked for, those of "
        "the chart are those that came out; the object of render is cut finer, its picture stays the same.",
    )
    columns = ("work", "grows", "from, to", "time", "exponent", "memory", "exponent")
    return Part(
        part="growth",
        title="Cost against size",
        machine=describe_machine(),
        versions=versions_of("mv3d", "torch", "numpy", "embreex"),
        seconds=time.perf_counter() - started,
        text=text,
        tables=(Table("How cost grows", columns, tuple(rows)), stage_table(plan, found[RECONSTRUCT])),
        charts=tuple(charts),
    )


def main() -> None:
    options = part_parser(__doc__).parse_args()
    part = measure(options)
    if options.out is not None:
        write_part(part, options.out)


if __name__ == "__main__":
    main()
