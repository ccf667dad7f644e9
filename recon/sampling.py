"""Distance and colour of the field at many points at once: trilinear, differentiable, fast on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse

from mv3d.recon.arrays import Volume
from mv3d.views.grid import Grid


def sample_field(
    grid: Grid, sdf: Volume, rgb: Float[torch.Tensor, "3 x y z"], points: Float[torch.Tensor, "*b 3"]
) -> Float[torch.Tensor, "*b 4"]:
    """Distance and colour at world positions, clamped at the border; differentiable in all three.

    As `Grid.sample`, which it is on a GPU. On the CPU torch's own gradient costs five times as much as its samples.
    """
    if sdf.is_cuda:
        return grid.sample(torch.cat([sdf[None], rgb]), points)
    cells = (points.reshape(-1, 3) - points.new_tensor(grid.origin)) / grid.spacing
    return _Trilinear.apply(sdf, rgb, cells).reshape(*points.shape[:-1], 4)  # pyright: ignore


class _Trilinear(torch.autograd.Function):
    """Rows of a table of all samples, eight for each point, summed with their weights; positions in spacings."""

    @staticmethod
    def forward(
        ctx: Any, sdf: Volume, rgb: Float[torch.Tensor, "3 x y z"], cells: Float[torch.Tensor, "p 3"]
    ) -> Float[torch.Tensor, "p 4"]:
        most = cells.new_tensor(sdf.shape) - 1
        inner = cells.clamp_min(0).minimum(most)
        base = inner.floor().minimum(most - 1)
        share = inner - base
        weights = _products(*((1 - share[:, k], share[:, k]) for k in range(3)))
        corners = _corners(base.to(torch.int32), sdf.shape)
        table = torch.empty(sdf.numel(), 4)
        table[:, 0] = sdf.reshape(-1)
        table[:, 1:] = rgb.reshape(3, -1).T
        ctx.save_for_backward(table, corners, weights, share, inner == cells)
        ctx.shape = sdf.shape
        return _bag(table, corners, weights)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        table, corners, weights, share, free = ctx.saved_tensors
        count = len(corners)
        starts = np.arange(0, 8 * count + 1, 8, dtype=np.int32)
        matrix = sparse.csr_matrix(
            (weights.numpy().ravel(), corners.numpy().ravel(), starts), shape=(count, len(table))
        )
        to_table = torch.from_numpy(matrix.T @ grad.contiguous().numpy())
        to_cells = None
        if ctx.needs_input_grad[2]:
            sides = [(1 - share[:, k], share[:, k]) for k in range(3)]
            slope = (-torch.ones(count), torch.ones(count))
            columns = []
            for axis in range(3):
                steep = _products(*(slope if k == axis else sides[k] for k in range(3)))
                columns.append((_bag(table, corners, steep) * grad).sum(1))
            to_cells = torch.stack(columns, 1) * free
        return to_table[:, 0].reshape(ctx.shape), to_table[:, 1:].T.reshape(3, *ctx.shape), to_cells


def _bag(
    table: Float[torch.Tensor, "v c"],
    corners: Int[torch.Tensor, "p 8"],
    weights: Float[torch.Tensor, "p 8"],
) -> Float[torch.Tensor, "p c"]:
    """Weighted sums of eight rows."""
    return torch.nn.functional.embedding_bag(corners, table, per_sample_weights=weights, mode="sum")


def _corners(base: Int[torch.Tensor, "p 3"], shape: torch.Size) -> Int[torch.Tensor, "p 8"]:
    """Flat indices of the eight samples around, z fastest."""
    _, ny, nz = shape
    first = (base[:, 0] * ny + base[:, 1]) * nz + base[:, 2]
    offsets = [(i * ny + j) * nz + k for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    return first[:, None] + base.new_tensor(offsets)


def _products(
    x: tuple[torch.Tensor, torch.Tensor],
    y: tuple[torch.Tensor, torch.Tensor],
    z: tuple[torch.Tensor, torch.Tensor],
) -> Float[torch.Tensor, "p 8"]:
    """x_i · y_j · z_k for both sides of each, in the order of `_corners`."""
    pairs = [a * b for a in x for b in y]
    answer = torch.empty(len(x[0]), 8)
    for at, pair in enumerate(pairs):
        for side in (0, 1):
            torch.mul(pair, z[side], out=answer[:, 2 * at + side])
    return answer
