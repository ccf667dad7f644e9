"""The samplers on data whose denoiser is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from mv3d.models.samplers import SAMPLERS
from mv3d.models.sampling import karras_sigmas

SPREAD = 0.5
ORDER = {"euler": 1, "heun": 2, "dpmpp_2m": 2}


def gaussian(x, sigma):
    """E[x0 | x] of x0 ~ N(0, SPREAD²)."""
    return x * SPREAD**2 / (SPREAD**2 + sigma**2)


def mixture(x, sigma):
    """E[x0 | x] of two narrow Gaussians at ±1."""
    narrow = 0.1**2
    weight = torch.sigmoid(2 * x / (sigma**2 + narrow))
    mean = 2 * weight - 1
    return mean + (x - mean) * narrow / (narrow + sigma**2)


def exact(x, sigma):
    """The end of the ODE from x at sigma, for the Gaussian: the quantile is kept."""
    return x * SPREAD / math.sqrt(SPREAD**2 + sigma**2)


def error(name, steps):
    sigmas = karras_sigmas(steps, sigma_min=0.002, sigma_max=80.0).double()
    start = torch.tensor([-60.0, 20.0, 100.0], dtype=torch.float64)
    return float((SAMPLERS[name](gaussian, start, sigmas) - exact(start, 80.0)).abs().max())


@pytest.mark.parametrize("name", SAMPLERS)
def test_order_of_convergence(name):
    # Halving the steps' width divides the error by 2^order, up to the terms that follow.
    ratio = error(name, 80) / error(name, 160)
    assert 2 ** ORDER[name] * 0.8 < ratio < 2 ** ORDER[name] * 1.35
    assert error(name, 160) < 0.02


def test_second_order_needs_fewer_calls():
    assert error("dpmpp_2m", 25) < 0.7 * error("euler", 50)


@pytest.mark.parametrize("name", SAMPLERS)
def test_mixture_ends_on_its_modes_and_keeps_the_order(name):
    start = 80 * torch.linspace(-2, 2, 41, dtype=torch.float64)
    end = SAMPLERS[name](mixture, start, karras_sigmas(40, sigma_max=80.0).double())
    assert (end.diff() >= -1e-9).all()
    near = (end.abs() - 1).abs() < 0.35
    assert near.float().mean() > 0.9


@pytest.mark.parametrize("name", SAMPLERS)
def test_calls_and_progress(name):
    calls, steps = [], []

    def counted(x, sigma):
        calls.append(float(sigma))
        return gaussian(x, sigma)

    SAMPLERS[name](counted, torch.ones(3), karras_sigmas(7), on_step=steps.append)
    assert steps == list(range(7)) and len(calls) == (13 if name == "heun" else 7) and min(calls) > 0
