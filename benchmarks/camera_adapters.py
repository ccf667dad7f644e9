"""Adapters of camera motion that can be told apart: trained on clips of one motion each, and what the clips that they make
do, measured as `mv3d clips score` measures it.

    python benchmarks/camera_adapters.py [--base-steps 2200] [--steps 3000] --out adapters.json

A tiny video model (`mv3d train --preset tiny` on clips of all motions: a pan to the right, a zoom in, an orbit to the right,
a still camera), then `--preset lora` on each motion alone, as the paper does with SVD (arXiv 2311.15127, section 4.3.1).
Soft grey pictures of 32 × 32 of rooms, two a clip; one thread. Every room is shown in all four motions, so a photo does not
say which one follows. Photos of held-out rooms are continued with each adapter, with half of each of two, and with weight
0, which has to give the base's clips bit by bit.

Two answers are counted: the kind of motion that the flow shows, and, since a clip without any order counts as an orbit
there, which of the four true clips of the photo is nearest to what was made (mean squared difference).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from labelled_clips import Frames, textured_room, window

from mv3d.clips.motion import Motion, motion_of
from mv3d.clips.video import Writer
from mv3d.models.conditioning import OrbitConditioning
from mv3d.models.encode import embed_image, encode_pixels
from mv3d.models.loading import load_image_encoder, load_unet, load_vae
from mv3d.models.lora import Lora, merge_loras, read_lora
from mv3d.models.sampling import sample
from mv3d.render.cameras import orbit_cameras
from mv3d.render.raycast import render_views
from mv3d.training.config import preset
from mv3d.training.run import train

SIDE, FRAMES, FPS = 32, 2, 2
PAN_PX, ZOOM, TURN_DEG = 2.5, 0.15, 14.0
"""A frame: pixels to the right, ln of the scale, degrees around the room's middle."""
MOTIONS = ("pan", "zoom", "orbit", "static")
FOV_DEG, MARGIN_PX, BLUR_PX, DEVIATION = 42.0, 8, 1.5, 45.0
"""Of a picture, the pixels that are seen around it, what softens it, and the deviation of its greys."""
NOISE_IN_INPUT = 0.01
SAMPLING_STEPS, SIGMA_MAX = 2, 8.0
ENLARGED = 48
"""Side to which frames are enlarged before their flow is computed, pixels."""


def scene(rng: np.random.Generator) -> dict[str, Frames]:
    """A room in each of the motions, from the same first picture."""
    side = SIDE + 2 * MARGIN_PX
    room = textured_room(rng, side=256, leaves=600, enlarged=2.0)
    azimuths_deg = rng.uniform(0, 360) + TURN_DEG * np.arange(FRAMES)
    fov_deg = float(np.rad2deg(2 * np.arctan(side / SIDE * np.tan(np.deg2rad(FOV_DEG / 2)))))
    # Two pixels for one of a clip.
    cameras = orbit_cameras(15.0, azimuths_deg, radius=2.2, fov_deg=fov_deg, width=2 * side, height=2 * side)
    seen = (render_views(room, cameras)[..., :3] * 255).astype(np.uint8)
    soft = [cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (0, 0), 2 * BLUR_PX) for frame in seen]
    scaled = (np.stack(soft) - np.mean(soft[0])) * (DEVIATION / np.std(soft[0])) + 128
    turned = np.repeat(np.clip(scaled, 0, 255).astype(np.uint8)[..., None], 3, -1)

    def shown(picture: Frames, moved_px: float = 0.0, ln_scale: float = 0.0) -> Frames:
        return window(picture, (side + 2 * moved_px, side), 2 * np.exp(-ln_scale), SIDE, SIDE)

    numbers = range(FRAMES)
    return {
        "pan": np.stack([shown(turned[0], moved_px=PAN_PX * n) for n in numbers]),
        "zoom": np.stack([shown(turned[0], ln_scale=ZOOM * n) for n in numbers]),
        "orbit": np.stack([shown(picture) for picture in turned]),
        "static": np.stack([shown(turned[0])] * FRAMES),
    }


def measured(frames: Frames) -> Motion:
    """As `mv3d clips score` measures a clip."""
    size = (ENLARGED, ENLARGED)
    big = [cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in frames]
    return motion_of([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in big], FPS)


def write_clips(folder: Path, clips: Sequence[Frames]) -> Path:
    """As nearly lossless mp4 files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frames in enumerate(clips):
        if (folder / f"{number:04d}.mp4").exists():  # of a run that is resumed
            continue
        with Writer(
            folder / f"{number:04d}.mp4", width=SIDE, height=SIDE, fps=Fraction(FPS), crf=1
        ) as writer:
            for frame in frames:
                writer.write(frame)
    return folder


def linked(folder: Path, source: Path, numbers: range) -> Path:
    """A folder with some of the clips of another."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        name = f"{number:04d}.mp4"
        if not (folder / name).exists():
            (folder / name).hardlink_to(source / name)
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
def generate(model: Path, photos: Frames, loras: Sequence[tuple[Lora, float]], *, seed: int) -> list[Frames]:
    """Clips that begin with the photos. photos: (n, h, w, 3)."""
    unet = load_unet(model).eval()
    merge_loras(unet, loras)
    vae, encoder = load_vae(model, torch.float32), load_image_encoder(model, torch.float32)
    pixels = torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 127.5 - 1
    generators = [torch.Generator().manual_seed(seed * 1000 + number) for number in range(len(photos))]
    added = torch.stack([torch.randn(pixels.shape[1:], generator=g) for g in generators])
    latent = encode_pixels(vae, pixels + NOISE_IN_INPUT * added)
    conditioning = OrbitConditioning(
        cond_latent=latent,
        image_embedding=embed_image(encoder, pixels / 2 + 0.5),
        polars_rad=torch.full((len(photos), FRAMES), np.pi / 2),
        azimuths_rad=torch.zeros(len(photos), FRAMES),
        cond_aug=torch.full((len(photos),), NOISE_IN_INPUT),
    )
    noise = torch.stack([torch.randn(FRAMES, *latent.shape[1:], generator=g) for g in generators])
    latents = sample(unet, noise, conditioning, steps=SAMPLING_STEPS, sigma_max=SIGMA_MAX, sampler="dpmpp_2m")
    decode: Any = vae.decode
    return [as_pictures(decode(clip / float(vae.config["scaling_factor"]))[0]) for clip in latents]


def nearest(made: Frames, true: dict[str, Frames]) -> str:
    """Which of the true clips of a photo differs least."""
    return min(true, key=lambda name: float(np.square(made.astype(float) - true[name]).mean()))


def psnr(made: Sequence[Frames], true: Sequence[Frames]) -> float:
    """Of the frames after the photo, dB."""
    pairs = zip(made, true, strict=True)
    errors = [np.square((a[1:].astype(float) - b[1:]) / 255).mean() for a, b in pairs]
    return float(-10 * np.log10(np.mean(errors)))


def summary(made: Sequence[Frames], truth: Sequence[dict[str, Frames]]) -> dict[str, Any]:
    """What clips of the photos show."""
    found = [measured(clip) for clip in made]
    return {
        "kinds": dict(Counter(motion.kind for motion in found)),
        "nearest": dict(Counter(nearest(clip, true) for clip, true in zip(made, truth, strict=True))),
        "pan_right": float(np.mean([motion.pan[0] for motion in found])),
        "zoom": float(np.mean([motion.zoom for motion in found])),
        "camera": float(np.mean([motion.camera for motion in found])),
        "psnr": {name: psnr(made, [true[name] for true in truth]) for name in MOTIONS},
    }


def run(
    work: Path,
    *,
    scenes: int,
    held_out: int,
    base_steps: int,
    steps: int,
    channels: tuple[int, ...],
    batch: int,
    seed: int,
) -> dict[str, Any]:
    """Make the data, train base and adapters, generate and count."""
    shown = [scene(np.random.default_rng([seed, n])) for n in range(scenes + held_out)]
    trained, truth = shown[:scenes], shown[scenes:]
    common: dict[str, Any] = {
        "frames": FRAMES, "batch": batch, "micro_batch": batch, "workers": 0, "device": "cpu", "precision": "fp32",
        "gradient_checkpointing": False, "validate_every": 0, "resolution": SIDE, "checkpoint_every": 250, "seed": seed,
        "log_every": 25, "drop_image": 0.0, "drop_latent": 0.0, "p_mean": 0.5, "p_std": 1.4, "cond_mean": -4.5,
    }  # fmt: skip
    tiny = preset(
        "tiny", steps=base_steps, vector="sv3d_u", mirror=False, patch=8, latent_channels=12, channels=channels,
        encoder_steps=50, ema=0.995, lr=2e-3, warmup=50, **common,
    )  # fmt: skip
    began = time.perf_counter()
    everything = write_clips(work / "all", [clips[name] for clips in trained for name in MOTIONS])
    base = train(tiny, everything, "", work / "base")
    seconds = {"base": round(time.perf_counter() - began, 1)}
    adapters: dict[str, Lora] = {}
    for name in MOTIONS:
        began = time.perf_counter()
        config = preset("lora", steps=steps, lr=5e-3, warmup=10, ema=0.95, **common)
        folder = linked(
            work / name, everything, range(MOTIONS.index(name), len(trained) * len(MOTIONS), len(MOTIONS))
        )
        made = train(config, folder, str(base.files["model"]), work / f"lora-{name}")
        adapters[name] = read_lora(made.files["lora"])
        seconds[name] = round(time.perf_counter() - began, 1)
    return counted(work, base.files["model"], adapters, truth, seed) | {
        "settings": {"scenes": scenes, "held_out": held_out, "base_steps": base_steps, "steps": steps,
                     "channels": list(channels), "batch": batch, "seed": seed},
        "seconds": seconds,
    }  # fmt: skip


def counted(
    work: Path, model: Path, adapters: dict[str, Lora], truth: Sequence[dict[str, Frames]], seed: int
) -> dict[str, Any]:
    """What base and adapters make of the photos. Writes sheet.png into `work`: a row is the true clip, then that of each
    adapter, for some photos."""
    photos = np.stack([true["static"][0] for true in truth])

    def made_by(*loras: tuple[Lora, float]) -> list[Frames]:
        return generate(model, photos, loras, seed=seed)

    plain = made_by()
    own = {name: made_by((lora, 1.0)) for name, lora in adapters.items()}
    half = made_by((adapters["pan"], 0.5), (adapters["zoom"], 0.5))
    zero = made_by(*((lora, 0.0) for lora in adapters.values()))
    rows = [[truth[n][name], own[name][n]] for n in range(min(4, len(truth))) for name in MOTIONS]
    tiles = [np.concatenate([*true, *clip], 1) for true, clip in rows]
    cv2.imwrite(str(work / "sheet.png"), np.concatenate(tiles)[..., ::-1])
    restored = {name: through_autoencoder(model, [true[name] for true in truth]) for name in MOTIONS}
    made = {name: summary(clips, truth) for name, clips in own.items()}
    return {
        "true": {name: summary([true[name] for true in truth], truth) for name in MOTIONS},
        "through_the_autoencoder": {name: summary(clips, truth) for name, clips in restored.items()},
        "base": summary(plain, truth),
        "adapters": made,
        "own_motion": {name: made[name]["kinds"].get(name, 0) / len(truth) for name in MOTIONS},
        "own_nearest": {name: made[name]["nearest"].get(name, 0) / len(truth) for name in MOTIONS},
        "pan_and_zoom_at_half": summary(half, truth),
        "weight_0_is_the_base_bit_by_bit": all(np.array_equal(a, b) for a, b in zip(plain, zero, strict=True)),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Adapters of camera motion, and the motion of the clips that they make."
    )
    parser.add_argument("--scenes", type=int, default=300, help="rooms, each in every motion")
    parser.add_argument("--held-out", type=int, default=20, help="photos of other rooms")
    parser.add_argument("--base-steps", type=int, default=2200)
    parser.add_argument("--steps", type=int, default=3000, help="steps of an adapter")
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
            args.keep or Path(scratch) / "work", scenes=args.scenes, held_out=args.held_out, base_steps=args.base_steps,
            steps=args.steps, channels=tuple(args.channels), batch=args.batch, seed=args.seed,
        )  # fmt: skip
    args.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
