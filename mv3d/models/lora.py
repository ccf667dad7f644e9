"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): put into a network to train, saved small, merged to generate.

File: safetensors with `MODULE.lora_A.weight` (rank, in) and `MODULE.lora_B.weight` (out, rank), PEFT's names, and
`PARAMETER.diff` for layers that were trained in full; the metadata hold rank, alpha and what it was trained on.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mv3d.core.errors import InputError, UsageError, shown
from mv3d.core.files import atomic_path
from mv3d.models.weights import open_weights

METADATA_KEY = "mv3d_lora"
_PEFT_PREFIXES = ("base_model.model.", "unet.")
_SUFFIXES = (".lora_A.weight", ".lora_B.weight", ".diff")
_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class Lora:
    """An adapter: the weight's change is (alpha/rank)·up @ down, or `diffs` itself."""

    down: dict[str, Float[Tensor, "rank in"]]
    up: dict[str, Float[Tensor, "out rank"]]
    alpha: float
    diffs: dict[str, Tensor] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        return next((len(value) for value in self.down.values()), 0)

    def delta(self, module: str) -> Float[Tensor, "out in"]:
        """The change of a module's weight at full strength, float32."""
        down, up = self.down[module].float(), self.up[module].float()
        return (self.alpha / len(down)) * (up @ down)


class LoraLinear(nn.Module):
    """A frozen linear layer with a trainable low-rank change beside it; at first the change is zero."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        bound = 1 / math.sqrt(base.in_features)
        start = torch.rand(rank, base.in_features, generator=generator) * 2 * bound - bound
        # float32 whatever the base: small steps vanish in half precision.
        self.lora_A = nn.Parameter(start.to(base.weight.device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        change = (x.to(self.lora_A.dtype) @ self.lora_A.T) @ self.lora_B.T
        return self.base(x) + (self.scale * change).to(x.dtype)


def temporal_attention_modules(unet: nn.Module) -> list[str]:
    """Names of the projections of all temporal attention: where SVD's camera-motion adapters go (arXiv 2311.15127, D.4.2)."""
    linear = _linear_layers(unet)
    return [n for n in linear if ".temporal_transformer_blocks." in n and n.endswith(_PROJECTIONS)]


def camera_modules(unet: nn.Module) -> list[str]:
    """Names of the layers that read the camera."""
    return [name for name in _linear_layers(unet) if name.startswith("add_embedding.")]


def _linear_layers(unet: nn.Module) -> list[str]:
    return [name for name, module in unet.named_modules() if isinstance(module, nn.Linear)]


def inject_lora(
    unet: nn.Module, modules: Iterable[str], *, rank: int, alpha: float, generator: torch.Generator
) -> list[nn.Parameter]:
    """Freeze a network and put adapters at the named linear layers, in place. Returns the parameters to train.

    generator: of the initial values, on the CPU.
    """
    if rank < 1:
        raise UsageError(f"--rank: expected at least 1, got {rank}")
    unet.requires_grad_(False)
    parameters: list[nn.Parameter] = []
    for name in modules:
        owner, _, leaf = name.rpartition(".")
        try:
            layer = unet.get_submodule(name)
        except AttributeError as error:
            raise InputError(f"adapter: the network has no layer {name}") from error
        if not isinstance(layer, nn.Linear):
            raise InputError(f"adapter: expected a linear layer at {name}, got {type(layer).__name__}")
        adapter = LoraLinear(layer, rank, alpha, generator)
        setattr(unet.get_submodule(owner), leaf, adapter)
        parameters += [adapter.lora_A, adapter.lora_B]
    return parameters


def save_lora(path: str | os.PathLike[str], lora: Lora) -> None:
    """Write an adapter atomically. Raises OutputError where it cannot be written."""
    from safetensors.torch import save_file  # noqa: PLC0415 - writing alone needs it

    path = Path(path)
    parts = zip(_SUFFIXES, (lora.down, lora.up, lora.diffs), strict=True)
    tensors = {f"{name}{suffix}": v.contiguous() for suffix, part in parts for name, v in part.items()}
    record = {"rank": lora.rank, "alpha": lora.alpha} | lora.metadata
    with atomic_path(path) as part:
        save_file(tensors, part, metadata={"format": "pt", METADATA_KEY: json.dumps(record)})


def read_lora(path: str | os.PathLike[str]) -> Lora:
    """Read an adapter: ours, or one that PEFT saved of the same network. Raises InputError as `open_weights` does."""
    path = Path(path)
    parts: dict[str, dict[str, Tensor]] = {suffix: {} for suffix in _SUFFIXES}
    with open_weights(path) as weights:
        for key in weights.keys:
            name = key
            for prefix in _PEFT_PREFIXES:
                name = name.removeprefix(prefix)
            suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), None)
            if suffix is None:
                raise InputError(f"{path}: not an adapter: unknown key {shown(key)}")
            parts[suffix][name.removesuffix(suffix)] = weights.tensor(key)
        try:
            record = json.loads(weights.metadata.get(METADATA_KEY, "{}"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: its metadata are not JSON ({shown(error)})") from error
    down, up, diffs = parts.values()
    if down.keys() != up.keys():
        odd = sorted(down.keys() ^ up.keys())[0]
        raise InputError(f"{path}: not a whole adapter: {shown(odd)} has one of lora_A and lora_B alone")
    if not down and not diffs:
        raise InputError(f"{path}: not an adapter: it is empty")
    for name, value in down.items():
        a, b = tuple(value.shape), tuple(up[name].shape)
        if len(a) != 2 or len(b) != 2 or a[0] != b[1] or not a[0]:
            raise InputError(
                f"{path}: not an adapter: {shown(name)}: expected lora_A (rank, in) and lora_B (out, rank), got "
                f"{a} and {b}"
            )
    rank = next((len(value) for value in down.values()), 1)
    alpha = record.pop("alpha", rank) if isinstance(record, dict) else None
    if not isinstance(alpha, int | float) or not abs(alpha) < math.inf:
        raise InputError(
            f"{path}: its metadata: expected an object whose alpha is a number, got {shown(alpha)}"
        )
    return Lora(down, up, float(alpha), diffs, record)


@torch.no_grad()
def merge_loras(unet: nn.Module, loras: Sequence[tuple[Lora, float]]) -> None:
    """Add adapters, each with its weight, to a network's own weights in place: it then costs nothing to use them.

    Raises InputError that names the layer where an adapter is of another network; then nothing is changed.
    """
    changes: dict[str, Tensor] = {}
    parameters = dict(unet.named_parameters())
    for lora, weight in loras:
        if not math.isfinite(weight):
            raise UsageError(f"--lora: expected a finite weight, got {weight}")
        deltas = {f"{name}.weight": lora.delta(name) for name in lora.down}
        deltas |= {name: value.float() for name, value in lora.diffs.items()}
        for name, delta in deltas.items():
            if name not in parameters:
                raise InputError(f"adapter: of another network: it changes {name}, which this one lacks")
            if parameters[name].shape != delta.shape:
                raise InputError(
                    f"adapter: of another network: expected {name} of shape {tuple(parameters[name].shape)}, got "
                    f"{tuple(delta.shape)}"
                )
            changes[name] = changes.get(name, torch.zeros_like(delta)) + weight * delta
    for name, delta in changes.items():
        value = parameters[name]
        value.copy_((value.float() + delta.to(value.device)).to(value.dtype))
