"""`mv3d recon`: from views to files, with a record of what was made and how good it is."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mv3d.core.devices import device_name, pick_device
from mv3d.core.errors import OutputError
from mv3d.core.files import publish, sha256, staging
from mv3d.core.machine import peak_memory_bytes
from mv3d.core.progress import Clock, Progress
from mv3d.core.records import (
    RunRecord,
    RunStatus,
    read_record,
    refuse_other_results,
    run_status,
    write_record,
)
from mv3d.recon.config import ReconConfig
from mv3d.recon.novel import novel_views, render_field, trajectory
from mv3d.recon.stages import PRESETS, Textured, solve_geometry, texture_geometry
from mv3d.render.mesh import Mesh
from mv3d.render.mesh_io import load_mesh, save_mesh
from mv3d.render.raycast import render_views
from mv3d.render.topology import inspect_mesh
from mv3d.render.turntable import turntable
from mv3d.render.video import encode_mp4
from mv3d.views.folder import to_uint8, write_views
from mv3d.views.views import Views, composite

RECORD = "recon.json"
NOVEL = "novel"
_WEB_BYTES = 3_000_000


@dataclass(frozen=True, eq=False)
class ReconResult:
    """files: by name, in the output folder. report: the content of recon.json. mesh: None for `nerf`.
    already_done: nothing was computed, the same request had been finished before."""

    files: dict[str, Path]
    report: dict[str, Any]
    mesh: Mesh | None
    already_done: bool = False


def run(
    config: ReconConfig,
    views: Views,
    out_dir: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    source: str = "",
    input_sha256: str | None = None,
    load_seconds: float = 0.0,
) -> ReconResult:
    """Reconstruct and write. All files are written aside and renamed at the end, the record last.

    source: what the record calls the input. Raises InputError for views without a common object, OutputError
    where the folder cannot be written or holds another result and `overwrite` is not set.
    """
    config = config.resolved()
    device = pick_device(config.device)
    digest = input_sha256 or views_sha256(views)
    earlier = finished(config, out_dir, digest)
    if earlier is not None and not overwrite:
        return earlier
    if not overwrite:
        refuse_other_results(out_dir / RECORD, planned_outputs(config))
    clock = Clock(progress, {"load": round(load_seconds, 3)} if load_seconds else {})
    with staging(out_dir) as aside:
        geometry = solve_geometry(config, views, clock)
        if config.method == "nerf":
            mesh, measured = None, _write_nerf(config, views, geometry.field, aside, clock)
        else:
            textured = texture_geometry(config, views, geometry, clock)
            mesh = textured.mesh
            measured = _write_mesh(config, views, textured, aside, clock)
        measured["hull_dropped"] = round(geometry.hull.outlier_share, 5)
        measured["hull_swell"] = round(geometry.hull.dilation, 6)
        if geometry.field is not None:
            measured["shifts_px"] = geometry.field.shifts.cpu().numpy().round(3).tolist()
        details = {
            "views": len(views),
            "image_size": [views.cameras.width, views.cameras.height],
            "elevation_deg": None
            if views.orbit is None
            else round(float(np.mean(views.orbit.elevations_deg)), 2),
            **measured,
        }
        record = RunRecord.of(
            "recon",
            input=source,
            input_sha256=digest,
            details=details,
            settings=settings(config),
            device=str(device),
            device_name=device_name(device),
            seconds=clock.with_total(),
            peak_memory_bytes=peak_memory_bytes(),
            outputs={p.name: sha256(p) for p in sorted(aside.iterdir())},
        )
        write_record(aside / RECORD, record)
        names = [p.name for p in aside.iterdir()]
        publish(aside, out_dir, last=RECORD)
    return ReconResult({name: out_dir / name for name in sorted(names)}, record.document(), mesh)


def settings(config: ReconConfig) -> dict[str, Any]:
    """The settings as they stand in the record."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}


def planned_outputs(config: ReconConfig) -> list[str]:
    """Names that a run writes."""
    if config.method == "nerf":
        return [NOVEL, "turntable.mp4", RECORD]
    names = [f"mesh.{name}" for name in config.resolved().formats]
    if "obj" in config.formats:
        names += ["mesh.mtl", "mesh.png"]
    return [*names, "turntable.mp4", RECORD]


def finished(config: ReconConfig, out_dir: Path, input_sha256: str) -> ReconResult | None:
    """The result of the very same request, where it is there and unchanged."""
    config = config.resolved()
    status = run_status(out_dir / RECORD, settings=settings(config), input_sha256=input_sha256)
    record = read_record(out_dir / RECORD)
    if status is not RunStatus.DONE or record is None:
        return None
    names = [*record.outputs, RECORD]
    mesh_files = [
        out_dir / name
        for name in names
        if name.startswith("mesh.") and Path(name).suffix in (".glb", ".obj", ".ply", ".stl")
    ]
    mesh = load_mesh(mesh_files[0]) if mesh_files else None
    return ReconResult({name: out_dir / name for name in names}, record.document(), mesh, already_done=True)


def views_sha256(views: Views) -> str:
    """Of the pixels and the cameras."""
    digest = hashlib.sha256(np.ascontiguousarray(views.images).tobytes())
    cameras = views.cameras
    for values in (cameras.c2w, cameras.fl_x, cameras.fl_y, cameras.cx, cameras.cy):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _write_nerf(config: ReconConfig, views: Views, field: Any, aside: Path, clock: Clock) -> dict[str, Any]:
    preset = PRESETS[config.quality]
    with clock.stage("novel views"):
        orbit = trajectory(config.trajectory, views, seed=config.seed)
        novel = novel_views(field, orbit, views.cameras.width, views.cameras.height)
        (aside / NOVEL).mkdir()
        write_views(novel, aside / NOVEL)
    with clock.stage("turntable"):
        frames, size = preset.turntable
        turn = trajectory("static", views, count=frames)
        encode_mp4(to_uint8(composite(novel_views(field, turn, size, size).images)), aside / "turntable.mp4")
    with clock.stage("measure"):
        again = novel_views_at(field, views)
    return rerender_report(views, again)


def novel_views_at(field: Any, views: Views) -> Float[np.ndarray, "n h w 4"]:
    """The field seen by the views' own cameras."""
    return np.stack([render_field(field, views.cameras, view) for view in range(len(views))])


def _write_mesh(
    config: ReconConfig, views: Views, textured: Textured, aside: Path, clock: Clock
) -> dict[str, Any]:
    preset = PRESETS[config.quality]
    with clock.stage("export"):
        for name in config.formats:
            _export(config, textured.mesh, aside / f"mesh.{name}")
    with clock.stage("turntable"):
        # What is shown and measured is the file that people get, read back.
        shown = load_mesh(aside / f"mesh.{config.formats[0]}")
        if config.formats[0] == "stl" and config.profile == "print":
            shown = _scaled(shown, 1 / _print_scale(config, textured.mesh))
        frames, size = preset.turntable
        encode_mp4(turntable(shown, frames=frames, size=size), aside / "turntable.mp4")
    with clock.stage("measure"):
        again = render_views(shown, views.cameras, supersample=preset.supersample)
        topology = inspect_mesh(shown)
    return {
        "watertight": topology.watertight,
        "shells": topology.shells,
        "faces": topology.faces,
        "vertices": topology.vertices,
        "degenerate_faces": topology.degenerate,
        "duplicate_faces": topology.duplicate,
        "volume": round(topology.volume, 6),
        "coverage": round(textured.seen_area, 4),
        "gains": textured.gains,
        **rerender_report(views, again),
    }


def _export(config: ReconConfig, mesh: Mesh, path: Path) -> None:
    scale = _print_scale(config, mesh) if config.profile == "print" else 1.0
    if config.profile != "web" or path.suffix != ".glb":
        save_mesh(mesh, path, scale=scale)
        return
    for quality in (90, 80, 70, 60, 45):
        save_mesh(mesh, path, jpeg_quality=quality)
        if path.stat().st_size <= _WEB_BYTES:
            return
    raise OutputError(
        f"{path.name}: expected at most {_WEB_BYTES} bytes for --profile web, got {path.stat().st_size}; "
        "lower --texture-size or --faces"
    )


def _print_scale(config: ReconConfig, mesh: Mesh) -> float:
    return config.print_size_mm / float(np.ptp(mesh.vertices, axis=0).max())


def _scaled(mesh: Mesh, factor: float) -> Mesh:
    return Mesh(mesh.vertices * factor, mesh.faces, mesh.normals, mesh.uv, mesh.texture, mesh.vertex_colors)


def rerender_report(views: Views, again: Float[np.ndarray, "n h w 4"]) -> dict[str, Any]:
    """Silhouette IoU and PSNR in dB over the whole frame on white, per view and as means."""
    ious, psnrs = [], []
    for image, other in zip(views.images, again, strict=True):
        a, b = image[..., 3] > 0.5, other[..., 3] > 0.5
        ious.append(float((a & b).sum() / max(1, int((a | b).sum()))))
        error = float(((composite(image) - composite(other)) ** 2).mean())
        psnrs.append(float(-10 * np.log10(max(error, 1e-10))))
    return {
        "iou_mean": round(float(np.mean(ious)), 4),
        "psnr_mean_db": round(float(np.mean(psnrs)), 2),
        "iou": [round(value, 4) for value in ious],
        "psnr_db": [round(value, 2) for value in psnrs],
    }
