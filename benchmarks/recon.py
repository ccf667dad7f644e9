"""Quality and speed of `mv3d recon`: real orbits and ground truth, beside the simplest baseline.

    python benchmarks/recon.py --orbits ../shared/sv3d_orbits --objects ../shared/assets/eval

Baseline, in the same run: the hard visual hull (128 samples) with vertex colours.
Ground truth: each GLB, scaled to largest side 1, ray cast unlit into 21 views; Chamfer distance is the mean of both
directions' mean distances of samples of the outer surface, without alignment; IoU on a 96³ grid, closed objects
only, insides by ray parity; PSNR over the frame on views at elevations -10 and 35 degrees that no one has seen.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from ground_truth import baseline, our_mesh, score, truth_of, truth_views
from part import describe_machine

from mv3d.core.machine import library_versions
from mv3d.recon.config import ReconConfig
from mv3d.recon.pipeline import rerender_report, run
from mv3d.render.raycast import render_views
from mv3d.views.readers import load_views

HELD_OUT = (4, 11, 17)


def object_row(job: tuple[Path, str, str, int]) -> dict:
    path, kind, quality, size = job
    torch.set_num_threads(1)
    truth = truth_of(path)
    views = truth_views(truth, kind, size)
    mesh, seconds = our_mesh(views, ReconConfig(quality=quality))  # type: ignore[arg-type]
    return {
        "name": truth.name,
        "orbit": kind,
        "seconds": seconds,
        **score(truth, mesh, size // 2),
        "baseline": score(truth, baseline(views), size // 2),
    }


def orbit_row(job: tuple[Path, str]) -> dict:
    """One real orbit from the file to the written result; in a process of its own, for its peak memory."""
    path, quality = job
    config = ReconConfig(quality=quality)  # type: ignore[arg-type]
    start = time.perf_counter()
    views = load_views(path)
    with tempfile.TemporaryDirectory() as folder:
        report = run(config, views, Path(folder) / "out").report
    seconds = time.perf_counter() - start
    row = {
        "name": path.stem,
        "quality": quality,
        "seconds": seconds,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        **{
            key: report[key]
            for key in ("iou_mean", "psnr_mean_db", "psnr_db", "watertight", "shells", "faces", "coverage")
        },
        "stages": report["seconds"],
    }
    simple = rerender_report(views, render_views(baseline(views), views.cameras, supersample=2))
    row["baseline"] = {key: simple[key] for key in ("iou_mean", "psnr_mean_db")}
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
    print(
        f"| {row['name']} | {row['quality']} | {row['seconds']:.0f} s | {row['peak_gb']:.1f} GB | {row['iou_mean']:.4f} "
        f"({row['baseline']['iou_mean']:.4f}) | {row['psnr_mean_db']:.2f} dB ({row['baseline']['psnr_mean_db']:.2f}) | "
        + (f"{row['held_out_db']:.2f} dB ({row['baseline_held_out_db']:.2f})" if "held_out_db" in row else "")
        + f" | {row['watertight']}, {row['shells']} |",
        flush=True,
    )


def print_object(row: dict) -> None:
    base = row["baseline"]
    print(
        f"| {row['name']} | {row['orbit']} | {row['chamfer']:.4f} ({base['chamfer']:.4f}) | {row['iou']:.3f} ({base['iou']:.3f}) "
        f"| {row['psnr_db']:.2f} ({base['psnr_db']:.2f}) | {row['seconds']:.0f} s |",
        flush=True,
    )


def print_means(rows: list[dict]) -> None:
    for kind in ("static", "sine"):
        chosen = [row for row in rows if row["orbit"] == kind]
        if not chosen:
            continue
        mean = {
            key: float(np.nanmean([row[key] for row in chosen]))
            for key in ("chamfer", "iou", "psnr_db", "seconds")
        }
        base = {
            key: float(np.nanmean([row["baseline"][key] for row in chosen]))
            for key in ("chamfer", "iou", "psnr_db")
        }
        better = sum(row["chamfer"] < row["baseline"]["chamfer"] for row in chosen)
        print_object({"name": f"**mean of {len(chosen)}**", "orbit": kind, **mean, "baseline": base})
        print(
            f"Chamfer better than the baseline on {better} of {len(chosen)} objects; ratio of means {mean['chamfer'] / base['chamfer']:.2f}"
        )


@dataclass(frozen=True)
class Options:
    orbits: Path | None
    objects: Path | None
    quality: str
    size: int
    workers: int
    kinds: tuple[str, ...]
    out: Path | None
    only: str


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
    parser.add_argument("--only", default="", help="objects whose name contains this")
    parser.add_argument("--out", type=Path, help="write all rows as JSON")
    a = parser.parse_args()
    return Options(
        a.orbits, a.objects, a.quality, a.size, a.workers, tuple(a.kinds.split(",")), a.out, a.only
    )


def main() -> None:
    options = parse()
    print(f"{describe_machine()}; {library_versions()}")
    rows: list[dict] = []
    spawn = multiprocessing.get_context("spawn")
    if options.orbits:
        print(
            "\n| orbit | quality | seconds | peak memory | IoU (baseline) | PSNR (baseline) | held out (baseline) | watertight, shells |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for path in sorted(options.orbits.glob("*.gif")):
            for quality in ("draft", "standard"):
                with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                    row = pool.submit(orbit_row, (path, quality)).result()
                rows.append(row)
                print_orbit(row)
    if options.objects:
        print(
            "\n| object | orbit | Chamfer (baseline) | IoU (baseline) | PSNR at -10, 35 deg (baseline) | seconds on one core |"
        )
        print("|---|---|---|---|---|---|")
        paths = [p for p in sorted(options.objects.glob("*.glb")) if options.only in p.stem]
        jobs = [(p, kind, options.quality, options.size) for kind in options.kinds for p in paths]
        found = []
        with ProcessPoolExecutor(options.workers, mp_context=spawn) as pool:
            for row in pool.map(object_row, jobs):
                found.append(row)
                print_object(row)
        print_means(found)
        rows += found
    if options.out:
        options.out.write_text(
            json.dumps({"options": {k: str(v) for k, v in asdict(options).items()}, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
