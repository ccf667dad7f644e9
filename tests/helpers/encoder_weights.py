"""EfficientNet-Lite0 as it is published, with random weights."""

from __future__ import annotations

from typing import Any, cast

import torch

from mv3d.models.prior.encoder import Encoder


def published() -> dict[str, torch.Tensor]:
    """Random weights under the names of the published network, with batch norms that do something."""
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, torch.Tensor] = {}

    def conv(name: str, norm: str, outputs: int, inputs: int, kernel: int) -> None:
        scale = (inputs * kernel**2) ** -0.5
        weights[f"{name}.weight"] = torch.randn(outputs, inputs, kernel, kernel, generator=generator) * scale
        for part, low, high in (("weight", 0.5, 1.5), ("bias", -0.2, 0.2), ("running_mean", -0.2, 0.2)):
            weights[f"{norm}.{part}"] = low + (high - low) * torch.rand(outputs, generator=generator)
        weights[f"{norm}.running_var"] = 0.5 + torch.rand(outputs, generator=generator)

    conv("_conv_stem", "_bn0", 32, 3, 3)
    for index, block in enumerate(cast(Any, Encoder().blocks)):
        name, middle = f"_blocks.{index}", block.depthwise.weight.shape[0]
        if block.expand is not None:
            conv(f"{name}._expand_conv", f"{name}._bn0", middle, block.expand.weight.shape[1], 1)
        conv(f"{name}._depthwise_conv", f"{name}._bn1", middle, 1, block.depthwise.weight.shape[2])
        conv(f"{name}._project_conv", f"{name}._bn2", block.project.weight.shape[0], middle, 1)
    return weights
