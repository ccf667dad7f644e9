"""What one stage of a run needs beside its data: networks, batches, and the sheets of views."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor

from mv3d.core.errors import InputError, Mv3dWarning
from mv3d.models.encode import image_channels
from mv3d.models.folder import PRIOR
from mv3d.models.loading import load_image_encoder, load_vae
from mv3d.models.locate import ResolvedModel
from mv3d.orbits.dataset import Samples
from mv3d.training.autoencoder import prepare_parts
from mv3d.training.batches import BatchMaker
from mv3d.training.config import TrainConfig
from mv3d.training.distill.config import DistillConfig
from mv3d.training.distill.student import distilled
from mv3d.training.loop import Validate
from mv3d.training.objective import Objective, orbit_objective
from mv3d.training.renders import FOLDER, Priors, RenderedSamples
from mv3d.training.results import MODEL, Provenance, write_results
from mv3d.training.trainable import build_trainable, check_data_size
from mv3d.training.validation import Validator, clean, last_score

PARTS = "parts"


@dataclass(frozen=True)
class StageContext:
    """What the training loop and the results need.

    write: (trained weights, where they come from, folder) → a model folder, or an adapter. scores: of the last validation in
    a run's folder, by a name for people.
    """

    samples: Samples
    objective: Objective
    validate: Validate | None
    write: Callable[[dict[str, Tensor], Provenance, Path], None]
    scores: Callable[[Path], dict[str, float]]


def prepare(
    config: TrainConfig,
    samples: Samples,
    base: ResolvedModel | None,
    out: Path,
    accelerator: Accelerator,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
    *,
    priors: Priors | None = None,
) -> StageContext:
    """Load the base's networks; without a base, train an autoencoder first and keep it in `out`.

    priors: whose renders of the samples lead the network; the result gets a copy.

    Raises InputError where data and network do not fit.
    """
    if base is None:
        if accelerator.is_main_process and not (out / PARTS).is_dir():
            prepare_parts(config, samples, out / PARTS, device=accelerator.device, progress=progress)
        accelerator.wait_for_everyone()
    folder = out / PARTS if base is None else base.folder
    if priors is not None:
        cache = Path(config.renders) if config.renders else out / PARTS / FOLDER
        samples = RenderedSamples(samples, priors, cache, epochs=config.render_epochs)
    # What is sharded has to be of one precision.
    sharded = accelerator.distributed_type == DistributedType.FSDP
    model = build_trainable(
        config,
        folder,
        base=base.name if base else "",
        revision=base.revision if base else "",
        half_frozen=config.trained == "lora" and config.precision == "bf16" and not sharded,
    )
    student = distilled(config, model) if isinstance(config, DistillConfig) else None
    model = replace(model, info=student.info) if student else model
    one, pixels = samples.sample(0), not samples.format.latents
    height, width = one["images"].shape[1:3] if pixels else one["latents"].shape[-2:]
    if not pixels:
        height, width = height * model.latent_factor, width * model.latent_factor
    check_data_size(model, (width, height))
    if config.trained == "lora" and (width, height) != model.info.size:
        warnings.warn(
            f"the orbits are {width}x{height}, the base was trained for {model.info.size[0]}x{model.info.size[1]}: the adapter "
            "will fit views of the base worse",
            Mv3dWarning,
            stacklevel=2,
        )
    vae = encoder = None
    if pixels or config.validate_every:
        vae = load_vae(folder, torch.float32).requires_grad_(False).to(accelerator.device)
    if pixels:
        encoder = load_image_encoder(folder, torch.float32).requires_grad_(False).to(accelerator.device)
    if pixels and not samples.format.alpha and vae is not None and image_channels(vae) == 4:
        raise InputError(
            "--data: video clips have no alpha, which the base was trained with; give orbits, or a base without it"
        )

    def batch_maker(settings: TrainConfig) -> BatchMaker:
        return BatchMaker(
            settings,
            scaling_factor=model.scaling_factor,
            device=accelerator.device,
            vae=vae,
            image_encoder=encoder,
            input_frame=samples.format.input_frame,
        )

    validate = None
    if vae is not None and config.validate_every:
        sheets, sampler = batch_maker(clean(config)), model.info.sampler
        main = accelerator.is_main_process
        method = sampler.sampler if student else "dpmpp_2m"
        validate = Validator(config, samples, sheets, vae, sampler, out, main=main, method=method)

    def write(weights: dict[str, Tensor], provenance: Provenance, folder: Path) -> None:
        weights = student.weights(weights) if student else weights
        write_results(config, model, weights, provenance, folder, (width, height))
        if priors is not None:
            shutil.copytree(priors.kept / PRIOR, folder / MODEL / PRIOR)

    def scores(folder: Path) -> dict[str, float]:
        score = last_score(folder)
        return {} if score is None else {"validation PSNR, dB": score}

    if student:
        objective = student.objective(batch_maker(config), accelerator.device, sharded=sharded)
    else:
        objective = orbit_objective(config, model.unet, batch_maker(config), sharded=sharded)
    return StageContext(samples, objective, validate, write, scores)
