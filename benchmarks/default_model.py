"""Quality of a small model's views of unseen objects, against three baselines that need no model.

    mv3d orbits render EVAL --out eval --views 21 --size 128 --elevation 10 --gate.textures any --gate.allow-scenes
    python benchmarks/default_model.py --truth eval [--train train] [--model default] [--out table.json]

Each object's last view is given, the others are compared with the truth on white: PSNR, SSIM, IoU of the masks. Beside
the model: the given view repeated; the mean of all training views, blurred; and the orbit of the training object one
of whose views is nearest to the given one (squared error at 32² on white), turned so that this view comes last.
Silhouette recall: of the hull of the model's masks, with the cameras of the truth.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from mv3d.core.machine import library_versions, peak_memory_bytes
from mv3d.evaluation import compare, silhouette_recall
from mv3d.generation.config import GenerateConfig
from mv3d.generation.photo import PreparedPhoto
from mv3d.generation.svd import SvdGenerator
from mv3d.generation.views import LoadedModel, generate_orbit, load_model
from mv3d.orbits.jobs import decode_frame
from mv3d.orbits.reading import OrbitStore
from mv3d.render.cameras import Orbit
from mv3d.views.views import composite

SMALL = 32
KEYS = ("psnr", "ssim", "mask_iou")


@dataclass(frozen=True, eq=False)
class Truth:
    """One object's orbit: images (n, h, w, 4) in [0, 1], the last one given."""

    uid: str
    images: np.ndarray
    orbit: Orbit


def orbits(folder: Path, views: int | None = None) -> Iterator[Truth]:
    """views: so many of an orbit's, evenly around, the last one among them; all where it is None."""
    store = OrbitStore(folder)
    for place in store.places:
        members = store.members(place)
        document = json.loads(bytes(members["json"]))
        cameras = document["cameras"]
        count = len(cameras["azimuths_deg"])
        step = count // (views or count)
        chosen = range(step - 1, count, step)
        frames = np.stack([decode_frame(members[f"{n:03d}.webp"]) for n in chosen])
        orbit = Orbit(
            tuple(cameras["elevations_deg"][n] for n in chosen),
            tuple(cameras["azimuths_deg"][n] % 360 for n in chosen),
            cameras["radius"],
            input_view=len(chosen) - 1,
        )
        yield Truth(document["uid"], frames.astype(np.float32) / 255, orbit)


def small(images: np.ndarray) -> np.ndarray:
    """(n, h, w, 4) → (n, 32·32·3), on white."""
    factor = images.shape[1] // SMALL
    white = composite(images).reshape(len(images), SMALL, factor, SMALL, factor, 3)
    return white.mean((2, 4)).reshape(len(images), -1).astype(np.float32)


def read_training(folder: Path, views: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """(blurred mean view, small views (orbits, n, d), orbits as uint8)."""
    total, smalls, kept, count = 0.0, [], [], 0
    for orbit in orbits(folder, views):
        premultiplied = orbit.images.copy()
        premultiplied[..., :3] *= premultiplied[..., 3:]
        total = total + premultiplied.sum(0)
        count += len(orbit.images)
        smalls.append(small(orbit.images))
        kept.append((orbit.images * 255 + 0.5).astype(np.uint8))
    mean = gaussian_filter(np.asarray(total) / count, (3, 3, 0))
    mean[..., :3] /= np.maximum(mean[..., 3:], 1e-6)
    return mean, np.stack(smalls), kept


def nearest(truth: Truth, smalls: np.ndarray, kept: list[np.ndarray]) -> np.ndarray:
    given = small(truth.images[-1:])[0]
    errors = np.square(smalls - given).sum(-1)
    which, frame = np.unravel_index(int(errors.argmin()), errors.shape)
    orbit = kept[int(which)].astype(np.float32) / 255
    return np.roll(orbit, len(orbit) - 1 - int(frame), axis=0)


def score(views: np.ndarray, truth: Truth) -> dict[str, float]:
    """Means over all views but the given one."""
    rows = [compare(a, b) for a, b in zip(views[:-1], truth.images[:-1], strict=True)]
    return {key: float(np.mean([row[key] for row in rows])) for key in KEYS}


def changed(
    model: LoadedModel, sigma_min: float | None, alpha_threshold: float | None, own_alphas: bool
) -> LoadedModel:
    info = model.info
    if own_alphas:
        info = replace(info, consistent_alpha=False)
    if sigma_min is not None:
        info = replace(info, sampler=replace(info.sampler, sigma_min=sigma_min))
    if alpha_threshold is not None:
        info = replace(info, alpha_threshold=alpha_threshold)
    assert isinstance(model.generator, SvdGenerator)
    generator = replace(model.generator, info=info)
    return replace(model, plan=replace(model.plan, info=info), generator=generator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--train", type=Path, help="for the mean view and the nearest orbit")
    parser.add_argument("--model", default="default")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--sampler", default=None)
    parser.add_argument("--sigma-min", type=float, default=None, help="stop at this noise level")
    parser.add_argument("--alpha-threshold", type=float, default=None, help="instead of the model's")
    parser.add_argument("--own-alphas", action="store_true", help="not made consistent")
    parser.add_argument("--limit", type=int, default=None, help="the first so many objects")
    parser.add_argument("--sheet", type=Path, default=None, help="a picture: truth above, model below")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    config = GenerateConfig(model=options.model, steps=options.steps, sampler=options.sampler, elevation=10.0)
    model = load_model(config)
    if options.sigma_min is not None or options.alpha_threshold is not None or options.own_alphas:
        model = changed(model, options.sigma_min, options.alpha_threshold, options.own_alphas)
    views = model.info.num_frames
    training = read_training(options.train, views) if options.train else None
    rows: list[dict[str, Any]] = []
    pictures, seconds = [], []
    for truth in list(orbits(options.truth, views))[: options.limit]:
        begun = time.perf_counter()
        made = generate_orbit(PreparedPhoto(truth.images[-1], "alpha"), config, model)
        seconds.append(time.perf_counter() - begun)
        ways = {
            "model": made.views.images,
            "repeated input": np.repeat(truth.images[-1:], len(truth.images), axis=0),
        }
        if training is not None:
            mean, smalls, kept = training
            ways["mean view"] = np.repeat(mean[None], len(truth.images), axis=0)
            ways["nearest orbit"] = nearest(truth, smalls, kept)
        height, width = truth.images.shape[1:3]
        recall = silhouette_recall(made.views.images[..., 3], truth.orbit.cameras(width, height))
        scores = {way: score(views.astype(np.float32), truth) for way, views in ways.items()}
        rows.append({"uid": truth.uid, "recall": float(recall.mean()), "scores": scores})
        shown = slice(None, None, max(1, views // 7))
        pictures += [truth.images[shown], made.views.images[shown]]
        print(
            f"{truth.uid[:34]:34} {rows[-1]['recall']:.3f} "
            + "  ".join(f"{w}: " + " ".join(f"{s[k]:.3f}" for k in KEYS) for w, s in scores.items()),
            flush=True,
        )
    table = {
        way: {key: float(np.mean([row["scores"][way][key] for row in rows])) for key in KEYS}
        for way in rows[0]["scores"]
    }
    recalls = [row["recall"] for row in rows]
    for way, values in table.items():
        print(f"{way:16} " + "  ".join(f"{key} {value:.4f}" for key, value in values.items()))
    print(f"silhouette recall of the model's masks {np.mean(recalls):.4f}, least {np.min(recalls):.4f}")
    print(
        f"{np.median(seconds):.1f} s an object, peak {peak_memory_bytes() / 1e9:.2f} GB, {len(rows)} objects"
    )
    if options.sheet is not None:
        sheet = np.concatenate([np.concatenate(list(composite(row)), axis=1) for row in pictures])
        Image.fromarray((sheet.clip(0, 1) * 255 + 0.5).astype(np.uint8)).save(options.sheet)
    if options.out is not None:
        document = {
            "machine": platform.platform(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "versions": library_versions(),
            "table": table,
            "recall": float(np.mean(recalls)),
            "objects": rows,
        }
        options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
