"""The generator: network, conditioning, preconditioning, samplers, weights.

The names below load their modules when first used: `import mv3d.models` loads neither torch nor diffusers.
"""
# ruff: noqa: F401 - type checkers read the imports

from __future__ import annotations

from typing import TYPE_CHECKING

from mv3d.core.lazy import lazy_names

if TYPE_CHECKING:
    from mv3d.models.adapt import with_micro_conditioning
    from mv3d.models.conditioning import OrbitConditioning
    from mv3d.models.encode import decode_frames, embed_image, encode_condition, encode_frames
    from mv3d.models.folder import ModelInfo
    from mv3d.models.loading import ModelComponents, load_model_folder, load_unet
    from mv3d.models.locate import resolve
    from mv3d.models.lora import merge_loras, read_lora
    from mv3d.models.network import (
        SV3D_P,
        SV3D_U,
        SVD,
        SVD_MV,
        MicroConditioning,
        MultiViewUNet,
        NetworkConfig,
    )
    from mv3d.models.preconditioning import denoise, loss_weight, scalings
    from mv3d.models.sampling import karras_sigmas, linear_guidance, sample, triangular_guidance
    from mv3d.models.sgm import load_sgm_unet

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "adapt": "with_micro_conditioning",
        "conditioning": "OrbitConditioning",
        "encode": "decode_frames embed_image encode_condition encode_frames",
        "folder": "ModelInfo",
        "loading": "ModelComponents load_model_folder load_unet",
        "locate": "resolve",
        "lora": "merge_loras read_lora",
        "network": "SV3D_P SV3D_U SVD SVD_MV MicroConditioning MultiViewUNet NetworkConfig",
        "preconditioning": "denoise loss_weight scalings",
        "sampling": "karras_sigmas linear_guidance sample triangular_guidance",
        "sgm": "load_sgm_unet",
    },
)
