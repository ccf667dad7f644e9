"""Small models and data sets to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from mv3d.core.files import to_json
from mv3d.models.components import build_image_encoder, build_vae
from mv3d.models.folder import COMPONENTS, ModelInfo, camera_support, write_info
from mv3d.models.network import SV3D_P, MicroConditioning, NetworkConfig
from mv3d.orbits.build import build_shards
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig
from mv3d.training.batches import BatchMaker
from mv3d.training.config import TrainConfig, preset
from mv3d.training.data import open_samples
from mv3d.training.encode_shards import encode_shards
from mv3d.training.loop import train_loop
from mv3d.training.objective import orbit_objective

FRAMES = 4
VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [8, 8, 8],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
    "scaling_factor": 0.5,
    "mid_block_add_attention": False,
}
CLIP: dict[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "projection_dim": 24,
    "hidden_act": "gelu",
}


def small_network(micro: MicroConditioning = SV3D_P, seed: int = 0):
    torch.manual_seed(seed)
    return NetworkConfig(
        micro=micro,
        block_out_channels=(32, 32),
        attention=(True, False),
        heads=(2, 2),
        layers_per_block=1,
        transformer_depth=(1, 1),
        context_dim=24,
        num_frames=FRAMES,
        sample_size=8,
    ).build()


def save_base(folder: Path, micro: MicroConditioning = SV3D_P) -> Path:
    """A whole model folder of random weights; pictures of 32 × 32, latents of 8 × 8."""
    unet = small_network(micro)
    vae, vae_config = build_vae(dict(VAE))
    encoder, clip = build_image_encoder(dict(CLIP))
    kept = {k: v for k, v in unet.config.items() if not k.startswith("_")}
    for name, module, config in (
        ("unet", unet, {"_class_name": "MultiViewUNet"} | kept),
        ("vae", vae, vae_config),
        ("image_encoder", encoder, clip),
    ):
        (folder / name).mkdir(parents=True)
        state = {key: value.contiguous() for key, value in module.state_dict().items()}
        save_file(state, folder / name / COMPONENTS[name])
        (folder / name / "config.json").write_text(to_json(config))
    write_info(folder, ModelInfo("test", FRAMES, 32, licence="CC0-1.0", **camera_support(micro.names)))
    return folder


def save_orbits(folder: Path, *, objects: int = 6, size: int = 32, views: int = 8) -> Path:
    """Rendered shards, painted."""
    from helpers.painted import painted

    items = [CatalogueItem(f"o{index}", licence="CC0-1.0") for index in range(objects)]
    config = OrbitConfig(views=views, size=size, environments=("uniform",), shard_size=4)
    build_shards(items, folder, config, workers=1, work=painted)
    return folder


def save_latents(orbits: Path, base: Path, folder: Path) -> Path:
    return encode_shards(orbits, base / "vae", base / "image_encoder", folder).out_dir


def quick(name: str = "sv3d_p", **changes: Any) -> TrainConfig:
    """A preset, cut down to seconds."""
    usual = {
        "frames": FRAMES, "steps": 4, "static_steps": 0, "batch": 4, "micro_batch": 2, "lr": 1e-3, "warmup": 1,
        "precision": "fp32", "device": "cpu", "workers": 0, "log_every": 1, "checkpoint_every": 2,
        "validate_every": 0, "validation_steps": 2, "gradient_checkpointing": False, "encoder_steps": 2,
        "channels": (32, 32),
    }  # fmt: skip
    return preset(name, **(usual | changes))


def save_clip(path: Path, *, frames: int = 12, size: int = 40) -> Path:
    """A square that moves to the right."""
    import imageio.v3 as iio

    pictures = np.full((frames, size, size + 8, 3), 40, np.uint8)
    for number in range(frames):
        pictures[number, 10:20, number * 2 : number * 2 + 10] = (220, 40 + number, 10)
    iio.imwrite(path, pictures, plugin="pyav", codec="libx264", fps=8)
    return path


def without_times(line: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in line.items() if k in ("step", "loss", "lr", "grad_norm", "images")}


def loop(config, data: Path, out: Path, **options):
    out.mkdir(exist_ok=True)
    batches = BatchMaker(config, scaling_factor=0.5, device="cpu")
    samples = open_samples(data, config, (32, 32))
    accelerator = Accelerator(cpu=True)
    objective = orbit_objective(config, small_network(), batches)
    return train_loop(config, objective, samples, out, accelerator=accelerator, **options)
