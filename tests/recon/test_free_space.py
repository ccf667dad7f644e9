"""The least cut: a straight lid where rays see a floor, nothing without evidence, and the plain solver's answer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mv3d.recon.free_space import _rounds, least_cut

SIZE = 24


def least_cut_plainly(cost: torch.Tensor, domain: torch.Tensor, weight: float, rounds: int) -> torch.Tensor:
    """On the whole grid alone, as long as it takes."""
    start = (~domain).float()
    return _rounds(start, start.new_zeros(3, *start.shape), cost, domain, weight, rounds)[0]


def energy(u: torch.Tensor, cost: torch.Tensor, domain: torch.Tensor, weight: float) -> float:
    """What is minimized: total variation and what the rays say against it."""
    slopes = [F.pad(u.diff(dim=axis), [0, 0] * (2 - axis) + [0, 1]) for axis in range(3)]
    return float(torch.stack(slopes).norm(dim=0).sum() + weight * (cost * u)[domain].sum())


def box() -> torch.Tensor:
    """A block of 16 x 16 x 16 samples in the middle of the grid."""
    inside = torch.zeros(SIZE, SIZE, SIZE, dtype=torch.bool)
    inside[4:20, 4:20, 4:20] = True
    return inside


def pit(depth: int) -> torch.Tensor:
    """Cost of a pit of 10 x 10 samples from the top, seen to be free; nothing is known of the rest."""
    cost = torch.ones(SIZE, SIZE, SIZE)
    cost[7:17, 7:17, 20 - depth : 20] = -1.0
    return cost


@pytest.mark.parametrize("depth", [5, 6])
def test_a_pit_that_rays_see_is_cut_out(depth: int):
    domain, cost = box(), pit(depth)
    free = domain & (least_cut(cost, domain, 1.0) > 0.5)
    seen = cost < 0
    assert (free & seen).sum() > 0.9 * seen.sum()
    assert (free & ~seen).sum() < 0.15 * seen.sum()


def test_nothing_is_cut_without_evidence():
    domain = box()
    free = domain & (least_cut(torch.ones(domain.shape), domain, 1.0) > 0.5)
    assert free.sum() < 0.1 * domain.sum()  # corners are rounded
    assert not free[6:18, 6:18].any() and not free[:, 6:18, 6:18].any()


def test_few_free_samples_cost_more_area_than_they_are_worth():
    domain, cost = box(), torch.ones(SIZE, SIZE, SIZE)
    cost[11:13, 11:13, 11:13] = -1.0
    assert not (least_cut(cost, domain, 1.0)[6:18, 6:18, 6:18] > 0.5).any()


def test_the_quick_solver_gives_the_plain_ones_answer():
    rng = torch.Generator().manual_seed(0)
    domain, cost = (
        large.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2)
        for large in (box(), pit(8))
    )
    cost = (cost + 0.3 * torch.randn(cost.shape, generator=rng)).clamp(-1, 1)
    quick, plain = least_cut(cost, domain, 0.5), least_cut_plainly(cost, domain, 0.5, rounds=1000)
    best = energy(plain, cost, domain, 0.5)
    assert energy(quick, cost, domain, 0.5) < best + 0.06 * abs(best)  # noise is the worst case: 4.5 %
    assert ((quick > 0.5) == (plain > 0.5)).float().mean() > 0.995


def test_no_threshold_of_the_answer_is_beaten_by_a_cut_of_another_depth():
    domain, cost = box(), pit(6)
    answer = (least_cut_plainly(cost, domain, 1.0, rounds=2000) > 0.5).float()
    least = energy(answer, cost, domain, 1.0)
    for depth in range(9):
        other = (~domain).float()
        other[7:17, 7:17, 20 - depth : 20] = 1.0
        assert least <= 1.01 * energy(other, cost, domain, 1.0)
