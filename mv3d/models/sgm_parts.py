"""The original's VAE and image encoder: their key names, in those of diffusers and transformers.

Each map says, for a key of ours, where its values are in the original checkpoint and how they lie there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from mv3d.core.errors import InputError

CLIP_PREFIX = "conditioner.embedders.0.open_clip.model."
ENCODER_PREFIX = "conditioner.embedders.1.encoder."
DECODER_PREFIX = "first_stage_model."
# The text side of CLIP, and the decoder that belongs to the still-image autoencoder: there, and not used.
UNUSED = re.compile(
    re.escape(CLIP_PREFIX)
    + r"(positional_embedding|token_embedding\.weight|ln_final\.(weight|bias)|text_projection|logit_scale|attn_mask)$"
    + "|"
    + re.escape(ENCODER_PREFIX)
    + r"(decoder\.|post_quant_conv\.).*"
)
_RESNET = {
    "norm1": "norm1",
    "conv1": "conv1",
    "norm2": "norm2",
    "conv2": "conv2",
    "conv_shortcut": "nin_shortcut",
}
_TIME = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3"}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_CLIP_HEAD = {
    "vision_model.embeddings.class_embedding": "class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.pre_layrnorm.weight": "ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "ln_pre.bias",
    "vision_model.post_layernorm.weight": "ln_post.weight",
    "vision_model.post_layernorm.bias": "ln_post.bias",
}


@dataclass(frozen=True)
class Piece:
    """A tensor of ours inside one of the original: its key and shape there, a third of the rows, transposed or not."""

    key: str
    shape: tuple[int, ...]
    third: int | None = None
    transposed: bool = False

    def take(self, source: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Our tensor of this shape."""
        if self.third is not None:
            source = source.chunk(3)[self.third]
        return (source.T if self.transposed else source).reshape(shape)


def vae_pieces(shapes: dict[str, tuple[int, ...]]) -> dict[str, Piece]:
    """Our key -> its piece, for an AutoencoderKL without post_quant_conv or an AutoencoderKLTemporalDecoder.

    The encoder is the conditioner's, the decoder is the first stage's: so the original runs them.
    """
    levels = 1 + max(int(m[1]) for key in shapes if (m := re.match(r"encoder\.down_blocks\.(\d+)\.", key)))
    pieces = {}
    for key, shape in shapes.items():
        prefix = DECODER_PREFIX if key.startswith("decoder.") else ENCODER_PREFIX
        there = shape
        if ".attentions." in key and len(shape) == 2:
            there = (*shape, 1, 1)  # written as 1×1 convolutions
        pieces[key] = Piece(prefix + _vae_key(key, levels), there)
    return pieces


def clip_pieces(shapes: dict[str, tuple[int, ...]]) -> dict[str, Piece]:
    """Our key -> its piece, for transformers' CLIPVisionModelWithProjection and OpenCLIP's vision transformer."""
    prefix = CLIP_PREFIX + "visual."
    pieces = {}
    for key, shape in shapes.items():
        if key in _CLIP_HEAD:
            pieces[key] = Piece(prefix + _CLIP_HEAD[key], shape)
        elif key == "visual_projection.weight":
            pieces[key] = Piece(prefix + "proj", shape[::-1], transposed=True)
        else:
            pieces[key] = _clip_layer_piece(prefix, key, shape)
    return pieces


def _clip_layer_piece(prefix: str, key: str, shape: tuple[int, ...]) -> Piece:
    match = re.fullmatch(r"vision_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", key)
    if match is None:
        raise InputError(f"image encoder: no place in the original for {key}")
    layer, part, kind = match.groups()
    block = f"{prefix}transformer.resblocks.{layer}"
    if part in _CLIP:
        return Piece(f"{block}.{_CLIP[part]}.{kind}", shape)
    third = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj").index(part)
    return Piece(f"{block}.attn.in_proj_{kind}", (3 * shape[0], *shape[1:]), third=third)


def _vae_key(key: str, levels: int) -> str:
    if key.startswith("quant_conv."):
        return key
    side, _, rest = key.partition(".")
    for pattern, rename in _VAE_RULES:
        if match := re.fullmatch(pattern, rest):
            return f"{side}.{rename(match, levels)}"
    raise InputError(f"autoencoder: no place in the original for {key}")


def _vae_resnet(key: str) -> str:
    if key == "time_mixer.mix_factor":
        return "mix_factor"
    part, _, rest = key.partition(".")
    if part == "temporal_res_block":
        layer, _, kind = rest.partition(".")
        return f"time_stack.{_TIME[layer]}.{kind}"
    layer, _, kind = (rest if part == "spatial_res_block" else key).partition(".")
    return f"{_RESNET[layer]}.{kind}"


# Inside the encoder or the decoder: pattern of our key -> the original's. It numbers the way up from the finest level.
_VAE_RULES: tuple[tuple[str, Callable[[re.Match[str], int], str]], ...] = (
    (r"(conv_in|conv_out)\.(\w+)", lambda m, _: f"{m[1]}.{m[2]}"),
    (r"conv_norm_out\.(\w+)", lambda m, _: f"norm_out.{m[1]}"),
    (r"time_conv_out\.(\w+)", lambda m, _: f"conv_out.time_mix_conv.{m[1]}"),
    (r"mid_block\.attentions\.0\.(.+)\.(\w+)", lambda m, _: f"mid.attn_1.{_ATTENTION[m[1]]}.{m[2]}"),
    (r"mid_block\.resnets\.(\d)\.(.+)", lambda m, _: f"mid.block_{int(m[1]) + 1}.{_vae_resnet(m[2])}"),
    (
        r"down_blocks\.(\d+)\.resnets\.(\d+)\.(.+)",
        lambda m, _: f"down.{m[1]}.block.{m[2]}.{_vae_resnet(m[3])}",
    ),
    (r"down_blocks\.(\d+)\.downsamplers\.0\.(.+)", lambda m, _: f"down.{m[1]}.downsample.{m[2]}"),
    (
        r"up_blocks\.(\d+)\.resnets\.(\d+)\.(.+)",
        lambda m, n: f"up.{n - 1 - int(m[1])}.block.{m[2]}.{_vae_resnet(m[3])}",
    ),
    (r"up_blocks\.(\d+)\.upsamplers\.0\.(.+)", lambda m, n: f"up.{n - 1 - int(m[1])}.upsample.{m[2]}"),
)


def has_temporal_decoder(keys: Iterable[str]) -> bool:
    """Whether the first stage decodes frames together."""
    return f"{DECODER_PREFIX}decoder.conv_out.time_mix_conv.weight" in keys
