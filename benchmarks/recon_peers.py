"""`mv3d recon` beside other ways from views to a mesh: quality over time against ground truth.

    MV3D_OPEN3D=…/bin/python MV3D_NERFSTUDIO=…/bin/python \\
        python benchmarks/recon_peers.py [--quick | --small] [--objects FOLDER] [--out recon_peers.json]

21 unlit views at elevation 10 degrees of objects of largest side 1 (without a folder of objects, a mug made of formulas).
Ours by quality; the hard visual hull with vertex colours; Open3D's TSDF fusion and Poisson surface, which are given the
true depth of every pixel, in an environment of their own (MV3D_OPEN3D, or the one this runs in); nerfstudio's nerfacto
with its exporter, on the first object, for as many seconds as ours took (MV3D_NERFSTUDIO). Measures: `ground_truth.py`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ground_truth import Truth, baseline, built_in_mug, our_mesh, score, truth_of, truth_of_mesh, truth_views
from part import (
    Chart,
    Part,
    Series,
    Table,
    describe_machine,
    part_parser,
    rounded,
    scale_of,
    versions_of,
    write_part,
)
from peer_runs import PeerMissing, nerfacto, nerfstudio_python, open3d_meshes, open3d_python

from mv3d.evaluation.surfaces import nearly_closed
from mv3d.recon.config import ReconConfig
from mv3d.render.mesh import Mesh
from mv3d.views.views import Views

PREFERRED = ("modelled_cordless_drill", "gso_Razer_Kraken", "scan_orion_pie", "scan_stapler_1")
"""Closed, and of different kinds: thin and thick parts, flat colours and print, a shallow hollow."""


@dataclass(frozen=True)
class Setup:
    """size: pixels of the views; scores take half. qualities: of ours; high on the first object alone. budgets: nerfacto's
    seconds, in those of our standard quality, or of the draft where nothing better is run. rays: of its iterations, a quarter of its default: on
    a CPU the time is better spent on more iterations. pictures: side of its own, which cost it milliseconds a pixel;
    points: of its exporter, about as dear."""

    size: int
    objects: int
    qualities: tuple[str, ...]
    budgets: tuple[float, ...]
    rays: int
    pictures: int
    points: int

    @property
    def reference(self) -> str:
        return "standard" if "standard" in self.qualities else self.qualities[0]


SETUPS = {
    "quick": Setup(96, 1, ("draft",), (1.0,), 1024, 16, 2_000),
    "small": Setup(288, 2, ("draft", "standard", "high"), (1.0, 3.0, 10.0), 1024, 24, 3_000),
    "full": Setup(576, 4, ("draft", "standard", "high"), (1.0, 3.0, 10.0), 1024, 96, 50_000),
}


@dataclass(frozen=True)
class Row:
    """who: the method. seconds: of the clock, from loaded views to a mesh in memory. chamfer: of the mesh, in the
    object's largest side; iou: None where truth or mesh has no inside; psnr_db: of the mesh in unseen views, or, with
    `own_pictures`, of the method's own pictures of them. note: what a reader has to know of this row."""

    thing: str
    who: str
    seconds: float
    chamfer: float | None
    iou: float | None
    psnr_db: float | None
    note: str = ""
    own_pictures: bool = False


@dataclass
class Notes:
    """Findings beside the rows. missing: a sentence per peer that is not there. nerfacto: its script's report."""

    missing: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    nerfacto: dict[str, Any] = field(default_factory=dict)


def chosen_objects(folder: Path | None, count: int) -> list[Path]:
    """The preferred ones that are there, then others by name; none without a folder."""
    if folder is None or not folder.is_dir():
        return []
    paths = sorted(folder.glob("*.glb"))
    first = [path for name in PREFERRED for path in paths if path.stem.startswith(name)]
    return (first + [path for path in paths if path not in first])[:count]


def scored(truth: Truth, who: str, seconds: float, mesh: Mesh, size: int, note: str = "") -> Row:
    found = score(truth, mesh, size // 2)
    closed = truth.occupied is not None and nearly_closed(mesh)
    iou = rounded(found["iou"]) if closed else None
    return Row(
        truth.name,
        who,
        round(seconds, 2),
        rounded(found["chamfer"]),
        iou,
        round(found["psnr_db"], 2),
        note,
    )


def object_rows(truth: Truth, views: Views, setup: Setup, *, first: bool, notes: Notes) -> list[Row]:
    """All but nerfacto. first: the object that gets every quality."""
    rows = []

    def add(row: Row) -> None:
        rows.append(row)
        print(row, flush=True)

    for quality in setup.qualities:
        if quality == "high" and not first:
            continue
        mesh, seconds = our_mesh(views, ReconConfig(quality=quality))  # pyright: ignore[reportArgumentType]
        add(scored(truth, f"mv3d, {quality}", seconds, mesh, setup.size))
    begun = time.perf_counter()
    mesh = baseline(views)
    add(scored(truth, "hard hull, vertex colours", time.perf_counter() - begun, mesh, setup.size))
    try:
        with tempfile.TemporaryDirectory() as folder:
            meshes, notes.versions["open3d"] = open3d_meshes(open3d_python(), truth, views, Path(folder))
            for name, made, seconds in meshes:
                add(scored(truth, f"Open3D {name}", seconds, made, setup.size, "from true depth"))
    except PeerMissing as error:
        notes.missing["open3d"] = str(error)
    return rows


def nerfacto_rows(truth: Truth, views: Views, our_seconds: float, setup: Setup, notes: Notes) -> list[Row]:
    """Rows of the meshes and of the network's own pictures."""
    seconds = [factor * our_seconds for factor in setup.budgets]
    try:
        with tempfile.TemporaryDirectory() as folder:
            marks, notes.nerfacto, broke = nerfacto(
                nerfstudio_python(),
                truth,
                views,
                seconds,
                Path(folder),
                setup.pictures,
                setup.rays,
                setup.points,
            )
    except PeerMissing as error:
        notes.missing["nerfstudio"] = str(error)
        return []
    if broke:
        notes.missing["nerfstudio"] = broke
    rows = []
    for factor, mark in zip(setup.budgets, marks, strict=False):
        who = f"nerfacto, {factor:g}× our {setup.reference}"
        note = f"{mark.iterations} iterations, the exporter's {mark.export_seconds:.0f} s not counted"
        if mark.mesh is not None:
            rows.append(scored(truth, f"{who}, exported mesh", mark.seconds, mark.mesh, setup.size, note))
        else:
            rows.append(
                Row(
                    truth.name,
                    f"{who}, exported mesh",
                    round(mark.seconds, 2),
                    None,
                    None,
                    None,
                    mark.no_mesh,
                )
            )
        rows.append(
            Row(
                truth.name, f"{who}, its own pictures", round(mark.seconds, 2), None, None,
                round(mark.psnr_db, 2), f"{mark.iterations} iterations, pictures of {setup.pictures}²", own_pictures=True,
            )
        )  # fmt: skip
    for row in rows:
        print(row, flush=True)
    versions = notes.nerfacto["versions"]
    # Its torch and its Open3D are those of its environment, not those of the other rows.
    notes.versions |= {
        f"{name} (nerfstudio's)": versions.pop(name) for name in ("torch", "open3d")
    } | versions
    return rows


def series_of(rows: list[Row], value: str) -> tuple[Series, ...]:
    """The series of one object: a line for ours, one for nerfacto's meshes and one for its pictures, a point each for the rest."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        y = getattr(row, value)
        if y is None:
            continue
        head = row.who.partition(",")[0]
        if head == "nerfacto":
            head = "nerfacto, its own pictures" if row.own_pictures else "nerfacto, exported mesh"
        lines.setdefault(row.who if head.startswith("hard") else head, []).append((row.seconds, y))
    return tuple(Series(label, tuple(sorted(points))) for label, points in lines.items())


def charts_of(rows: list[Row]) -> tuple[Chart, ...]:
    """Quality over time on the first object."""
    first = [row for row in rows if row.thing == rows[0].thing]
    x = "seconds of the clock"
    return (
        Chart(
            "recon-peers-chamfer", f"Chamfer distance over time, {first[0].thing}", x,
            "Chamfer distance, of the largest side", series_of(first, "chamfer"), log_x=True, log_y=True,
        ),
        Chart(
            "recon-peers-psnr", f"Views that no one has seen, over time, {first[0].thing}", x, "PSNR, dB",
            series_of(first, "psnr_db"), log_x=True,
        ),
    )  # fmt: skip


def tables_of(rows: list[Row]) -> tuple[Table, ...]:
    columns = ("object", "method", "s", "Chamfer", "IoU", "PSNR at -10, 35°, dB", "")
    every = Table(
        "Every object",
        columns,
        tuple((r.thing, r.who, r.seconds, r.chamfer, r.iou, r.psnr_db, r.note) for r in rows),
    )
    things = list(dict.fromkeys(row.thing for row in rows))
    if len(things) < 2:
        return (every,)
    means = []
    for who in dict.fromkeys(row.who for row in rows):
        group = [row for row in rows if row.who == who]
        if len(group) == len(things):
            values = [mean_of(group, name) for name in ("seconds", "chamfer", "iou", "psnr_db")]
            means.append((who, *values))
    return (
        Table(f"Mean of {len(things)} objects", ("method", "s", "Chamfer", "IoU", columns[5]), tuple(means)),
        every,
    )


def mean_of(rows: list[Row], name: str) -> float | None:
    """None where one of the rows has none: a mean over other objects would not compare."""
    values = [getattr(row, name) for row in rows]
    return None if None in values else rounded(float(np.mean(values)))


def text_of(setup: Setup, report: dict[str, Any]) -> tuple[str, ...]:
    text = [
        f"21 unlit views of {setup.size}² pixels at elevation 10°, objects of largest side 1, no alignment. Seconds of the "
        "clock, from loaded views to a textured mesh in memory, on all cores; measures in `benchmarks/ground_truth.py`. "
        "IoU where truth and mesh are closed.",
        "Open3D is given the true depth of every pixel, noiseless, which mv3d is not: it shows what is possible where "
        "depth is known, and what is not, since no view looks from above or below. Voxels of 1/192; vertex colours; the "
        "Poisson surface is cut off past the points' box.",
    ]
    if report:
        settings = ", ".join(f"{key} {value}" for key, value in report["settings"].items())
        text.append(
            f"nerfacto (nerfstudio {report['versions']['nerfstudio']}) trains on the "
            f"same 21 PNGs with alpha and exact cameras, in single precision, {report['rays']} rays an iteration, with "
            f"{settings}, camera optimiser off, near and far around the object. Its clock counts iterations alone: neither "
            "its start nor its exporter (`ns-export poisson`, normals by Open3D, vertex colours; fewer points while little is "
            "opaque, which it searches for by drawing rays). It is made for a GPU and "
            "minutes there; this compares what a machine without one gets in equal time."
        )
    return tuple(text)


def measure(objects: Path | None, setup: Setup) -> tuple[list[Row], Notes]:
    """Every row, and what was noted on the way."""
    paths = chosen_objects(objects, setup.objects)
    rows: list[Row] = []
    notes = Notes()
    for number, path in enumerate(paths or [None]):
        truth = truth_of(path) if path else truth_of_mesh("mug (built in)", built_in_mug(96))
        views = truth_views(truth, "static", setup.size)
        found = object_rows(truth, views, setup, first=number == 0, notes=notes)
        if number == 0:
            seconds = next(row.seconds for row in found if row.who == f"mv3d, {setup.reference}")
            found += nerfacto_rows(truth, views, seconds, setup, notes)
        rows += found
    return rows, notes


def setup_of(options: argparse.Namespace) -> Setup:
    given = {
        "size": options.size,
        "objects": options.count,
        "rays": options.rays,
        "budgets": tuple(sorted(options.budgets)) if options.budgets else None,
    }
    setup = SETUPS[scale_of(options)]
    return replace(setup, **{key: value for key, value in given.items() if value is not None})


def main() -> None:
    parser = part_parser(__doc__)
    parser.add_argument("--size", type=int, default=None, help="side of the views in pixels")
    parser.add_argument("--count", type=int, default=None, help="objects")
    parser.add_argument("--rays", type=int, default=None, help="of an iteration of nerfacto")
    parser.add_argument(
        "--budgets",
        type=float,
        nargs="+",
        default=None,
        help="nerfacto's time, in that of our standard quality",
    )
    options = parser.parse_args()
    setup = setup_of(options)
    begun = time.perf_counter()
    rows, notes = measure(options.objects, setup)
    part = Part(
        "recon_peers",
        "Reconstruction beside Open3D and nerfstudio",
        describe_machine(),
        versions_of("mv3d", "torch") | notes.versions,
        round(time.perf_counter() - begun, 1),
        text_of(setup, notes.nerfacto),
        tables_of(rows),
        charts_of(rows),
        tuple(notes.missing.values()),
    )
    print("\n".join((*part.text, *part.missing)))
    if options.out:
        write_part(part, options.out)


if __name__ == "__main__":
    main()
