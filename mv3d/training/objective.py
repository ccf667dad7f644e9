"""What a run minimises: the network as the loop calls it, and the loss of one micro-batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mv3d.models.conditioning import OrbitConditioning
from mv3d.models.network import MultiViewUNet
from mv3d.models.preconditioning import denoise
from mv3d.training.batches import BatchMaker
from mv3d.training.config import TrainConfig
from mv3d.training.loss import frame_weights, orbit_loss

MicroLoss = Callable[[nn.Module, dict[str, Any], int], tuple[Tensor, dict[str, Tensor]]]
"""(module, samples as the loader stacks them, step) → the mean loss of these samples, and numbers for the log."""


@dataclass(frozen=True, eq=False)
class Objective:
    """network: whose weights are trained, and kept under its own names. module: the network or what wraps it; every
    call of a step goes through it, so that what shards and averages networks sees them. loss: calls the module."""

    network: nn.Module
    module: nn.Module
    loss: MicroLoss

    @property
    def prefix(self) -> str:
        """What stands before the network's names in those of the module."""
        names = [name for name, module in self.module.named_modules() if module is self.network]
        return f"{names[0]}." if names and names[0] else ""


class Denoise(nn.Module):
    """`denoise` as a module. autocast: to bf16."""

    def __init__(self, unet: MultiViewUNet, *, autocast: bool = False) -> None:
        super().__init__()
        self.unet, self._autocast = unet, autocast

    def forward(self, x: Tensor, sigma: Tensor, conditioning: OrbitConditioning) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._autocast):
            return denoise(self.unet, x, sigma, conditioning)


class HalfWeights(nn.Module):
    """Calls a module with a bf16 copy of its weights; the gradients come to the weights themselves, in fp32.

    Everything between is computed in bf16 without a cast; autocast casts each input of a convolution and computes much of
    what lies between in fp32.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *arguments: Any) -> Any:
        tensors = itertools.chain(self.module.named_parameters(), self.module.named_buffers())
        half = {
            name: tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
            for name, tensor in tensors
        }
        return functional_call(self.module, half, arguments)


def keeps_half_copy(config: TrainConfig, *, sharded: bool = False) -> bool:
    """Whether bf16 is computed with `HalfWeights`: for new networks. Others are used to autocast, and activations that are
    computed twice, or weights that are spread over devices, would miss the copy."""
    new = config.network == "new" and not config.gradient_checkpointing
    return config.precision == "bf16" and new and not sharded


def orbit_objective(
    config: TrainConfig, unet: MultiViewUNet, batches: BatchMaker, *, sharded: bool = False
) -> Objective:
    """The EDM loss of a multi-view network. sharded: whether its weights will be spread over devices."""
    half = keeps_half_copy(config, sharded=sharded)
    denoiser = Denoise(unet, autocast=config.precision == "bf16" and not half)

    def loss(module: nn.Module, raw: dict[str, Any], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        target, conditioning, noise = batches.make(raw)
        weights = frame_weights(conditioning.azimuths_rad, config.near_weight)
        return orbit_loss(module, target, conditioning, noise, weights).mean(), {}

    return Objective(unet, HalfWeights(denoiser) if half else denoiser, loss)
