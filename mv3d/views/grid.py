"""A regular grid of samples in the world, as torch tensors, and how to read it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float


@dataclass(frozen=True)
class Grid:
    """Sample positions origin + spacing · (i, j, k), index order x, y, z.

    origin: world position of sample (0, 0, 0). spacing: world units. shape: samples along x, y, z.
    """

    origin: tuple[float, float, float]
    spacing: float
    shape: tuple[int, int, int]

    @staticmethod
    def around(low: list[float], high: list[float], longest: int) -> Grid:
        """The grid over the box low..high with `longest` samples along its longest side."""
        spacing = max(b - a for a, b in zip(low, high, strict=True)) / (longest - 1)
        shape = tuple(int((b - a) / spacing + 0.5) + 1 for a, b in zip(low, high, strict=True))
        return Grid((low[0], low[1], low[2]), spacing, (shape[0], shape[1], shape[2]))

    def resized(self, longest: int) -> Grid:
        """The grid over the same box with `longest` samples along its longest side."""
        high = [a + self.spacing * (n - 1) for a, n in zip(self.origin, self.shape, strict=True)]
        return Grid.around(list(self.origin), high, longest)

    def points(self, device: torch.device) -> Float[torch.Tensor, "p 3"]:
        """All sample positions, x slowest."""
        axes = [
            start + self.spacing * torch.arange(count, device=device, dtype=torch.float32)
            for start, count in zip(self.origin, self.shape, strict=True)
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)

    def to_unit(self, points: Float[torch.Tensor, "*b 3"]) -> Float[torch.Tensor, "*b 3"]:
        """World positions → [-1, 1]³ in the order that `grid_sample` reads (z, y, x: last axis first)."""
        origin = points.new_tensor(self.origin)
        extent = points.new_tensor([self.spacing * (count - 1) for count in self.shape])
        return ((points - origin) / extent * 2 - 1).flip(-1)

    def sample(
        self, values: Float[torch.Tensor, "c x y z"], points: Float[torch.Tensor, "*b 3"]
    ) -> Float[torch.Tensor, "*b c"]:
        """Trilinear samples of `values` at world positions; clamped at the border. Differentiable."""
        found = trilinear(values, self.to_unit(points).reshape(-1, 3))
        return found.T.reshape(*points.shape[:-1], values.shape[0])

    def sample_along(
        self,
        values: Float[torch.Tensor, "x y z"],
        origin: Float[torch.Tensor, "r 3"],
        direction: Float[torch.Tensor, "r 3"],
        t: Float[torch.Tensor, "r s"],
    ) -> Float[torch.Tensor, "r s"]:
        """`sample` of one channel at origin + t · direction."""
        start = self.to_unit(origin)
        along = self.to_unit(origin + direction) - start
        where = torch.addcmul(start[:, None], along[:, None], t[..., None])
        return trilinear(values[None], where.reshape(-1, 3)).reshape(t.shape)

    def resample(
        self, values: Float[torch.Tensor, "c x y z"], target: Grid
    ) -> Float[torch.Tensor, "c x y z"]:
        """The same field on another grid."""
        points = target.points(values.device)
        parts = [self.sample(values, chunk) for chunk in points.split(2_000_000)]
        return torch.cat(parts).T.reshape(values.shape[0], *target.shape).contiguous()


def trilinear(
    values: Float[torch.Tensor, "c x y z"], where: Float[torch.Tensor, "p 3"]
) -> Float[torch.Tensor, "c p"]:
    """Samples at positions in [-1, 1]³, last axis first; clamped at the border. Differentiable."""
    # On the CPU torch shares out batches to its threads, not points. A batch of views onto the same values costs nothing,
    # but its gradient would be one volume for each.
    differentiable = values.requires_grad or where.requires_grad
    parts = (
        1 if differentiable or values.is_cuda else min(torch.get_num_threads(), max(1, len(where) // 4096))
    )
    each = -(-len(where) // parts)
    batch = F.pad(where, (0, 0, 0, parts * each - len(where))) if parts * each > len(where) else where
    found = F.grid_sample(
        values.expand(parts, *values.shape),
        batch.reshape(parts, 1, 1, each, 3),
        align_corners=True,
        padding_mode="border",
    )
    return found[:, :, 0, 0].transpose(0, 1).reshape(len(values), -1)[:, : len(where)]
