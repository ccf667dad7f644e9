"""Samplers of the probability-flow ODE dx/dσ = (x - denoise(x, σ))/σ. They know nothing of the model.

Each takes `denoise(x, sigma) -> x0`, the noisy start and the falling noise levels with a zero at the end, and gives the
clean result. All are deterministic. `on_step(i)` is called after each step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
Levels = Float[Tensor, " levels"]
OnStep = Callable[[int], None]
Sampler = Callable[..., Tensor]


def _nothing(step: int) -> None:
    """No progress wanted."""


def euler(denoise: Denoiser, x: Tensor, sigmas: Levels, *, on_step: OnStep = _nothing) -> Tensor:
    """First order, one network call per step: the original's sampler (Karras et al. 2022, algorithm 1 without the correction)."""
    for i in range(len(sigmas) - 1):
        slope = (x - denoise(x, sigmas[i])) / sigmas[i]
        x = x + slope * (sigmas[i + 1] - sigmas[i])
        on_step(i)
    return x


def heun(denoise: Denoiser, x: Tensor, sigmas: Levels, *, on_step: OnStep = _nothing) -> Tensor:
    """Second order, two network calls per step but the last (Karras et al. 2022, algorithm 1)."""
    for i in range(len(sigmas) - 1):
        width = sigmas[i + 1] - sigmas[i]
        slope = (x - denoise(x, sigmas[i])) / sigmas[i]
        ahead = x + slope * width
        if sigmas[i + 1] > 0:
            slope = 0.5 * (slope + (ahead - denoise(ahead, sigmas[i + 1])) / sigmas[i + 1])
        x = x + slope * width
        on_step(i)
    return x


def dpmpp_2m(denoise: Denoiser, x: Tensor, sigmas: Levels, *, on_step: OnStep = _nothing) -> Tensor:
    """Second order multistep, one network call per step: DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2).

    In λ = -ln σ with α = 1: x ← (σ'/σ)·x - (e^(-h) - 1)·D, where D extrapolates the last two estimates.
    """
    previous, h_previous = None, None
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i])
        if sigmas[i + 1] == 0:
            x = denoised
        else:
            h = (sigmas[i] / sigmas[i + 1]).log()
            estimate = denoised
            if previous is not None and h_previous is not None:
                estimate = denoised + (denoised - previous) * (h / (2 * h_previous))
            x = (sigmas[i + 1] / sigmas[i]) * x - torch.expm1(-h) * estimate
            previous, h_previous = denoised, h
        on_step(i)
    return x


SAMPLERS: dict[str, Sampler] = {"euler": euler, "heun": heun, "dpmpp_2m": dpmpp_2m}
