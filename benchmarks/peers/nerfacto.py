"""nerfstudio's nerfacto on the CPU for given seconds, and its exporter; runs in nerfstudio's environment, without mv3d.

    python nerfacto.py FOLDER --seconds 50 150 [--rays 4096] [--points 100000]

Reads FOLDER/transforms.json (21 RGBA images), FOLDER/unseen.npz (c2w (n, 4, 4) with OpenGL axes, fl_x, fl_y, cx, cy (n,),
width, height) and bounds in unseen.npz: near, far. One training; at each mark the clock stops, the unseen cameras are
rendered and the mesh is exported (`ns-export poisson`: its own code), and the training goes on. Writes NUMBER.npz (rgb
(n, h, w, 3) on white), NUMBER/poisson_mesh.ply, and nerfacto.json: versions, settings, and per mark the seconds of training,
iterations, the seconds of the exporter, and why there is no mesh where there is none; marks that were not reached are left out.
"""

from __future__ import annotations

# pyright: reportMissingImports=false
import argparse
import json
import random
import time
from collections.abc import Callable
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS = {
    "background_color": "random",
    "disable_scene_contraction": True,
    "proposal_initial_sampler": "uniform",
    "use_appearance_embedding": False,
    "distortion_loss_mult": 0.0,
    "implementation": "torch",
}
"""As nerfstudio's documents have nerfacto for objects without background; the random colour behind the pictures makes
their alpha count. The camera optimiser is off (the cameras are exact), near and far are those of the object."""
LEAST_OPAQUE = 0.01
FULLY_OPAQUE = 1 / 8
"""The exporter draws rays until it holds its points, so its time grows with the inverse of the opaque share. Below this
share, about what an object fills of its pictures, it is asked for fewer points in proportion; it took an hour otherwise."""


def without_lpips() -> None:
    """The model loads LPIPS, whose weights it would download, for its own evaluation, which is not run here."""
    import torch
    from torchmetrics.image import lpip

    # nerfacto imports the name where it builds itself.
    lpip.LearnedPerceptualImagePatchSimilarity = lambda **_: torch.nn.Identity()


def trainer_config(folder: Path, rays: int, near: float, far: float) -> Any:
    from nerfstudio.configs.method_configs import method_configs
    from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    config = deepcopy(method_configs["nerfacto"])
    parser = NerfstudioDataParserConfig(
        data=folder,
        orientation_method="none",
        center_method="none",
        auto_scale_poses=False,
        eval_mode="all",
        load_3D_points=False,
    )
    config.pipeline.datamanager = VanillaDataManagerConfig(
        dataparser=parser, train_num_rays_per_batch=rays, eval_num_rays_per_batch=rays
    )
    for name, value in SETTINGS.items():
        if not hasattr(config.pipeline.model, name):
            raise AttributeError(f"nerfacto of nerfstudio {version('nerfstudio')} has no setting {name}")
        setattr(config.pipeline.model, name, value)
    config.pipeline.model.near_plane, config.pipeline.model.far_plane = near, far
    config.pipeline.model.camera_optimizer.mode = "off"
    config.pipeline.model.eval_num_rays_per_chunk = 4096
    config.optimizers.pop("camera_opt", None)
    config.machine.device_type = "cpu"
    config.mixed_precision, config.use_grad_scaler = False, False
    config.vis = "tensorboard"
    config.logging.local_writer.enable = False
    config.output_dir, config.timestamp = folder / "nerfstudio", "run"
    config.data = folder
    return config


def step_of(trainer: Any) -> Callable[[int], None]:
    """One iteration as `Trainer.train` does it, without its viewer, its log and its evaluation."""
    from nerfstudio.engine.callbacks import TrainingCallbackLocation

    def step(number: int) -> None:
        trainer.step = number
        trainer.pipeline.train()
        for callback in trainer.callbacks:
            callback.run_callback_at_location(number, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
        trainer.train_iteration(number)
        for callback in trainer.callbacks:
            callback.run_callback_at_location(number, TrainingCallbackLocation.AFTER_TRAIN_ITERATION)

    return step


def rendered(trainer: Any, unseen: dict[str, np.ndarray]) -> np.ndarray:
    """(n, h, w, 3) on white."""
    import torch
    from nerfstudio.cameras.cameras import Cameras

    model = trainer.pipeline.model
    trainer.pipeline.eval()
    background = model.renderer_rgb.background_color
    model.renderer_rgb.background_color = torch.ones(3)
    pictures = []
    for i in range(len(unseen["c2w"])):
        intrinsics = [torch.tensor([float(unseen[key][i])]) for key in ("fl_x", "fl_y", "cx", "cy")]
        camera = Cameras(
            torch.tensor(unseen["c2w"][i : i + 1, :3], dtype=torch.float32),
            *intrinsics,
            width=int(unseen["width"]),
            height=int(unseen["height"]),
        )
        with torch.no_grad():
            pictures.append(model.get_outputs_for_camera(camera)["rgb"].cpu().numpy())
    model.renderer_rgb.background_color = background
    return np.stack(pictures)


def opaque_share(trainer: Any) -> float:
    """The opaque share of the images' rays. If all are below its threshold, the exporter never ends."""
    import torch

    trainer.pipeline.eval()
    with torch.no_grad():
        bundle, _ = trainer.pipeline.datamanager.next_train(0)
        return float((trainer.pipeline.model(bundle)["accumulation"] > 0.5).float().mean())


def export(trainer: Any, out: Path, points: int) -> str:
    """`ns-export poisson` of the network in memory. Why there is no mesh, or an empty text."""
    from nerfstudio.scripts import exporter

    share = opaque_share(trainer)
    if share < LEAST_OPAQUE:
        return "nothing is opaque yet: the exporter finds no points"
    pipeline = trainer.pipeline
    exporter.eval_setup = lambda *_, **__: (trainer.config, pipeline, None, trainer.step)
    sampler = pipeline.datamanager.train_pixel_sampler
    rays = sampler.num_rays_per_batch
    exporter.ExportPoissonMesh(
        load_config=out,
        output_dir=out,
        num_points=max(1, int(points * min(1.0, share / FULLY_OPAQUE))),
        normal_method="open3d",
        texture_method="point_cloud",
        num_rays_per_batch=4096,
    ).main()
    sampler.num_rays_per_batch = rays
    if hasattr(sampler, "set_num_rays_per_batch"):
        sampler.set_num_rays_per_batch(rays)
    return "" if (out / "poisson_mesh.ply").exists() else "the exporter wrote no mesh"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, nargs="+", required=True, help="marks, growing")
    parser.add_argument("--rays", type=int, default=4096, help="per iteration")
    parser.add_argument("--points", type=int, default=100_000, help="of the exporter")
    options = parser.parse_args()
    import torch

    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - nerfstudio draws from it
    random.seed(0)
    with np.load(options.folder / "unseen.npz") as stored:
        unseen = {name: stored[name] for name in stored.files}
    config = trainer_config(options.folder, options.rays, float(unseen["near"]), float(unseen["far"]))
    without_lpips()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    step, done, spent, marks = step_of(trainer), 0, 0.0, []
    versions = {name: version(name) for name in ("nerfstudio", "nerfacc", "torch", "open3d")}
    report = {"versions": versions, "settings": SETTINGS, "rays": options.rays, "marks": marks}
    for number, mark in enumerate(options.seconds):
        while spent < mark:
            begun = time.perf_counter()
            step(done)
            spent += time.perf_counter() - begun
            done += 1
        np.savez(options.folder / f"{number}.npz", rgb=rendered(trainer, unseen))
        found = {
            "seconds": spent,
            "iterations": done,
            "export_seconds": 0.0,
            "no_mesh": "the exporter broke off",
        }
        marks.append(found)
        # Before the exporter, too: the Poisson solver that it calls ends the process where it fails.
        write(options.folder, report)
        begun = time.perf_counter()
        found["no_mesh"] = export(trainer, options.folder / str(number), options.points)
        found["export_seconds"] = time.perf_counter() - begun
        write(options.folder, report)


def write(folder: Path, report: dict[str, Any]) -> None:
    (folder / "nerfacto.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
