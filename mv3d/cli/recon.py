"""`mv3d recon`: posed views in, a textured mesh or novel views out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mv3d.cli.output import StageBars, note, print_result
from mv3d.core.errors import UsageError
from mv3d.render.cameras import SV3D_FOV_DEG


@dataclass(frozen=True)
class ReconCommand:
    """Turn posed views of one object into a textured mesh."""

    input: tyro.conf.Positional[Path]
    """A views folder, a transforms.json folder (nerfstudio, NeRF-synthetic), an orbit video or animation
    (gif, webp, mp4), or a folder of numbered frames."""
    out: Path | None = None
    """Where to write. Default: into the input folder; for a file, NAME_recon."""
    format: Annotated[str, tyro.conf.arg(metavar="glb,obj,ply,stl")] = ""
    """Files to write, with commas between them. Default: glb (stl for a print)."""
    quality: Literal["draft", "standard", "high"] = "standard"
    """draft: the tightened hull. standard: a field fitted to all views. high: finer grids, longer."""
    method: Literal["mesh", "nerf"] = "mesh"
    """mesh: a textured mesh. nerf: novel views along --trajectory and a turntable of the radiance field."""
    profile: Literal["default", "web", "print"] = "default"
    """web: 30,000 faces, JPEG, at most 3 MB. print: one closed shell, millimetres in STL."""
    faces: int | None = None
    """Most faces of the mesh."""
    texture_size: int | None = None
    """Side of the texture, a power of two."""
    trajectory: str = "static"
    """Novel views of nerf: static, sine, dynamic, or a JSON file with elevations_deg and azimuths_deg."""
    print_size_mm: float = 100.0
    """Largest side of a print."""
    elevation: Annotated[float | None, tyro.conf.arg(metavar="DEG")] = None
    """Of an orbit without cameras, degrees up. Default: estimated from the silhouettes."""
    fov: float = SV3D_FOV_DEG
    """Horizontal field of view of an orbit without cameras, degrees."""
    azimuth_sign: Literal[1, -1] = 1
    """1: azimuth grows counter-clockwise seen from above. -1: the other way round."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    seed: int = 0
    """Of the fit's random rays."""
    overwrite: bool = False
    """Replace an earlier result."""
    json: bool = False
    """Print one JSON object."""


def recon(command: ReconCommand) -> int:
    """Run the command; the exit code."""
    formats = tuple(part.strip().lower() for part in command.format.split(",") if part.strip())
    if command.format and not formats:
        raise UsageError("--format: expected some of glb, obj, ply, stl, got none")
    from mv3d.api import reconstruct_to  # torch loads here, not for --help
    from mv3d.recon.config import ReconConfig

    config = ReconConfig(
        formats=formats,
        quality=command.quality,
        method=command.method,
        profile=command.profile,
        faces=command.faces,
        texture_size=command.texture_size,
        trajectory=command.trajectory,
        print_size_mm=command.print_size_mm,
        device=command.device,
        seed=command.seed,
    )
    bars = StageBars()
    try:
        result = reconstruct_to(
            command.input,
            command.out,
            config,
            elevation_deg=command.elevation,
            fov_deg=command.fov,
            azimuth_sign=command.azimuth_sign,
            overwrite=command.overwrite,
            progress=bars,
        )
    finally:
        bars.close()
    if result.already_done:
        note("done already: the same input and settings; use --overwrite to make it again")
    else:
        note(_summary(result.report))
    document = {
        "files": {name: str(path) for name, path in result.files.items()},
        "already_done": result.already_done,
        "report": result.report,
    }
    print_result([str(path) for path in result.files.values()], document, as_json=command.json)
    return 0


def _summary(report: dict) -> str:
    parts = [f"silhouette IoU {report['iou_mean']:.3f}", f"PSNR {report['psnr_mean_db']:.1f} dB"]
    if "faces" in report:
        closed = "watertight" if report["watertight"] else "NOT watertight"
        parts += [
            f"{report['faces']} faces, {closed}, {report['shells']} shell(s)",
            f"coverage {report['coverage']:.0%}",
        ]
    return ", ".join([*parts, f"{report['seconds']['total']:.0f} s"])
