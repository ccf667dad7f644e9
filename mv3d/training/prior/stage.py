"""What a run of the prior needs: its network, its samples and its loss; and what it leaves."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn

from mv3d.core.errors import InputError, Mv3dWarning, UsageError
from mv3d.models.folder import PRIOR, ModelCard, ModelInfo, read_info, write_info
from mv3d.models.locate import ResolvedModel
from mv3d.models.prior.folder import PriorSettings, load_prior, read_prior_settings, save_prior
from mv3d.models.prior.network import PriorNetwork
from mv3d.orbits.attribution import read_attribution, write_attribution
from mv3d.training.config import PriorConfig
from mv3d.training.objective import HalfWeights, Objective, keeps_half_copy
from mv3d.training.prior.encoder_file import HOW, encoder_weights
from mv3d.training.prior.layer_store import GeometryShards, LayerStore, build_store, store_folder
from mv3d.training.prior.losses import PriorBatch, prior_loss
from mv3d.training.prior.samples import PriorSamples
from mv3d.training.prior.validation import PriorValidator, last_scores
from mv3d.training.results import MODEL, Provenance, licences_of
from mv3d.training.stage import PARTS, StageContext

_RESOLUTION, _VIEWS = 256, 21  # of the views that are rendered of a solid unless asked otherwise
_RANDOM = "none"


def check_start(config: PriorConfig, base: str) -> None:
    """Raises UsageError unless exactly one of a base and an encoder is given."""
    if base and config.encoder:
        raise UsageError(f"--encoder: expected none beside --base {base}, got {config.encoder}")
    if not base and not config.encoder:
        raise UsageError(
            f"--encoder: expected the weights to start from, got none; get them with `{HOW}` and give the file, or "
            "--encoder none for random weights, or a prior as --base"
        )


def start_network(config: PriorConfig, base: ResolvedModel | None) -> PriorNetwork:
    """The network before the first step, with gradients where it is trained.

    Raises InputError for a base without a prior, or with one of another size, and for a file that holds no encoder.
    """
    if base is not None:
        settings = read_prior_settings(base.folder)
        if settings.width != config.width:
            raise InputError(
                f"--width: expected {settings.width} as in {base.name}, got {config.width}; the network's size stays"
            )
        network = load_prior(base.folder)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = PriorNetwork(config.width)
        if config.encoder != _RANDOM:
            network.encoder.load_state_dict(encoder_weights(Path(config.encoder)))
    network.requires_grad_(True)
    if config.encoder != _RANDOM and config.frozen_blocks:
        for block in network.encoder.blocks[: config.frozen_blocks]:
            block.requires_grad_(False)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def prior_objective(
    config: PriorConfig, network: PriorNetwork, device: torch.device, *, half: bool
) -> Objective:
    """half: compute with a bf16 copy of the weights; else autocast where the precision is bf16."""
    autocast = config.precision == "bf16" and not half

    def loss(module: nn.Module, raw: dict[str, Any], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        batch = PriorBatch.of(raw, device)
        photo = batch.photo.to(torch.bfloat16 if half else torch.float32, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            prediction = module(photo)
        weight = config.silhouette_weight if step >= config.silhouette_after else 0.0
        return prior_loss(prediction, batch, silhouette_weight=weight)

    module = HalfWeights(network) if half else network
    return Objective(network, module, loss, {"encoder.": config.encoder_rate})


def prepare_prior(
    config: PriorConfig,
    data: GeometryShards,
    base: ResolvedModel | None,
    out: Path,
    accelerator: Accelerator,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> StageContext:
    """Make the layers of the data where they are missing, load the network. Errors as in `start_network`."""
    network = start_network(config, base).to(accelerator.device)
    folder = store_folder(out, config.layers, PARTS)
    main = accelerator.is_main_process
    if main:
        build_store(data, folder, workers=config.workers, progress=progress)
    accelerator.wait_for_everyone()
    store = LayerStore(build_store(data, folder))
    how: dict[str, Any] = {
        "side": config.side, "seed": config.seed, "mirror": config.mirror, "licences": data.licences,
    }  # fmt: skip
    samples = PriorSamples(store, half=config.half, **how)
    held_out = PriorSamples(store, held_out=True, **how)
    validate = None
    if config.validate_every and not len(held_out):
        text = f"{data.folder}: none of its {len(samples)} objects is held out, so nothing is validated"
        warnings.warn(text, Mv3dWarning, stacklevel=2)
    elif config.validate_every:
        validate = PriorValidator(
            network, held_out, out, objects=config.validation_orbits, device=accelerator.device, main=main
        )
    half = keeps_half_copy(config, sharded=accelerator.distributed_type == DistributedType.FSDP)
    objective = prior_objective(config, network, accelerator.device, half=half)
    return StageContext(samples, objective, validate, PriorResults(config, data, base).write, last_scores)


@dataclass(frozen=True)
class PriorResults:
    """Writes the model folder of a run."""

    config: PriorConfig
    data: GeometryShards
    base: ResolvedModel | None

    def write(self, weights: dict[str, Tensor], provenance: Provenance, staged: Path) -> None:
        """weights: the trained ones; the others are those that the run began with."""
        config, folder = self.config, staged / MODEL
        network = start_network(config, self.base)
        unknown = weights.keys() - dict(network.named_parameters()).keys()
        if unknown:
            raise InputError(f"training: trained weights of another network: {min(unknown)}")
        network.load_state_dict(weights, strict=False)
        save_prior(folder, network, PriorSettings(width=config.width, side=config.side))
        licence, url = "", ""
        if self.base is not None:
            info = read_info(self.base.folder)
            licence, url = info.licence, info.licence_url
        elif config.encoder != _RANDOM:
            licence = "Apache-2.0"
        write_info(
            folder,
            ModelInfo(
                kind=PRIOR,
                num_frames=_VIEWS,
                resolution=_RESOLUTION,
                camera="orbit",
                takes_elevation=True,
                elevations_deg=self.data.elevations_deg,
                base=provenance.base,
                revision=provenance.revision,
                licence=licence,
                licence_url=url,
            ),
        )
        items = {item.uid: item for source in provenance.credited for item in read_attribution(source)}
        if items:
            write_attribution(folder, items.values())
        card = ModelCard(
            title="prior: the solid of one photo, trained with mv3d",
            licence=licence or "unknown",
            licence_url=url,
            base=provenance.base or ("" if config.encoder == _RANDOM else "EfficientNet-Lite0 (encoder)"),
            data=provenance.data + licences_of(provenance),
            seed=config.seed,
            metrics=provenance.metrics,
            notes=f"{config.steps} steps of {config.batch} photos of {config.side}².",
        )
        (folder / "README.md").write_text(card.text(), encoding="utf-8")
