"""The contents of a model folder, from its JSON files and the headers of its weights. No tensor is loaded."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Any

from mv3d.models.folder import COMPONENTS, PRIOR, components_of, read_info, read_micro_names, weights_path
from mv3d.models.weights import open_weights


def describe(folder: Path) -> dict[str, Any]:
    """Plain values for people and for JSON. Raises InputError where the folder is no model or a file is cut off."""
    info = read_info(folder)
    components = components_of(folder) or ((PRIOR,) if info.kind == PRIOR else tuple(COMPONENTS))
    names = [] if components == (PRIOR,) else read_micro_names(folder)
    parameters, dtypes = {}, {}
    for component in components:
        with open_weights(weights_path(folder, component)) as weights:
            parameters[component] = sum(math.prod(weights.shape(key)) for key in weights.keys)
            dtypes[component] = Counter(weights.dtype(key) for key in weights.keys).most_common(1)[0][0]
    return {
        "kind": info.kind,
        "frames": info.num_frames,
        "size": f"{info.size[0]} × {info.size[1]}",
        "takes": info.takes,
        "vector": names,
        "parameters": parameters,
        "dtype": dtypes,
        "sampler": dataclasses.asdict(info.sampler),
        **({"distilled_steps": info.distilled_steps} if info.distilled_steps else {}),
        "fov_deg": info.fov_deg,
        **{
            key: getattr(info, key) for key in ("base", "revision", "source_sha256", "licence", "licence_url")
        },
    }
