"""What a model folder holds, read from its JSON files and the heads of its weights: no tensor is loaded."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Any

from mv3d.core.errors import InputError, shown
from mv3d.models.folder import COMPONENTS, read_config, read_info, weights_path
from mv3d.models.weights import open_weights


def describe(folder: Path) -> dict[str, Any]:
    """Plain values for people and for JSON. Raises InputError where the folder is no model or a file is cut off."""
    info = read_info(folder)
    config = read_config(folder / "unet")
    names = config.get("vector_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"{folder}/unet/config.json: expected a list of names vector_names, got {shown(names)}"
        )
    parameters, dtypes = {}, {}
    for component in COMPONENTS:
        with open_weights(weights_path(folder, component)) as weights:
            parameters[component] = sum(math.prod(weights.shape(key)) for key in weights.keys)
            dtypes[component] = Counter(weights.dtype(key) for key in weights.keys).most_common(1)[0][0]
    height = info.height or info.resolution
    return {
        "kind": info.kind,
        "frames": info.num_frames,
        "size": f"{info.resolution} × {height}",
        "takes": _takes(names),
        "vector": names,
        "parameters": parameters,
        "dtype": dtypes,
        "sampler": dataclasses.asdict(info.sampler),
        "fov_deg": info.fov_deg,
        "base": info.base,
        "revision": info.revision,
        "source_sha256": info.source_sha256,
        "licence": info.licence,
        "licence_url": info.licence_url,
    }


def _takes(names: list[str]) -> str:
    if "azimuth" in names:
        return "a camera per view"
    if "elevation" in names or "polar" in names:
        return "the elevation of a static orbit"
    return "no camera: a base for training" if "fps" in names else "the static orbit"
