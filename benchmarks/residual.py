"""What a multi-view network that is led by a prior's renders adds to them: its views, the renders, and the renders plus the
low frequencies of the difference, as a network trained on that residual could give at best without sharpening.

    mv3d eval run HELD --model LED --size 128 --views 9 --out led
    mv3d eval run HELD --model default --size 128 --views 9 --out renders
    python benchmarks/residual.py --led led --renders renders

On white, the input view left out: PSNR, LPIPS (AlexNet, published weights) and IoU of the masks, means over the objects.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from mv3d.evaluation.perceptual import PerceptualConfig, perceptual_metrics
from mv3d.views.metrics import mask_iou, psnr
from mv3d.views.readers import load_views
from mv3d.views.views import composite

BLURS_PX, SHARES = (1, 2, 4, 8), (0.5, 1.0)
Pictures = Float[np.ndarray, "n h w 4"]


def shrunk(values: np.ndarray, side: int) -> np.ndarray:
    """(n, h, w, …) → (n, side, side, …), means of whole squares of pixels."""
    factor = values.shape[1] // side
    return values.reshape(len(values), side, factor, side, factor, *values.shape[3:]).mean((2, 4))


def on_white(folder: Path, side: int) -> Pictures:
    """Colours on white and alpha of all views but the given one."""
    images = load_views(folder).images[:-1]
    return np.concatenate([shrunk(composite(images), side), shrunk(images[..., 3:], side)], -1)


def low(pictures: Pictures, blur_px: float) -> Pictures:
    return gaussian_filter(pictures, (0, blur_px, blur_px, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description="A network led by renders, the renders, and mixtures.")
    parser.add_argument("--led", type=Path, required=True, help="evaluation of the network")
    parser.add_argument("--renders", type=Path, required=True, help="evaluation of the prior alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lpips = perceptual_metrics(PerceptualConfig(lpips="yes")).metrics["lpips"]
    scores: dict[str, list[tuple[float, float, float]]] = {}
    for folder in sorted((args.led / "generated").iterdir()):
        side = load_views(folder).images.shape[1]
        led, render, truth = (
            on_white(place, side)
            for place in (folder, args.renders / "generated" / folder.name, args.led / "truth" / folder.name)
        )
        ways = {"the network": led, "the renders": render, "their mean": (led + render) / 2}
        for blur_px in BLURS_PX:
            for share in SHARES:
                name = f"the renders + {share} of the difference, blurred by {blur_px} pixels"
                ways[name] = np.clip(render + share * low(led - render, blur_px), 0, 1)
        for name, made in ways.items():
            pairs = [(a, b) for a, b in zip(made, truth, strict=True)]
            found = (
                float(np.mean([psnr(a[..., :3], b[..., :3]) for a, b in pairs])),
                float(np.mean(lpips(made[..., :3].astype(np.float32), truth[..., :3].astype(np.float32)))),
                float(np.mean([mask_iou(a[..., 3], b[..., 3]) for a, b in pairs])),
            )
            scores.setdefault(name, []).append(found)
    print("| views | PSNR, dB | LPIPS | mask IoU |\n|---|---|---|---|")
    for name, values in scores.items():
        mean = np.mean(values, 0)
        print(f"| {name} | {mean[0]:.2f} | {mean[1]:.3f} | {mean[2]:.3f} |")


if __name__ == "__main__":
    main()
