"""The network: Stable Video Diffusion's UNet with a camera per frame.

`MultiViewUNet` is diffusers' `UNetSpatioTemporalConditionModel` with three changes. The numbers that condition it (noise
augmentation, elevation, azimuth, ...) may differ from frame to frame, and each has its own embedding width (SV3D, arXiv
2403.12008, section 3). Every residual block normalises with the epsilon that the weights were trained with. Renders of a
3D prior may condition it, as further input channels of the first convolution. The parameters and their names are those of
the parent, and `conv_in_render.weight` where there are renders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.resnet import ResnetBlock2D, TemporalResnetBlock
from diffusers.models.unets.unet_3d_blocks import UNetMidBlockSpatioTemporal
from diffusers.models.unets.unet_spatio_temporal_condition import (
    UNetSpatioTemporalConditionModel,
    UNetSpatioTemporalConditionOutput,
)
from jaxtyping import Float
from torch import Tensor, nn

from mv3d.core.errors import InputError, UsageError

MicroName = Literal["fps", "motion_bucket", "cond_aug", "elevation", "polar", "azimuth"]
_MICRO_NAMES = get_args(MicroName)
_RESNET_EPS = 1e-5
_GROUPS = 32


@dataclass(frozen=True)
class MicroConditioning:
    """The numbers that condition the network per frame, in order, and the widths of their sinusoidal embeddings.

    fps and motion_bucket are SVD's; cond_aug is the noise added to the conditioning image; elevation, polar
    (90° - elevation) and azimuth (relative to the input view) are radians.
    """

    names: tuple[MicroName, ...]
    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.widths) or not self.names:
            raise UsageError(
                f"micro-conditioning: expected one width per name, got {len(self.names)} names and {len(self.widths)} widths"
            )
        for name, width in zip(self.names, self.widths, strict=True):
            if name not in _MICRO_NAMES:
                raise UsageError(
                    f"micro-conditioning: expected some of {', '.join(_MICRO_NAMES)}, got {name}"
                )
            if width < 2 or width % 2:
                raise UsageError(
                    f"micro-conditioning: expected an even width of {name}, at least 2, got {width}"
                )

    @property
    def total_width(self) -> int:
        return sum(self.widths)


SVD = MicroConditioning(("fps", "motion_bucket", "cond_aug"), (256, 256, 256))
SVD_MV = MicroConditioning(("elevation",), (256,))
SV3D_U = MicroConditioning(("cond_aug",), (256,))
SV3D_P = MicroConditioning(("cond_aug", "polar", "azimuth"), (256, 512, 512))


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of a network. The defaults are the full size, 1.5 billion parameters."""

    micro: MicroConditioning = SV3D_P
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    """Channels of each level, from the finest; multiples of 32."""
    attention: tuple[bool, ...] = (True, True, True, False)
    """Which levels have transformers."""
    heads: tuple[int, ...] = (5, 10, 20, 20)
    """Attention heads of each level."""
    layers_per_block: int = 2
    """Residual blocks of each level on the way down; one more on the way up."""
    transformer_depth: tuple[int, ...] = (1, 1, 1, 1)
    """Spatial and temporal transformer blocks in each transformer."""
    mid_transformer_depth: int = 1
    context_dim: int = 1024
    """Width of the image embedding."""
    in_channels: int = 8
    out_channels: int = 4
    num_frames: int = 21
    sample_size: int = 72
    """Side of the latents that the network was made for."""
    render_channels: int = 0
    """Input channels for the render of each view: its latent and its mask; 0 for none."""

    def __post_init__(self) -> None:
        levels = len(self.block_out_channels)
        for name in ("attention", "heads", "transformer_depth"):
            if len(getattr(self, name)) != levels:
                raise UsageError(
                    f"network: expected {levels} values of {name}, one per level, got {len(getattr(self, name))}"
                )
        for channels, heads in zip(self.block_out_channels, self.heads, strict=True):
            if channels % _GROUPS:
                raise UsageError(f"network: expected multiples of {_GROUPS} channels, got {channels}")
            if heads < 1 or channels % heads:
                raise UsageError(f"network: {channels} channels cannot be split into {heads} heads")

    def diffusers_config(self) -> dict[str, Any]:
        """The arguments of `MultiViewUNet`; what its config.json holds."""
        down = [f"{'CrossAttn' if a else ''}DownBlockSpatioTemporal" for a in self.attention]
        up = [f"{'CrossAttn' if a else ''}UpBlockSpatioTemporal" for a in reversed(self.attention)]
        return {
            "sample_size": self.sample_size,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "down_block_types": tuple(down),
            "up_block_types": tuple(up),
            "block_out_channels": self.block_out_channels,
            "addition_time_embed_dim": self.micro.widths[0],
            "projection_class_embeddings_input_dim": self.micro.total_width,
            "layers_per_block": self.layers_per_block,
            "cross_attention_dim": self.context_dim,
            "transformer_layers_per_block": self.transformer_depth,
            "num_attention_heads": self.heads,
            "num_frames": self.num_frames,
            "vector_names": self.micro.names,
            "vector_widths": self.micro.widths,
            "mid_transformer_layers": self.mid_transformer_depth,
        } | ({"render_channels": self.render_channels} if self.render_channels else {})

    def build(self) -> MultiViewUNet:
        """A network with torch's default initial weights, on the current default device."""
        return MultiViewUNet(**self.diffusers_config())


SMALL = NetworkConfig(
    block_out_channels=(32, 64, 64),
    attention=(True, True, False),
    heads=(2, 4, 4),
    layers_per_block=1,
    transformer_depth=(1, 1, 1),
    context_dim=48,
    sample_size=8,
)
"""For tests and first tries on one machine."""


class MultiViewUNet(UNetSpatioTemporalConditionModel):
    """The denoising network; `NetworkConfig.build` makes one. See the module's head for what differs from the parent."""

    @register_to_config
    def __init__(
        self,
        *,
        sample_size: int | None = None,
        in_channels: int = 8,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = ("CrossAttnDownBlockSpatioTemporal",) * 3
        + ("DownBlockSpatioTemporal",),
        up_block_types: tuple[str, ...] = ("UpBlockSpatioTemporal",)
        + ("CrossAttnUpBlockSpatioTemporal",) * 3,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        addition_time_embed_dim: int = 256,
        projection_class_embeddings_input_dim: int = 768,
        layers_per_block: int = 2,
        cross_attention_dim: int = 1024,
        transformer_layers_per_block: int | tuple[int, ...] = 1,
        num_attention_heads: int | tuple[int, ...] = (5, 10, 20, 20),
        num_frames: int = 25,
        vector_names: tuple[MicroName, ...] = SVD.names,
        vector_widths: tuple[int, ...] = SVD.widths,
        mid_transformer_layers: int | None = None,
        render_channels: int = 0,
    ) -> None:
        # The decorator has kept the arguments in `self.config`; all but the last four are the parent's.
        own = ("vector_names", "vector_widths", "mid_transformer_layers", "render_channels")
        super().__init__(**{key: value for key, value in self.arguments.items() if key not in own})
        self.micro = MicroConditioning(tuple(vector_names), tuple(vector_widths))
        if self.micro.total_width != projection_class_embeddings_input_dim:
            raise InputError(
                f"network: expected projection_class_embeddings_input_dim {self.micro.total_width} for the micro-conditioning "
                f"{', '.join(self.micro.names)}, got {projection_class_embeddings_input_dim}"
            )
        depth = _last(transformer_layers_per_block)
        if mid_transformer_layers is not None and mid_transformer_layers != depth:
            self.mid_block = UNetMidBlockSpatioTemporal(
                block_out_channels[-1],
                temb_channels=block_out_channels[0] * 4,
                transformer_layers_per_block=mid_transformer_layers,
                cross_attention_dim=cross_attention_dim,
                num_attention_heads=_last(num_attention_heads),
            )
        # By itself instead of wider weights of `conv_in`: the sum is the same, the base's weights keep their shape, and
        # zeros add nothing to the last bit.
        self.conv_in_render = None
        if render_channels:
            self.conv_in_render = nn.Conv2d(render_channels, block_out_channels[0], 3, padding=1, bias=False)
        # diffusers normalises with 1e-6 in some residual blocks; the original uses 1e-5 in all.
        for block in self.modules():
            if isinstance(block, ResnetBlock2D | TemporalResnetBlock):
                block.norm1.eps = block.norm2.eps = _RESNET_EPS

    @property
    def arguments(self) -> dict[str, Any]:
        """What another network like this is made with; what its config.json holds beside the class."""
        kept = {key: value for key, value in self.config.items() if not key.startswith("_")}
        if not self.render_channels:
            kept.pop("render_channels", None)
        return kept

    @property
    def render_channels(self) -> int:
        """Input channels for the render of each view: its latent and its mask; 0 for none."""
        return self.config.get("render_channels", 0)

    def forward(
        self,
        sample: Float[Tensor, "batch frames channels height width"],
        timestep: Float[Tensor, " batch"] | float,
        encoder_hidden_states: Float[Tensor, "batch tokens context"],
        added_time_ids: Float[Tensor, "batch numbers"] | Float[Tensor, "batch frames numbers"],
        return_dict: bool = True,
    ) -> UNetSpatioTemporalConditionOutput | tuple[Tensor]:
        """Predict v from scaled noisy latents.

        sample: scaled noisy latents with the conditioning latents concatenated along the channels, and with the renders
        where there are some: a network that takes them does without.
        timestep: c_noise, one per sample. added_time_ids: the values of `micro`, per sample or per frame.
        """
        batch, frames = sample.shape[:2]
        emb, context = self._embedded(sample, timestep, encoder_hidden_states, added_time_ids)
        out = self._run_blocks(sample.flatten(0, 1), emb, context, batch, frames)
        out = out.unflatten(0, (batch, frames))
        return UNetSpatioTemporalConditionOutput(sample=out) if return_dict else (out,)

    def encoder_features(
        self,
        sample: Float[Tensor, "batch frames channels height width"],
        timestep: Float[Tensor, " batch"] | float,
        encoder_hidden_states: Float[Tensor, "batch tokens context"],
        added_time_ids: Float[Tensor, "batch numbers"] | Float[Tensor, "batch frames numbers"],
    ) -> list[Float[Tensor, "batch frames features h w"]]:
        """What the first half of the network makes of its inputs, after each of its blocks. Inputs as in `forward`."""
        batch, frames = sample.shape[:2]
        emb, context = self._embedded(sample, timestep, encoder_hidden_states, added_time_ids)
        hidden, found = self._entered(sample.flatten(0, 1)), []
        for block in self.down_blocks:
            hidden, _ = block(hidden, **_inputs(block, hidden, emb, context, batch, frames))
            found.append(hidden.unflatten(0, (batch, frames)))
        return found

    def _embedded(
        self, sample: Tensor, timestep: Tensor | float, encoder_hidden_states: Tensor, added_time_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The embedding of noise level and camera, and the context, both per frame of the batch."""
        batch, frames = sample.shape[:2]
        self._check(sample, added_time_ids)
        time = torch.as_tensor(timestep, dtype=torch.float32, device=sample.device).reshape(-1).expand(batch)
        time_emb = self.time_embedding(self.time_proj(time).to(sample.dtype))
        values = added_time_ids
        if values.ndim == 2:
            values = values[:, None].expand(-1, frames, -1)
        embedded = embed_micro_conditioning(values.to(sample.device), self.micro.widths).to(sample.dtype)
        emb = time_emb.repeat_interleave(frames, dim=0) + self.add_embedding(embedded.flatten(0, 1))
        return emb, encoder_hidden_states.repeat_interleave(frames, dim=0)

    def _entered(self, hidden: Tensor) -> Tensor:
        """The first convolution of (batch·frames, channels, h, w), with the renders where there are some."""
        channels = self.conv_in.in_channels
        renders = hidden[:, channels:]
        hidden = self.conv_in(hidden[:, :channels])
        if self.conv_in_render is not None and renders.shape[1]:
            hidden = hidden + self.conv_in_render(renders)
        return hidden

    def _run_blocks(self, hidden: Tensor, emb: Tensor, context: Tensor, batch: int, frames: int) -> Tensor:
        """hidden (batch·frames, channels, h, w), emb and context per frame -> (batch·frames, out_channels, h, w)."""

        def inputs(block: nn.Module) -> dict[str, Tensor]:
            return _inputs(block, hidden, emb, context, batch, frames)

        hidden = self._entered(hidden)
        skips: tuple[Tensor, ...] = (hidden,)
        for block in self.down_blocks:
            hidden, new = block(hidden, **inputs(block))
            skips += new
        hidden = self.mid_block(hidden, **inputs(self.mid_block))
        for block in self.up_blocks:
            count = len(block.resnets)  # type: ignore[arg-type]
            used, skips = skips[-count:], skips[:-count]
            hidden = block(hidden, res_hidden_states_tuple=used, **inputs(block))
        return self.conv_out(self.conv_act(self.conv_norm_out(hidden)))

    def _check(self, sample: Tensor, added_time_ids: Tensor) -> None:
        factor = 2 ** (len(self.down_blocks) - 1)
        if any(side % factor for side in sample.shape[-2:]):
            raise UsageError(
                f"network: expected latents with sides that {factor} divides, got {tuple(sample.shape[-2:])}"
            )
        plain = self.conv_in.in_channels
        takes = {plain, plain + self.render_channels}
        if sample.shape[2] not in takes:
            raise UsageError(
                f"network: expected {' or '.join(map(str, sorted(takes)))} channels, got {sample.shape[2]}"
            )
        if added_time_ids.shape[-1] != len(self.micro.names):
            raise UsageError(
                f"network: expected the numbers {', '.join(self.micro.names)} per frame, got {added_time_ids.shape[-1]} numbers"
            )


def _inputs(
    block: nn.Module, hidden: Tensor, emb: Tensor, context: Tensor, batch: int, frames: int
) -> dict[str, Tensor]:
    """The arguments of a block beside its input."""
    # All frames are video: nothing skips the temporal layers.
    video = torch.zeros(batch, frames, dtype=hidden.dtype, device=hidden.device)
    given = {"temb": emb, "image_only_indicator": video}
    attends = getattr(block, "has_cross_attention", False)
    return given | {"encoder_hidden_states": context} if attends else given


def sinusoidal_embedding(values: Float[Tensor, " *any"], width: int) -> Float[Tensor, "*any width"]:
    """cos and sin of a number at width/2 frequencies 10000^(-k/(width/2)), cosines first (Vaswani et al. 2017, 3.5).

    float32 whatever the network's precision.
    """
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=values.device) / half
    angles = values.to(torch.float32)[..., None] * torch.exp(-math.log(10_000) * exponents)
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)


def embed_micro_conditioning(
    values: Float[Tensor, "*any numbers"], widths: Sequence[int]
) -> Float[Tensor, "*any total"]:
    """Each number embedded at its own width, concatenated in order."""
    return torch.cat([sinusoidal_embedding(values[..., i], width) for i, width in enumerate(widths)], dim=-1)


def _last(value: int | Sequence[int]) -> int:
    return value if isinstance(value, int) else value[-1]
