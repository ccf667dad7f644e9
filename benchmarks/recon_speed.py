"""CPU seconds of `mv3d recon` by stage, and how good its results are, for two versions side by side.

    python benchmarks/recon_speed.py ../shared/sv3d_orbits/*.gif --other ../before/.venv/bin/python

Every run is a process of its own, with --threads for torch and BLAS. Seconds are those of all threads (user and system),
which other work on the machine disturbs less than the clock on the wall; that is printed beside them. Held out: the mesh of
the views without 4, 11 and 17, rendered in these. --other: the Python of another version's environment.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HELD_OUT = (4, 11, 17)


def measured(source: Path, quality: str, held_out: bool) -> dict:
    """One run of the version that this Python has. CPU seconds by stage: `cpu`."""
    from mv3d.core.machine import peak_memory_bytes
    from mv3d.core.progress import Clock
    from mv3d.recon.config import ReconConfig
    from mv3d.recon.pipeline import rerender_report, run
    from mv3d.recon.stages import MeshReconstructor
    from mv3d.render.raycast import render_views
    from mv3d.views.readers import read_views

    cpu: dict[str, float] = {}
    plain: Callable = Clock.stage

    @contextmanager
    def stage(self: Clock, name: str) -> Iterator[Callable[[float], None]]:
        begun = time.process_time()
        with plain(self, name) as on_progress:
            yield on_progress
        cpu[name] = cpu.get(name, 0.0) + time.process_time() - begun

    Clock.stage = stage  # type: ignore[method-assign]
    begun = time.perf_counter()
    config = ReconConfig(quality=quality)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        report = run(config, lambda: read_views(source), Path(folder) / "out").report
    row = {
        "cpu": {**cpu, "total": time.process_time()},
        "wall": time.perf_counter() - begun,
        "peak_gb": peak_memory_bytes() / 1e9,
        **{key: report[key] for key in ("iou_mean", "psnr_mean_db", "coverage", "shells")},
    }
    if held_out:
        views = read_views(source)
        kept = views.subset([i for i in range(len(views)) if i not in HELD_OUT])
        left = views.subset(list(HELD_OUT))
        mesh = MeshReconstructor(config).fit(kept, Clock()).mesh
        again = rerender_report(left, render_views(mesh, left.cameras, supersample=2))
        row |= {"held_out_db": again["psnr_mean_db"], "held_out_iou": again["iou_mean"]}
    return row


def of_version(python: str, source: Path, quality: str, threads: int, held_out: bool) -> dict:
    """`measured` in a process of its own, by another Python. Raises CalledProcessError."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    words = [python, __file__, str(source), "--quality", quality, "--inner", *(["--held-out"] * held_out)]
    done = subprocess.run(words, check=True, env=environment, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1])


def shown(source: Path, quality: str, rows: list[dict]) -> None:
    """One line of a table, each cell: this version / the other."""

    def cell(values: list[float], form: str) -> str:
        return " / ".join(format(value, form) for value in values)

    totals = [row["cpu"]["total"] for row in rows]
    cells = [cell(totals, ".1f"), f"{totals[0] / totals[-1]:.2f}"]
    for key, form in (("wall", ".0f"), ("peak_gb", ".2f"), ("iou_mean", ".4f"), ("psnr_mean_db", ".2f")):
        cells.append(cell([row[key] for row in rows], form))
    cells.append(cell([row["held_out_db"] for row in rows], ".2f") if "held_out_db" in rows[0] else "")
    print(f"| {source.stem} | {quality} | {' | '.join(cells)} |", flush=True)
    stages = ", ".join(
        f"{name} {cell([row['cpu'].get(name, 0.0) for row in rows], '.1f')}" for name in rows[0]["cpu"]
    )
    print(f"  {stages}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", type=Path, nargs="+", help="orbits, or other input of mv3d recon")
    parser.add_argument("--quality", default="draft,standard")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--held-out", action="store_true", help="also with three views left out")
    parser.add_argument("--other", help="Python of another version's environment")
    parser.add_argument(
        "--others-rows", type=Path, help="JSON of --out of an earlier run, instead of --other"
    )
    parser.add_argument("--out", type=Path, help="write the rows of this version as JSON")
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inner:
        print(json.dumps(measured(options.sources[0], options.quality, options.held_out)))
        return
    before = json.loads(options.others_rows.read_text()) if options.others_rows else {}
    pythons = [sys.executable, *([options.other] if options.other else [])]
    print("| input | quality | CPU s | ratio | wall s | peak GB | IoU | PSNR, dB | held out, dB |")
    print("|---|---|---|---|---|---|---|---|---|")
    made = {}
    for quality in options.quality.split(","):
        for source in options.sources:
            key = f"{source.stem} {quality}"
            rows = [of_version(p, source, quality, options.threads, options.held_out) for p in pythons]
            made[key] = rows[0]
            shown(source, quality, rows + ([before[key]] if key in before else []))
    if options.out:
        options.out.write_text(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
