"""A training step of mv3d beside a plain loop of diffusers with the same network, and what waits for data.

    python benchmarks/training.py [--quick | --small] --out training.json
    python benchmarks/training.py [--device cuda --channels 320 640 1280 1280 --latent 72 --bf16]

Both train every weight of a network of the same shape and vector (SVD's) from the same cached latents, with AdamW,
clipped gradients and an average of the weights. Plain: diffusers' own `UNetSpatioTemporalConditionModel`,
`EMAModel`, noise drawn on the device, a DataLoader over the same shards. Rounds alternate; a figure is the median over the
rounds of the median step, the first step of a round left out. The share of waiting for data is ours, with the readers in
processes of their own. Beside the seconds of the clock stand those of this process on the processors: on a busy machine
they tell more, with a GPU less.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from latents import CONTEXT, latent_shards
from part import Part, Scale, Table, describe_machine, part_parser, scale_of, versions_of, write_part

from mv3d.models.network import SVD, NetworkConfig
from mv3d.orbits.dataset import OrbitSet, OrbitSetConfig, orbit_loader
from mv3d.training.batches import BatchMaker
from mv3d.training.config import TrainConfig, preset
from mv3d.training.data import open_samples
from mv3d.training.loop import make_accelerator, train_loop
from mv3d.training.metric_log import read_log
from mv3d.training.objective import orbit_objective

STORED, SCALE = 84, 0.18215


@dataclass(frozen=True)
class Sizes:
    """channels: of the network's levels. latent: side of the latents. batch: samples of a step. steps: of a round, the
    first of which does not count."""

    channels: tuple[int, ...] = (64, 128, 128)
    latent: int = 16
    frames: int = 21
    batch: int = 2
    steps: int = 6
    rounds: int = 4


SIZES: dict[Scale, Sizes] = {
    "quick": Sizes(channels=(32, 32), latent=8, frames=3, batch=1, steps=3, rounds=1),
    "small": Sizes(steps=5),
    "full": Sizes(steps=12, rounds=6),
}


def plain_loop(
    config: TrainConfig, network: NetworkConfig, data: Path, device: torch.device
) -> tuple[float, float]:
    """(seconds a step, processor seconds a step) of a loop as the fine-tuning scripts of SVD have it."""
    from diffusers import UNetSpatioTemporalConditionModel  # pyright: ignore[reportPrivateImportUsage]
    from diffusers.training_utils import EMAModel

    settings = network.diffusers_config()
    for ours in ("vector_names", "vector_widths", "mid_transformer_layers"):
        del settings[ours]
    unet = UNetSpatioTemporalConditionModel(**settings).to(device).train()  # pyright: ignore[reportArgumentType]
    optimizer = torch.optim.AdamW(unet.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    ema = EMAModel(unet.parameters(), decay=config.ema)
    dataset = OrbitSet(data, OrbitSetConfig(frames=config.frames, batch_size=config.micro_batch))
    feed = iter(orbit_loader(dataset, workers=config.workers, pin_memory=device.type == "cuda"))
    ids = torch.tensor([[6.0, 127.0, 0.02]], device=device).expand(config.micro_batch, -1)
    times = []
    for _ in range(config.steps):
        begun = time.perf_counter(), time.process_time()
        for _ in range(config.batch // config.micro_batch):
            raw = next(feed)
            latents = raw["latents"].to(device).float()
            target, condition = latents * SCALE, latents[:, -1:].expand_as(latents)
            embedding = raw["image_embedding"].to(device).float()[:, None]
            sigma = (torch.randn(len(target), device=device) * config.p_std + config.p_mean).exp()
            spread = sigma.view(-1, 1, 1, 1, 1)
            noisy = target + torch.randn_like(target) * spread
            with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                inputs = torch.cat([noisy / (spread**2 + 1).sqrt(), condition], dim=2)
                output = unet(inputs, 0.25 * sigma.log(), embedding, ids, return_dict=False)[0]
            denoised = noisy / (spread**2 + 1) - spread / (spread**2 + 1).sqrt() * output
            weight = (1 + spread**2) / spread**2
            loss = (weight * (denoised.float() - target) ** 2).mean() / (config.batch // config.micro_batch)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), config.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.step(unet.parameters())
        float(loss.detach())  # both loops wait for the device every step
        times.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    wall, busy = zip(*times[1:], strict=True)
    return statistics.median(wall), statistics.median(busy)


def our_loop(
    config: TrainConfig, network: NetworkConfig, data: Path, device: torch.device, out: Path
) -> tuple[float, float, float]:
    """(seconds a step, processor seconds a step, share of waiting for data) of `train_loop`."""
    out.mkdir()
    torch.manual_seed(0)
    samples = open_samples(data, config, (0, 0))
    batches = BatchMaker(config, scaling_factor=SCALE, device=device)
    busy: list[float] = []
    done = train_loop(
        config,
        orbit_objective(config, network.build(), batches),
        samples,
        out,
        accelerator=make_accelerator(config),
        progress=lambda *_: busy.append(time.process_time()),
    )
    steps = [line["seconds_per_step"] for line in read_log(out)]
    # The first step warms up, and the last one writes the checkpoint after it was told of: both are in no difference.
    return statistics.median(steps[1:]), statistics.median(np.diff(busy[1:])), done.data_wait_share


def part_of(
    found: dict[str, float], sizes: Sizes, device: torch.device, precision: str, spent: float
) -> Part:
    card = (
        f"{torch.cuda.get_device_name()}" if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    rows = (
        ("mv3d train", round(found["mv3d_seconds_per_step"], 3), round(found["mv3d_processor_seconds"], 3)),
        ("plain loop of diffusers", round(found["plain_seconds_per_step"], 3), round(found["plain_processor_seconds"], 3)),
        ("ratio, median of the rounds", round(found["ratio"], 3), round(found["processor_ratio"], 3)),
        ("lowest ratio of a round", round(found["lowest_ratio"], 3), round(found["lowest_processor_ratio"], 3)),
        ("highest ratio of a round", round(found["highest_ratio"], 3), round(found["highest_processor_ratio"], 3)),
    )  # fmt: skip
    return Part(
        part="training",
        title="A training step",
        machine=describe_machine(),
        versions=versions_of("mv3d", "torch", "diffusers", "accelerate"),
        seconds=spent,
        text=(
            f"A step of {sizes.batch} × {sizes.frames} cached latents of {sizes.latent}² through a network of SVD's kind with "
            f"{list(sizes.channels)} channels, {precision}, all weights trained, AdamW, clipped gradients, an average of the "
            f"weights, on {card}. Plain: diffusers' own network and `EMAModel` in the loop that fine-tuning scripts of SVD "
            f"have, over the same shards. {sizes.rounds} round{'s' if sizes.rounds > 1 else ''} in turn, medians; mv3d waited for data "
            f"{100 * found['data_wait_share']:.1f} % of the time.",
            "Not fair: the networks have the same shape, but mv3d draws its noise from the seeds of each sample, keeps a "
            "journal and checks every loss, which the plain loop does not; both read data in a process of its own, which "
            "on two cores takes time from the step. A network of this size says little about one of 1.5 billion weights.",
        ),
        tables=(Table("Seconds a step", ("loop", "of the clock", "of processors"), rows),),
    )


def main() -> None:
    parser = part_parser(__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--channels", type=int, nargs="+", default=None)
    parser.add_argument("--latent", type=int, default=None, help="side of the latents")
    for name in ("frames", "batch", "steps", "rounds"):
        parser.add_argument(f"--{name}", type=int, default=None)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    asked = {name: getattr(options, name) for name in ("latent", "frames", "batch", "steps", "rounds")}
    asked["channels"] = tuple(options.channels) if options.channels else None
    sizes = replace(SIZES[scale_of(options)], **{k: v for k, v in asked.items() if v is not None})
    device, levels, started = torch.device(options.device), len(sizes.channels), time.perf_counter()
    precision = "bf16" if options.bf16 else "fp32"
    network = NetworkConfig(
        micro=SVD,
        block_out_channels=sizes.channels,
        attention=(True,) * (levels - 1) + (False,),
        heads=tuple(max(1, channels // 64) for channels in sizes.channels),
        transformer_depth=(1,) * levels,
        context_dim=CONTEXT,
        num_frames=sizes.frames,
        sample_size=sizes.latent,
    )
    config = preset(
        "svd_mv", vector="keep", frames=sizes.frames, steps=sizes.steps, batch=sizes.batch,
        micro_batch=sizes.batch, precision=precision, gradient_checkpointing=False,
        device=options.device, workers=options.workers, log_every=1, checkpoint_every=10**9, validate_every=0,
    )  # fmt: skip
    print(f"{describe_machine()}, load {os.getloadavg()[0]:.1f}")
    print(f"{sizes.frames} latents of {sizes.latent}², batch {sizes.batch}, channels {list(sizes.channels)}")
    ours, plain = [], []
    with tempfile.TemporaryDirectory() as scratch:
        data = latent_shards(Path(scratch) / "latents", orbits=16, frames=STORED, side=sizes.latent)
        for number in range(sizes.rounds):
            run = Path(scratch) / f"run{number}"
            # Whoever comes first finds the process colder: turns alternate.
            if number % 2:
                plain.append(plain_loop(config, network, data, device))
                ours.append(our_loop(config, network, data, device, run))
            else:
                ours.append(our_loop(config, network, data, device, run))
                plain.append(plain_loop(config, network, data, device))
            (seconds, busy, wait), (theirs, their_busy) = ours[-1], plain[-1]
            print(
                f"round {number}: mv3d {seconds:.3f} s ({busy:.3f} s on processors), plain {theirs:.3f} s "
                f"({their_busy:.3f} s), waited {wait:.2%}",
                flush=True,
            )
    ratios, busy_ratios = ([o[i] / p[i] for o, p in zip(ours, plain, strict=True)] for i in (0, 1))
    found = {
        "mv3d_seconds_per_step": statistics.median(o[0] for o in ours),
        "plain_seconds_per_step": statistics.median(p[0] for p in plain),
        "mv3d_processor_seconds": statistics.median(o[1] for o in ours),
        "plain_processor_seconds": statistics.median(p[1] for p in plain),
        "ratio": statistics.median(ratios),
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
        "processor_ratio": statistics.median(busy_ratios),
        "lowest_processor_ratio": min(busy_ratios),
        "highest_processor_ratio": max(busy_ratios),
        "data_wait_share": statistics.median(o[2] for o in ours),
    }
    print(json.dumps(found, indent=2))
    if options.out:
        write_part(part_of(found, sizes, device, precision, time.perf_counter() - started), options.out)


if __name__ == "__main__":
    main()
