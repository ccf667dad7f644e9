"""Distance of each sampler from the solution of the ODE, by network calls.

    python benchmarks/samplers.py [--weights W.safetensors --config W.json --reference W_reference.safetensors]

Error: distance to the exact end over the RMS length of the ends; the median over the samples, since a sample that falls
to another mode counts as one wrong sample, not as a distance. Two problems: a mixture of Gaussians in 16 dimensions
whose denoiser is known (reference: 2000 steps of Heun), and, where files are given, a network with guidance, where the
frames are the samples (reference: 200 steps of Heun). Schedule: sigma 700 to 0.002, rho 7. Prints JSON lines and a table.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable

import torch
from torch import Tensor

from mv3d.models.samplers import SAMPLERS
from mv3d.models.sampling import karras_sigmas

STEPS = (8, 12, 16, 20, 25, 35, 50)


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
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(256, 16, generator=generator, dtype=torch.float64)
    rows = measure("mixture", mixture_denoiser(generator), noise, 2000)
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
