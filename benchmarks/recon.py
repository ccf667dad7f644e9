"""Quality and speed of `mv3d recon`: real orbits and ground truth, beside the simplest baseline and another version.

    python benchmarks/recon.py --orbits ../shared/sv3d_orbits --objects ../shared/assets/eval
    python benchmarks/recon.py --objects FOLDER --looks unlit,lit,drifted --other ../before/.venv/bin/mv3d

Baseline, in the same run: the hard visual hull (128 samples) with vertex colours. --shape-only: neither textures
nor PSNR, in two thirds of the time. --meshes keeps each mesh, to look at. --out keeps every row as it comes; the same
command begins after the last one.
--other: the command `mv3d` of another
version, a git worktree's for example; it reads the same views from a folder and its mesh is scored in the same way.
Ground truth: each GLB, scaled to largest side 1, in 21 views of 8 bits, which are unlit, lit (studio light, baked as in
the training data), or drifted (the lit views, made to disagree as `drift.py` says). Measures: `ground_truth.py`.
Seconds are CPU seconds of all threads, those of an orbit with the start of the program.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from drift import drifted
from ground_truth import (
    Truth,
    baseline,
    hard_hull,
    our_mesh,
    our_shape,
    score,
    score_shape,
    seen_iou,
    true_depths,
    truth_of,
    truth_views,
)
from part import describe_machine, kept_rows, write_rows

from mv3d.core.machine import library_versions
from mv3d.recon.config import ReconConfig
from mv3d.recon.pipeline import rerender_report, run
from mv3d.render.mesh import Mesh
from mv3d.render.mesh_io import glb_bytes, load_mesh
from mv3d.render.raycast import render_views
from mv3d.views.folder import to_uint8, write_views
from mv3d.views.readers import load_views
from mv3d.views.views import Views

HELD_OUT = (4, 11, 17)


LOOKS = ("unlit", "lit", "drifted")
MEASURES = ("chamfer", "iou", "f_score", "normals", "opened", "psnr_db")


@dataclass(frozen=True)
class ObjectJob:
    """other: the command of another version, or None."""

    path: Path
    kind: str
    look: str
    quality: str
    size: int
    other: str | None
    seed: int = 0
    shape_only: bool = False
    meshes: Path | None = None


def looked_at(truth: Truth, job: ObjectJob) -> Views:
    """The views of a job, in 8 bits."""
    views = truth_views(truth, job.kind, job.size, lit=job.look != "unlit")
    if job.look == "drifted":
        views = drifted(views, true_depths(truth, views.cameras), seed=job.seed)
    return replace(views, images=to_uint8(views.images).astype(np.float32) / 255)


def object_row(job: ObjectJob) -> dict:
    torch.set_num_threads(1)
    truth = truth_of(job.path)
    views = looked_at(truth, job)
    lit, config = job.look != "unlit", ReconConfig(quality=job.quality, seed=job.seed)  # type: ignore[arg-type]

    def measured(mesh: Mesh) -> dict[str, float]:
        if job.shape_only:
            return {**score_shape(truth, mesh), "psnr_db": float("nan")}
        return score(truth, mesh, job.size // 2, lit=lit)

    begun = time.process_time()
    mesh = our_shape(views, config) if job.shape_only else our_mesh(views, config)[0]
    seconds = time.process_time() - begun
    if job.meshes:
        (job.meshes / f"{truth.name}-{job.look}-{job.kind}.glb").write_bytes(glb_bytes(mesh))
    row = {
        "name": truth.name,
        "orbit": job.kind,
        "look": job.look,
        "seconds": seconds,
        "seen_iou": seen_iou(truth, views.cameras),
        **measured(mesh),
        "baseline": measured(Mesh(*hard_hull(views)) if job.shape_only else baseline(views)),
    }
    if job.other:
        row["other"] = measured(other_mesh(job.other, views, job.quality, job.seed))
    return row


def other_mesh(command: str, views: Views, quality: str, seed: int) -> Mesh:
    """The mesh of another version's `mv3d recon`. Raises CalledProcessError where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "views").mkdir()
        write_views(views, Path(folder) / "views")
        run_other(command, Path(folder) / "views", Path(folder) / "out", quality, "--seed", str(seed))
        return load_mesh(Path(folder) / "out" / "mesh.glb")


def run_other(command: str, source: Path, out: Path, quality: str, *more: str) -> float:
    """CPU seconds of another version's run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [command, "recon", str(source), "--out", str(out), "--quality", quality, "--accept", *more],
        check=True,
        capture_output=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def orbit_row(job: tuple[Path, str, str | None]) -> dict:
    """One real orbit from the file to the written result; in a process of its own, for its peak memory."""
    path, quality, other = job
    config = ReconConfig(quality=quality)  # type: ignore[arg-type]
    views = load_views(path)
    with tempfile.TemporaryDirectory() as folder:
        report = run(config, views, Path(folder) / "out").report
    row = {
        "name": path.stem,
        "quality": quality,
        "seconds": time.process_time(),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        **{
            key: report[key]
            for key in ("iou_mean", "psnr_mean_db", "psnr_db", "watertight", "shells", "faces", "coverage")
        },
        "stages": report["seconds"],
    }
    simple = rerender_report(views, render_views(baseline(views), views.cameras, supersample=2))
    row["baseline"] = {key: simple[key] for key in ("iou_mean", "psnr_mean_db")}
    if other:
        with tempfile.TemporaryDirectory() as folder:
            seconds = run_other(other, path.resolve(), Path(folder) / "out", quality)
            document = json.loads((Path(folder) / "out" / "recon.json").read_text())
        row["other"] = {"seconds": seconds, **{key: document[key] for key in ("iou_mean", "psnr_mean_db")}}
    if quality == "standard":
        kept = views.subset([i for i in range(len(views)) if i not in HELD_OUT])
        left = views.subset(list(HELD_OUT))
        for name, mesh in (
            ("held_out_db", our_mesh(kept, config)[0]),
            ("baseline_held_out_db", baseline(kept)),
        ):
            row[name] = rerender_report(left, render_views(mesh, left.cameras, supersample=2))["psnr_mean_db"]
    return row


def print_orbit(row: dict) -> None:
    base, other = row["baseline"], row.get("other")
    print(
        f"| {row['name']} | {row['quality']} | {row['seconds']:.0f} s | {row['peak_gb']:.1f} GB | {row['iou_mean']:.4f} "
        f"({base['iou_mean']:.4f}) | {row['psnr_mean_db']:.2f} dB ({base['psnr_mean_db']:.2f}) | "
        + (f"{row['held_out_db']:.2f} dB ({row['baseline_held_out_db']:.2f})" if "held_out_db" in row else "")
        + f" | {row['watertight']}, {row['shells']} |"
        + (
            f" {other['seconds']:.0f} s, {other['iou_mean']:.4f}, {other['psnr_mean_db']:.2f} dB |"
            if other
            else ""
        ),
        flush=True,
    )


def print_object(row: dict) -> None:
    peers = [row[name] for name in ("baseline", "other") if name in row]

    def cell(key: str, form: str) -> str:
        values = [format(one[key], form) for one in (row, *peers)]
        if values[0] == "nan":
            return ""
        return f"{values[0]} ({', '.join(values[1:])})"

    cells = (
        cell(key, form)
        for key, form in zip(MEASURES, (".4f", ".3f", ".3f", ".3f", ".2f", ".2f"), strict=True)
    )
    print(
        f"| {row['name']} | {row['look']} {row['orbit']} | {' | '.join(cells)} | {row['seconds']:.0f} s |",
        flush=True,
    )


def print_means(rows: list[dict], looks: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    def means(chosen: list[dict]) -> dict:
        columns = {key: np.array([row[key] for row in chosen]) for key in MEASURES}
        return {
            k: float(c[~np.isnan(c)].mean()) if (~np.isnan(c)).any() else float("nan")
            for k, c in columns.items()
        }

    for look in looks:
        for kind in kinds:
            chosen = [row for row in rows if (row["look"], row["orbit"]) == (look, kind)]
            if not chosen:
                continue
            seconds = float(np.mean([row["seconds"] for row in chosen]))
            peers = {
                name: means([row[name] for row in chosen])
                for name in ("baseline", "other")
                if name in chosen[0]
            }
            whole = {"name": f"**mean of {len(chosen)}**", "look": look, "orbit": kind, "seconds": seconds}
            print_object({**whole, **means(chosen), **peers})
            bounds = np.array([row["seen_iou"] for row in chosen])
            if not np.isnan(bounds).all():
                print(f"IoU at best, with all opened that some camera sees: {np.nanmean(bounds):.3f}")
            for name, peer in peers.items():
                better = sum(row["chamfer"] < row[name]["chamfer"] for row in chosen)
                ratio = means(chosen)["chamfer"] / peer["chamfer"]
                print(
                    f"Chamfer: better than the {name} on {better} of {len(chosen)}; ratio of means {ratio:.2f}"
                )


@dataclass(frozen=True)
class Options:
    orbits: Path | None
    objects: Path | None
    quality: str
    size: int
    workers: int
    kinds: tuple[str, ...]
    looks: tuple[str, ...]
    out: Path | None
    only: str
    other: str | None
    seed: int
    shape_only: bool
    meshes: Path | None


def parse() -> Options:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orbits", type=Path, help="folder of SV3D orbit gifs")
    parser.add_argument("--objects", type=Path, help="folder of GLB objects")
    parser.add_argument("--quality", default="standard")
    parser.add_argument("--size", type=int, default=576)
    parser.add_argument("--workers", type=int, default=2, help="processes of the ground truth part")
    parser.add_argument("--kinds", default="static,sine")
    parser.add_argument("--looks", default="unlit", help=f"of the objects' views, some of {','.join(LOOKS)}")
    parser.add_argument(
        "--only", default="", help="objects whose name contains this, or one of these with commas"
    )
    parser.add_argument("--other", help="the command mv3d of another version")
    parser.add_argument("--seed", type=int, default=0, help="of the fit and of the drift")
    parser.add_argument("--shape-only", action="store_true", help="of objects: neither textures nor PSNR")
    parser.add_argument("--meshes", type=Path, help="folder for each object's mesh, as GLB")
    parser.add_argument(
        "--out", type=Path, help="write the rows as they come, JSON; the objects' rows in it are kept"
    )
    a = parser.parse_args()
    looks = tuple(a.looks.split(","))
    if unknown := set(looks) - set(LOOKS):
        parser.error(f"--looks: expected some of {','.join(LOOKS)}, got {','.join(sorted(unknown))}")
    return Options(
        a.orbits, a.objects, a.quality, a.size, a.workers, tuple(a.kinds.split(",")), looks, a.out, a.only,
        a.other, a.seed, a.shape_only, a.meshes,
    )  # fmt: skip


def settings(options: Options) -> dict[str, str]:
    """What a row depends on beside its object, look, and orbit."""
    named = ("quality", "size", "other", "seed", "shape_only")
    return {name: str(getattr(options, name)) for name in named}


def main() -> None:
    options = parse()
    print(f"{describe_machine()}; {library_versions()}")
    rows: list[dict] = []
    spawn = multiprocessing.get_context("spawn")
    beside = "baseline, other" if options.other else "baseline"
    if options.orbits:
        print(
            "\n| orbit | quality | CPU seconds | peak memory | IoU (baseline) | PSNR (baseline) | held out (baseline) | watertight, shells |"
            + (" other |" if options.other else "")
        )
        print("|---|---|---|---|---|---|---|---|" + ("---|" if options.other else ""))
        for path in sorted(options.orbits.glob("*.gif")):
            for quality in ("draft", "standard"):
                with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                    row = pool.submit(orbit_row, (path, quality, options.other)).result()
                rows.append(row)
                print_orbit(row)
    if options.meshes:
        options.meshes.mkdir(parents=True, exist_ok=True)
    if options.objects:
        print(
            f"\n| object | views | Chamfer ({beside}) | IoU | F-score at 0.01 | normal consistency | opened | "
            "PSNR at -10, 35 deg | CPU seconds |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        only = options.only.split(",")
        paths = [p for p in sorted(options.objects.glob("*.glb")) if any(part in p.stem for part in only)]
        shared = (
            options.quality,
            options.size,
            options.other,
            options.seed,
            options.shape_only,
            options.meshes,
        )
        jobs = [
            ObjectJob(path, kind, look, *shared)
            for look in options.looks
            for kind in options.kinds
            for path in paths
        ]
        kept = kept_rows(options.out, settings(options)) if options.out else []
        known = {(row["name"], row["look"], row["orbit"]): row for row in kept if "look" in row}
        found = [row for job in jobs if (row := known.get((job.path.stem, job.look, job.kind)))]
        for row in found:
            print_object(row)
        left = [job for job in jobs if (job.path.stem, job.look, job.kind) not in known]
        with ProcessPoolExecutor(options.workers, mp_context=spawn) as pool:
            for row in pool.map(object_row, left):
                found.append(row)
                print_object(row)
                if options.out:
                    write_rows(options.out, settings(options), rows + found)
        print_means(found, options.looks, options.kinds)
        rows += found
    if options.out:
        write_rows(options.out, settings(options), rows)


if __name__ == "__main__":
    main()
