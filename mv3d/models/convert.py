"""Other people's checkpoints into our folder form, strictly and one tensor at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mv3d.core.errors import InputError, OutputError
from mv3d.core.files import sha256, to_json
from mv3d.core.outputs import Output
from mv3d.core.records import RunRecord
from mv3d.models.components import (
    CLIP_VIT_H,
    VAE_SD,
    build_image_encoder,
    build_unet,
    build_vae,
    written_config,
)
from mv3d.models.folder import (
    COMPONENTS,
    INFO_FILE,
    PRIOR,
    WEIGHTS,
    ModelCard,
    ModelInfo,
    SamplerDefaults,
    camera_support,
    components_of,
    has_prior,
    read_config,
    read_info,
    read_json,
    weights_path,
    write_info,
)
from mv3d.models.network import SVD
from mv3d.models.prior.folder import load_prior, read_prior_settings, save_prior
from mv3d.models.sgm import NETWORK_PREFIX, network_config, network_key_map
from mv3d.models.sgm_parts import UNUSED, Piece, clip_pieces, has_temporal_decoder, vae_pieces
from mv3d.models.weights import WeightsFile, check_keys, dtype_name, open_weights, write_weights
from mv3d.orbits.attribution import MARKDOWN, TABLE

SV3D_LICENCE_URL = "https://huggingface.co/stabilityai/sv3d/blob/main/LICENSE.md"
SVD_LICENCE_URL = "https://huggingface.co/stabilityai/stable-video-diffusion-img2vid-xt/blob/main/LICENSE.md"
SV3D_NETWORK: dict[str, Any] = {
    "num_classes": "sequential",
    "in_channels": 8,
    "out_channels": 4,
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_head_channels": 64,
    "use_linear_in_transformer": True,
    "transformer_depth": 1,
    "context_dim": 1024,
    "extra_ff_mix_layer": True,
    "use_spatial_context": True,
    "merge_strategy": "learned_with_images",
    "video_kernel_size": [3, 1, 1],
}
"""The released SV3D networks in the original's terms, but for adm_in_channels, which the weights tell."""
_KIND_OF_WIDTH = {256: "sv3d_u", 1280: "sv3d_p"}


@dataclass(frozen=True)
class OriginalParts:
    """The shapes of an original checkpoint's three parts. The defaults are those of the released SV3D files."""

    network: dict[str, Any]
    vae: dict[str, Any]
    image_encoder: dict[str, Any]


SV3D_PARTS = OriginalParts(SV3D_NETWORK, VAE_SD, CLIP_VIT_H)


def convert(
    source: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    parts: OriginalParts = SV3D_PARTS,
    dtype: torch.dtype | None = None,
    base: str = "",
    revision: str = "",
    overwrite: bool = False,
) -> Path:
    """Write `source` as a model folder. Returns the folder.

    source: an original sv3d_u.safetensors or sv3d_p.safetensors, a folder of Stable Video Diffusion in diffusers' form, or
    a model folder, whose description and card are kept. dtype: of the weights; by default as they are. Every key and shape
    is checked before the first byte is written. Raises InputError that names what does not fit, OutputError where the
    folder cannot be written, or holds files that the record of an earlier conversion does not list.
    """
    source, out = Path(source), Path(out_dir)
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise OutputError(f"{out}: is there already; use --overwrite to replace it")
    if not source.exists():
        raise InputError(f"{source}: expected a checkpoint or a folder, got nothing there")
    names = (*WEIGHTS, INFO_FILE, "README.md", MARKDOWN, TABLE)
    inputs = tuple(source.iterdir()) if source.is_dir() else (source,)
    output = Output(out, "run.json", names, inputs, overwrite)
    with output.opened() as folder:
        ours = (source / INFO_FILE).exists()
        if ours and has_prior(source):
            _convert_prior(source, folder, dtype)
        if ours and components_of(source) == (PRIOR,):
            info, card = read_info(source), ModelCard("", "")  # what is written of both comes from the source
        elif source.is_dir():
            info, card = _convert_diffusers(source, folder, dtype)
        else:
            info, card = _convert_original(source, folder, parts, dtype)
        if ours:
            write_info(folder, read_info(source))
            for name in ("README.md", MARKDOWN, TABLE):
                if (source / name).exists():
                    shutil.copyfile(source / name, folder / name)
        else:
            info = replace(info, base=base or info.base, revision=revision)
            card = replace(card, base=base or card.base)
            write_info(folder, info)
            (folder / "README.md").write_text(card.text(), encoding="utf-8")
        output.publish(folder, RunRecord.of("models convert"), last=INFO_FILE)
    return out


def _convert_prior(source: Path, folder: Path, dtype: torch.dtype | None) -> None:
    network, settings = load_prior(source), read_prior_settings(source)  # every file is whole
    if dtype is None:
        shutil.copytree(source / PRIOR, folder / PRIOR)
    else:
        save_prior(folder, network, settings, dtype=dtype)


def _convert_original(
    source: Path, folder: Path, parts: OriginalParts, dtype: torch.dtype | None
) -> tuple[ModelInfo, ModelCard]:
    with open_weights(source) as weights:
        plans, kind = original_plan(weights, parts)
        for component, plan in plans.items():
            _write_component(weights, folder / component, plan, dtype)
    digest = sha256(source)
    info = ModelInfo(
        kind=kind,
        **camera_support(plans["unet"].config["vector_names"]),
        base=source.name,
        source_sha256=digest,
        licence="stabilityai-sv3d",
        licence_url=SV3D_LICENCE_URL,
    )
    card = ModelCard(
        title=f"{kind.replace('sv3d', 'SV3D')} for mv3d",
        licence=info.licence,
        licence_url=info.licence_url,
        base="stabilityai/sv3d",
        data="Objaverse renders by Stability AI (arXiv 2403.12008)",
        notes=f"Converted from `{source.name}` (sha256 {digest}) without changing a value. The weights' licence is that of "
        "their makers; read it before use.",
    )
    return info, card


@dataclass(frozen=True)
class _Plan:
    """One component: its config.json, and for every key of ours the shape and the place in the source."""

    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    pieces: dict[str, Piece]


def original_plan(weights: WeightsFile, parts: OriginalParts) -> tuple[dict[str, _Plan], str]:
    """The place of every key of an original checkpoint in our components, and which SV3D it is.

    Raises InputError that names each key which is missing, unknown or of another shape.
    """
    label = NETWORK_PREFIX + "label_emb.0.0.weight"
    if label not in weights.keys:
        first = weights.keys[0] if weights.keys else "nothing"
        raise InputError(
            f"{weights.path}: not a checkpoint of SV3D: {label} is missing (it begins with {first})"
        )
    width = weights.shape(label)[1]
    if width not in _KIND_OF_WIDTH:
        raise InputError(
            f"{weights.path}: expected {label} of width 256 (SV3D_u) or 1280 (SV3D_p), got {width}"
            + ("; for SVD take the folder in diffusers' form" if width == SVD.total_width else "")
        )
    config = network_config(parts.network | {"adm_in_channels": width})
    with torch.device("meta"):
        unet = config.build()
        form: dict[str, Any] = {"_class_name": "AutoencoderKLTemporalDecoder"}
        if not has_temporal_decoder(weights.keys):
            form = {"_class_name": "AutoencoderKL", "use_post_quant_conv": False}
        vae, vae_config = build_vae(parts.vae | form)
        encoder, encoder_config = build_image_encoder(parts.image_encoder)
    unet_shapes, vae_shapes, encoder_shapes = (_shapes(m) for m in (unet, vae, encoder))
    names = network_key_map(config, unet_shapes)
    unet_pieces = {key: Piece(NETWORK_PREFIX + names[key], shape) for key, shape in unet_shapes.items()}
    plans = {
        "unet": _Plan(written_config("MultiViewUNet", unet.arguments), unet_shapes, unet_pieces),
        "vae": _Plan(vae_config, vae_shapes, vae_pieces(vae_shapes)),
        "image_encoder": _Plan(encoder_config, encoder_shapes, clip_pieces(encoder_shapes)),
    }
    expected = {piece.key: piece.shape for plan in plans.values() for piece in plan.pieces.values()}
    found = {key: weights.shape(key) for key in weights.keys if not UNUSED.match(key)}
    check_keys(weights.path, expected, found, what=_KIND_OF_WIDTH[width].replace("sv3d", "SV3D"))
    return plans, _KIND_OF_WIDTH[width]


def _convert_diffusers(source: Path, folder: Path, dtype: torch.dtype | None) -> tuple[ModelInfo, ModelCard]:
    """Stable Video Diffusion's own folder: the same weights, checked, with our description."""
    builders: dict[str, Callable[[dict[str, Any]], tuple[Any, dict[str, Any]]]] = {
        "unet": build_unet,
        "vae": build_vae,
        "image_encoder": build_image_encoder,
    }
    frames, name = 25, source.name
    for component, build in builders.items():
        config = read_config(source / component)
        with torch.device("meta"):
            module, written = build(config)
        shapes = _shapes(module)
        path = weights_path(source, component)
        with open_weights(path) as weights:
            # transformers once stored this index among the weights; it is counted anew.
            found = {key: weights.shape(key) for key in weights.keys if not key.endswith(".position_ids")}
            what = f"the {component.replace('_', ' ')} that its config.json describes"
            check_keys(path, shapes, found, what=what)
            plan = _Plan(written, shapes, {key: Piece(key, shape) for key, shape in shapes.items()})
            _write_component(weights, folder / component, plan, dtype)
        if component == "unet":
            frames = int(written["num_frames"])
    if (source / "model_index.json").exists():
        name = read_json(source / "model_index.json").get("_name_or_path") or name
    info = ModelInfo(
        kind="svd",
        num_frames=frames,
        resolution=1024,
        height=576,
        camera="none",
        takes_elevation=False,
        sampler=SamplerDefaults(steps=25, guidance_max=3.0, guidance_shape="linear", cond_aug=0.02),
        base=name,
        licence="stable-video-diffusion-community",
        licence_url=SVD_LICENCE_URL,
    )
    card = ModelCard(
        title="Stable Video Diffusion for mv3d",
        licence=info.licence,
        licence_url=info.licence_url,
        base=name,
        data="Stability AI's video collection (arXiv 2311.15127)",
        notes="Converted without changing a value. It takes no camera: it is a base for `mv3d train`. The weights' licence is "
        "that of their makers; read it before use.",
    )
    return info, card


def _write_component(weights: WeightsFile, folder: Path, plan: _Plan, dtype: torch.dtype | None) -> None:
    folder.mkdir()
    dtypes = {key: weights.dtype(piece.key) for key, piece in plan.pieces.items()}
    if dtype is not None:
        floats = ("F64", "F32", "F16", "BF16")
        dtypes = {key: dtype_name(dtype) if kind in floats else kind for key, kind in dtypes.items()}

    def read(key: str) -> Tensor:
        piece = plan.pieces[key]
        value = piece.take(weights.tensor(piece.key), plan.shapes[key])
        return value if dtype is None or not value.is_floating_point() else value.to(dtype)

    write_weights(folder / COMPONENTS[folder.name], plan.shapes, dtypes, read)
    (folder / "config.json").write_text(to_json(plan.config), encoding="utf-8")


def _shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}
