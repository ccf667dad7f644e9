"""Distance of each sampler from the solution of the ODE, by network calls.

    python benchmarks/samplers.py [--weights W.safetensors --config W.json --reference W_reference.safetensors]
                                  [--student-training STEPS]

Error: distance to the exact end over the RMS length of the ends; the median over the samples, since a sample that falls
to another mode counts as one wrong sample, not as a distance. Two problems: a mixture of Gaussians in 16 dimensions
whose denoiser is known (reference: 2000 steps of Heun), and, where files are given, a network with guidance, where the
frames are the samples (reference: 200 steps of Heun). Schedule: sigma 700 to 0.002, rho 7. On the mixture there are also
students of 1, 2 and 4 steps: small networks from random weights that learn from the known denoiser what `mv3d distill` has its
students learn, at levels of their own. Prints JSON lines and a table.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mv3d.models.folder import SamplerDefaults
from mv3d.models.preconditioning import scalings
from mv3d.models.samplers import SAMPLERS
from mv3d.models.sampling import karras_sigmas
from mv3d.training.distill.config import STUDENT_STEPS
from mv3d.training.distill.consistency import (
    Stretches,
    consistency_loss,
    consistency_target,
    led_to,
    stage_of,
    student_sampler,
)

STEPS = (1, 2, 4, 8, 12, 16, 20, 25, 35, 50)


def mixture_denoiser(generator: torch.Generator) -> Callable[[Tensor, Tensor], Tensor]:
    """E[x0 | x] of 12 Gaussians of spread 0.15 in 16 dimensions, unit variance in all."""
    centres = torch.randn(12, 16, generator=generator, dtype=torch.float64)
    spread = 0.15

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        total = sigma**2 + spread**2
        distance = torch.cdist(x, centres) ** 2
        share = (-distance / (2 * total)).softmax(-1)
        return share @ centres + (x - share @ centres) * spread**2 / total

    return denoise


def network_denoiser(arguments: argparse.Namespace) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor]:
    """The guided denoiser of a small network in the original's form, and its noise."""
    from safetensors.torch import load_file

    from mv3d.models import OrbitConditioning, load_sgm_unet, triangular_guidance
    from mv3d.models.sampling import guided_denoiser

    with open(arguments.config, encoding="utf-8") as stream:
        settings = json.load(stream)
    reference = load_file(arguments.reference)
    unet = load_sgm_unet(arguments.weights, settings["network"])
    conditioning = OrbitConditioning(
        reference["cond_latent"],
        reference["image_embedding"],
        reference["polars_rad"],
        reference["azimuths_rad"],
        settings["cond_aug"],
    )
    guidance = triangular_guidance(settings["num_frames"], settings["max_guidance"])
    return guided_denoiser(unet, conditioning, guidance), reference["noise"]


class Student(nn.Module):
    """A denoiser of vectors: an MLP with EDM's scalings."""

    def __init__(self, size: int, width: int = 192) -> None:
        super().__init__()
        waves = 8
        self.layers = nn.Sequential(
            nn.Linear(size + 1 + waves, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, size),
        )  # fmt: skip

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        c_skip, c_out, c_in, c_noise = (factor[:, None] for factor in scalings(sigma))
        waves = [wave(k * c_noise) for k in (1, 2, 4, 8) for wave in (torch.sin, torch.cos)]
        return c_skip * x + c_out * self.layers(torch.cat([c_in * x, c_noise, *waves], 1))


def distilled(
    denoise: Callable[[Tensor, Tensor], Tensor], noise: Tensor, reference: Tensor, steps: int, training: int
) -> tuple[Callable[[Tensor, Tensor], Tensor], SamplerDefaults]:
    """A student of the mixture's denoiser, and how it is sampled. reference: clean samples to noise, (n, size)."""
    teacher = SamplerDefaults()
    sampler = student_sampler(teacher, steps)
    stretches = Stretches.of(sampler, teacher.sigma_min)
    sigmas, ends = stretches.draw(0, range(16_384))
    torch.manual_seed(0)
    net = Student(noise.shape[1])
    optimizer = torch.optim.Adam(net.parameters())

    def taught(x: Tensor, sigma: Tensor) -> Tensor:
        return denoise(x.double(), sigma.double()[:, None]).float()

    for step in range(training):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / training)
        drawn = torch.randint(len(sigmas), (256,))
        sigma, end = sigmas[drawn], ends[drawn]
        clean = reference[torch.randint(len(reference), (256,))].float()
        x = clean + sigma[:, None] * torch.randn_like(clean)
        target = consistency_target(net, taught, x, sigma, end, stage_of(step, training, 5))
        loss = consistency_loss(led_to(net(x, sigma), x, sigma, end), target, sigma, 1.0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return lambda x, sigma: net(x.float(), sigma.float().expand(len(x))).double(), sampler


def measure_students(
    problem: str,
    denoise: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    reference_steps: int,
    clean: Tensor,
    training: int,
) -> list[dict]:
    """One row per student. clean: samples of the data."""
    levels = karras_sigmas(reference_steps).to(noise.dtype)
    start = noise * (1 + levels[0] ** 2).sqrt()
    end, rows = SAMPLERS["heun"](denoise, start, levels), []
    for steps in STUDENT_STEPS:
        student, sampler = distilled(denoise, noise, clean, steps, training)
        own = karras_sigmas(steps, sigma_min=sampler.sigma_min, sigma_max=sampler.sigma_max)
        with torch.no_grad():
            made = SAMPLERS["euler"](student, start, own.to(noise.dtype))
        distance = (made - end).norm(dim=1)
        error = distance.median() / end.norm(dim=1).square().mean().sqrt()
        row = {
            "problem": problem,
            "sampler": "student",
            "steps": steps,
            "calls": steps,
            "error": float(error),
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


@torch.no_grad()
def measure(
    problem: str, denoise: Callable[[Tensor, Tensor], Tensor], noise: Tensor, reference_steps: int
) -> list[dict]:
    """One row per sampler and number of steps."""
    calls = 0

    def counted(x: Tensor, sigma: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return denoise(x, sigma)

    def run(name: str, steps: int) -> Tensor:
        sigmas = karras_sigmas(steps).to(noise.dtype)
        return SAMPLERS[name](counted, noise * (1 + sigmas[0] ** 2).sqrt(), sigmas)

    end = run("heun", reference_steps)
    rows = []
    for name in SAMPLERS:
        for steps in STEPS:
            calls = 0
            distance = (run(name, steps) - end).flatten(1).norm(dim=1)
            error = distance.median() / end.flatten(1).norm(dim=1).square().mean().sqrt()
            row = {"problem": problem, "sampler": name, "steps": steps, "calls": calls, "error": float(error)}
            print(json.dumps(row), flush=True)
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights")
    parser.add_argument("--config")
    parser.add_argument("--reference")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--student-training", type=int, default=4000, help="optimiser steps; 0 for no students"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(256, 16, generator=generator, dtype=torch.float64)
    mixture = mixture_denoiser(generator)
    rows = measure("mixture", mixture, noise, 2000)
    if arguments.student_training:
        # Of the data itself: the ends of other noise.
        other = torch.randn(4096, 16, generator=generator, dtype=torch.float64)
        levels = karras_sigmas(100).double()
        clean = SAMPLERS["heun"](mixture, other * (1 + levels[0] ** 2).sqrt(), levels)
        rows += measure_students("mixture", mixture, noise, 2000, clean, arguments.student_training)
    if arguments.weights:
        denoise, start = network_denoiser(arguments)
        rows += measure("network", denoise, start, 200)
    print("\n| problem | sampler | steps | network calls | error |\n|---|---|---|---|---|")
    for row in rows:
        digits = max(0, 2 - math.floor(math.log10(100 * max(row["error"], 1e-9))))
        print(
            f"| {row['problem']} | {row['sampler']} | {row['steps']} | {row['calls']} | {100 * row['error']:.{min(digits, 4)}f} % |"
        )


if __name__ == "__main__":
    main()
