"""`mv3d recon`: posed views in, a textured mesh or novel views out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from mv3d.cli.output import StageBars, note, print_result
from mv3d.core.flags import SAID
from mv3d.core.records import refuse_other_request
from mv3d.recon.config import ReconConfig, recorded
from mv3d.recon.places import RECORD, default_out_dir
from mv3d.views.images import require_views
from mv3d.views.reading import OrbitReading

if TYPE_CHECKING:
    from mv3d.recon.pipeline import ReconResult


@dataclass(frozen=True)
class ReconCommand:
    """Turn posed views of one object into a textured mesh."""

    input: tyro.conf.Positional[Path]
    """A views folder, a transforms.json folder (nerfstudio, NeRF-synthetic), a COLMAP model with its images, an orbit
    video or animation (gif, webp, mp4), or a folder of numbered frames."""
    out: Annotated[Path | None, SAID] = None
    """Where to write. Default: into the input folder; for a file, NAME_recon."""
    config: Annotated[ReconConfig, tyro.conf.arg(name="")] = field(default_factory=ReconConfig)
    reading: Annotated[OrbitReading, tyro.conf.arg(name="")] = field(default_factory=OrbitReading)
    accept: bool = False
    """End with 0 though the result does not fit its views."""
    overwrite: bool = False
    """Replace an earlier result: what its record lists, no other file."""
    json: bool = False
    """Print one JSON object."""


def recon(command: ReconCommand) -> int:
    """Run the command; the exit code."""
    begun = time.monotonic()
    require_views(command.input)
    if not command.overwrite:
        out = default_out_dir(command.input) if command.out is None else command.out
        refuse_other_request(out / RECORD, recorded(command.config.resolved()))
    from mv3d.api import reconstruct_to  # torch loads here, not for --help

    bars = StageBars()
    try:
        result = reconstruct_to(
            command.input,
            command.out,
            command.config,
            reading=command.reading,
            overwrite=command.overwrite,
            progress=bars,
        )
    finally:
        bars.close()
    if result.already_done:
        note("done already: the same input and settings; use --overwrite to make it again")
    else:
        note(summary(result.report, time.monotonic() - begun))
    document = {
        "files": {name: str(path) for name, path in result.files.items()},
        "already_done": result.already_done,
        "report": result.report,
    }
    print_result([str(path) for path in result.files.values()], document, as_json=command.json)
    return judged(result, accept=command.accept)


def judged(result: ReconResult, *, accept: bool) -> int:
    """Print what is doubtful to stderr; the exit code: 1 where the result does not fit its views."""
    for warning in result.report.get("warnings", ()):
        note(f"warning: {warning}")
    if result.fits or accept:
        return 0
    note("mv3d: the result is written, but not to be trusted; --accept takes it")
    return 1


def summary(report: dict[str, Any], seconds: float) -> str:
    """What recon.json says, in one line. seconds: of the whole command, what it loads included."""
    iou = f"silhouette IoU {report['iou_mean']:.3f}"
    if "iou_least" in report:
        iou += f" (least {report['iou_least']:.3f}, view {report['iou_least_view']})"
    parts = [iou, f"PSNR {report['psnr_mean_db']:.1f} dB"]
    if "faces" in report:
        closed = "watertight" if report["watertight"] else "NOT watertight"
        parts += [
            f"{report['faces']} faces, {closed}, {report['shells']} shell(s)",
        ]
    if "coverage" in report:
        parts.append(f"coverage {report['coverage']:.0%}")
    if "splats" in report:
        splats = report["splats"]
        parts.append(f"{splats['count']} splats of {splats['psnr_mean_db']:.1f} dB")
    return ", ".join([*parts, f"{seconds:.0f} s"])
