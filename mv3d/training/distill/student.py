"""A student for the training stage: its description, its objective, its weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mv3d.core.errors import UsageError
from mv3d.models.folder import ModelInfo, read_info
from mv3d.models.loading import load_unet
from mv3d.models.sampling import frame_guidance
from mv3d.training.batches import BatchMaker
from mv3d.training.distill.config import DistillConfig
from mv3d.training.distill.consistency import Stretches
from mv3d.training.distill.objective import distill_objective, student_weights
from mv3d.training.distill.teacher import student_info
from mv3d.training.objective import Objective
from mv3d.training.trainable import TrainableModel


@dataclass(frozen=True)
class Distilled:
    """What a stage takes from a distillation. info: the description of the student."""

    config: DistillConfig
    model: TrainableModel
    teacher: ModelInfo
    info: ModelInfo

    def objective(self, batches: BatchMaker, device: torch.device, *, sharded: bool) -> Objective:
        """Load the teacher and put it on the device, beside the student that begins with its weights.

        sharded: whether the student's weights will be spread over devices; the teacher is whole on each. Raises UsageError
        where that and heads are asked for.
        """
        config, sampler = self.config, self.teacher.sampler
        if sharded and config.adversarial:
            raise UsageError(
                "--adversarial: expected whole weights on each device, got FSDP; use the configuration of mv3d distill "
                "--print-config ddp"
            )
        # What is frozen needs no more precision than what is computed in.
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        teacher = load_unet(self.model.folder, dtype=dtype).requires_grad_(False)
        nn.Module.to(teacher, device)
        largest = sampler.guidance_max if config.guidance is None else config.guidance
        guidance = frame_guidance(sampler, config.frames, largest).to(device)
        stretches = Stretches.of(self.info.sampler, sampler.sigma_min)
        return distill_objective(config, self.model.unet, teacher, stretches, guidance, batches)

    def weights(self, trained: dict[str, Tensor]) -> dict[str, Tensor]:
        """The network's among the trained weights."""
        return student_weights(trained, adversarial=self.config.adversarial)


def distilled(config: DistillConfig, model: TrainableModel) -> Distilled:
    """The student of the model in `model.folder`, whose network is the one to train."""
    teacher = read_info(model.folder)
    return Distilled(config, model, teacher, student_info(config, model.info))
