"""Consistency distillation along the probability-flow ODE, by the schedule of Easy Consistency Tuning.

ECT (Geng et al. 2024, arXiv 2406.14548) begins at a diffusion model and asks f(x_t, t) = f(x_r, r) of two levels t > r of
one trajectory, at first far from each other, at last close together. No derivative of the network is taken. x_r is found by
one Euler step of the teacher, with its guidance (consistency distillation: Song et al. 2023, arXiv 2303.01469, eq. 6).

A student of several steps has as many consistency functions, one for each stretch of the noise levels (multistep consistency
models: Heek et al. 2024, arXiv 2403.06807): from x_t it leads to the point of the same trajectory at the end of t's stretch.
That is an Euler step of the ODE, so a student is sampled by `euler` at its own levels, without noise between them.

The functions know nothing of the network: x has any shape behind its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mv3d.models.folder import SamplerDefaults
from mv3d.models.preconditioning import loss_weight
from mv3d.models.sampling import karras_sigmas
from mv3d.training.loss import sample_generator

Estimate = Callable[[Tensor, Tensor], Tensor]
"""(x, sigma of each sample) → the clean sample, as the network or its guided teacher estimates it."""
_LOWEST = {2: 2.0, 4: 0.5}
"""The last level that a student of several steps is called at, in deviations of the data. ECT's second level is 1.6
(CIFAR-10) and 3.1 (ImageNet 64²) in the same unit."""
_Q = 2.0  # of ECT's schedule: by how much the gap shrinks from stage to stage
_K, _B = 8.0, 1.0  # of its sigmoid
_TOP = 0.25  # share of samples at the very levels that the student will be called at
_STREAM = 3


def student_sampler(teacher: SamplerDefaults, steps: int) -> SamplerDefaults:
    """How a student of 1, 2 or 4 steps is sampled: by Euler, without guidance."""
    return SamplerDefaults(
        steps=steps,
        sampler="euler",
        sigma_min=_LOWEST.get(steps, teacher.sigma_min),
        sigma_max=teacher.sigma_max,
        rho=teacher.rho,
        guidance_min=1.0,
        guidance_max=1.0,
        guidance_shape=teacher.guidance_shape,
        cond_aug=teacher.cond_aug,
    )


@dataclass(frozen=True)
class Stretches:
    """The stretches of noise levels of a student, from the noisiest on. tops: where it is called. ends: where it leads
    to, the last to the least noise of the teacher. rho: how levels are spread within (Karras et al. 2022, eq. 5)."""

    tops: tuple[float, ...]
    ends: tuple[float, ...]
    rho: float = 7.0

    @classmethod
    def of(cls, student: SamplerDefaults, sigma_min: float) -> Stretches:
        """Of a student's sampler. sigma_min: the teacher's."""
        levels = karras_sigmas(
            student.steps, sigma_min=student.sigma_min, sigma_max=student.sigma_max, rho=student.rho
        )
        tops = tuple(levels[:-1].tolist())
        return cls(tops, (*tops[1:], sigma_min), student.rho)

    def draw(
        self, seed: int, numbers: Sequence[int]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """(sigma, end of its stretch) of the samples with these numbers of a run; on the CPU.

        Any stretch is as likely as any other. A quarter of the samples are at its top, the others even in σ^(1/ρ).
        """
        rows = []
        for number in numbers:
            chance = torch.rand(3, generator=sample_generator(seed, number, _STREAM)).tolist()
            stretch = min(int(chance[0] * len(self.tops)), len(self.tops) - 1)
            top, end = self.tops[stretch], self.ends[stretch]
            high, low = top ** (1 / self.rho), end ** (1 / self.rho)
            within = (low + chance[2] * (high - low)) ** self.rho
            rows.append((top if chance[1] < _TOP else within, end))
        sigma, end = torch.tensor(rows).T
        return sigma, end


def stage_of(step: int, steps: int, stages: int) -> int:
    """The stage of ECT's schedule at a step of the run: all are equally long."""
    return min(step * stages // steps, stages - 1)


def nearer_level(
    sigma: Float[Tensor, " batch"], end: Float[Tensor, " batch"], stage: int
) -> Float[Tensor, " batch"]:
    """r(t) = t·(1 - n(t)/q^(stage+1)), n(t) = 1 + 8·sigmoid(-t), not below the end of the stretch (the mapping function of ECT, q = 2).

    In the first stages r is the end itself for low levels: there the target is that of diffusion.
    """
    gap = (1 + _K * torch.sigmoid(-_B * sigma)) / _Q ** (stage + 1)
    return torch.maximum(sigma * (1 - gap), end)


def led_to(
    denoised: Tensor, x: Tensor, sigma: Float[Tensor, " batch"], level: Float[Tensor, " batch"]
) -> Tensor:
    """x + (1 - level/σ)·(denoised - x): an Euler step of dx/dσ = (x - denoised)/σ; x itself where level = σ.

    With a student's estimate and the end of its stretch this is its consistency function f(x, σ): the boundary condition
    f(x, end) = x holds whatever the network says, and where end = 0, f is the estimate of the clean sample.
    """
    share = (1 - level / sigma).view(-1, *[1] * (x.ndim - 1))
    return x + share * (denoised - x)


def pseudo_huber(error: Tensor, c: float) -> Float[Tensor, " batch"]:
    """√(‖e‖²/d + c²) - c of each sample with d numbers (iCT, arXiv 2310.14189, section 3.3, over √d)."""
    return (error.flatten(1).square().mean(1) + c**2).sqrt() - c


def consistency_target(
    student: Estimate,
    teacher: Estimate,
    x: Tensor,
    sigma: Float[Tensor, " batch"],
    end: Float[Tensor, " batch"],
    stage: int,
) -> Tensor:
    """f(x_r, r) without a gradient, x_r one Euler step of the teacher from x at σ; x_r itself where r is the end.

    Then, and with end 0, it is the teacher's estimate of the clean sample: the target of diffusion, without its variance.
    """
    with torch.no_grad():
        level = nearer_level(sigma, end, stage)
        ahead = led_to(teacher(x, sigma), x, sigma, level)
        reached = level <= end
        # The network is called for all samples: those that share its weights between devices keep step.
        asked = torch.where(reached, sigma, level)
        further = led_to(student(ahead, asked), ahead, asked, end)
        return torch.where(reached.view(-1, *[1] * (x.ndim - 1)), ahead, further)


def consistency_loss(
    made: Tensor, target: Tensor, sigma: Float[Tensor, " batch"], c: float
) -> Float[Tensor, " batch"]:
    """The pseudo-Huber distance of f(x, σ) and its target, both times √((1 + σ²)/σ²).

    These are the units of the network's output, in which an error counts the same at all levels (as ECT's official weight
    does for the square). Beyond c the norm divides the gradient by what is left (ECT's adaptive weight), below it the
    loss is half the square, over c.
    """
    unit = loss_weight(sigma).sqrt().view(-1, *[1] * (made.ndim - 1))
    return pseudo_huber(unit * (made - target), c)
