"""What a few entries and exits along each ray can hold of a solid: the bound of layered depth.

    python benchmarks/layer_bounds.py --data SHARDS [--all]

SHARDS: of `mv3d orbits render --geometry`. Every view's rays are sampled through the solid; kept are the first run and
the last one, and the second one between them where there are three pairs. IoU: of the samples that are then filled with
those of the solid, over the rays that meet it.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from prior_ablations import KINDS, kind_of

from mv3d.orbits.geometry import read_geometry
from mv3d.orbits.layered_depth import FAR, GAP, NEAR, SAMPLES, closed
from mv3d.orbits.reading import sample_document
from mv3d.orbits.shards import Shard
from mv3d.orbits.solid import SolidGrid
from mv3d.render.cameras import SV3D_FOV_DEG, Cameras, orbit_cameras
from mv3d.training.prior.layer_store import geometry_shards
from mv3d.training.prior.samples import is_held_out

VESSELS = re.compile(
    r"cup|mug|bowl|pot|vase|bucket|glass|basket|jug|barrel|pan|tray|box|planter|bath|sink|crate"
)
_SIDE = 96


def occupied(solid: SolidGrid, cameras: Cameras, view: int, distance: float) -> Bool[np.ndarray, "r s"]:
    """Samples along the rays of a view that meet the solid."""
    origins, directions = cameras.rays(view)
    ahead = -cameras.c2w[view, :3, 2]
    directions = directions / (directions @ ahead)[:, None]
    stops = distance * np.linspace(NEAR, FAR, SAMPLES)
    found = np.concatenate(
        [
            solid.at((origins[0] + part[:, None] * stops[:, None]).astype(np.float32))
            for part in np.array_split(directions, 4)
        ]
    )
    return closed(found[found.any(1)], GAP)


def kept(inside: Bool[np.ndarray, "r s"], pairs: int) -> Bool[np.ndarray, "r s"]:
    """Filled by 1 pair (from the first entry to the last exit), or by the first runs and the last one."""
    if pairs == 1:
        return np.logical_or.accumulate(inside, 1) & np.logical_or.accumulate(inside[:, ::-1], 1)[:, ::-1]
    starts = inside & ~np.pad(inside, ((0, 0), (1, 0)))[:, :-1]
    rank = np.cumsum(starts, 1)
    return inside & ((rank < pairs) | (rank == rank[:, -1:]))


def measured(solid: SolidGrid, cameras: Cameras, distance: float) -> list[float]:
    """Shares of rays with 2, 3 and 4 runs or more, and IoU of 1, 2 and 3 pairs; means over the views."""
    rows = []
    for view in range(len(cameras)):
        inside = occupied(solid, cameras, view, distance)
        runs = (inside & ~np.pad(inside, ((0, 0), (1, 0)))[:, :-1]).sum(1)
        shares = [float((runs >= least).mean()) for least in (2, 3, 4)]
        filled = [kept(inside, pairs) for pairs in (1, 2, 3)]
        rows.append(shares + [float((each & inside).sum() / (each | inside).sum()) for each in filled])
    return list(np.mean(rows, 0))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--all", action="store_true", help="not only objects that training holds out")
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    for path, _ in geometry_shards(options.data).shards:
        shard = Shard(path)
        for number in range(len(shard)):
            members = shard.members(number)
            document = sample_document(members)
            uid, cameras = str(document["uid"]), document["cameras"]
            if not options.all and not is_held_out(uid):
                continue
            orbit = orbit_cameras(
                np.array(cameras["elevations_deg"]),
                np.array(cameras["azimuths_deg"]),
                radius=float(cameras["radius"]),
                fov_deg=SV3D_FOV_DEG,
                width=_SIDE,
                height=_SIDE,
            )
            found[uid] = measured(read_geometry(document, members).solid, orbit, float(cameras["radius"]))
    print("| objects | rays with 2, 3, 4 runs or more | IoU of 1, 2, 3 pairs | least of 2 |")
    print("|---|---|---|---|")
    groups = {"all": list(found)} | {kind: [uid for uid in found if kind_of(uid) == kind] for kind in KINDS}
    groups["vessels by their name"] = [uid for uid in found if VESSELS.search(uid.lower())]
    for name, uids in groups.items():
        if not uids:
            continue
        values = np.array([found[uid] for uid in uids])
        mean = values.mean(0)
        shares = ", ".join(f"{share:.3f}" for share in mean[:3])
        ious = ", ".join(f"{iou:.3f}" for iou in mean[3:])
        print(f"| {name} ({len(uids)}) | {shares} | {ious} | {values[:, 4].min():.3f} |")


if __name__ == "__main__":
    main()
