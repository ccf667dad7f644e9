"""Which part of the 3D prior's answer is missing: its solids with some of the depths replaced by the true ones.

    mv3d orbits render EVAL --out eval --views 21 --size 128 --elevation 10 --gate.textures any --gate.allow-scenes \\
        --geometry --solid-cells 128
    python benchmarks/prior_oracles.py --truth eval [--model default] [--out table.json]

The protocol of benchmarks/default_model.py: each object's last view is given, the others are compared with the truth on
white; the colours are the network's in every row. True depths are read at the network's own pixels, so that the last row
is what this resolution, two layers and these colours allow.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from default_model import KEYS, score
from default_model import orbits as truths
from jaxtyping import Float

from mv3d.models.locate import resolve
from mv3d.models.prior.folder import load_prior, read_prior_settings
from mv3d.models.prior.lift import predict, solid_of
from mv3d.models.prior.renders import rendered_along
from mv3d.models.prior.solid import ENTER, FIRST_LEAVE, LEAVE, SECOND_ENTER, Solid
from mv3d.orbits.geometry import read_geometry
from mv3d.orbits.layered_depth import layered_depth
from mv3d.orbits.reading import OrbitStore, sample_document
from mv3d.training.prior.frames import Frame, View
from mv3d.training.prior.layer_store import dequantized, quantized

_LEAST = 0.02  # thickness, in units of the network


def true_solid(solid: Solid, steps: np.ndarray, view: View) -> Solid:
    """A solid with the true depths of its pixels; where the truth has none it keeps its own."""
    side = solid.two.shape[0]
    frame = Frame(view, *solid.crop)
    size = steps.shape[-1]
    at = ((frame.pixels(side) + 1) * (size / 2)).floor().long().clamp(0, size - 1)
    found = steps[:, at[..., 1], at[..., 0]]
    enter, first_leave, second_enter, leave = frame.scaled(torch.from_numpy(dequantized(found))).numpy()
    two, known = found[3] > 0, found[0] > 0
    leave = np.where(two, leave, first_leave)
    depths = np.stack([enter, leave, first_leave, second_enter])
    return replace(
        solid,
        depths=np.where(known, depths, solid.depths).astype(np.float32),
        two=np.where(known, two, solid.two).astype(np.float32),
    )


def ordered(depths: Float[np.ndarray, "4 s s"]) -> Float[np.ndarray, "4 s s"]:
    """In order again, the first one as it is."""
    made = depths.copy()
    made[LEAVE] = np.maximum(made[LEAVE], made[ENTER] + _LEAST)
    made[FIRST_LEAVE] = np.clip(made[FIRST_LEAVE], made[ENTER], made[LEAVE])
    made[SECOND_ENTER] = np.clip(made[SECOND_ENTER], made[FIRST_LEAVE], made[LEAVE])
    return made


def mixed(made: Solid, true: Solid, which: tuple[int, ...], *, two: bool) -> Solid:
    depths = made.depths.copy()
    depths[list(which)] = true.depths[list(which)]
    return replace(made, depths=ordered(depths), two=true.two if two else made.two)


def stretched(made: Solid, true: Solid, *, thickness: bool) -> Solid:
    """With the true range of depths: shifted and stretched as a whole; or each column to its true thickness."""
    inside = made.photo[..., 3]
    side = made.two.shape[0]
    step = len(inside) / side
    at = ((np.arange(side) + 0.5) * step).astype(int)
    solid = inside[at][:, at] > 0.85
    if not solid.any():
        return made
    if thickness:
        middle = (made.depths[ENTER] + made.depths[LEAVE]) / 2
        half = (made.depths[LEAVE] - made.depths[ENTER]) / 2
        true_half = (true.depths[LEAVE] - true.depths[ENTER]) / 2
        depths = middle + (made.depths - middle) * (true_half / np.maximum(half, 1e-3))
        return replace(made, depths=ordered(depths.astype(np.float32)))

    def ends(of: Solid) -> tuple[float, float]:
        return float(np.quantile(of.depths[ENTER][solid], 0.02)), float(
            np.quantile(of.depths[LEAVE][solid], 0.98)
        )

    (near, far), (true_near, true_far) = ends(made), ends(true)
    scale = (true_far - true_near) / max(far - near, 1e-3)
    return replace(made, depths=((made.depths - near) * scale + true_near).astype(np.float32))


WAYS: dict[str, Callable[[Solid, Solid], Solid]] = {
    "as predicted, not turned upright": lambda made, true: made,
    "true nearest and farthest depth, all stretched": lambda made, true: stretched(
        made, true, thickness=False
    ),
    "true first entry": lambda made, true: mixed(made, true, (ENTER,), two=False),
    "true last exit": lambda made, true: mixed(made, true, (LEAVE,), two=False),
    "true thickness about the predicted middle": lambda made, true: stretched(made, true, thickness=True),
    "true first entry and last exit": lambda made, true: mixed(made, true, (ENTER, LEAVE), two=False),
    "true gaps": lambda made, true: mixed(made, true, (FIRST_LEAVE, SECOND_ENTER), two=True),
    "all depths true": lambda made, true: true,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--views", type=int, default=21, help="of each object, the given one among them")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    folder = resolve(options.model).folder
    network, side = load_prior(folder), read_prior_settings(folder).side
    store = OrbitStore(options.truth)
    geometries = {}
    for place in store.places:
        members = store.members(place)
        document = sample_document(members)
        geometries[str(document["uid"])] = read_geometry(document, members)
    rows: dict[str, list[dict[str, float]]] = {"as predicted": []} | {way: [] for way in WAYS}
    names = []
    for truth in truths(options.truth, options.views):
        photo, orbit = truth.images[-1], truth.orbit
        made, crop = predict(network, photo, side=side)
        elevation, azimuth = orbit.elevations_deg[-1], orbit.azimuths_deg[-1]
        solid = solid_of(made, photo, crop)
        rows["as predicted"].append(score(rendered_along(solid, orbit, photo.shape[0])[1], truth))
        solid = replace(solid, elevation_deg=elevation)
        geometry = geometries[truth.uid]
        cameras = orbit.cameras(*geometry.depth.shape[1:])
        steps = quantized(
            layered_depth(geometry.solid, cameras, len(cameras) - 1, geometry.depth[-1]), orbit.radius
        )
        true = true_solid(solid, steps, View.of(elevation, azimuth, orbit.radius))
        names.append(truth.uid)
        for way, change in WAYS.items():
            _, renders = rendered_along(change(solid, true), orbit, photo.shape[0])
            rows[way].append(score(renders, truth))
        print(truth.uid[:34], " ".join(f"{of[-1]['mask_iou']:.3f}" for of in rows.values()), flush=True)
    print("| | PSNR, dB | SSIM | mask IoU |\n|---|---|---|---|")
    for way, of in rows.items():
        means = {key: float(np.mean([row[key] for row in of])) for key in KEYS}
        print(f"| {way} | {means['psnr']:.2f} | {means['ssim']:.3f} | {means['mask_iou']:.3f} |")
    if options.out is not None:
        options.out.write_text(json.dumps({"uids": names, "rows": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
