"""Runs of other programs that reconstruct, in environments of their own: what they are handed and what they gave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from ground_truth import Truth, true_depths, unseen_cameras, unseen_psnr
from trimesh.visual import ColorVisuals

from mv3d.core.errors import InputError, Mv3dError
from mv3d.render.cameras import Cameras
from mv3d.render.mesh import Mesh
from mv3d.views.folder import to_uint8
from mv3d.views.views import Views

PEERS = Path(__file__).parent / "peers"
HALF_DEPTH = 0.9
"""Half the depth of the space that nerfacto samples, around the middle of an object of largest side 1."""
OPEN3D_HELP = (
    "Open3D was not there: `python3.11 -m venv o3d && o3d/bin/pip install open3d` (Debian also needs libusb-1.0-0, libgl1 and "
    "libgomp1), then MV3D_OPEN3D=o3d/bin/python."
)
NERFSTUDIO_HELP = (
    "nerfstudio was not there: in an environment of its own `pip install torch torchvision`, `pip install --no-deps nerfstudio "
    "nerfacc==0.5.2 gsplat==1.4.0` and what its imports ask for, then MV3D_NERFSTUDIO=…/bin/python."
)
_TAIL = 400


class PeerMissing(Mv3dError):
    """A peer that is not there, or that does not run; the message is a sentence for the page."""


@dataclass(frozen=True, eq=False)
class Mark:
    """nerfacto after some seconds of training. mesh: None where `no_mesh` says why. psnr_db: of its own pictures."""

    seconds: float
    iterations: int
    export_seconds: float
    mesh: Mesh | None
    no_mesh: str
    psnr_db: float


def python_of(
    variable: str, module: str, help_text: str, environment: Mapping[str, str] | None = None
) -> Path:
    """The Python that a variable names (itself, or a folder of programs), else this one if it has the module.

    Raises PeerMissing where the module cannot be imported there.
    """
    given = (os.environ if environment is None else environment).get(variable, "")
    python = Path(given) if given else Path(sys.executable)
    if python.is_dir():
        python = python / "python"
    if not python.is_file():
        raise PeerMissing(f"{help_text} ({variable}: expected a Python or its folder, got {given})")
    done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerMissing(f"{help_text} (`import {module}`: {last_line(done.stderr)})")
    return python


def open3d_python() -> Path:
    return python_of("MV3D_OPEN3D", "open3d", OPEN3D_HELP)


def nerfstudio_python() -> Path:
    return python_of("MV3D_NERFSTUDIO", "nerfstudio.configs.method_configs", NERFSTUDIO_HELP)


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-_TAIL:] if lines else "no message"


def run_peer(python: Path, script: str, arguments: list[str], report: Path) -> str:
    """Run a peer's script, which leaves `report`. Why it broke off after it had written that, or an empty text.

    Raises PeerMissing with the program's last words where it left none.
    """
    # The peers' own notes would drown the benchmark's.
    done = subprocess.run([python, PEERS / script, *arguments], capture_output=True, text=True, check=False)
    if not done.returncode and report.exists():
        return ""
    end = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    words = f"{script} did not run to its end ({end}): {last_line(done.stdout)}; {last_line(done.stderr)}"
    if not report.exists():
        raise PeerMissing(words)
    return words


def read_ply(path: Path) -> Mesh:
    """A peer's mesh in the world of the views. Raises InputError where it has no faces."""
    loaded = trimesh.load(path, process=False)
    if not isinstance(loaded, trimesh.Trimesh) or not len(loaded.faces):
        raise InputError(f"{path.name}: expected a mesh with faces, got none")
    colors = None
    if isinstance(loaded.visual, ColorVisuals) and loaded.visual.kind == "vertex":
        colors = np.asarray(loaded.visual.vertex_colors)[:, :3]
    return Mesh(
        np.asarray(loaded.vertices, np.float64), np.asarray(loaded.faces, np.int64), vertex_colors=colors
    )


def read_report(path: Path) -> dict[str, Any]:
    """The report of a peer's script. Raises InputError for another form."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name}: expected the report of a peer's script, got {error}") from error
    if not isinstance(report, dict):
        raise InputError(f"{path.name}: expected one JSON object, got {type(report).__name__}")
    return report


def camera_arrays(cameras: Cameras) -> dict[str, np.ndarray]:
    return {key: getattr(cameras, key) for key in ("c2w", "fl_x", "fl_y", "cx", "cy")}


def open3d_meshes(
    python: Path, truth: Truth, views: Views, folder: Path
) -> tuple[list[tuple[str, Mesh, float]], str]:
    """(name, mesh, seconds) of TSDF fusion and of Poisson, from the true depth of the views and their colours; and
    Open3D's version."""
    np.savez(
        folder / "views.npz",
        depth=true_depths(truth, views.cameras),
        rgb=to_uint8(views.images[..., :3]),
        **camera_arrays(views.cameras),  # pyright: ignore[reportArgumentType]
    )
    # Open3D may crash when its interpreter ends; the report is written last, so all is there.
    run_peer(python, "open3d_fusion.py", [str(folder)], folder / "open3d.json")
    report = read_report(folder / "open3d.json")
    made = [
        (name, read_ply(folder / f"{key}.ply"), float(report["seconds"][key]))
        for name, key in (("TSDF fusion", "tsdf"), ("Poisson", "poisson"))
    ]
    return made, str(report["version"])


def nerfacto(
    python: Path,
    truth: Truth,
    views: Views,
    seconds: list[float],
    folder: Path,
    size: int,
    rays: int,
    points: int,
) -> tuple[list[Mark], dict[str, Any], str]:
    """nerfacto's state after each of `seconds` of training, the report of the run, and the reason if it broke off early:
    later marks are then left out. size: of the unseen views."""
    data = views.save(folder / "views")
    cameras = unseen_cameras(truth, size)
    # Both orbits look at the middle; the nearer one and the farther one bound what is looked through.
    distances = np.linalg.norm(np.concatenate([cameras.centers, views.cameras.centers]), axis=1)
    np.savez(
        data / "unseen.npz", width=size, height=size, near=distances.min() - HALF_DEPTH,
        far=distances.max() + HALF_DEPTH, **camera_arrays(cameras),  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    broke = run_peer(
        python,
        "nerfacto.py",
        [str(data), "--rays", str(rays), "--points", str(points), "--seconds", *map(str, seconds)],
        data / "nerfacto.json",
    )
    report = read_report(data / "nerfacto.json")
    marks = [read_mark(data, number, mark, truth, cameras) for number, mark in enumerate(report["marks"])]
    return marks, report, broke


def read_mark(folder: Path, number: int, mark: dict[str, Any], truth: Truth, cameras: Cameras) -> Mark:
    with np.load(folder / f"{number}.npz") as stored:
        pictures = stored["rgb"]
    wanted = (len(cameras), cameras.height, cameras.width, 3)
    if pictures.shape != wanted:
        raise InputError(f"{number}.npz: expected pictures {wanted}, got {pictures.shape}")
    mesh = None if mark["no_mesh"] else read_ply(folder / str(number) / "poisson_mesh.ply")
    return Mark(
        float(mark["seconds"]),
        int(mark["iterations"]),
        float(mark["export_seconds"]),
        mesh,
        str(mark["no_mesh"]),
        unseen_psnr(truth, cameras, pictures),
    )
