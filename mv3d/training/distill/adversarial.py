"""Heads that tell true orbits from a student's, by what the teacher's frozen encoder sees in them.

SF-V (Zhang et al. 2024, arXiv 2406.04324, section 3 and figure 2): the encoder of the teacher's network does not learn; after
each of its blocks a spatial head judges the frames, and a temporal head each place over the frames; both see samples to which
noise has been added. The shape of the heads, their loss (hinge) and that noise are our choice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import relu

from mv3d.models.conditioning import OrbitConditioning
from mv3d.training.objective import Denoise

Features = list[Tensor]
"""(batch, frames, channels, h, w) of each block of the encoder."""
_GROUPS = 8


class Heads(nn.Module):
    """A spatial and a temporal head for each block of the encoder. widths: the blocks' channels."""

    def __init__(self, widths: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.spatial = nn.ModuleList(_head(nn.Conv2d, width, hidden) for width in widths)
        self.temporal = nn.ModuleList(_head(nn.Conv1d, width, hidden) for width in widths)

    def forward(self, features: Features) -> list[Float[Tensor, "batch judgements"]]:
        """Judgements of each head: high for true samples."""
        found = []
        for seen, spatial, temporal in zip(features, self.spatial, self.temporal, strict=True):
            batch = len(seen)
            found.append(spatial(seen.flatten(0, 1)).reshape(batch, -1))
            over_time = seen.permute(0, 3, 4, 2, 1).flatten(0, 2)  # (batch·h·w, channels, frames)
            found.append(temporal(over_time).reshape(batch, -1))
        return found


def _head(convolution: type[nn.Conv1d] | type[nn.Conv2d], width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        convolution(width, hidden, 3, padding=1),
        nn.GroupNorm(_GROUPS, hidden),
        nn.SiLU(),
        convolution(hidden, 1, 1),
    )


class StudentWithHeads(nn.Module):
    """A student and the heads as one module, so that one optimiser, one checkpoint and one wrapper hold both."""

    def __init__(self, denoiser: Denoise, heads: Heads) -> None:
        super().__init__()
        self.denoiser, self.heads = denoiser, heads

    def forward(
        self,
        x: Tensor | Features,
        sigma: Tensor | None = None,
        conditioning: OrbitConditioning | None = None,
    ) -> Tensor | list[Tensor]:
        """The student's estimate of noisy latents; of features, the heads' judgements."""
        if isinstance(x, list):
            return self.heads(x)
        return self.denoiser(x, sigma, conditioning)

    def judged(self, features: Features) -> list[Tensor]:
        """The heads' judgements, with a gradient for the features and none for the heads."""
        fixed = {name: weight.detach() for name, weight in self.heads.named_parameters()}
        return functional_call(self.heads, fixed, (features,))


def heads_loss(judged: list[Tensor]) -> Tensor:
    """The hinge loss of the heads, the mean over them. judged: true samples, then as many of the student."""
    losses = []
    for values in judged:
        true, made = values.float().chunk(2)
        losses.append(relu(1 - true).mean() + relu(1 + made).mean())
    return torch.stack(losses).mean()


def student_loss(judged: list[Tensor]) -> Tensor:
    """What the student does against the heads: minus their judgement of its samples, the mean over them."""
    return torch.stack([-values.float().mean() for values in judged]).mean()
