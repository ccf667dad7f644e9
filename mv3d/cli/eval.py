"""`mv3d eval`: a model, views or a mesh against ground truth, and views against each other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from mv3d.cli.eval_run import RunCommand, eval_run
from mv3d.cli.groups import Command, run_group
from mv3d.cli.output import note, print_result
from mv3d.core.errors import UsageError
from mv3d.core.flags import SAID
from mv3d.evaluation.consistency import Halves
from mv3d.evaluation.perceptual import PerceptualConfig
from mv3d.evaluation.protocols import ProtocolName
from mv3d.recon.config import Quality
from mv3d.views.reading import OrbitReading

_ROW = ("psnr", "ssim", "mse", "mask_iou", "lpips", "clip_s")
_TITLES = {
    "psnr": "PSNR dB",
    "ssim": "SSIM",
    "mse": "MSE",
    "mask_iou": "mask IoU",
    "lpips": "LPIPS",
    "clip_s": "CLIP-S",
}


@dataclass(frozen=True)
class ViewsCommand:
    """Compare views with ground truth: PSNR, SSIM, MSE and mask IoU of each view, on white."""

    pred: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PRED")]
    """A views folder, or a folder of images."""
    gt: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="GT")]
    """A folder of the same kind with the same names, or a mesh, which is rendered with PRED's cameras."""
    size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS"), SAID] = None
    """Resize both to this side first. Default: both must have one size."""
    gt_side: Annotated[float | None, tyro.conf.arg(metavar="LENGTH"), SAID] = None
    """Centre a mesh as GT and scale its largest side to this length. Default: the file's coordinates."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Plot the metrics against the azimuth."""
    perceptual: Annotated[PerceptualConfig, tyro.conf.arg(name="")] = field(default_factory=PerceptualConfig)
    device: str = "cpu"
    """Device of LPIPS and CLIP-S: cpu, cuda or cuda:N."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class MeshCommand:
    """Compare a mesh with the true one: Chamfer distance, F-score, normals, volume, and renders from novel views."""

    pred: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PRED")]
    """A mesh file, or a folder with mesh.glb."""
    gt: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="GT")]
    """The true mesh."""
    protocol: ProtocolName = "mv3d"
    """All settings of a publication at once; docs/evaluation.md says what each leaves open."""
    align: Annotated[str, tyro.conf.arg(metavar="STEP,…"), SAID] = ""
    """none, or some of scale, azimuth-search, rotation-search, icp, icp-scale, in order. Default: the protocol's."""
    samples: Annotated[
        int | None, tyro.conf.arg(name="points", aliases=("--samples",), metavar="N"), SAID
    ] = None
    """Points on each surface. Default: the protocol's."""
    thresholds: Annotated[str, tyro.conf.arg(metavar="LENGTH,…"), SAID] = ""
    """Thresholds of the F-score in the protocol's unit. Default: the protocol's."""
    iou_resolution: Annotated[int | None, tyro.conf.arg(metavar="N"), SAID] = None
    """Samples of the solids along the longest side. Default: the protocol's."""
    renders: bool = True
    """Compare images from novel views, too."""
    seed: int = 0
    """Seed of all sampling."""
    perceptual: Annotated[PerceptualConfig, tyro.conf.arg(name="")] = field(default_factory=PerceptualConfig)
    device: str = "cpu"
    """Device of LPIPS and CLIP-S: cpu, cuda or cuda:N."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class ConsistencyCommand:
    """Judge posed views without ground truth: do their silhouettes fit one object, does one half predict the other?"""

    views: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="VIEWS")]
    """Any input of mv3d recon: a views folder, a transforms.json, an orbit video."""
    halves: Halves = "both"
    """Reconstruct from every other view and compare at the rest: both ways round, one way, or not at all."""
    quality: Quality = "draft"
    """Quality of that reconstruction."""
    reading: Annotated[OrbitReading, tyro.conf.arg(name="")] = field(default_factory=OrbitReading)
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    seed: int = 0
    """Seed of the fit's random rays."""
    json: bool = False
    """Print one JSON object."""


def eval_views(command: ViewsCommand) -> int:
    """Run `mv3d eval views`. Returns the exit code."""
    from mv3d.evaluation import evaluate_views, perceptual_metrics, save_azimuth_chart

    found = perceptual_metrics(command.perceptual, device=command.device)
    document = evaluate_views(
        command.pred,
        command.gt,
        size=command.size,
        gt_side=command.gt_side,
        extra=found.metrics,
        missing=found.missing,
    )
    if command.plot is not None:
        if "by_azimuth" not in document:
            raise UsageError(
                "--plot: the azimuths are not known; give a views folder with an orbit on one side"
            )
        document["plot"] = str(save_azimuth_chart(document["by_azimuth"], command.plot))
    document = {"pred": str(command.pred), "gt": str(command.gt), **document, "weights": found.about}
    for text in document["notes"]:
        note(f"note: {text}")
    _note_missing(document["missing"])
    print_result(_view_lines(document), document, as_json=command.json)
    return 0


def eval_mesh(command: MeshCommand) -> int:
    """Run `mv3d eval mesh`. Returns the exit code."""
    from mv3d.evaluation import Perceptual, evaluate_mesh, perceptual_metrics, protocol

    settings: dict[str, Any] = {"seed": command.seed}
    if command.align:
        settings["align"] = tuple(part.strip() for part in command.align.split(",") if part.strip())
    if command.samples is not None:
        settings["samples"] = command.samples
    if command.thresholds:
        settings["thresholds"] = _lengths(command.thresholds)
    if command.iou_resolution is not None:
        settings["iou_resolution"] = command.iou_resolution
    if not command.renders:
        settings["render_azimuths"] = 0
    chosen = replace(protocol(command.protocol), **settings)
    found = perceptual_metrics(command.perceptual, device=command.device) if command.renders else Perceptual()
    document = evaluate_mesh(command.pred, command.gt, chosen, extra=found.metrics, missing=found.missing)
    document = {"pred": str(command.pred), "gt": str(command.gt), **document, "weights": found.about}
    for text in document["warnings"]:
        note(f"warning: {text}")
    _note_missing(document["missing"])
    print_result(_mesh_lines(document), document, as_json=command.json)
    return 0


def eval_consistency(command: ConsistencyCommand) -> int:
    """Run `mv3d eval consistency`. Returns the exit code."""
    from mv3d.evaluation import evaluate_consistency
    from mv3d.views.readers import load_views  # torch loads here, not for --help

    document = evaluate_consistency(
        load_views(command.views, command.reading),
        halves=command.halves,
        quality=command.quality,
        device=command.device,
        seed=command.seed,
    )
    document = {"views_folder": str(command.views), **document}
    lines = [
        f"silhouette recall {document['silhouette_recall_mean']:.4f} (least {min(document['silhouette_recall']):.4f})"
    ]
    if "reprojection" in document:
        lines.append(f"reprojection      {_row(document['reprojection']['mean'])}")
    print_result(lines, document, as_json=command.json)
    return 0


def _note_missing(missing: dict[str, str]) -> None:
    for name, reason in missing.items():
        note(reason if reason.startswith(f"{name}:") else f"{name}: {reason}")


def _lengths(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError(f"--thresholds: expected lengths with commas between them, got {text}") from error


def _row(values: dict[str, Any]) -> str:
    parts = {"psnr": ".2f", "mse": ".5f"}
    return "  ".join(f"{_TITLES[key]} {values[key]:{parts.get(key, '.4f')}}" for key in _ROW if key in values)


def _view_lines(document: dict[str, Any]) -> list[str]:
    width = max(len(row["name"]) for row in document["views"])
    lines = []
    for row in document["views"]:
        angle = f"  az {row['azimuth_deg']:6.1f}" if "azimuth_deg" in row else ""
        lines.append(f"{row['name']:{width}}{angle}  {_row(row)}{'  input' if row.get('input') else ''}")
    lines.append(f"mean of {document['count']}: {_row(document['mean'])}")
    if "mean_without_input" in document:
        lines.append(f"without the input view: {_row(document['mean_without_input'])}")
    return lines


def _mesh_lines(document: dict[str, Any]) -> list[str]:
    metrics = document["metrics"]
    lines = [
        f"protocol            {document['protocol']['name']}, alignment {','.join(document['alignment']['steps'])}",
        f"Chamfer             {metrics['chamfer']:.5f} (pred to gt {metrics['accuracy']:.5f}, gt to pred "
        f"{metrics['completeness']:.5f}; squared {metrics['chamfer_squared']:.3e})",
        "F-score             "
        + "  ".join(f"@{key} {value:.4f}" for key, value in metrics["f_score"].items()),
        f"normal consistency  {metrics['normal_consistency']:.4f}",
    ]
    if "iou" in metrics:
        lines.append(f"volume IoU          {metrics['iou']:.4f}")
    if "renders" in document:
        lines.append(f"novel views         {_row(document['renders']['mean'])}")
    return lines


COMMANDS: dict[str, Command] = {
    "run": (RunCommand, eval_run, "a model on a set of objects: renders, views, measures and one table"),
    "views": (
        ViewsCommand,
        eval_views,
        "views against ground truth: PSNR, SSIM, MSE, mask IoU, LPIPS, CLIP-S",
    ),
    "mesh": (
        MeshCommand,
        eval_mesh,
        "a mesh against the true one: Chamfer, F-score, normals, IoU, novel views",
    ),
    "consistency": (ConsistencyCommand, eval_consistency, "views against each other, without ground truth"),
}


def eval(arguments: list[str]) -> int:
    """Run one of the commands above, named after its verb. Returns the exit code."""
    return run_group("eval", "Metrics, each with its protocol.", COMMANDS, arguments)
