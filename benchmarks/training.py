"""A training step of mv3d beside a plain loop of diffusers with the same network, and what waits for data.

    python benchmarks/training.py [--device cuda --channels 320 640 1280 1280 --latent 72 --bf16] [--out training.json]

Both train every weight of a network of the same shape and vector (SVD's) from the same cached latents, with AdamW,
clipped gradients and an average of the weights. Plain: diffusers' own `UNetSpatioTemporalConditionModel`,
`EMAModel`, noise drawn on the device, a DataLoader over the same shards. Rounds alternate; a figure is the median over the
rounds of the median step, the first step of a round left out. The share of waiting for data is ours, with the readers in
processes of their own. Beside the seconds of the clock stand those of this process on the processors: on a busy machine
they tell more, with a GPU less.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mv3d.models.network import SVD, NetworkConfig
from mv3d.orbits.config import sha256_of_json
from mv3d.orbits.dataset import OrbitSet, OrbitSetConfig, orbit_loader
from mv3d.orbits.reading import LATENTS
from mv3d.orbits.sample import Sample
from mv3d.orbits.shards import tar_fragment, write_pieces, write_shard
from mv3d.runs import SCHEMA, to_json
from mv3d.training.batches import BatchMaker
from mv3d.training.config import TrainConfig, preset
from mv3d.training.data import open_samples
from mv3d.training.journal import read_log
from mv3d.training.loop import make_accelerator, train_loop

CONTEXT, STORED, SCALE = 1024, 84, 0.18215


def latent_shards(folder: Path, orbits: int, side: int) -> Path:
    """Random latents in the form that mv3d orbits encode writes."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    angles = {"elevations_deg": [10.0] * STORED, "azimuths_deg": (np.arange(STORED) * 360 / STORED).tolist()}

    def samples() -> Any:
        for number in range(orbits):
            head = {"uid": f"o{number}", "licence": "CC0-1.0", **angles}
            head["backgrounds"] = {"white": [255] * 3, "color": [1, 2, 3]}
            files = [("json", json.dumps(head).encode())]
            for name in ("white", "color"):
                for what, shape in (("latents", (STORED, 4, side, side)), ("embeddings", (STORED, CONTEXT))):
                    buffer = io.BytesIO()
                    np.save(buffer, rng.standard_normal(shape, np.float32).astype(np.float16))
                    files.append((f"{what}.{name}.npy", buffer.getvalue()))
            yield Sample(tar_fragment(f"o{number}", files), {"uid": f"o{number}", "licence": "CC0-1.0"})

    record = write_shard(folder / "shard-000000.tar", samples(), scratch=folder)
    shard = {"name": record["shard"], "samples": orbits, "bytes": record["bytes"], "sha256": record["sha256"]}
    index = {
        "schema": SCHEMA, "kind": LATENTS, "finished": True, "shards": [shard], "samples": orbits, "objects": orbits,
        "rejected": {}, "licences": {}, "config": {}, "identity_sha256": sha256_of_json(shard),
    }  # fmt: skip
    write_pieces(folder / "index.json", [to_json(index).encode()])
    return folder


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
        network.build(),
        samples,
        batches,
        out,
        accelerator=make_accelerator(config),
        progress=lambda *_: busy.append(time.process_time()),
    )
    steps = [line["seconds_per_step"] for line in read_log(out)]
    # The last step writes the checkpoint after it was told of: it is in no difference.
    return statistics.median(steps[1:]), statistics.median(np.diff(busy)), done.data_wait_share


def describe_machine(device: torch.device) -> dict[str, str]:
    """What the figures depend on."""
    names = [
        line.partition(":")[2].strip()
        for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else [])
        if line.startswith("model name")
    ]
    return {
        "system": platform.platform(),
        "processor": names[0] if names else platform.machine(),
        "cores": f"{os.cpu_count()}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "versions": ", ".join(
            f"{name} {version(name)}" for name in ("torch", "diffusers", "accelerate", "mv3d")
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128, 128])
    parser.add_argument("--latent", type=int, default=16, help="side of the latents")
    parser.add_argument("--frames", type=int, default=21)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    device, levels = torch.device(options.device), len(options.channels)
    network = NetworkConfig(
        vector=SVD,
        block_out_channels=tuple(options.channels),
        attention=(True,) * (levels - 1) + (False,),
        heads=tuple(max(1, channels // 64) for channels in options.channels),
        transformer_depth=(1,) * levels,
        context_dim=CONTEXT,
        num_frames=options.frames,
        sample_size=options.latent,
    )
    config = preset(
        "svd_mv", vector="keep", frames=options.frames, steps=options.steps, batch=options.batch,
        micro_batch=options.batch, precision="bf16" if options.bf16 else "fp32", gradient_checkpointing=False,
        device=options.device, workers=options.workers, log_every=1, checkpoint_every=10**9, validate_every=0,
    )  # fmt: skip
    machine = describe_machine(device)
    print("\n".join(f"{name}: {value}" for name, value in machine.items()))
    print(
        f"{options.frames} latents of {options.latent}², batch {options.batch}, channels {options.channels}"
    )
    ours, plain = [], []
    with tempfile.TemporaryDirectory() as scratch:
        data = latent_shards(Path(scratch) / "latents", 16, options.latent)
        for number in range(options.rounds):
            ours.append(our_loop(config, network, data, device, Path(scratch) / f"run{number}"))
            plain.append(plain_loop(config, network, data, device))
            (seconds, busy, wait), (theirs, their_busy) = ours[-1], plain[-1]
            print(
                f"round {number}: mv3d {seconds:.3f} s ({busy:.3f} s on processors), plain {theirs:.3f} s "
                f"({their_busy:.3f} s), waited {wait:.2%}",
                flush=True,
            )
    found = {
        "mv3d_seconds_per_step": statistics.median(o[0] for o in ours),
        "plain_seconds_per_step": statistics.median(p[0] for p in plain),
        "ratio": statistics.median(o[0] / p[0] for o, p in zip(ours, plain, strict=True)),
        "processor_ratio": statistics.median(o[1] / p[1] for o, p in zip(ours, plain, strict=True)),
        "data_wait_share": statistics.median(o[2] for o in ours),
    }
    print(json.dumps(found, indent=2))
    if options.out:
        settings = {name: str(value) for name, value in vars(options).items()}
        options.out.write_text(json.dumps(machine | settings | found, indent=2))


if __name__ == "__main__":
    main()
