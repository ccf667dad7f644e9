"""Samples of a grid."""

from __future__ import annotations

import torch

from mv3d.views.grid import Grid

CPU = torch.device("cpu")


def test_grid_sampling_is_trilinear():
    grid = Grid((0.0, 1.0, 2.0), 0.5, (3, 4, 5))
    points = grid.points(CPU)
    values = (points * torch.tensor([1.0, 10, 100])).sum(1).reshape(1, *grid.shape)
    at = torch.tensor([[0.3, 1.7, 3.1], [1.0, 2.5, 4.0]])
    assert torch.allclose(
        grid.sample(values, at)[:, 0], (at * torch.tensor([1.0, 10, 100])).sum(1), atol=1e-4
    )
