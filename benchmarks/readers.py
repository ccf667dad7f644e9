"""mv3d's reader beside Blender's importers: the same files, cameras and pixels, without light.

    MV3D_BLENDER=.../python python benchmarks/readers.py FOLDER... --out readers.json --table table.md --pictures DIR

MV3D_BLENDER: a Python that has the bpy package. Every material shows its base colour and its emission as they are, so
that the pictures hold what was read: geometry, pose, texture coordinates, textures, colours and alpha. Two views of
each file, 128 x 128. IoU: of the silhouettes (alpha above a half), over both views. dB: PSNR of the sRGB pictures over
white, over both views.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from mv3d.core.errors import Mv3dError
from mv3d.render.cameras import Cameras, Orbit
from mv3d.render.embree import EmbreeRenderer
from mv3d.render.environment import uniform_environment
from mv3d.render.loading import load_model
from mv3d.render.model import Model, Normalization, normalize_model
from mv3d.render.renderer import RenderSettings
from mv3d.render.trajectories import fit_radius
from mv3d.views.metrics import psnr_from_mse
from mv3d.views.views import composite

SIZE = 128
ORBIT = Orbit((20.0, 20.0), (30.0, 200.0))
LEAST_IOU, LEAST_DB = 0.98, 30.0
SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl")
# World of mv3d → world of Blender's importer: both turn a file with Y up to Z up, Blender with the front along -Y.
_FROM_Y_UP = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]])


@dataclass(frozen=True)
class Compared:
    """name: of the file in its folder. iou, db: None where one of the two could not read it; said then says why."""

    name: str
    iou: float | None
    db: float | None
    said: str = ""

    @property
    def agrees(self) -> bool:
        return self.iou is not None and self.db is not None and self.iou >= LEAST_IOU and self.db >= LEAST_DB


def compare(
    files: Sequence[Path], python: str, work: Path, *, samples: int = 32, pictures: Path | None = None
) -> list[Compared]:
    """Both readers on all files. work: an empty folder for Blender's pictures."""
    ours: dict[int, Float[np.ndarray, "n h w 4"]] = {}
    said: dict[int, str] = {}
    entries = []
    for number, path in enumerate(files):
        try:
            model = load_model(path)
            normalized, placed = normalize_model(model)
        except Mv3dError as error:
            said[number] = f"mv3d: {error}"
            continue
        said[number] = "; ".join(str(warning) for warning in model.warnings)
        cameras = replace(ORBIT, radius=fit_radius(normalized.vertices, ORBIT)).cameras(SIZE, SIZE)
        ours[number] = unlit_picture(normalized, cameras)
        entries.append(
            {"name": f"{number:04d}", "path": str(path.resolve()), **_entry(path, cameras, placed)}
        )
    job = {"files": entries, "out": str(work), "size": SIZE, "samples": samples, "threads": 1}
    (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
    script = Path(__file__).with_name("blender_reading.py")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    # -P: a module beside the script would stand before Blender's own of that name.
    command = [python, "-P", str(script), "--", str(work / "job.json")]
    with (work / "log.txt").open("wb") as log:
        subprocess.run(command, stdout=log, stderr=log, env=environment, check=False)
    found = []
    for number, path in enumerate(files):
        theirs = [work / f"{number:04d}_{view}.png" for view in range(len(ORBIT.azimuths_deg))]
        if number in ours and all(picture.exists() for picture in theirs):
            stack = np.stack([np.asarray(Image.open(p).convert("RGBA"), np.float32) / 255 for p in theirs])
            found.append(_compared(path.name, ours[number], stack, said[number]))
            if pictures is not None and not found[-1].agrees:
                both = np.concatenate(
                    [np.concatenate([*composite(s, 1.0)], 1) for s in (ours[number], stack)]
                )
                Image.fromarray((both * 255 + 0.5).astype(np.uint8)).save(pictures / f"{path.name}.png")
            continue
        reason = work / f"{number:04d}.txt"
        if number in ours:
            why = reason.read_text(encoding="utf-8") if reason.exists() else "nothing drawn; see log.txt"
            said[number] = "; ".join(filter(None, [said[number], f"Blender: {why}"]))
        found.append(Compared(path.name, None, None, said[number]))
    return found


def unlit_picture(model: Model, cameras: Cameras) -> Float[np.ndarray, "n h w 4"]:
    """Straight alpha, sRGB: base colour and emission of every material, whatever the light."""
    plain = replace(model, materials=tuple(replace(material, unlit=True) for material in model.materials))
    settings = RenderSettings(samples=16, light_samples=1, outputs=("rgba",))
    return EmbreeRenderer().render(plain, cameras, uniform_environment(1.0), settings).rgba


def _entry(path: Path, cameras: Cameras, placed: Normalization) -> dict[str, object]:
    """The cameras in Blender's world, around the object as the file has it."""
    turn = _FROM_Y_UP if path.suffix.lower() in (".glb", ".gltf", ".obj") else np.eye(3)
    poses = []
    for pose in cameras.c2w:
        moved = np.eye(4)
        moved[:3, :3] = turn @ pose[:3, :3]
        moved[:3, 3] = turn @ (pose[:3, 3] / placed.scale + np.asarray(placed.center))
        poses.append(moved.tolist())
    away = float(np.linalg.norm(cameras.centers[0])) / placed.scale
    return {"c2w": poses, "focal": float(cameras.fl_x[0]), "near": away * 0.01, "far": away * 4}


def _compared(name: str, ours: np.ndarray, theirs: np.ndarray, said: str) -> Compared:
    solid = [stack[..., 3] > 0.5 for stack in (ours, theirs)]
    union = float((solid[0] | solid[1]).sum())
    iou = float((solid[0] & solid[1]).sum()) / union if union else 1.0
    error = float(np.mean((composite(ours, 1.0) - composite(theirs, 1.0)) ** 2))
    return Compared(name, round(iou, 4), round(float(min(psnr_from_mse(error), 99.0)), 1), said)


def table(found: Sequence[Compared]) -> str:
    """Markdown, the least agreement first."""
    order = sorted(found, key=lambda row: (row.agrees, row.db if row.db is not None else -1.0))
    lines = ["| file | IoU | dB | |", "|---|---|---|---|"]
    for row in order:
        numbers = "| – | – |" if row.iou is None else f"| {row.iou:.4f} | {row.db:.1f} |"
        lines.append(f"| {row.name} {numbers} {row.said.replace('|', '/')[:160]} |")
    return "\n".join(lines)


def main() -> None:
    """Compare, print a summary, write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", type=Path)
    parser.add_argument(
        "--pictures", type=Path, help="a folder for what disagrees: mv3d above, Blender below"
    )
    parser.add_argument("--work", type=Path, required=True, help="an empty folder for Blender's pictures")
    options = parser.parse_args()
    files = sorted(
        path for folder in options.folders for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES
    )
    for folder in filter(None, [options.work, options.pictures]):
        folder.mkdir(parents=True, exist_ok=True)
    found = compare(files, os.environ["MV3D_BLENDER"], options.work, pictures=options.pictures)
    options.out.write_text(
        json.dumps({"machine": platform.platform(), "files": [asdict(row) for row in found]}, indent=1)
    )
    if options.table is not None:
        options.table.write_text(table(found) + "\n", encoding="utf-8")
    drawn = [row for row in found if row.iou is not None]
    agree = sum(row.agrees for row in found)
    print(
        f"{len(found)} files, {len(drawn)} drawn by both, {agree} with IoU >= {LEAST_IOU} and {LEAST_DB:g} dB"
    )
    for row in found:
        if not row.agrees:
            print(row.name, row.iou, row.db, row.said[:200])


if __name__ == "__main__":
    main()
