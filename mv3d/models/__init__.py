"""The generator: network, conditioning, preconditioning, samplers, weights.

The names below load their modules when first used: `import mv3d.models` loads neither torch nor diffusers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mv3d.models.adapt import with_micro_conditioning as with_micro_conditioning
    from mv3d.models.conditioning import OrbitConditioning as OrbitConditioning
    from mv3d.models.encode import decode_frames as decode_frames
    from mv3d.models.encode import embed_image as embed_image
    from mv3d.models.encode import encode_condition as encode_condition
    from mv3d.models.encode import encode_frames as encode_frames
    from mv3d.models.folder import ModelInfo as ModelInfo
    from mv3d.models.loading import ModelComponents as ModelComponents
    from mv3d.models.loading import load_model_folder as load_model_folder
    from mv3d.models.loading import load_unet as load_unet
    from mv3d.models.locate import resolve as resolve
    from mv3d.models.lora import merge_loras as merge_loras
    from mv3d.models.lora import read_lora as read_lora
    from mv3d.models.network import SV3D_P as SV3D_P
    from mv3d.models.network import SV3D_U as SV3D_U
    from mv3d.models.network import SVD as SVD
    from mv3d.models.network import SVD_MV as SVD_MV
    from mv3d.models.network import MicroConditioning as MicroConditioning
    from mv3d.models.network import MultiViewUNet as MultiViewUNet
    from mv3d.models.network import NetworkConfig as NetworkConfig
    from mv3d.models.preconditioning import denoise as denoise
    from mv3d.models.preconditioning import loss_weight as loss_weight
    from mv3d.models.preconditioning import scalings as scalings
    from mv3d.models.sampling import karras_sigmas as karras_sigmas
    from mv3d.models.sampling import linear_guidance as linear_guidance
    from mv3d.models.sampling import sample as sample
    from mv3d.models.sampling import triangular_guidance as triangular_guidance
    from mv3d.models.sgm import load_sgm_unet as load_sgm_unet

_HOMES = {
    "ModelComponents": "loading",
    "ModelInfo": "folder",
    "MultiViewUNet": "network",
    "NetworkConfig": "network",
    "OrbitConditioning": "conditioning",
    "SV3D_P": "network",
    "SV3D_U": "network",
    "SVD": "network",
    "SVD_MV": "network",
    "MicroConditioning": "network",
    "decode_frames": "encode",
    "denoise": "preconditioning",
    "embed_image": "encode",
    "encode_condition": "encode",
    "encode_frames": "encode",
    "karras_sigmas": "sampling",
    "linear_guidance": "sampling",
    "load_model_folder": "loading",
    "load_sgm_unet": "sgm",
    "load_unet": "loading",
    "loss_weight": "preconditioning",
    "merge_loras": "lora",
    "read_lora": "lora",
    "resolve": "locate",
    "sample": "sampling",
    "scalings": "preconditioning",
    "triangular_guidance": "sampling",
    "with_micro_conditioning": "adapt",
}
__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"mv3d.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'mv3d.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
