"""Scores that need a CLIP model at hand: how well a clip fits its caption, and how people would like its looks.

Both of the first, middle and last frame, as in Stable Video Diffusion (arXiv 2311.15127, appendix C). Nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mv3d.core.errors import InputError, shown

CAPTION_SUFFIX = ".txt"
"""The caption of NAME.mp4 is in NAME.txt beside it."""


def caption_of(clip: Path) -> str | None:
    """The caption beside a clip, or None."""
    path = clip.with_suffix(CAPTION_SUFFIX)
    return path.read_text(encoding="utf-8", errors="replace").strip() or None if path.is_file() else None


def clip_scores(
    pictures: Sequence[UInt8[np.ndarray, "h w 3"]], caption: str | None, model: str, predictor: str | None
) -> dict[str, float | None]:
    """`clip`: mean cosine of the pictures' and the caption's embeddings, None without a caption. `aesthetics`: the mean of
    the predictor's values, None without one.

    model: a folder of transformers with a CLIP model and its tokenizer. predictor: LAION's layers on normalised embeddings,
    as safetensors. Raises InputError where either cannot be used.
    """
    import torch  # noqa: PLC0415 - slow to import
    from torch.nn.functional import normalize  # noqa: PLC0415

    from mv3d.models.encode import clip_input  # noqa: PLC0415

    network, tokenizer = _model(model)
    squares = [torch.from_numpy(_square(p)).permute(2, 0, 1)[None].float() / 255 for p in pictures]
    with torch.no_grad():
        seen = torch.cat([clip_input(network.vision_model, square) for square in squares])
        images = network.visual_projection(network.vision_model(pixel_values=seen).pooler_output)
        images = normalize(images.float(), dim=-1)
        fit = None
        if caption is not None:
            tokens = tokenizer([caption], truncation=True, return_tensors="pt")
            words = network.text_projection(network.text_model(**tokens).pooler_output)
            fit = float((images @ normalize(words.float(), dim=-1).T).mean())
        looks = None
        if predictor is not None:
            values = images
            for weight, bias in _layers(predictor):
                if values.shape[1] != weight.shape[1]:
                    raise InputError(
                        f"--aesthetics {predictor}: expected layers for embeddings of {values.shape[1]} numbers, got "
                        f"{weight.shape[1]}; it is made for another --clip"
                    )
                values = values @ weight.T + bias
            looks = float(values.mean())
    return {"clip": fit, "aesthetics": looks}


def check_weights(model: Path, predictor: Path | None) -> None:
    """Raise InputError where the weights cannot be used, before any clip is looked at."""
    _model(str(model))
    if predictor is not None:
        _layers(str(predictor))


@cache
def _model(model: str) -> tuple[Any, Any]:
    from transformers import CLIPModel  # noqa: PLC0415 - slow to import
    from transformers import CLIPTokenizerFast as Tokenizer  # noqa: PLC0415 # pyright: ignore[reportAttributeAccessIssue]

    try:
        found: Any = CLIPModel.from_pretrained(
            model, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        loaded, report = found
        tokenizer = Tokenizer.from_pretrained(model, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"--clip {model}: expected a folder with a CLIP model and its tokenizer, of transformers ({shown(error, 200)}); "
            "get one by: hf download openai/clip-vit-large-patch14 --local-dir FOLDER"
        ) from error
    if lacking := [*report["missing_keys"], *report["mismatched_keys"]]:  # they would be random numbers
        raise InputError(f"--clip {model}: lacks weights of a CLIP model, {lacking[0]} for one")
    return loaded.eval(), tokenizer


@cache
def _layers(path: str) -> list[tuple[Any, Any]]:
    """(weight, bias) in order. LAION's predictors have no non-linearity between their layers."""
    from mv3d.models.weights import open_weights  # noqa: PLC0415 - loads torch

    with open_weights(Path(path)) as weights:
        names = [key.removesuffix("weight") for key in weights.keys if key.endswith("weight")]
        names.sort(key=lambda name: [int(part) for part in name.split(".") if part.isdigit()])
        missing = [f"{name}bias" for name in names if f"{name}bias" not in weights.keys]
        if not names or missing:
            raise InputError(
                f"--aesthetics {path}: expected linear layers, got no {(missing or ['weight'])[0]}"
            )
        layers = [(weights.tensor(f"{n}weight").float(), weights.tensor(f"{n}bias").float()) for n in names]
    if any(weight.ndim != 2 for weight, _ in layers) or len(layers[-1][0]) != 1:
        raise InputError(f"--aesthetics {path}: expected linear layers that end in one number, got others")
    return layers


def _square(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "side side 3"]:
    """The middle, as CLIP was trained."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(picture[top : top + side, left : left + side])
