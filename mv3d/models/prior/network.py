"""The network of the 3D prior: a pyramid of features, attention at the coarse ones, a U-Net decoder, per-pixel heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mv3d.models.prior.encoder import Encoder
from mv3d.models.prior.layers import GEOMETRY_CHANNELS, Layers, layers_of

HIDDEN_SURFACES = 3
"""Surfaces behind the visible one: the first exit, the second entry, the last exit."""
_HEADS = GEOMETRY_CHANNELS + 4 * HIDDEN_SURFACES


@dataclass(frozen=True, eq=False)
class Prediction:
    """layers: depths at half the input's side. colors: (b, 3, 3, h, w), surface, RGB in [0, 1]. gates: (b, 3, h, w) in
    [0, 1], how far the photo's own pixel is the colour of that surface. elevation_deg, elevation_log_std: (b,). enters:
    the answers that layers.enter is the mean of, where there were several."""

    layers: Layers
    colors: Float[Tensor, "b s 3 h w"]
    gates: Float[Tensor, "b s h w"]
    elevation_deg: Float[Tensor, " b"]
    elevation_log_std: Float[Tensor, " b"]
    enters: Float[Tensor, "k h w"] | None = None


class _Attention(nn.Module):
    """A transformer block over the pixels of a coarse feature map, which are told where they lie."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.place = nn.Conv2d(2, width, 1)
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.heads = heads

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        batch, width, height, across = x.shape
        y = torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype)
        z = torch.linspace(-1, 1, across, device=x.device, dtype=x.dtype)
        place = torch.stack(torch.meshgrid(z, y, indexing="xy"))[None]
        tokens = (x + self.place(place)).flatten(2).transpose(1, 2)
        qkv = self.qkv(self.norm(tokens)).view(batch, -1, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(tokens.shape)
        tokens = tokens + self.out(mixed)
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens.transpose(1, 2).reshape(x.shape).contiguous(memory_format=torch.channels_last)


class _Merge(nn.Module):
    """Coarse features, enlarged, with fine ones: two convolutions, the second beside a shortcut."""

    def __init__(self, coarse: int, fine: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(coarse + fine, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        large = F.interpolate(coarse, fine.shape[-2:], mode="nearest")
        x = F.relu(self.first(torch.cat([large, fine], 1)))
        return F.relu(x + self.second(x))


class PriorNetwork(nn.Module):
    """width: channels of the decoder at strides 32 and 16; the finer ones have fewer. encoder: EfficientNet-Lite0 unless
    another pyramid is given."""

    def __init__(self, width: int = 192, encoder: Encoder | None = None) -> None:
        super().__init__()
        self.encoder = encoder or Encoder()
        channels = self.encoder.channels
        self.top = nn.Conv2d(channels[4], width, 1)
        self.attention32 = nn.ModuleList([_Attention(width) for _ in range(2)])
        self.merge16 = _Merge(width, channels[3], width)
        self.attention16 = nn.ModuleList([_Attention(width) for _ in range(2)])
        self.merge8 = _Merge(width, channels[2], width // 2)
        self.merge4 = _Merge(width // 2, channels[1], width // 3)
        self.merge2 = _Merge(width // 3, channels[0] + 4, width // 4)
        self.head = nn.Conv2d(width // 4, _HEADS, 1)
        self.camera = nn.Linear(width, 2)
        nn.init.zeros_(self.head.weight)
        # Mostly one layer, a third of the range thick, grey, and the photo's own colour half of the time.
        bias = torch.zeros(_HEADS)
        bias[1], bias[4] = 0.5, -3.0
        self.head.bias = nn.Parameter(bias)
        nn.init.zeros_(self.camera.weight)
        nn.init.zeros_(self.camera.bias)

    def forward(self, rgba: Float[Tensor, "b 4 h w"]) -> Prediction:
        """rgba: on white, in [0, 1], the object's box in the middle; sides that are multiples of 32."""
        return self.answer(*self.features(rgba))

    def features(
        self, rgba: Float[Tensor, "b 4 h w"]
    ) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, "b d"]]:
        """What the heads read: of every pixel at half the input's side, and of the whole photo."""
        fine, quarter, eighth, sixteenth, coarse = self.encoder(rgba)
        x = self.top(coarse)
        for block in self.attention32:
            x = block(x)
        pooled = x.mean((2, 3))
        x = self.merge16(x, sixteenth)
        for block in self.attention16:
            x = block(x)
        x = self.merge4(self.merge8(x, eighth), quarter)
        half = F.interpolate(rgba, fine.shape[-2:], mode="area")
        return self.merge2(x, torch.cat([fine, half], 1)), pooled

    def answer(self, features: Float[Tensor, "b c y x"], pooled: Float[Tensor, "b d"]) -> Prediction:
        """The heads' reading of `features`."""
        raw = self.head(features).float()
        surfaces = raw[:, GEOMETRY_CHANNELS:].unflatten(1, (HIDDEN_SURFACES, 4))
        camera = self.camera(pooled).float()
        return Prediction(
            layers_of(raw[:, :GEOMETRY_CHANNELS]),
            torch.sigmoid(surfaces[:, :, :3]),
            torch.sigmoid(surfaces[:, :, 3]),
            20 + 20 * camera[:, 0],
            camera[:, 1] + 2,
        )
