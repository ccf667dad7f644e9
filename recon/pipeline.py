"""`mv3d recon`: from views to files, with a record of what was made and how good it is."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from mv3d.core.devices import device_name, pick_device
from mv3d.core.errors import OutputError
from mv3d.core.machine import keep_freed_memory, peak_memory_bytes
from mv3d.core.outputs import Output
from mv3d.core.progress import Clock, Progress
from mv3d.core.records import RunRecord, RunStatus, read_record, run_status
from mv3d.recon.centring import moved_mesh, moved_views, origin_of
from mv3d.recon.config import ReconConfig, recorded
from mv3d.recon.doubts import doubts, fits, fitted, too_many_faces
from mv3d.recon.novel import novel_orbit, novel_views
from mv3d.recon.places import RECORD
from mv3d.recon.representation import METHODS, Representation
from mv3d.recon.splats.formats import mesh_formats, splat_files
from mv3d.recon.splats.making import write_splats
from mv3d.recon.splats.rasterise import render_splats
from mv3d.recon.stages import PRESETS
from mv3d.render.loading import MODEL_SUFFIXES
from mv3d.render.mesh import Mesh
from mv3d.render.mesh_io import load_mesh
from mv3d.render.raycast import render_views
from mv3d.render.topology import inspect_mesh
from mv3d.render.turntable import turntable
from mv3d.render.video import encode_mp4
from mv3d.render.writers import (
    NORMAL_MAP,
    POINT_FILES,
    SIDE_FILES,
    WriteOptions,
    check_writers,
    file_of,
    save_mesh,
)
from mv3d.views.folder import to_uint8, write_views
from mv3d.views.metrics import mask_iou, psnr
from mv3d.views.views import Views, composite

NOVEL = "novel"
PREVIEW = "preview.png"
_WEB_BYTES = 3_000_000
_ZERO = np.zeros(3)


@dataclass(frozen=True, eq=False)
class ReconResult:
    """files: by name, in the output folder. report: the content of recon.json.
    already_done: nothing was computed, the same request had been finished before."""

    files: dict[str, Path]
    report: dict[str, Any]
    already_done: bool = False
    made: Mesh | None = None

    @property
    def fits(self) -> bool:
        """Whether the re-render agrees with the views (`doubts.fits`): where not, `report["warnings"]` says why, and the
        files are written but not to be trusted."""
        return fits(self.report)

    @cached_property
    def mesh(self) -> Mesh | None:
        """The mesh as it was made, or read back where it was made before; None for a method without one, and where none of
        its files is of a format that mv3d reads."""
        written = [self.files[name] for suffix in MODEL_SUFFIXES if (name := f"mesh{suffix}") in self.files]
        return self.made if self.made is not None or not written else load_mesh(written[0])


def run(
    config: ReconConfig,
    views: Views | Callable[[], Views],
    out_dir: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    keep_finished: bool = False,
    progress: Progress | None = None,
    source: str = "",
    input_sha256: str | None = None,
) -> ReconResult:
    """Reconstruct and write, or return the finished result of the same request.

    All files are written to a staging folder and renamed at the end, the record last.

    views: or their loader, called only where there is work to do. keep_finished: also with `overwrite`. source: what the record calls the input.
    input_sha256: by default that of the pixels and cameras. Raises InputError for views without a common object,
    OutputError where the folder cannot be written or holds another result and `overwrite` is not set.
    """
    config, out_dir = config.resolved(), Path(out_dir)
    device = pick_device(config.device)
    keep_freed_memory()
    clock = Clock(progress)
    if input_sha256 is None:
        views = _loaded(views, clock)
        input_sha256 = views_sha256(views)
    reconstructor = METHODS[config.method](config)
    if keep_finished or not overwrite:
        earlier = finished(config, out_dir, input_sha256)
        if earlier is not None:
            return earlier
    check_writers(config.formats)
    names = planned_outputs(config, reconstructor.makes_mesh)
    output = Output(
        out_dir,
        RECORD,
        names,
        (Path(source),) if source else (),
        overwrite,
        settings=recorded(config),
        input_sha256=input_sha256,
    )
    with output.opened() as staged:
        views = _loaded(views, clock)
        origin = origin_of(views.cameras)
        near = moved_views(views, -origin)
        representation = fitted(reconstructor, near, clock)
        mesh = representation.to_mesh()
        if mesh is None:
            measured = _write_novel(config, near, representation, staged, clock, origin)
        else:
            mesh = moved_mesh(mesh, origin)
            measured = write_mesh(config, near, mesh, staged, clock, origin=origin, title=title_of(source))
        orbit, details_of = views.orbit, representation.details()
        details = {
            "views": len(views),
            "image_size": [views.cameras.width, views.cameras.height],
            "elevation_deg": None if orbit is None else round(float(np.mean(orbit.elevations_deg)), 2),
            **measured,
            **details_of,
            "warnings": [
                *views.warnings,
                *doubts(near, measured | details_of),
                *details_of.get("warnings", ()),
                *too_many_faces(config.resolved(), measured),
            ],
            **({"reading": dict(views.reading)} if views.reading else {}),
        }
        record = RunRecord.of(
            "recon",
            input=source,
            input_sha256=input_sha256,
            details=details,
            settings=recorded(config),
            device=str(device),
            device_name=device_name(device),
            seconds=clock.with_total(),
            peak_memory_bytes=peak_memory_bytes(),
        )
        record = output.publish(staged, record)
    files = {name: out_dir / name for name in sorted((*record.outputs, RECORD))}
    return ReconResult(files, record.document(), made=mesh)


def _loaded(views: Views | Callable[[], Views], clock: Clock) -> Views:
    if isinstance(views, Views):
        return views
    with clock.stage("load"):
        return views()


def planned_outputs(config: ReconConfig, makes_mesh: bool) -> tuple[str, ...]:
    """Names that a run with these resolved settings writes, beside its record."""
    if not makes_mesh:
        return NOVEL, "turntable.mp4"
    side_files = [f"mesh{ending}" for name in config.formats for ending in SIDE_FILES.get(name, ())]
    if config.normal_map and "obj" in config.formats:
        side_files.append(f"mesh{NORMAL_MAP}")
    meshes = (file_of(name) for name in mesh_formats(config.formats))
    return (*meshes, *side_files, *splat_files(config.formats), "turntable.mp4")


def finished(config: ReconConfig, out_dir: Path, input_sha256: str) -> ReconResult | None:
    """The result of the very same request (resolved settings), where it is there and unchanged."""
    status = run_status(out_dir / RECORD, settings=recorded(config), input_sha256=input_sha256)
    record = read_record(out_dir / RECORD)
    if status is not RunStatus.DONE or record is None:
        return None
    files = {name: out_dir / name for name in (*record.outputs, RECORD)}
    return ReconResult(files, record.document(), already_done=True)


def views_sha256(views: Views) -> str:
    """Hex digest of the pixels, the cameras and the solid."""
    digest = hashlib.sha256(np.ascontiguousarray(views.images).tobytes())
    cameras = views.cameras
    for values in (cameras.c2w, cameras.fl_x, cameras.fl_y, cameras.cx, cameras.cy):
        digest.update(np.ascontiguousarray(values).tobytes())
    if views.solid is not None:
        digest.update(np.ascontiguousarray(views.solid.vertices).tobytes())
    return digest.hexdigest()


def _write_novel(
    config: ReconConfig,
    views: Views,
    shown: Representation,
    staged: Path,
    clock: Clock,
    origin: Float[np.ndarray, " 3"],
) -> dict[str, Any]:
    """`views` and `shown` lie in a world whose zero is at `origin` of the world that is written."""
    with clock.stage("novel views"):
        orbit = novel_orbit(config.trajectory, views, seed=config.seed)
        novel = novel_views(shown, orbit, views.cameras.width, views.cameras.height)
        (staged / NOVEL).mkdir()
        write_views(moved_views(novel, origin), staged / NOVEL)
    with clock.stage("turntable"):
        frames, size = PRESETS[config.quality].turntable
        turn = novel_views(shown, novel_orbit("static", views, count=frames), size, size)
        encode_mp4(to_uint8(composite(turn.images)), staged / "turntable.mp4")
    with clock.stage("measure"):
        again = shown.render(views.cameras)
    return rerender_report(views, again)


def write_mesh(
    config: ReconConfig,
    views: Views,
    mesh: Mesh,
    staged: Path,
    clock: Clock,
    *,
    origin: Float[np.ndarray, " 3"] = _ZERO,
    turning: bool = True,
    still: bool = False,
    title: str = WriteOptions.name,
) -> dict[str, Any]:
    """Write the files of a mesh into `staged`. Returns its topology and how well its re-render fits the views.

    config: resolved settings. origin: the zero of the world of `views` in the world of `mesh`. turning: also write the
    turntable. still: also write eight of its frames as one picture, `PREVIEW`. title: names the mesh in the files.
    """
    preset = PRESETS[config.quality]
    with clock.stage("export"):
        meshes = mesh_formats(config.formats)
        for name in meshes:
            _export(config, mesh, staged / file_of(name), title)
    # What is shown and measured is the file that people get, read back where its format can be read.
    first = next((staged / f"mesh.{name}" for name in meshes if f".{name}" in MODEL_SUFFIXES), None)
    with clock.stage("turntable"):
        shown = mesh if first is None else load_mesh(first)
        if first is not None and first.suffix == ".stl" and config.profile == "print":
            shown = replace(shown, vertices=shown.vertices * (1 / _print_scale(config, mesh)))
        shown = moved_mesh(shown, -origin)
        if turning and meshes:
            frames, size = preset.turntable
            turn = turntable(shown, frames=frames, size=size, threads=torch.get_num_threads())
            encode_mp4(turn, staged / "turntable.mp4")
            if still:
                _preview(turn).save(staged / PREVIEW)
    with clock.stage("measure"):
        threads = torch.get_num_threads()
        again = render_views(shown, views.cameras, supersample=preset.supersample, threads=threads)
        topology = inspect_mesh(shown)
    splats = {}
    if splat_files(config.formats):
        near = moved_mesh(mesh, -origin)
        splats["splats"] = _write_splats(config, views, near, staged, clock, origin, turning and not meshes)
    return {
        "watertight": topology.watertight,
        "shells": topology.shells,
        "faces": topology.faces,
        "vertices": topology.vertices,
        "degenerate_faces": topology.degenerate,
        "duplicate_faces": topology.duplicate,
        "volume": round(topology.volume, 6),
        **rerender_report(views, again),
        **splats,
    }


def _write_splats(
    config: ReconConfig,
    views: Views,
    mesh: Mesh,
    staged: Path,
    clock: Clock,
    origin: Float[np.ndarray, " 3"],
    turning: bool,
) -> dict[str, Any]:
    """Write the splats of `mesh`, which lies in the world of `views`. Returns their figures, those of the re-render
    as a mesh has them."""
    shown, figures = write_splats(config, views, mesh, staged, clock, origin=origin)
    if turning:
        with clock.stage("turntable"):
            frames, size = PRESETS[config.quality].turntable
            around = novel_orbit("static", views, count=frames).cameras(size, size)
            pictures = render_splats(shown, around, device=torch.device("cpu"))
            encode_mp4(to_uint8(composite(pictures)), staged / "turntable.mp4")
    with clock.stage("splats measure"):
        again = render_splats(shown, views.cameras, device=torch.device("cpu"))
        return {**figures, **rerender_report(views, again)}


def title_of(source: str | os.PathLike[str]) -> str:
    """What the mesh made of a file or folder is called in the files: the name without suffix, letters, digits, . _ and -."""
    return re.sub(r"[^\w.-]+", "_", Path(source).stem).strip("_.") or WriteOptions.name


def _preview(frames: UInt8[np.ndarray, "n s s 3"]) -> Image.Image:
    """Eight frames of one turn, in two rows."""
    chosen = frames[np.arange(8) * len(frames) // 8]
    return Image.fromarray(np.concatenate([np.concatenate(list(row), 1) for row in (chosen[:4], chosen[4:])]))


def _export(config: ReconConfig, mesh: Mesh, path: Path, title: str) -> None:
    if path.name in POINT_FILES.values():
        save_mesh(mesh, path, WriteOptions(points=config.points, seed=config.seed))
        return
    scale = _print_scale(config, mesh) if config.profile == "print" or path.suffix == ".3mf" else 1.0
    if config.profile != "web" or path.suffix != ".glb":
        save_mesh(mesh, path, WriteOptions(title, scale=scale))
        return
    for quality in (90, 80, 70, 60, 45):
        save_mesh(mesh, path, WriteOptions(title, jpeg_quality=quality))
        if path.stat().st_size <= _WEB_BYTES:
            return
    raise OutputError(
        f"{path.name}: expected at most {_WEB_BYTES} bytes for --profile web, got {path.stat().st_size}; "
        "lower --texture-size or --faces"
    )


def _print_scale(config: ReconConfig, mesh: Mesh) -> float:
    return config.print_size_mm / float(np.ptp(mesh.vertices, axis=0).max())


def rerender_report(views: Views, again: Float[np.ndarray, "n h w 4"]) -> dict[str, Any]:
    """Silhouette IoU and PSNR in dB over the whole frame on white, per view and as means; the view of least IoU."""
    pairs = list(zip(views.images, again, strict=True))
    ious = [mask_iou(a[..., 3], b[..., 3]) for a, b in pairs]
    psnrs = [psnr(composite(a), composite(b)) for a, b in pairs]
    return {
        "iou_mean": round(float(np.mean(ious)), 4),
        "iou_least": round(min(ious), 4),
        "iou_least_view": int(np.argmin(ious)),
        "psnr_mean_db": round(float(np.mean(psnrs)), 2),
        "iou": [round(value, 4) for value in ious],
        "psnr_db": [round(value, 2) for value in psnrs],
    }
