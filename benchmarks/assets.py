"""From one photo to a 3D asset: `mv3d lift`, and `mv3d make`, against the true mesh.

    python benchmarks/assets.py --objects ../shared/assets/eval --methods lift,draft --out assets.json

Each object is normalised to largest side 1 and rendered once as the photo: azimuth 0, elevation 10 degrees, 256 x 256,
a studio light. Every method is given the photo and the elevation. Its mesh lies in the world of the photo's camera; the
true one does, too. A photo does not say how large its object is, and framing moves it: so the bounding boxes of both
are centred and scaled to largest side 1, and nothing is turned. Lengths are in shares of the object's largest side.
IoU: of the outer solids on a grid of 96³ (`mv3d.orbits.solid`), which open meshes have, too.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from part import describe_machine
from PIL import Image

import mv3d
from mv3d.evaluation import normalized
from mv3d.evaluation.mesh_metrics import evaluate_mesh
from mv3d.evaluation.protocols import protocol
from mv3d.orbits.gate import used_vertices
from mv3d.orbits.solid import carve_solid
from mv3d.render.cameras import Orbit
from mv3d.render.loading import load_model
from mv3d.render.mesh import Mesh
from mv3d.render.mesh_io import load_mesh
from mv3d.render.model import normalize_model
from mv3d.render.raycast import RayScene
from mv3d.render.renderer import RenderSettings, get_renderer
from mv3d.render.skies import builtin_environment
from mv3d.render.trajectories import fitted
from mv3d.render.writers import save_mesh

ELEVATION_DEG, SIDE = 10.0, 256


def photo_of(path: Path) -> Image.Image:
    model, _ = normalize_model(load_model(path))
    orbit = Orbit((ELEVATION_DEG,), (0.0,), input_view=0)
    orbit = fitted(orbit, model.vertices[used_vertices(model)], fov_deg=33.8, margin=0.05)
    light = builtin_environment("studio_softbox")
    shot = get_renderer("embree").render(model, orbit.cameras(SIDE, SIDE), light, RenderSettings())
    return Image.fromarray((np.clip(shot.rgba[0], 0, 1) * 255 + 0.5).astype(np.uint8))


def made_by(method: str, photo: Image.Image, model: str):
    if method == "lift":
        return mv3d.lift(photo, model=model, elevation=ELEVATION_DEG)
    return mv3d.make(photo, model=model, elevation=ELEVATION_DEG, quality=method)


def solid_iou(a: Mesh, b: Mesh) -> float:
    solids = [carve_solid(RayScene(mesh.vertices, mesh.faces)).occupied for mesh in (a, b)]
    return float((solids[0] & solids[1]).sum() / (solids[0] | solids[1]).sum())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=Path, required=True)
    parser.add_argument("--methods", default="lift,draft", help="lift, or qualities of mv3d make")
    parser.add_argument("--model", default="default")
    parser.add_argument(
        "--out", type=Path, help="JSON; meshes of lift and make beside it in a folder of that name"
    )
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()
    rules = replace(protocol("mv3d"), thresholds=(0.05,), render_azimuths=0, samples=30_000)
    rows = []
    for path in sorted(args.objects.glob("*.glb"))[: args.limit]:
        photo = photo_of(path)
        for method in args.methods.split(","):
            begun = time.perf_counter()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    mesh = made_by(method, photo, args.model)
            except mv3d.Mv3dError as error:
                rows.append({"object": path.stem, "method": method, "failed": str(error)})
                print(path.stem[:40], method, "failed:", error, flush=True)
                continue
            seconds = time.perf_counter() - begun
            made, true = normalized(mesh), normalized(load_mesh(path))
            found = evaluate_mesh(made, true, rules)["metrics"]
            row = {"object": path.stem, "method": method, "seconds": seconds, "chamfer": found["chamfer"]}
            row |= {"f_score": found["f_score"]["0.05"], "iou": solid_iou(made, true)}
            rows.append(row)
            print(path.stem[:40], method, {k: round(v, 4) for k, v in row.items() if not isinstance(v, str)}, flush=True)  # fmt: skip
            if args.out:
                folder = args.out.with_suffix("")
                folder.mkdir(exist_ok=True)
                save_mesh(mesh, folder / f"{path.stem}-{method}.glb")
    for method in args.methods.split(","):
        done = [row for row in rows if row["method"] == method and "failed" not in row]
        means = {
            k: float(np.mean([row[k] for row in done])) for k in ("chamfer", "f_score", "iou", "seconds")
        }
        print(
            f"{method}: {len(done)} objects, Chamfer {means['chamfer']:.4f}, F@.05 {means['f_score']:.3f}, "
            f"IoU {means['iou']:.3f}, {means['seconds']:.1f} s each"
        )
    if args.out:
        args.out.write_text(json.dumps({"machine": asdict(describe_machine()), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
