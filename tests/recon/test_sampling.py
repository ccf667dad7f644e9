"""The fast sampler of the field, against torch's own and its gradients."""

from __future__ import annotations

import torch

from mv3d.recon.sampling import sample_field
from mv3d.views.grid import Grid


def test_samples_and_gradients_are_those_of_torch():
    generator = torch.Generator().manual_seed(0)
    grid = Grid((-0.5, 0.2, -1.0), 0.25, (5, 7, 9))
    sdf, rgb = torch.randn(5, 7, 9, generator=generator), torch.rand(3, 5, 7, 9, generator=generator)
    # Some outside of the grid, some on its samples.
    points = torch.rand(4, 60, 3, generator=generator) * torch.tensor([1.6, 2.2, 2.6]) - torch.tensor(
        [0.8, 0, 1.3]
    )
    points[0, :3] = torch.tensor([[0.5, 1.7, 1.0], [-0.5, 0.2, -1.0], [0.0, 0.7, 0.25]])
    wanted = torch.randn(4, 60, 4, generator=generator)

    def outcome(sample):
        leaves = [part.clone().requires_grad_(True) for part in (sdf, rgb, points)]
        found = sample(*leaves)
        (found * wanted).sum().backward()
        return found, *(leaf.grad for leaf in leaves)

    fast = outcome(lambda s, c, p: sample_field(grid, s, c, p))
    slow = outcome(lambda s, c, p: grid.sample(torch.cat([s[None], c]), p))
    for name, one, other in zip(("values", "sdf", "rgb"), fast, slow, strict=False):
        assert torch.allclose(one, other, atol=2e-5), name
    # On a sample and on the border the slope is of one side or the other.
    cells = (points - torch.tensor(grid.origin)) / grid.spacing
    inner = ((cells - cells.round()).abs() > 1e-3).all(-1)
    assert inner.sum() > 200
    assert torch.allclose(fast[3][inner], slow[3][inner], atol=2e-4)


def test_sample_along_is_sample():
    generator = torch.Generator().manual_seed(1)
    grid = Grid((-1.0, -1.0, -0.5), 0.2, (11, 11, 6))
    values = torch.randn(grid.shape, generator=generator)
    origin, direction = torch.randn(2, 40, 3, generator=generator)
    t = torch.rand(40, 300, generator=generator)
    points = origin[:, None] + direction[:, None] * t[..., None]
    slow = grid.sample(values[None], points)[..., 0]
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            found = grid.sample_along(values, origin, direction, t)
        finally:
            torch.set_num_threads(before)
        assert torch.allclose(found, slow, atol=1e-4)
