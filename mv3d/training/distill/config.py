"""What to distil and how. Imports nothing heavy: the fields are the flags of `mv3d distill`.

The schedule is ECT's (arXiv 2406.14548), the heads are SF-V's (arXiv 2406.04324). Steps, batch and learning rates are our choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import tyro

from mv3d.core.errors import UsageError
from mv3d.core.flags import SAID
from mv3d.training.config import Network, TrainConfig, Trained, Vector, flag

if TYPE_CHECKING:
    from mv3d.models.folder import ModelInfo

STUDENT_STEPS = (1, 2, 4)
_ADVERSARIAL = ("adversarial_weight", "heads_rate", "heads_width")
_NONE = tyro.conf.Suppress  # of what the teacher decides, or a student has not


@dataclass(frozen=True)
class DistillConfig(TrainConfig):
    """Every number of a distillation. What the teacher decides is no flag: its cameras, views, noise levels."""

    preset: Annotated[str, _NONE] = "distill"
    network: Annotated[Network, _NONE] = "base"
    vector: Annotated[Vector, _NONE] = "keep"
    trained: Annotated[Trained, _NONE] = "all"
    frames: Annotated[int, _NONE] = 21
    static_steps: Annotated[int, _NONE] = 0
    p_mean: Annotated[float, _NONE] = 1.0
    p_std: Annotated[float, _NONE] = 1.6
    cond_mean: Annotated[float, _NONE] = math.log(1e-5)
    cond_std: Annotated[float, _NONE] = 0.0
    drop_image: Annotated[float, _NONE] = 0.0
    drop_latent: Annotated[float, _NONE] = 0.0
    near_weight: Annotated[float, _NONE] = 1.0
    rank: Annotated[int, _NONE] = 16
    alpha: Annotated[float, _NONE] = 16.0
    validation_steps: Annotated[int, _NONE] = 2
    channels: Annotated[tuple[int, ...], _NONE] = (128, 192)
    patch: Annotated[int, _NONE] = 16
    latent_channels: Annotated[int, _NONE] = 48
    encoder_steps: Annotated[int, _NONE] = 500

    student_steps: int = 2
    """Network calls of the student: 1, 2 or 4. They replace all of the teacher's, both branches of its guidance."""
    guidance: Annotated[float | None, SAID] = None
    """Largest guidance scale of the teacher over the orbit, baked into the student. Default: the teacher's own."""
    stages: int = 8
    """Stages of ECT's schedule, each with half the gap between the two noise levels of the one before. The last decides
    how exact the student may become: one of 2^stages of a level."""
    huber: float = 0.03
    """Where the pseudo-Huber loss turns from a square to a norm, in units of the network's output."""
    adversarial: bool = False
    """Also learn against heads on the teacher's frozen encoder that tell true views from the student's (SF-V)."""
    adversarial_weight: float = 0.05
    """Weight of that loss beside the consistency loss."""
    heads_rate: float = 10.0
    """Learning rate of the heads in multiples of --lr."""
    heads_width: int = 64
    """Channels of the heads; a multiple of 8."""
    steps: int = 8_000
    warmup: int = 100
    ema: float = 0.999
    prior: Annotated[str, SAID] = ""
    """For a teacher that takes a 3D prior's renders: as in mv3d train. Default: the prior in the teacher."""

    def __post_init__(self) -> None:
        super().__post_init__()
        own = DistillConfig.__dataclass_fields__
        for name in (
            "network",
            "vector",
            "static_steps",
            "cond_std",
            "drop_image",
            "drop_latent",
            "near_weight",
        ):
            if getattr(self, name) != own[name].default:
                raise UsageError(f"{flag(name)}: expected none for mv3d distill, got {getattr(self, name)}")
        if self.trained == "lora":
            raise UsageError("--trained: expected all or temporal, got lora: a student is a whole model")
        if self.student_steps not in STUDENT_STEPS:
            raise UsageError(f"--student-steps: expected 1, 2 or 4, got {self.student_steps}")
        self._refuse_below({"stages": 1, "heads_width": 8})
        if self.stages > 16:
            raise UsageError(f"--stages: expected at most 16, got {self.stages}")
        if self.heads_width % 8:
            raise UsageError(f"--heads-width: expected a multiple of 8, got {self.heads_width}")
        self._refuse_unfit(
            ("huber adversarial_weight heads_rate", "a positive number", lambda v: 0 < v < math.inf)
        )
        if self.guidance is not None and not 0 <= self.guidance <= 100:
            raise UsageError(f"--guidance: expected 0 to 100, got {self.guidance}")
        for name in () if self.adversarial else _ADVERSARIAL:
            if getattr(self, name) != own[name].default:
                raise UsageError(
                    f"{flag(name)}: expected none without --adversarial, got {getattr(self, name)}"
                )


def for_teacher(
    config: DistillConfig, teacher: ModelInfo, name: str, *, takes_renders: bool
) -> DistillConfig:
    """With what the teacher decides: its number of views, the noise in its input view, its guidance, its prior's renders."""
    sampler = teacher.sampler
    return replace(
        config,
        frames=teacher.num_frames,
        cond_mean=math.log(max(sampler.cond_aug, 1e-12)),
        validation_steps=config.student_steps,
        guidance=sampler.guidance_max if config.guidance is None else config.guidance,
        prior=config.prior or (name if takes_renders else ""),
    )
