"""The plan of `mv3d eval run`, checked before anything is written: objects, orbit, model, metrics."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mv3d.core.errors import UsageError
from mv3d.core.files import sha256
from mv3d.core.version import __version__
from mv3d.evaluation.perceptual import LPIPS_MIN_SIDE, Perceptual, PerceptualConfig, perceptual_metrics
from mv3d.evaluation.run.config import EvalRunConfig
from mv3d.evaluation.run.decontamination import Contamination, find_contamination
from mv3d.orbits.catalogue import CatalogueItem, read_list, safe_uid
from mv3d.orbits.config import OrbitConfig, identity, sha256_of_json
from mv3d.orbits.gate import GateConfig

if TYPE_CHECKING:
    from mv3d.generation.config import GenerateConfig
    from mv3d.generation.plan import GenerationPlan

# Objects kept for evaluation were chosen by someone, so the gate rejects only those that cannot be compared: an object
# that some view does not show, or shows cropped.
GATE = GateConfig(
    max_faces=2_000_000,
    textures="any",
    min_second_side=0.0,
    min_third_side=0.0,
    allow_scenes=True,
    min_coverage=0.0,
    min_contrast=0.0,
    max_clipped=1.0,
    min_brightness=0.0,
)


@dataclass(frozen=True, eq=False)
class Plan:
    """One evaluation, resolved.

    digests: uid → sha256 of the object's file, "" if it is missing. found: the perceptual metrics.
    truth, generation, scoring: the settings that determine the bytes of each stage, as JSON values.
    """

    name: str
    config: EvalRunConfig
    items: tuple[CatalogueItem, ...]
    digests: dict[str, str]
    orbit: OrbitConfig
    generate: GenerateConfig
    found: Perceptual
    contamination: Contamination
    truth: dict[str, Any]
    generation: dict[str, Any]
    scoring: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that determine the table."""
        return {
            "mv3d": __version__,
            "set": self.name,
            "truth": self.truth,
            "generation": self.generation,
            "scoring": self.scoring,
            "baseline": self.config.baseline,
            "resamples": self.config.resamples,
        }

    @property
    def objects_sha256(self) -> str:
        """The hash of the list: names, rights and contents, not the paths of files."""
        rows = [
            [i.uid, i.title, i.category, i.licence, i.author, i.source, i.sha256, self.digests[i.uid]]
            for i in self.items
        ]
        return sha256_of_json(rows)

    @property
    def identity_sha256(self) -> str:
        return sha256_of_json([self.settings, self.objects_sha256])


def plan_run(source: str | os.PathLike[str], config: EvalRunConfig) -> Plan:
    """Read the list, find the model, and check that it can make these views. Loads no weights of the model.

    Raises InputError for a list or a model that cannot be used, UsageError for an orbit that the model cannot make,
    MissingPartError for a metric that is asked for and cannot be had.
    """
    from mv3d.generation.plan import plan_generation, recorded_settings  # noqa: PLC0415 - reads the model's folder

    source = Path(source)
    items = tuple(read_list(source))
    request = plan_generation(config.generation())
    info, device = request.info, request.device
    check_orbit(config, request)
    views = len(request.orbit.azimuths_deg)
    orbit = OrbitConfig(
        views=views,
        size=info.resolution,
        elevation_deg=(config.elevation, config.elevation),
        trajectory=config.orbit,
        fov_deg=info.fov_deg,
        environments=(config.environment,),
        samples=config.samples,
        seed=config.seed,
        gate=GATE,
    ).resolved()
    if len(orbit.environments) != 1:
        raise UsageError(
            f"--environment: expected one light, got the {len(orbit.environments)} of {config.environment}; name one of them"
        )
    filled = recorded_settings(request)
    side = config.size or info.resolution
    found = _metrics(config.perceptual, side, str(device))
    name = _set_name(source)
    digests = {i.uid: sha256(i.path) if i.path is not None and i.path.is_file() else "" for i in items}
    adapters = _adapter_texts(path for path, _ in request.adapters)
    return Plan(
        name,
        config,
        items,
        digests,
        orbit,
        replace(request.config, views=views),
        found,
        find_contamination(request.model.folder, items, digests, set_name=name, adapters=adapters),
        truth=identity(orbit),
        generation={key: filled[key] for key in ("model", "lora", "steps", "sampler", "guidance", "seed")}
        | {"orbit": config.orbit, "device": device.type, "dtype": request.dtype},
        scoring={"size": side, "weights": found.about},
    )


def check_orbit(config: EvalRunConfig, request: GenerationPlan) -> None:
    """Raise UsageError, in the terms of this command, for an orbit that the model cannot make."""
    info = request.info
    if info.camera == "none":
        raise UsageError(
            f"--model {config.model}: expected a model that makes an orbit, got one ({info.kind}) that takes no "
            "camera: nothing says from where its views are; train one on it with mv3d train"
        )
    if config.orbit == "dynamic" and not (info.camera == "orbit" and info.takes_elevation):
        raise UsageError(
            f"--orbit dynamic: expected a model that takes a camera per view, such as sv3d_p, got {config.model} "
            f"({info.kind}), which makes static orbits alone; use --orbit static"
        )
    if info.size[0] != info.size[1]:
        size = f"{info.size[0]}x{info.size[1]}"
        raise UsageError(f"--model {config.model}: expected a model of square views, got {size}")
    if len(request.orbit.azimuths_deg) < 2:
        raise UsageError(f"--model {config.model}: expected at least 2 views, got 1")


def default_out(source: str | os.PathLike[str], config: EvalRunConfig) -> Path:
    """SET-MODEL-ORBIT in the working directory."""
    parts = (_set_name(Path(source)), Path(config.model).name or config.model, config.orbit)
    return Path("-".join(map(safe_uid, parts)))


def _set_name(source: Path) -> str:
    return source.resolve().name if source.is_dir() else source.stem


def _metrics(config: PerceptualConfig, side: int, device: str) -> Perceptual:
    """The perceptual metrics at this side, pixels. LPIPS is left out of small images, and refused if it is asked for."""
    if side >= LPIPS_MIN_SIDE:
        return perceptual_metrics(config, device=device)
    if config.lpips == "yes" or config.lpips_weights is not None:
        raise UsageError(f"--lpips: expected pictures of at least {LPIPS_MIN_SIDE} pixels a side, got {side}")
    found = perceptual_metrics(replace(config, lpips="no"), device=device)
    if config.lpips == "auto":
        reason = f"lpips: it needs pictures of at least {LPIPS_MIN_SIDE} pixels a side, these have {side}"
        found = replace(found, missing={"lpips": reason, **found.missing})
    return found


def _adapter_texts(adapters: Iterable[Path]) -> dict[str, str]:
    from mv3d.models.lora import read_lora  # noqa: PLC0415 - loads torch

    return {path.name: json.dumps(read_lora(path).metadata, indent=0) for path in adapters}


def protocol(plan: Plan) -> dict[str, Any]:
    """The protocol in words, complete enough to repeat the evaluation with the same objects."""
    config, orbit = plan.config, plan.orbit
    if config.orbit == "static":
        path = "elevation constant, frame i of n at azimuth 360 (i + 1)/n degrees"
    else:
        path = "SV3D's dynamic orbit (arXiv 2403.12008, appendix B), the paper's variant, another for each object"
    return {
        "set": plan.name,
        "objects": len(plan.items),
        "objects_sha256": plan.objects_sha256,
        "orbit": {
            "kind": config.orbit,
            "path": path,
            "views": orbit.views,
            "elevation_deg": config.elevation,
            "fov_deg": orbit.fov_deg,
            "distance": "of each object, the least at which no view cuts it off, "
            f"{orbit.margin:g} of half a side left free at the border",
        },
        "object": "centred, its largest side 1, upright as its file says",
        "light": {
            "environment": Path(orbit.environments[0]).name,
            "turn": "about the vertical, of each object, by seed and uid",
        },
        "renderer": {"backend": orbit.backend, "samples": orbit.samples},
        "left_out": asdict(orbit.gate),
        "condition": {
            "view": "the last one, at azimuth 0",
            "picture": "as rendered, on white, not framed anew",
            "camera": "its elevation is told to models that take one",
        },
        "resolution": {"rendered": orbit.size, "compared": plan.scoring["size"]},
        "model": {"name": config.model, **plan.generation},
        "compared": "generated views cut out as mv3d generate does, on white; silhouettes with the truth's cameras",
        "baseline": "the input view repeated" if config.baseline else None,
        "mean": "over views, then over objects",
        "bootstrap": f"percentile, 95 %, {config.resamples} resamples over objects",
        "seed": config.seed,
    }
