"""Distillation works: of a tiny model that knows eight orbits by heart, two steps of its student are nearer to its 50 than its own two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.balls import VIEWS, balls
from helpers.training_data import quick
from torch.nn.functional import mse_loss
from torch.utils.data import default_collate

from mv3d.models.encode import decode_frames
from mv3d.models.folder import SamplerDefaults
from mv3d.models.loading import load_model_folder
from mv3d.models.sampling import sample
from mv3d.training.batches import BatchMaker
from mv3d.training.data import open_samples
from mv3d.training.distill.config import DistillConfig
from mv3d.training.run import train
from mv3d.training.validation import clean
from mv3d.views.metrics import psnr_from_mse

TEACHER = {
    "frames": VIEWS, "steps": 144, "batch": 8, "micro_batch": 8, "lr": 3e-3, "warmup": 10, "ema": 0.98,
    "channels": (32, 32), "encoder_steps": 60, "patch": 4, "latent_channels": 16, "mirror": False,
    "drop_image": 0.0, "drop_latent": 0.0, "checkpoint_every": 80, "log_every": 20,
}  # fmt: skip
STUDENT = DistillConfig(
    steps=60, batch=8, micro_batch=8, lr=2e-3, warmup=5, ema=0.9, stages=4, huber=0.3, precision="fp32", device="cpu",
    workers=0, log_every=20, checkpoint_every=100, validate_every=0, gradient_checkpointing=False, backgrounds=("white",),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_two_distilled_steps_are_nearer_to_the_teacher_than_its_own_two(tmp_path):
    data = balls(tmp_path / "balls")
    teacher = train(quick("tiny", **TEACHER), data, "", tmp_path / "teacher").files["model"]
    student = train(STUDENT, data, str(teacher), tmp_path / "student").files["model"]
    found = nearness(teacher, student, data)
    print(found)
    assert found["student"] >= found["teacher"] + 4
    assert found["student"] >= found["teacher at the student's levels"] + 0.5


def nearness(teacher: Path, student: Path, data: Path) -> dict[str, float]:
    """PSNR in dB against the views of the teacher's 50 Euler steps from the same noise, over the eight orbits."""
    parts, other = load_model_folder(teacher), load_model_folder(student)
    usual, own = parts.info.sampler, other.info.sampler
    settings = clean(replace(quick("tiny", **TEACHER), micro_batch=1))
    batches = BatchMaker(
        settings,
        scaling_factor=parts.vae.config["scaling_factor"],
        device="cpu",
        vae=parts.vae,
        image_encoder=parts.image_encoder,
    )
    samples = open_samples(data, settings, (32, 32))
    seen: dict[str, int] = {}
    for number in range(len(samples)):
        seen.setdefault(samples.sample(number)["uid"], number)
    assert len(seen) == 8
    raw = default_collate([samples.sample(n) | {"index": n} for n in seen.values()])
    target, conditioning, _ = batches.make(raw)
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(5))

    def views(unet, steps: int, sampler: SamplerDefaults):
        ends = {"sigma_min": sampler.sigma_min, "sigma_max": sampler.sigma_max, "rho": sampler.rho}
        latents = sample(unet, noise, conditioning, steps=steps, sampler="euler", **ends)
        return torch.cat([decode_frames(parts.vae, orbit)[:, :3] for orbit in latents])

    goal = views(parts.unet, 50, usual)
    made = {
        "student": views(other.unet, own.steps, own),
        "teacher": views(parts.unet, own.steps, usual),
        "teacher at the student's levels": views(parts.unet, own.steps, own),
        "teacher, 8 steps of its own (4 times the calls)": views(parts.unet, 8, usual),
    }
    return {name: psnr_from_mse(float(mse_loss(pictures, goal))) for name, pictures in made.items()}
