"""What pages take for granted, made small: a page's `given=` says what lies in its folder before a block runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from docs_check.pages import ROOT


def _mv3d(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "mv3d", *arguments], check=True, capture_output=True, text=True)


def _photo(path: Path, _: Path) -> None:
    shutil.copy(ROOT / "examples" / "chair.png", path)


def _photos(path: Path, _: Path) -> None:
    path.mkdir()
    for name in ("chair.png", "stool.png"):
        shutil.copy(ROOT / "examples" / "chair.png", path / name)


def _orbit(path: Path, _: Path) -> None:
    frames = []
    for file in sorted((ROOT / "examples" / "demo_views" / "images").glob("*.png")):
        picture = Image.open(file).convert("RGBA").resize((160, 160), Image.Resampling.LANCZOS)
        frames.append(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=80)


def _views(path: Path, _: Path) -> None:
    shutil.copytree(ROOT / "examples" / "demo_views", path)


def _examples(path: Path, _: Path) -> None:
    path.mkdir()
    shutil.copy(ROOT / "examples" / "chair.png", path)
    _views(path / "demo_views", path)


def _held_out(path: Path, _: Path) -> None:
    _mv3d("orbits", "procedural", "--count", "1", "--seed", "8", "--out", str(path))


def _objects(path: Path, _: Path) -> None:
    _mv3d("orbits", "procedural", "--count", "3", "--seed", "7", "--out", str(path))
    files = sorted(file.name for file in path.glob("*.glb"))
    (path / "objects.jsonl").write_text(
        "".join(f'{{"uid": "{name[:-4]}", "path": "{name}", "license": "cc0"}}\n' for name in files)
    )


def _object(path: Path, made: Path) -> None:
    objects = given("objects", made)
    shutil.copy(sorted(objects.glob("*.glb"))[0], path)


def _shards(path: Path, made: Path) -> None:
    _mv3d(
        "orbits", "render", str(given("objects", made)), "--out", str(path), "--views", "21", "--size", "64"
    )


def _geometry(path: Path, made: Path) -> None:
    small = ["--views", "4", "--size", "64", "--depth-size", "64", "--trajectory", "random"]
    _mv3d("orbits", "render", str(given("objects", made)), "--geometry", "--out", str(path), *small)


def _result(path: Path, made: Path) -> None:
    _views(path, made)
    _mv3d("recon", str(path), "--quality", "draft", "--texture-size", "256")


def _scan(path: Path, _: Path) -> None:
    import trimesh

    path.write_text(trimesh.creation.icosphere(2, 0.5).export(file_type="obj"))


def _videos(path: Path, _: Path) -> None:
    """Four of three seconds, 128 × 96 at 8 frames a second: a picture that moves by 2 pixels a frame, one that stands."""
    import numpy as np

    from mv3d.render.video import encode_mp4

    path.mkdir()
    wide = Image.fromarray(np.random.default_rng(3).integers(0, 255, (16, 40, 3), np.uint8)).resize(
        (320, 128)
    )
    for name, step in {"left": 2, "right": -2, "faster": 4, "still": 0}.items():
        start = 190 if step < 0 else 0
        frames = [wide.crop((start + step * i, 8, start + step * i + 128, 104)) for i in range(24)]
        encode_mp4(np.stack([np.asarray(frame) for frame in frames]), path / f"{name}.mp4", fps=8)


def _prior(path: Path, _: Path) -> None:
    shutil.copytree(ROOT / "mv3d" / "models" / "default", path)


def _model(path: Path, _: Path) -> None:
    from helpers.tiny_model import write_model

    from mv3d.models.network import SV3D_P

    write_model(path, SV3D_P)


KINDS: dict[str, Callable[[Path, Path], None]] = {
    "photo": _photo,  # examples/chair.png
    "photos": _photos,  # a folder of two photos
    "orbit": _orbit,  # examples/demo_views as a gif of 160², on white
    "views": _views,  # examples/demo_views: 21 true views of 320²
    "examples": _examples,  # the repository's folder: chair.png and demo_views
    "object": _object,  # a GLB of `mv3d orbits procedural`
    "objects": _objects,  # three of them, with SOURCES.csv and a list objects.jsonl
    "held_out": _held_out,  # a folder of one other object
    "result": _result,  # `views` with the mesh that `mv3d recon` makes of them at draft quality
    "scan": _scan,  # an OBJ without a texture
    "videos": _videos,  # a folder of four short ones
    "shards": _shards,  # their orbits: 21 views of 64²
    "geometry": _geometry,  # with depth and solids: 4 random views of 64²
    "prior": _prior,  # the bundled model
    "model": _model,  # a multi-view model folder with random weights, 5 frames of 32²
}


def given(kind: str, made: Path) -> Path:
    """The stand-in of this kind, made once in the folder `made`."""
    path = made / kind
    if not path.exists():
        made.mkdir(parents=True, exist_ok=True)
        KINDS[kind](path if kind != "orbit" else path.with_suffix(".gif"), made)
        if kind == "orbit":
            path.with_suffix(".gif").rename(path)
    return path


def place(name: str, kind: str, folder: Path, made: Path) -> None:
    """Put a stand-in into a page's folder, unless a block before has made something of that name."""
    target, source = folder / name, given(kind, made)
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
