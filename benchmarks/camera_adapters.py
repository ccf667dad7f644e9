"""Adapters of camera motion that can be told apart: trained on clips of one motion each, and what the clips that they make
do, measured as `mv3d clips score` measures it.

    python benchmarks/camera_adapters.py [--base-steps 3000] [--steps 600] --out adapters.json

A tiny video model (`mv3d train --preset tiny` on clips of all motions: a pan to the right, a zoom in, an orbit to the right,
a still camera), then `--preset lora` on each motion alone, as the paper does with SVD (arXiv 2311.15127, section 4.3.1).
Pictures of 32 × 32; one thread. Held-out first frames are continued with each adapter, with half of each of two, and with
weight 0, which has to give the base's clips bit by bit.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from labelled_clips import FPS, Frames, dead_leaves, orbit_frames, window

from mv3d.clips.motion import Motion, motion_of
from mv3d.clips.video import Writer
from mv3d.models.conditioning import OrbitConditioning
from mv3d.models.encode import embed_image, encode_pixels
from mv3d.models.loading import load_image_encoder, load_unet, load_vae
from mv3d.models.lora import Lora, merge_loras, read_lora
from mv3d.models.sampling import sample
from mv3d.training.config import preset
from mv3d.training.run import train

SIDE, FRAMES = 32, 4
PAN_PX, ZOOM, TURN_DEG = 1.5, 0.06, 9.0
"""A frame: pixels to the right, ln of the scale, degrees around the object."""
NOISE_IN_INPUT = 0.02
ENLARGED = 96
"""Side to which generated frames are enlarged before their flow is computed, pixels."""


def pan(rng: np.random.Generator) -> Frames:
    texture = dead_leaves(96, rng, leaves=250)
    return np.stack([window(texture, (46 + PAN_PX * n, 48), 1.0, SIDE, SIDE) for n in range(FRAMES)])


def zoom(rng: np.random.Generator) -> Frames:
    texture = dead_leaves(96, rng, leaves=250)
    return np.stack([window(texture, (48, 48), 1.2 * np.exp(-ZOOM * n), SIDE, SIDE) for n in range(FRAMES)])


def orbit(rng: np.random.Generator) -> Frames:
    return orbit_frames(rng, FRAMES, width=SIDE, height=SIDE, turn_deg=TURN_DEG * (FRAMES - 1))


def static(rng: np.random.Generator) -> Frames:
    still = window(dead_leaves(96, rng, leaves=250), (48, 48), 1.0, SIDE, SIDE)
    return np.repeat(still[None], FRAMES, 0)


MOTIONS: dict[str, Callable[[np.random.Generator], Frames]] = {
    "pan": pan, "zoom": zoom, "orbit": orbit, "static": static,
}  # fmt: skip


def measured(frames: Frames) -> Motion:
    """As `mv3d clips score` measures a clip."""
    size = (ENLARGED, ENLARGED)
    big = [cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in frames]
    return motion_of([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in big], FPS)


def write_clips(folder: Path, clips: Sequence[Frames]) -> Path:
    """As nearly lossless mp4 files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frames in enumerate(clips):
        if (folder / f"{number:03d}.mp4").exists():  # of a run that is resumed
            continue
        with Writer(
            folder / f"{number:03d}.mp4", width=SIDE, height=SIDE, fps=Fraction(FPS), crf=4
        ) as writer:
            for frame in frames:
                writer.write(frame)
    return folder


@torch.no_grad()
def through_autoencoder(model: Path, clips: Sequence[Frames]) -> list[Frames]:
    """Encoded and decoded: what a perfect network could make."""
    vae = load_vae(model, torch.float32)
    pixels = [torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1 for frames in clips]
    decode: Any = vae.decode
    return [as_pictures(decode(encode_pixels(vae, frames))[0]) for frames in pixels]


def as_pictures(frames: torch.Tensor) -> Frames:
    """(n, 3, h, w) in [-1, 1] → uint8, channels last."""
    return ((frames.clamp(-1, 1).permute(0, 2, 3, 1) + 1) * 127.5).round().to(torch.uint8).numpy()


@torch.no_grad()
def generate(
    model: Path, photos: Frames, loras: Sequence[tuple[Lora, float]], *, seed: int, steps: int
) -> list[Frames]:
    """Clips that begin with the photos. photos: (n, h, w, 3)."""
    unet = load_unet(model).eval()
    merge_loras(unet, loras)
    vae, encoder = load_vae(model, torch.float32), load_image_encoder(model, torch.float32)
    scale = float(vae.config["scaling_factor"])
    made = []
    for number, photo in enumerate(photos):
        pixels = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 127.5 - 1
        generator = torch.Generator().manual_seed(seed * 1000 + number)
        noisy = pixels + NOISE_IN_INPUT * torch.randn(pixels.shape, generator=generator)
        conditioning = OrbitConditioning(
            cond_latent=encode_pixels(vae, noisy),
            image_embedding=embed_image(encoder, pixels / 2 + 0.5),
            polars_rad=torch.full((1, FRAMES), np.pi / 2),
            azimuths_rad=torch.zeros(1, FRAMES),
            cond_aug=torch.full((1,), NOISE_IN_INPUT),
        )
        latent = encode_pixels(vae, pixels)
        noise = torch.randn(1, FRAMES, *latent.shape[1:], generator=generator)
        latents = sample(unet, noise, conditioning, steps=steps, sigma_max=80.0, sampler="dpmpp_2m")[0]
        decode: Any = vae.decode
        made.append(as_pictures(decode(latents / scale)[0]))
    return made


def run(
    work: Path,
    *,
    clips: int,
    held_out: int,
    base_steps: int,
    steps: int,
    channels: tuple[int, ...],
    batch: int,
    seed: int,
) -> dict[str, Any]:
    """Make the data, train base and adapters, generate and count."""
    data = {
        name: [make(np.random.default_rng([seed, place, n])) for n in range(clips + held_out)]
        for place, (name, make) in enumerate(MOTIONS.items())
    }
    everything = [c for found in data.values() for c in found[:clips]]
    common: dict[str, Any] = {
        "frames": FRAMES, "batch": batch, "micro_batch": batch, "workers": 0, "device": "cpu", "precision": "fp32", "warmup": 50,
        "gradient_checkpointing": False, "validate_every": 0, "resolution": SIDE, "checkpoint_every": 200, "seed": seed,
        "log_every": 20,
    }  # fmt: skip
    tiny = preset(
        "tiny", steps=base_steps, mirror=False, patch=8, latent_channels=48, channels=channels, encoder_steps=50,
        drop_image=0.0, drop_latent=0.0, p_mean=-0.4, p_std=1.4, ema=0.995, lr=2e-3, **common,
    )  # fmt: skip
    began = time.perf_counter()
    base = train(tiny, write_clips(work / "all", everything), "", work / "base")
    seconds = {"base": round(time.perf_counter() - began, 1)}
    adapters: dict[str, Lora] = {}
    for name in MOTIONS:
        began = time.perf_counter()
        config = replace(
            preset(
                "lora",
                steps=steps,
                lr=3e-3,
                drop_image=0.0,
                drop_latent=0.0,
                p_mean=-0.4,
                p_std=1.4,
                **common,
            )
        )
        folder = write_clips(work / name, data[name][:clips])
        made = train(config, folder, str(base.files["model"]), work / f"lora-{name}")
        adapters[name] = read_lora(made.files["lora"])
        seconds[name] = round(time.perf_counter() - began, 1)
    model = base.files["model"]
    truth = {name: Counter(measured(c).kind for c in found) for name, found in data.items()}
    restored = {
        name: Counter(measured(c).kind for c in through_autoencoder(model, found))
        for name, found in data.items()
    }
    photos = np.stack([data[name][clips + n][0] for name in MOTIONS for n in range(held_out)])

    def made_by(*loras: tuple[Lora, float]) -> list[Frames]:
        return generate(model, photos, loras, seed=seed, steps=15)

    plain = made_by()
    kinds = {"none": [measured(c) for c in plain]}
    sheet = [np.concatenate(list(plain[0]), 1)]
    for name, lora in adapters.items():
        frames = made_by((lora, 1.0))
        kinds[name] = [measured(c) for c in frames]
        sheet += [np.concatenate(list(frames[n]), 1) for n in range(0, len(frames), held_out)]
    cv2.imwrite(str(work / "sheet.png"), np.concatenate(sheet)[..., ::-1])
    half = [measured(c) for c in made_by((adapters["pan"], 0.5), (adapters["zoom"], 0.5))]
    zero = made_by(*((lora, 0.0) for lora in adapters.values()))
    return {
        "seed": seed,
        "settings": {"clips": clips, "held_out": held_out, "base_steps": base_steps, "steps": steps, "channels": list(channels), "batch": batch},
        "seconds": seconds,
        "true_clips": {name: dict(count) for name, count in truth.items()},
        "true_clips_through_the_autoencoder": {name: dict(count) for name, count in restored.items()},
        "generated": {name: dict(Counter(m.kind for m in found)) for name, found in kinds.items()},
        "own_motion": {name: sum(m.kind == name for m in kinds[name]) / len(photos) for name in MOTIONS},
        "pan_right": {name: float(np.mean([m.pan[0] for m in found])) for name, found in kinds.items()},
        "zoom": {name: float(np.mean([m.zoom for m in found])) for name, found in kinds.items()},
        "camera": {name: float(np.mean([m.camera for m in found])) for name, found in kinds.items()},
        "pan_and_zoom_at_half": {
            "pan_right": float(np.mean([m.pan[0] for m in half])), "zoom": float(np.mean([m.zoom for m in half])),
        },
        "weight_0_is_the_base_bit_by_bit": all(np.array_equal(a, b) for a, b in zip(plain, zero, strict=True)),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Adapters of camera motion, and the motion of the clips that they make."
    )
    parser.add_argument("--clips", type=int, default=60, help="clips of each motion")
    parser.add_argument("--held-out", type=int, default=5, help="photos of each motion")
    parser.add_argument("--base-steps", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=600, help="steps of an adapter")
    parser.add_argument("--channels", type=int, nargs="+", default=[64])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--keep", type=Path, help="folder for everything that is made (default: a temporary one)"
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON of the results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        found = run(
            args.keep or Path(scratch) / "work", clips=args.clips, held_out=args.held_out, base_steps=args.base_steps,
            steps=args.steps, channels=tuple(args.channels), batch=args.batch, seed=args.seed,
        )  # fmt: skip
    args.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
