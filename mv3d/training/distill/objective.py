"""What a distillation minimises: the consistency loss of a student, and with heads their game."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mv3d.models.network import MultiViewUNet
from mv3d.models.preconditioning import encoder_features
from mv3d.models.sampling import guided_denoiser
from mv3d.training.batches import BatchMaker
from mv3d.training.distill.adversarial import Heads, StudentWithHeads, heads_loss, student_loss
from mv3d.training.distill.config import DistillConfig
from mv3d.training.distill.consistency import (
    Stretches,
    consistency_loss,
    consistency_target,
    led_to,
    stage_of,
)
from mv3d.training.loss import sample_generator, with_dropout
from mv3d.training.objective import Denoise, Objective

STUDENT = "denoiser.unet."
"""What stands before the student's names where heads are trained beside it."""
_STREAM = 4
_NOISE_MEAN, _NOISE_STD = -1.0, 1.0  # of ln of the noise that heads see samples through


def distill_objective(
    config: DistillConfig,
    unet: MultiViewUNet,
    teacher: MultiViewUNet,
    stretches: Stretches,
    guidance: Tensor,
    batches: BatchMaker,
) -> Objective:
    """unet: the student, which begins as the teacher. teacher: frozen. guidance: its scale per frame, baked in."""
    half = config.precision == "bf16"
    denoiser = Denoise(unet, autocast=half)
    pair = _with_heads(config, denoiser, teacher) if config.adversarial else None

    def loss(module: nn.Module, raw: dict[str, Any], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        target, conditioning, noise = batches.make(raw)
        conditioning = with_dropout(
            conditioning, noise
        )  # of renders alone, for both: some photos have no solid
        device, numbers = target.device, [int(number) for number in raw["index"]]
        sigma, end = (levels.to(device) for levels in stretches.draw(config.seed, numbers))
        x = target + sigma.view(-1, 1, 1, 1, 1) * noise.noise
        guided = guided_denoiser(teacher, conditioning, guidance)

        def taught(x: Tensor, sigma: Tensor) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                return guided(x, sigma)

        def learned(x: Tensor, sigma: Tensor) -> Tensor:
            return module(x, sigma, conditioning)

        stage = stage_of(step, config.steps, config.stages)
        goal = consistency_target(learned, taught, x, sigma, end, stage)
        made = led_to(learned(x, sigma), x, sigma, end)
        consistency = consistency_loss(made, goal, sigma, config.huber).mean()
        if pair is None:
            return consistency, {}

        def seen(x: Tensor, level: Tensor) -> list[Tensor]:
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                return encoder_features(teacher, x, level, conditioning)

        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            against, telling = _game(config, module, pair, seen, made, target, end, numbers)
        total = consistency + config.adversarial_weight * against + telling
        return total, {"consistency_loss": consistency, "adversarial_loss": against, "heads_loss": telling}

    if pair is None:
        return Objective(unet, denoiser, loss)
    return Objective(pair, pair, loss, {"heads.": config.heads_rate})


def _game(
    config: DistillConfig,
    module: nn.Module,
    pair: StudentWithHeads,
    seen: Callable[[Tensor, Tensor], list[Tensor]],
    made: Tensor,
    target: Tensor,
    end: Tensor,
    numbers: list[int],
) -> tuple[Tensor, Tensor]:
    """(the student's loss against the heads, the heads' own). What the student leads to still has the noise of its
    stretch's end; more is added, and as much to true samples, so that both are at one level."""
    shape, draws = target.shape[1:], []
    for number in numbers:
        g = sample_generator(config.seed, number, _STREAM)
        draws.append(
            (torch.randn(1, generator=g), torch.randn(shape, generator=g), torch.randn(shape, generator=g))
        )
    normal, first, second = (torch.stack(column).to(target.device) for column in zip(*draws, strict=True))
    added = (_NOISE_MEAN + _NOISE_STD * normal[:, 0]).exp()
    level = (end**2 + added**2).sqrt()
    wide = (-1, 1, 1, 1, 1)
    of_student = seen(made + added.view(wide) * first, level)
    with torch.no_grad():
        of_truth = seen(target + level.view(wide) * second, level)
    both = [torch.cat([t, s.detach()]) for t, s in zip(of_truth, of_student, strict=True)]
    return student_loss(pair.judged(of_student)), heads_loss(module(both))


def _with_heads(config: DistillConfig, denoiser: Denoise, teacher: MultiViewUNet) -> StudentWithHeads:
    widths = teacher.config["block_out_channels"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        heads = Heads(widths, config.heads_width)
    return StudentWithHeads(denoiser, heads)


def student_weights(weights: dict[str, Tensor], *, adversarial: bool) -> dict[str, Tensor]:
    """The trained weights under the names of the network alone, without the heads."""
    if not adversarial:
        return weights
    return {name.removeprefix(STUDENT): value for name, value in weights.items() if name.startswith(STUDENT)}
