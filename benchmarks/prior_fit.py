"""How well a 3D prior knows objects that it was trained on, held-out ones, and others that were rendered.

    python benchmarks/prior_fit.py --data SHARDS --models default run/model --layers layers [--other EVAL_SHARDS]

SHARDS: those of the training (`mv3d orbits render --geometry`); EVAL_SHARDS: of other objects, in the same form. Photos
are plain ones, without the changes of training: of each of SHARDS' objects the first view, of the others every second
view. A model that fits what it has seen no better than what it has not is limited by its size or its time; one that does
is limited by its objects. `layer IoU`, `silhouette IoU`, `elevation`: `scores` of mv3d.training.prior.losses.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from prior_ablations import KINDS, kind_of
from torch.utils.data import default_collate

from mv3d.models.locate import resolve
from mv3d.models.prior.folder import load_prior, read_prior_settings
from mv3d.models.prior.network import PriorNetwork
from mv3d.training.prior.layer_store import LayerStore, ObjectViews, build_store, geometry_shards
from mv3d.training.prior.losses import PriorBatch, scores
from mv3d.training.prior.samples import is_held_out, make_sample, plain_draw

NAMES = ("iou", "silhouette_iou", "elevation_deg")
_AT_ONCE = 16
_ANGLE = 5  # views between a photo and the view whose silhouette is compared, of many


def photos(views: ObjectViews, side: int, every: int | None) -> Iterator[dict[str, Any]]:
    """The first view as a photo, or every so many of them."""
    count = len(views.rgba)
    for view in range(0, count if every else 1, every or 1):
        draw = plain_draw(count, np.random.default_rng([len(views.uid), view]))
        looking = (view + (_ANGLE if count > _ANGLE else 1)) % count
        yield make_sample(views, replace(draw, view=view, looking=looking), side)


@torch.no_grad()
def means(network: PriorNetwork, samples: Iterable[dict[str, Any]]) -> Float[np.ndarray, " 3"]:
    """Means of `NAMES` over samples."""
    given, found = list(samples), []
    for begin in range(0, len(given), _AT_ONCE):
        batch = PriorBatch.of(default_collate(given[begin : begin + _AT_ONCE]), "cpu")
        of_each = scores(network(batch.photo), batch)
        found.append(torch.stack([of_each[name] for name in NAMES], 1))
    return torch.cat(found).mean(0).numpy()


def row(model: str, name: str, of_objects: list[np.ndarray]) -> str:
    values = np.array(of_objects)
    mean, spread = values.mean(0), values.std(0) / max(len(values), 1) ** 0.5
    cells = " | ".join(f"{m:.3f} ± {s:.3f}" for m, s in zip(mean[:2], spread[:2], strict=True))
    return f"| {model} | {name} ({len(values)}) | {cells} | {mean[2]:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--layers", type=Path, required=True, help="folder of the layers of both")
    parser.add_argument("--models", nargs="+", default=["default"])
    parser.add_argument("--most", type=int, default=160, help="objects of each kind that were seen")
    options = parser.parse_args()
    store = LayerStore(build_store(geometry_shards(options.data), options.layers))
    other = LayerStore(build_store(geometry_shards(options.other), options.layers)) if options.other else None
    print("| | objects | layer IoU | silhouette IoU | elevation, degrees |\n|---|---|---|---|---|")
    for model in options.models:
        folder = resolve(model).folder
        network, side = load_prior(folder), read_prior_settings(folder).side
        for held_out in (False, True):
            for kind in KINDS:
                numbers = [
                    number
                    for number, uid in enumerate(store.uids)
                    if kind_of(uid) == kind and is_held_out(uid) == held_out
                ]
                if not held_out:
                    numbers = list(np.random.default_rng(0).permutation(numbers)[: options.most])
                found = [means(network, photos(store.object(int(number)), side, None)) for number in numbers]
                print(row(model, f"{kind}, {'held out' if held_out else 'seen'}", found), flush=True)
        if other is not None:
            found = [means(network, photos(other.object(n), side, 2)) for n in range(len(other))]
            print(row(model, "others", found), flush=True)


if __name__ == "__main__":
    main()
