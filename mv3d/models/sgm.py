"""The original implementation's networks: their configuration terms and key names, in ours.

The original numbers its blocks in one row (`input_blocks.4.1`); diffusers groups them by level
(`down_blocks.1.attentions.0`). `network_key_map` walks both in step.
"""

from __future__ import annotations

import os
from typing import Any

import torch

from mv3d.core.errors import InputError
from mv3d.models.network import SV3D_P, SV3D_U, SVD, MicroConditioning, MultiViewUNet, NetworkConfig
from mv3d.models.weights import WeightsFile, check_keys, open_weights

NETWORK_PREFIX = "model.diffusion_model."
OTHER_PARTS = ("first_stage_model.", "conditioner.")
"""What a whole checkpoint of the original holds beside the network."""

_MICRO_OF_WIDTH = {v.total_width: v for v in (SVD, SV3D_U, SV3D_P)}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
# What a term must be for the network to be one of this family, and its default; the released ones all are.
_FIXED: dict[str, tuple[tuple[Any, ...], Any]] = {
    "num_classes": (("sequential",), None),
    "use_spatial_context": ((True,), False),
    "merge_strategy": (("learned_with_images", "learned"), "fixed"),
    "use_scale_shift_norm": ((False,), False),
    "resblock_updown": ((False,), False),
    "conv_resample": ((True,), True),
    "time_downup": ((False,), False),
    "dims": ((2,), 2),
    "disable_temporal_crossattention": ((False,), False),
    "max_ddpm_temb_period": ((10000,), 10000),
    "time_context_dim": ((None,), None),
}
# Terms that are read below, and those that change speed or training alone.
_READ = (
    "adm_in_channels", "in_channels", "out_channels", "model_channels", "attention_resolutions", "num_res_blocks",
    "channel_mult", "num_head_channels", "num_heads", "transformer_depth", "transformer_depth_middle", "context_dim",
    "video_kernel_size",
)  # fmt: skip
_WITHOUT_EFFECT = (
    "use_checkpoint", "spatial_transformer_attn_type", "dropout", "merge_factor", "extra_ff_mix_layer",
    "use_linear_in_transformer", "num_heads_upsample",
)  # fmt: skip


def network_config(
    network: dict[str, Any], micro: MicroConditioning | None = None, *, num_frames: int = 21
) -> NetworkConfig:
    """Our configuration of a network described in the original's terms (`network_config.params` of its YAML files).

    micro: needed where adm_in_channels is none of 256 (SV3D_u), 768 (SVD) and 1280 (SV3D_p).
    Raises InputError that names the term which is missing, unknown or outside this family.
    """
    for term in network:
        if term not in (*_FIXED, *_READ, *_WITHOUT_EFFECT):
            raise InputError(f"network configuration: unknown term {term}")
    for term, (allowed, default) in _FIXED.items():
        value = network.get(term, default)
        if value not in allowed:
            raise InputError(
                f"network configuration: expected {term} {' or '.join(map(str, allowed))}, got {value}"
            )
    for term in ("adm_in_channels", "in_channels", "out_channels", "model_channels", "attention_resolutions",
                 "num_res_blocks", "context_dim"):  # fmt: skip
        if network.get(term) is None:
            raise InputError(f"network configuration: {term} is missing")
    kernel = network.get("video_kernel_size", 3)
    if not isinstance(kernel, list | tuple) or tuple(kernel) != (3, 1, 1):
        raise InputError(f"network configuration: expected video_kernel_size [3, 1, 1], got {kernel}")
    multipliers = tuple(network.get("channel_mult", (1, 2, 4, 8)))
    if multipliers[0] != 1:
        raise InputError(
            f"network configuration: expected channel_mult to begin with 1, got {multipliers[0]}"
        )
    channels = tuple(network["model_channels"] * m for m in multipliers)
    depth = network.get("transformer_depth", 1)
    depths = (depth,) * len(channels) if isinstance(depth, int) else tuple(depth)
    middle = network.get("transformer_depth_middle")
    resolutions = network["attention_resolutions"]
    return NetworkConfig(
        micro=_micro(network["adm_in_channels"], micro),
        block_out_channels=channels,
        attention=tuple(2**level in resolutions for level in range(len(channels))),
        heads=_heads(network, channels),
        layers_per_block=network["num_res_blocks"],
        transformer_depth=depths,
        mid_transformer_depth=depths[-1] if middle is None else middle,
        context_dim=network["context_dim"],
        in_channels=network["in_channels"],
        out_channels=network["out_channels"],
        num_frames=num_frames,
    )


def load_sgm_unet(
    weights_path: str | os.PathLike[str],
    network: dict[str, Any],
    *,
    micro: MicroConditioning | None = None,
    num_frames: int = 21,
    dtype: torch.dtype = torch.float32,
) -> MultiViewUNet:
    """A network from a checkpoint with the original's key names (`model.diffusion_model.…`), on the CPU, for inference.

    network: the configuration in the original's terms. The checkpoint may hold the VAE and the image encoder as well;
    anything else, a missing key or a wrong shape is an InputError that names it.
    """
    config = network_config(network, micro, num_frames=num_frames)
    with torch.device("meta"):
        unet = config.build()
    shapes = {key: tuple(value.shape) for key, value in unet.state_dict().items()}
    with open_weights(weights_path) as weights:
        names = _checked_keys(weights, config, shapes)
        state = {key: weights.tensor(name).reshape(shapes[key]).to(dtype) for key, name in names.items()}
    unet.load_state_dict(state, assign=True)
    return unet.eval()


def _checked_keys(
    weights: WeightsFile, config: NetworkConfig, shapes: dict[str, tuple[int, ...]]
) -> dict[str, str]:
    """Our key -> the file's key, every one there with its shape, and none left over."""
    prefixed = any(key.startswith(NETWORK_PREFIX) for key in weights.keys)
    prefix = NETWORK_PREFIX if prefixed else ""
    names = {key: prefix + name for key, name in network_key_map(config, shapes).items()}
    found = {
        key: weights.shape(key) for key in weights.keys if not (prefixed and key.startswith(OTHER_PARTS))
    }
    expected = {name: shapes[key] for key, name in names.items()}
    for name, shape in expected.items():
        # Older configurations write the projections of a transformer as 1×1 convolutions.
        if name.endswith((".proj_in.weight", ".proj_out.weight")) and found.get(name) == (*shape, 1, 1):
            expected[name] = (*shape, 1, 1)
    check_keys(weights.path, expected, found, what="this network")
    return names


def network_key_map(config: NetworkConfig, keys: Any) -> dict[str, str]:
    """Our key -> the original's, without its prefix. keys: all keys of our network."""
    blocks = _block_map(config)
    names = {}
    for key in keys:
        block = next(b for b in blocks if key.startswith(b + "."))
        names[key] = f"{blocks[block]}.{_inner(block, key.removeprefix(block + '.'))}"
    return names


def _block_map(config: NetworkConfig) -> dict[str, str]:
    blocks = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    number, last = 0, len(config.attention) - 1
    for level, attention in enumerate(config.attention):
        for layer in range(config.layers_per_block):
            number += 1
            blocks[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{number}.0"
            if attention:
                blocks[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{number}.1"
        if level != last:
            number += 1
            blocks[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{number}.0.op"
    number = -1
    for level, attention in enumerate(reversed(config.attention)):
        for layer in range(config.layers_per_block + 1):
            number += 1
            blocks[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{number}.0"
            if attention:
                blocks[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{number}.1"
        if level != last:
            place = 2 if attention else 1
            blocks[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{number}.{place}.conv"
    return blocks


def _inner(block: str, key: str) -> str:
    if ".resnets." in block:
        part, _, rest = key.partition(".")
        if part == "time_mixer":
            return key
        layer, _, tail = rest.partition(".")
        return f"{'time_stack.' if part == 'temporal_res_block' else ''}{_RESNET[layer]}.{tail}"
    if ".attentions." in block:
        for ours, original in (
            ("temporal_transformer_blocks.", "time_stack."),
            ("time_pos_embed.linear_1.", "time_pos_embed.0."),
            ("time_pos_embed.linear_2.", "time_pos_embed.2."),
        ):
            if key.startswith(ours):
                return original + key.removeprefix(ours)
    return key


def _heads(network: dict[str, Any], channels: tuple[int, ...]) -> tuple[int, ...]:
    width, count = network.get("num_head_channels", -1), network.get("num_heads", -1)
    if width == -1 and count == -1:
        raise InputError("network configuration: num_head_channels and num_heads are both missing")
    heads = []
    for level, n in enumerate(channels):
        if 2**level not in network["attention_resolutions"] and level != len(channels) - 1:
            heads.append(1)  # no transformer there; the middle one has the width of the last level
            continue
        if n % (count if width == -1 else width):
            raise InputError(
                f"network configuration: {n} channels cannot be split "
                + (f"into {count} heads (num_heads)" if width == -1 else f"by num_head_channels {width}")
            )
        heads.append(count if width == -1 else n // width)
    return tuple(heads)


def _micro(width: int, micro: MicroConditioning | None) -> MicroConditioning:
    micro = micro or _MICRO_OF_WIDTH.get(width)
    if micro is None:
        raise InputError(
            f"network configuration: expected adm_in_channels 256 (SV3D_u), 768 (SVD) or 1280 (SV3D_p), got {width}; name "
            "the numbers it takes with micro=MicroConditioning(...)"
        )
    if micro.total_width != width:
        raise InputError(
            f"network configuration: expected adm_in_channels {micro.total_width} for the micro-conditioning "
            f"{', '.join(micro.names)}, got {width}"
        )
    return micro
