"""What a run leaves: a model folder with its card, or an adapter."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mv3d.core.errors import InputError
from mv3d.core.files import to_json, write_text
from mv3d.models.folder import COMPONENTS, ModelCard, ModelInfo, write_info
from mv3d.models.lora import Lora, merge_loras, save_lora
from mv3d.models.network import MultiViewUNet
from mv3d.orbits.attribution import read_attribution, write_attribution
from mv3d.training.config import TrainConfig
from mv3d.training.trainable import TrainableModel, build_trainable

MODEL = "model"
LORA = "lora.safetensors"
_STATIC_DEG = (-5.0, 30.0)  # elevations of static orbits, in both papers
_LICENCES_SHOWN = 8


@dataclass(frozen=True)
class Provenance:
    """Where the weights come from, for the model card."""

    base: str
    revision: str
    data: str
    licences: dict[str, int]
    metrics: dict[str, float]
    credited: tuple[Path, ...] = ()
    """Folders (of the base, of the data, of priors) whose attribution files say who made what was shown: they go along with the
    weights."""
    priors: tuple[str, ...] = ()
    """Hashes of the 3D priors whose renders led the network (`mv3d.models.prior.renders.prior_sha256`)."""


def write_results(
    config: TrainConfig,
    model: TrainableModel,
    weights: dict[str, Tensor],
    provenance: Provenance,
    staged: Path,
    resolution: tuple[int, int],
) -> None:
    """Write into a staging folder. weights: those of `TrainState`. resolution: (width, height)."""
    if config.trained == "lora":
        lora = as_lora(config, weights, provenance, model, resolution)
        save_lora(staged / LORA, lora)
        if not model.adapted:
            return
        # An adapter of a network with another vector fits no base: the whole model goes with it.
        unet = _rebuilt(replace(config, trained="all"), model, provenance)
        merge_loras(unet, [(lora, 1.0)])
    else:
        unet = _rebuilt(config, model, provenance)
        _assign(unet, weights)
    _write_model(config, model, unet, provenance, staged / MODEL, resolution)


def as_lora(
    config: TrainConfig,
    weights: dict[str, Tensor],
    provenance: Provenance,
    model: TrainableModel,
    resolution: tuple[int, int],
) -> Lora:
    """The trained weights as an adapter with what a reader of the file has to know."""
    down = {n.removesuffix(".lora_A"): v for n, v in weights.items() if n.endswith(".lora_A")}
    up = {n.removesuffix(".lora_B"): v for n, v in weights.items() if n.endswith(".lora_B")}
    record: dict[str, Any] = {
        "base": provenance.base,
        "revision": provenance.revision,
        "base_licence": model.info.licence,
        "data": provenance.data,
        "vector": list(model.unet.micro.names),
        "resolution": list(resolution),
        "steps": config.steps,
        "seed": config.seed,
        "metrics": provenance.metrics,
    }
    return Lora(down, up, config.alpha, metadata=record)


def _rebuilt(config: TrainConfig, model: TrainableModel, provenance: Provenance) -> MultiViewUNet:
    """The network as it was before training: the live one may be spread over devices."""
    return build_trainable(config, model.folder, base=provenance.base).unet


@torch.no_grad()
def _assign(unet: MultiViewUNet, weights: dict[str, Tensor]) -> None:
    parameters = dict(unet.named_parameters())
    for name, value in weights.items():
        if name not in parameters or parameters[name].shape != value.shape:
            raise InputError(f"training: trained weights of another network: {name} {tuple(value.shape)}")
        parameters[name].copy_(value)


def _write_model(
    config: TrainConfig,
    model: TrainableModel,
    unet: MultiViewUNet,
    provenance: Provenance,
    folder: Path,
    resolution: tuple[int, int],
) -> None:
    for name in ("vae", "image_encoder"):
        shutil.copytree(model.folder / name, folder / name)
    (folder / "unet").mkdir()
    state = {key: value.detach().float().contiguous() for key, value in unet.state_dict().items()}
    save_file(state, folder / "unet" / COMPONENTS["unet"], metadata={"format": "pt"})
    written = {"_class_name": "MultiViewUNet"} | unet.arguments
    write_text(folder / "unet" / "config.json", to_json(written))
    width, height = resolution
    info = replace(
        model.info,
        resolution=width,
        height=None if height == width else height,
        elevations_deg=_STATIC_DEG if config.vector in ("svd_mv", "sv3d_u") else model.info.elevations_deg,
        source_sha256="",
        base=provenance.base,
        revision=provenance.revision,
    )
    write_info(folder, info)
    items = {item.uid: item for source in provenance.credited for item in read_attribution(source)}
    if items:
        write_attribution(folder, items.values())
    write_text(folder / "README.md", _card(config, model, provenance).text())


def _card(config: TrainConfig, model: TrainableModel, provenance: Provenance) -> ModelCard:
    base = provenance.base + (f" @ {provenance.revision}" if provenance.revision else "")
    return ModelCard(
        title=f"{config.preset}: a multi-view generator trained with mv3d",
        licence=model.info.licence or "unknown",
        licence_url=model.info.licence_url,
        base=base,
        data=provenance.data + licences_of(provenance),
        seed=config.seed,
        metrics=provenance.metrics,
        notes=f"{config.steps} steps of {config.batch} orbits of {config.frames} views."
        + _student_note(model.info)
        + (" The base's licence holds for these weights, too." if provenance.base else "")
        + (
            f" Led by renders of 3D priors (sha256 {', '.join(provenance.priors)})."
            if provenance.priors
            else ""
        ),
    )


def _student_note(info: ModelInfo) -> str:
    if info.distilled_steps is None:
        return ""
    steps = "1 step" if info.distilled_steps == 1 else f"{info.distilled_steps} steps"
    return f" Distilled from its base to {steps}, the base's guidance baked in."


def licences_of(provenance: Provenance) -> str:
    """The licences of the objects that were shown, the most frequent ones first, as the end of a line."""
    licences = sorted(provenance.licences.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name} ({count})" for name, count in licences[:_LICENCES_SHOWN])
    return f"; licences of the objects: {shown}" if shown else ""
