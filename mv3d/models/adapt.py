"""Other inputs for a pretrained network, camera or renders, without changing what it computes at first."""

from __future__ import annotations

from typing import Any

import torch

from mv3d.models.conditioning import SVD_FPS_ID, SVD_MOTION_BUCKET
from mv3d.models.network import MicroConditioning, MultiViewUNet, sinusoidal_embedding

SVD_COND_AUG = 0.02
_USUAL = {"fps": SVD_FPS_ID, "motion_bucket": SVD_MOTION_BUCKET, "cond_aug": SVD_COND_AUG}


@torch.no_grad()
def with_micro_conditioning(base: MultiViewUNet, micro: MicroConditioning) -> MultiViewUNet:
    """A copy of `base` with the inputs of `micro`; at first it computes what the base does.

    Inputs of both keep their weights. New inputs start without effect but with a gradient: their columns of the first layer
    are zero, the next layer is not. For inputs that are dropped (frame rate, motion, noise) the bias keeps the effect of
    their usual value; dropped camera angles leave no effect.
    """
    changes = {
        "vector_names": micro.names,
        "vector_widths": micro.widths,
        "addition_time_embed_dim": micro.widths[0],
        "projection_class_embeddings_input_dim": micro.total_width,
    }
    state = {key: value.clone() for key, value in base.state_dict().items()}
    first = state["add_embedding.linear_1.weight"]
    old: dict[str, torch.Tensor] = dict(
        zip(base.micro.names, first.split(list(base.micro.widths), dim=1), strict=True)
    )
    columns: dict[str, torch.Tensor] = {
        name: first.new_zeros(len(first), width)
        for name, width in zip(micro.names, micro.widths, strict=True)
    }
    kept = {n: old[n] for n in columns.keys() & old.keys() if old[n].shape == columns[n].shape}
    state["add_embedding.linear_1.weight"] = torch.cat([*(columns | kept).values()], dim=1)
    for name, weight in old.items():
        if name not in kept and name in _USUAL:
            usual = sinusoidal_embedding(torch.tensor(_USUAL[name], device=weight.device), weight.shape[1])
            state["add_embedding.linear_1.bias"] += (weight.float() @ usual).to(weight.dtype)
    return _changed(base, changes, state)


@torch.no_grad()
def with_render_conditioning(base: MultiViewUNet) -> MultiViewUNet:
    """A copy of `base` that takes renders of its views; at first it computes what the base does, to the last bit.

    The new weights are zero and get a gradient from the first step on. Where the base takes renders, they are its own.
    """
    state = {key: value.clone() for key, value in base.state_dict().items()}
    channels = base.render_channels or base.config["out_channels"] + 1
    if not base.render_channels:
        width, _, *kernel = base.conv_in.weight.shape
        state["conv_in_render.weight"] = base.conv_in.weight.new_zeros(width, channels, *kernel)
    return _changed(base, {"render_channels": channels}, state)


def _changed(base: MultiViewUNet, changes: dict[str, Any], state: dict[str, torch.Tensor]) -> MultiViewUNet:
    with torch.device("meta"):
        unet = MultiViewUNet(**base.arguments | changes)
    unet.load_state_dict(state, assign=True)
    return unet.train(base.training)
