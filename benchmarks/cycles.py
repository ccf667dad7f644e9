"""The Embree backend beside Blender Cycles: the same objects under the same lights, pictures and seconds.

    MV3D_BLENDER=.../python python benchmarks/cycles.py --assets ../shared/assets --out cycles.json --pictures worst/

Agreement: matte materials (`diffuse_only`), two views of each object, two bounces of reflected light in both.
PSNR of sRGB values over white, of the whole frame and of the pixels of the object alone; where the error is: its
share at edges (pixels that are partly covered, and their neighbours), the same comparison without reflected light,
and of the base colours. `noise` is the PSNR of Cycles against itself with another seed: the most that can be
asked for.
Speed: 21 views of one object with everything that shading does. Cycles: one process for all views, its
acceleration structure kept, 32 samples, no denoiser; its start is timed apart. Embree: 4 samples.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation

from mv3d.render.backend_blender import BlenderRenderer
from mv3d.render.cameras import Cameras, Orbit
from mv3d.render.embree import EmbreeRenderer
from mv3d.render.environment import Environment
from mv3d.render.loading import load_model
from mv3d.render.model import Model, normalize_model
from mv3d.render.renderer import RenderSettings
from mv3d.render.skies import builtin_environment
from mv3d.render.trajectories import fit_radius, static_orbit
from mv3d.views.metrics import psnr_from_mse
from mv3d.views.views import composite

SIZE, VIEWS = 192, Orbit((0.0, 25.0), (20.0, 200.0))
SPEED_OBJECT = (
    "eval/gso_BIA_Cordon_Bleu_White_Porcelain_Utensil_Holder_900028.glb"  # 58,168 faces, subdivided
)
MATTE = RenderSettings(samples=16, diffuse_only=True, bounces=2, outputs=("rgba", "albedo"))


@dataclass(frozen=True)
class Agreement:
    """PSNR in dB of Embree against Cycles, and where the error lies."""

    name: str
    faces: int
    environment: str
    frame_db: float
    object_db: float
    noise_db: float
    edge_share: float
    inner_db: float
    direct_inner_db: float
    albedo_inner_db: float
    inner_bias: float

    @property
    def reason(self) -> str:
        """Which part of the error is the largest."""
        if self.noise_db < 35:
            return (
                f"Cycles differs from itself by {self.noise_db:.1f} dB: surfaces lie on one another, and its shadow "
                "rays stop at the twin"
            )
        if self.edge_share > 0.5:
            return f"{100 * self.edge_share:.0f} % of the squared error is at edges"
        if self.albedo_inner_db < self.inner_db + 3:
            return f"base colours differ already ({self.albedo_inner_db:.1f} dB): texture filtering"
        if self.direct_inner_db > self.inner_db + 1.5:
            return f"reflected light (without it {self.direct_inner_db:.1f} dB inside)"
        return f"direct light and shadow (without reflected light {self.direct_inner_db:.1f} dB inside)"


def sampled_objects(assets: Path, train: int, evaluation: int, seed: int = 0) -> list[Path]:
    """Objects drawn at random: nobody chose them."""
    rng = np.random.default_rng(seed)
    chosen: list[Path] = []
    for folder, count in (("train", train), ("eval", evaluation)):
        files = sorted((assets / folder).glob("*.glb"))
        chosen += [files[i] for i in sorted(rng.choice(len(files), min(count, len(files)), replace=False))]
    return chosen


def framed(model: Model, orbit: Orbit, size: int) -> Cameras:
    """Cameras from the distance that clips nothing."""
    return replace(orbit, radius=fit_radius(model.vertices, orbit)).cameras(size, size)


def psnr_of(error: np.ndarray) -> float:
    """dB, from the differences of sRGB values in [0, 1]."""
    return psnr_from_mse(float(np.mean(error**2)))


def edges(*alphas: np.ndarray) -> np.ndarray:
    """Pixels that are partly covered in any of the pictures, and their neighbours. (n, h, w)"""
    partly = np.zeros(alphas[0].shape, bool)
    for alpha in alphas:
        # The pixel grid may run along the silhouette, so a step from covered to empty counts as well.
        solid = alpha > 0.5
        partly |= ((alpha > 0.004) & (alpha < 0.996)) | (solid & _grown(~solid))
    return _grown(partly)


def _grown(mask: np.ndarray) -> np.ndarray:
    return binary_dilation(mask, np.ones((1, 3, 3), bool))


def agreement(
    model: Model, environment: Environment, blender: BlenderRenderer, *, name: str
) -> tuple[Agreement, np.ndarray]:
    """Compare both backends on a model; also one sheet: Cycles, Embree, six times their difference."""
    cameras = framed(model, VIEWS, SIZE)
    embree = EmbreeRenderer()
    ours = embree.render(model, cameras, environment, MATTE)
    reference = blender.render(model, cameras, environment, MATTE)
    again = blender.render(model, cameras[0], environment, replace(MATTE, seed=1, outputs=("rgba",)))
    direct = replace(MATTE, bounces=0, outputs=("rgba",))
    plain = [composite(r.render(model, cameras, environment, direct).rgba) for r in (embree, blender)]
    assert ours.albedo is not None and reference.albedo is not None
    a, b = composite(ours.rgba), composite(reference.rgba)
    error = a - b
    either = np.maximum(ours.rgba[..., 3], reference.rgba[..., 3]) > 0
    border = edges(ours.rgba[..., 3], reference.rgba[..., 3]) & either
    inner = either & ~border
    result = Agreement(
        name,
        len(model.faces),
        environment.name,
        psnr_of(error),
        psnr_of(error[either]),
        psnr_of((b[:1] - composite(again.rgba))[either[:1]]),
        float((error[border] ** 2).sum() / max(float((error[either] ** 2).sum()), 1e-12)),
        psnr_of(error[inner]) if inner.any() else float("inf"),
        psnr_of((plain[0] - plain[1])[inner]) if inner.any() else float("inf"),
        psnr_of((ours.albedo - reference.albedo)[inner]) if inner.any() else float("inf"),
        float(error[inner].mean()) if inner.any() else 0.0,
    )
    rows = [np.concatenate(list(part), 1) for part in (b, a, np.clip(0.5 + 6 * error, 0, 1))]
    return result, (np.concatenate(rows) * 255).astype(np.uint8)


def agreements(paths: list[Path], blender: BlenderRenderer, pictures: Path | None = None) -> list[Agreement]:
    """Every object under the next of the built-in lights."""
    results = []
    for number, path in enumerate(paths):
        model, _ = normalize_model(load_model(path))
        result, sheet = agreement(model, builtin_environment(number), blender, name=path.stem)
        results.append(result)
        print(
            f"{result.object_db:5.1f} dB object  {result.frame_db:5.1f} dB frame  (noise {result.noise_db:4.1f})  "
            f"inside {result.inner_db:4.1f}, direct {result.direct_inner_db:4.1f}, albedo "
            f"{result.albedo_inner_db:4.1f}, bias {result.inner_bias:+.3f}, edges {100 * result.edge_share:3.0f} %  "
            f"{result.faces:6d} faces  {result.environment}  {result.name}",
            flush=True,
        )
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            Image.fromarray(sheet).save(pictures / f"{result.object_db:04.1f}_{path.stem}.png")
    return results


def subdivided(model: Model) -> Model:
    """Every face cut into four at the middles of its sides: the same picture of four times the faces."""
    assert model.normals is not None and model.face_material is not None
    faces = model.faces.astype(np.int64)
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    unique, index = np.unique(np.sort(sides, 1), axis=0, return_inverse=True)
    ab, bc, ca = index.reshape(3, -1) + len(model.vertices)
    a, b, c = faces.T
    cut = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])

    def middles(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, values[unique].mean(1)])

    normals = middles(model.normals)
    return replace(
        model,
        vertices=middles(model.vertices),
        faces=cut,
        normals=normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12),
        uv=None if model.uv is None else middles(model.uv),
        colors=None if model.colors is None else middles(model.colors),
        face_material=np.tile(model.face_material, 4),
    )


@dataclass(frozen=True)
class Speed:
    """Seconds for `views` pictures of `size` pixels squared; `cpu`: of all processor cores together, which other
    programs on the machine disturb less. cycles_start_s: of the process, the scene and one picture of 16 pixels
    squared, which `cycles_s` holds as well."""

    faces: int
    views: int
    size: int
    threads: int
    embree_s: float
    cycles_s: float
    cycles_start_s: float
    embree_cpu_s: float
    cycles_cpu_s: float

    @property
    def ratio(self) -> float:
        return self.cycles_s / self.embree_s


def speed(
    model: Model,
    environment: Environment,
    *,
    program: str | None = None,
    threads: int = 2,
    size: int = 576,
    views: int = 21,
) -> Speed:
    """Both backends on all views of a static orbit, one after the other; the model is normalized already."""
    orbit = static_orbit(views, 10.0)
    cameras = framed(model, orbit, size)
    settings = RenderSettings(samples=4)
    blender = BlenderRenderer(program, samples=32, threads=threads)
    start, _ = timed(lambda: blender.render(model, cameras[0].resized(16, 16), environment, settings))
    cycles, cycles_cpu = timed(lambda: blender.render(model, cameras, environment, settings))
    embree, embree_cpu = timed(lambda: EmbreeRenderer().render(model, cameras, environment, settings))
    return Speed(len(model.faces), views, size, threads, embree, cycles, start, embree_cpu, cycles_cpu)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of all processors, those of ended children included (POSIX)."""
    clock, before = time.perf_counter(), os.times()
    work()
    after = os.times()
    return time.perf_counter() - clock, sum(after[:4]) - sum(before[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path("../shared/assets"))
    parser.add_argument("--train", type=int, default=12, help="objects of train/")
    parser.add_argument("--eval", type=int, default=8, help="objects of eval/")
    parser.add_argument("--samples", type=int, default=128, help="of the reference, paths a pixel")
    parser.add_argument(
        "--speed-object", default=SPEED_OBJECT, help="under --assets; '' leaves the timing out"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--pictures", type=Path, default=None, help="folder for one sheet an object")
    options = parser.parse_args()
    document: dict[str, object] = {"machine": platform.platform(), "processor": platform.processor()}
    if options.speed_object:
        model, _ = normalize_model(load_model(options.assets / options.speed_object))
        while 4 * len(model.faces) <= 60_000:
            model = subdivided(model)
        timing = speed(model, builtin_environment(0), threads=options.threads)
        print(
            f"{timing.views} views of {timing.size}², {timing.faces} faces, {timing.threads} threads: Embree "
            f"{timing.embree_s:.2f} s, Cycles {timing.cycles_s:.1f} s (of it start {timing.cycles_start_s:.1f} s): "
            f"{timing.ratio:.1f} times; of processors {timing.embree_cpu_s:.1f} and {timing.cycles_cpu_s:.1f} s"
        )
        document["speed"] = asdict(timing) | {"ratio": timing.ratio}
    if options.train + options.eval:
        paths = sampled_objects(options.assets, options.train, options.eval)
        blender = BlenderRenderer(samples=options.samples, threads=options.threads)
        results = sorted(agreements(paths, blender, options.pictures), key=lambda one: one.object_db)
        decibels = np.array([one.object_db for one in results])
        print(
            f"object: least {decibels.min():.1f}, median {np.median(decibels):.1f} dB; "
            f"{(decibels >= 30).sum()} of {len(results)} at 30 dB or more"
        )
        for one in results[:3]:
            print(f"  {one.object_db:.1f} dB {one.name}: {one.reason}")
        document["agreement"] = [asdict(one) | {"reason": one.reason} for one in results]
    if options.out is not None:
        options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
