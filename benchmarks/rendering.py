"""Views of one object by mv3d's Embree backend and by its peers, each in the same run: seconds and agreement.

    python benchmarks/rendering.py [--quick | --small] [--objects ../shared/assets/eval] --out rendering.json

Lit: Blender Cycles (variable MV3D_BLENDER, 32 samples a pixel, no denoiser) under the same environment light.
Unlit, the texture as it is: pyrender (variable MV3D_PYRENDER, a Python that has it) and trimesh's own ray caster.
All get the same triangles, texture, cameras and size. A peer that is not there is named with how to install it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cycles import framed, psnr_of, subdivided, timed
from part import Cell, Part, Scale, Table, describe_machine, part_parser, scale_of, versions_of, write_part
from scipy.ndimage import binary_erosion

from mv3d.core.errors import InputError, MissingPartError, Mv3dError
from mv3d.evaluation import normalized
from mv3d.render.backend_blender import BlenderRenderer, find_program
from mv3d.render.cameras import Cameras
from mv3d.render.embree import EmbreeRenderer
from mv3d.render.environment import Environment
from mv3d.render.mesh import Mesh
from mv3d.render.mesh_io import load_mesh
from mv3d.render.model import Material, Model
from mv3d.render.raycast import render_views
from mv3d.render.renderer import RenderSettings
from mv3d.render.skies import builtin_environment
from mv3d.render.trajectories import static_orbit
from mv3d.views.metrics import mask_iou
from mv3d.views.views import composite

OBJECT = "scan_stapler_1.glb"
CYCLES_SAMPLES, EMBREE_SAMPLES = 32, 4
PYRENDER_VARIABLE = "MV3D_PYRENDER"
PYRENDER_INSTALL = (
    "python3.11 -m venv pyrender-env && pyrender-env/bin/pip install pyrender && "
    'pyrender-env/bin/pip install --no-deps "PyOpenGL>=3.1.7" "numpy<2" && '
    f"export {PYRENDER_VARIABLE}=$PWD/pyrender-env/bin/python (Debian: apt-get install libosmesa6 libegl1)"
)
_SCRIPT = Path(__file__).with_name("pyrender_views.py")


@dataclass(frozen=True)
class Size:
    """size: side of the pictures in pixels. faces: the object is cut finer until it has so many. rounds: a figure is the
    median of so many, except for Cycles, which runs once."""

    views: int
    size: int
    faces: int
    rounds: int


SIZES: dict[Scale, Size] = {
    "quick": Size(3, 96, 0, 1),
    "small": Size(21, 256, 40_000, 3),
    "full": Size(21, 576, 40_000, 3),
}


@dataclass(frozen=True, eq=False)
class Pictures:
    """The images of one renderer. color: (n, h, w, 3) in [0, 1], sRGB base colour. alpha: (n, h, w) in [0, 1].
    lit: (n, h, w, 3) over white, where it has light. seconds: of all views, the start of a program left out;
    start_s: of that program. cpu_s: of all processor cores together, None for another program's own measure."""

    name: str
    what: str
    color: np.ndarray
    alpha: np.ndarray
    seconds: float
    cpu_s: float | None = None
    start_s: float | None = None
    lit: np.ndarray | None = None


def object_of(folder: Path, name: str = OBJECT) -> Path:
    """The object, or the first one where it is not there. Raises InputError where the folder has none."""
    files = sorted(folder.glob("*.glb"))
    if not files:
        raise InputError(f"--objects {folder}: expected a folder with .glb files, got none")
    return next((path for path in files if path.name == name), files[0])


def textured(path: Path, faces: int) -> tuple[Mesh, Model]:
    """An object of largest side 1 with one texture, as a mesh and as a model of a matte-ish dielectric."""
    mesh = normalized(load_mesh(path))
    if mesh.uv is None or mesh.texture is None:
        mesh = replace(
            mesh,
            uv=np.zeros((len(mesh.vertices), 2)),
            texture=np.full((4, 4, 3), 178, np.uint8),
            vertex_colors=None,
        )
    assert mesh.texture is not None
    opaque = np.full((*mesh.texture.shape[:2], 1), 255, np.uint8)
    material = Material(
        base_color_texture=np.concatenate([mesh.texture, opaque], -1), metallic=0.0, roughness=0.6
    )
    model = Model(mesh.vertices, mesh.faces, uv=mesh.uv, materials=(material,))
    while len(model.faces) < faces:
        model = subdivided(model)
    return Mesh(model.vertices, model.faces, uv=model.uv, texture=mesh.texture), model


# -- the renderers


def by_embree(model: Model, cameras: Cameras, light: Environment, rounds: int) -> Pictures:
    settings = RenderSettings(samples=EMBREE_SAMPLES)
    spent = [timed(lambda: EmbreeRenderer().render(model, cameras, light, settings)) for _ in range(rounds)]
    # The base colours are wanted for the comparison only: they are not timed.
    full = EmbreeRenderer().render(model, cameras, light, replace(settings, outputs=("rgba", "albedo")))
    assert full.albedo is not None
    return Pictures(
        "mv3d, Embree",
        f"lit, {EMBREE_SAMPLES} samples at edges",
        full.albedo,
        full.rgba[..., 3],
        statistics.median(clock for clock, _ in spent),
        statistics.median(busy for _, busy in spent),
        lit=composite(full.rgba),
    )


def by_cycles(model: Model, cameras: Cameras, light: Environment) -> Pictures:
    """One process for all views, once. Raises MissingPartError where there is no Blender."""
    blender = BlenderRenderer(samples=CYCLES_SAMPLES, threads=os.cpu_count() or 1)
    settings = RenderSettings(samples=EMBREE_SAMPLES)
    start, start_cpu = timed(lambda: blender.render(model, cameras[0].resized(16, 16), light, settings))
    done: list[Any] = []
    clock, busy = timed(lambda: done.append(blender.render(model, cameras, light, settings)))
    colors = blender.render(model, cameras, light, replace(settings, outputs=("rgba", "albedo"))).albedo
    assert colors is not None
    return Pictures(
        "Blender Cycles",
        f"lit, {CYCLES_SAMPLES} samples",
        colors,
        done[0].rgba[..., 3],
        max(clock - start, 0.0),
        max(busy - start_cpu, 0.0),
        start,
        composite(done[0].rgba),
    )


def by_ray_casting(mesh: Mesh, cameras: Cameras, rounds: int, supersample: int) -> Pictures:
    """The ray caster with which `mv3d recon` measures its result."""
    done: list[np.ndarray] = []
    spent = [
        timed(lambda: done.append(render_views(mesh, cameras, supersample=supersample)))
        for _ in range(rounds)
    ]
    return Pictures(
        "mv3d, ray casting",
        f"unlit, {supersample**2} ray{'s' if supersample > 1 else ''} a pixel, bilinear texture",
        done[0][..., :3],
        done[0][..., 3],
        statistics.median(clock for clock, _ in spent),
        statistics.median(busy for _, busy in spent),
    )


def by_trimesh(mesh: Mesh, cameras: Cameras, rounds: int) -> Pictures:
    """As its documentation does it: first hits by `trimesh.ray`, barycentric weights, the nearest texel."""
    import trimesh
    from PIL import Image
    from trimesh.visual import uv_to_color

    assert mesh.uv is not None and mesh.texture is not None
    texture, uv = Image.fromarray(mesh.texture), np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], 1)
    shape = (len(cameras), cameras.height, cameras.width)
    color, alpha = np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)

    def render() -> None:
        solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        for view in range(len(cameras)):
            origins, directions = cameras.rays(view)
            places, ray, face = solid.ray.intersects_location(origins, directions, multiple_hits=False)
            weights = trimesh.triangles.points_to_barycentric(solid.triangles[face], places)
            found = (uv[solid.faces[face]] * weights[:, :, None]).sum(1)
            texels = uv_to_color(found, texture)
            color[view].reshape(-1, 3)[ray] = texels[:, :3] / 255
            alpha[view].reshape(-1)[ray] = 1

    spent = [timed(render) for _ in range(rounds)]
    return Pictures(
        "trimesh.ray",
        "unlit, 1 ray a pixel, nearest texel",
        color,
        alpha,
        statistics.median(clock for clock, _ in spent),
        statistics.median(busy for _, busy in spent),
    )


def by_pyrender(mesh: Mesh, cameras: Cameras) -> tuple[Pictures, float, dict[str, str]]:
    """Its views, its seconds for the same under three lights, its versions.

    Raises MissingPartError where the variable names no Python with pyrender that can draw without a screen.
    """
    program = os.environ.get(PYRENDER_VARIABLE)
    if not program or not Path(program).exists():
        raise MissingPartError(f"pyrender was not measured; {PYRENDER_INSTALL}")
    assert mesh.uv is not None and mesh.texture is not None
    with tempfile.TemporaryDirectory() as folder:
        job, out = Path(folder) / "job.npz", Path(folder) / "views.npz"
        np.savez(
            job,
            vertices=mesh.vertices,
            faces=mesh.faces,
            uv=mesh.uv,
            texture=mesh.texture,
            c2w=cameras.c2w,
            intrinsics=[cameras.fl_x[0], cameras.fl_y[0], cameras.cx[0], cameras.cy[0]],
            size=[cameras.width, cameras.height],
        )
        asked, failures = os.environ.get("PYOPENGL_PLATFORM"), []
        for platform in [asked] if asked else ["egl", "osmesa"]:
            # Not the PYTHONPATH of this process: that environment has other versions of everything.
            environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
            started = time.perf_counter()
            result = subprocess.run(
                [program, str(_SCRIPT), str(job), str(out)],
                env=environment | {"PYOPENGL_PLATFORM": str(platform)},
                capture_output=True,
                text=True,
                check=False,
            )
            whole = time.perf_counter() - started
            if result.returncode == 0:
                break
            failures.append(f"{platform}: {(result.stderr.strip().splitlines() or ['no word'])[-1]}")
        else:
            raise MissingPartError(
                f"pyrender was not measured, it cannot draw ({'; '.join(failures)}); {PYRENDER_INSTALL}"
            )
        found = np.load(out)
        told = json.loads(result.stdout.strip().splitlines()[-1])
        unlit, lit = (float(s) for s in found["seconds"])
        pictures = Pictures(
            "pyrender",
            f"unlit, 1 sample a pixel in alpha, mipmaps ({told['opengl']})",
            found["color"].astype(np.float32) / 255,
            found["alpha"].astype(np.float32),
            unlit,
            start_s=whole - unlit - lit,
        )
    return pictures, lit, told["versions"]


# -- comparison


def inside(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pixels that both cover, a pixel away from the outline. (n, h, w)"""
    return binary_erosion((a > 0.99) & (b > 0.99), np.ones((1, 3, 3), bool))


def agreement(pictures: Pictures, reference: Pictures) -> tuple[float | None, float | None, float | None]:
    """Silhouette IoU, PSNR of the base colour and of the lit pictures, both in dB inside both silhouettes."""
    if pictures is reference:
        return None, None, None
    both = inside(pictures.alpha, reference.alpha)
    iou = mask_iou(pictures.alpha, reference.alpha)
    if not both.any():
        return iou, None, None
    lit = None
    if pictures.lit is not None and reference.lit is not None:
        lit = psnr_of((pictures.lit - reference.lit)[both])
    return iou, psnr_of((pictures.color - reference.color)[both]), lit


def row(pictures: Pictures, reference: Pictures) -> tuple[Cell, ...]:
    iou, albedo, lit = agreement(pictures, reference)
    return (
        pictures.name, pictures.what, round(pictures.seconds, 3),
        None if pictures.cpu_s is None else round(pictures.cpu_s, 3),
        None if pictures.start_s is None else round(pictures.start_s, 2),
        None if iou is None else f"{iou:.4f}",
        None if albedo is None else f"{albedo:.1f}",
        None if lit is None else f"{lit:.1f}",
    )  # fmt: skip


COLUMNS = (
    "renderer", "what", "s, all views", "of processors, s", "start, s",
    "silhouette IoU", "base colour, dB", "lit, dB",
)  # fmt: skip


def measure(options: Namespace) -> Part:
    scale = scale_of(options)
    size, started = SIZES[scale], time.perf_counter()
    path = object_of(options.objects)
    mesh, model = textured(path, size.faces)
    cameras, light = framed(model, static_orbit(size.views, 10.0), size.size), builtin_environment(0)
    versions = versions_of("mv3d", "numpy", "embreex", "trimesh")
    missing: list[str] = []
    made = [by_embree(model, cameras, light, size.rounds)]
    try:
        made.append(by_cycles(model, cameras, light))
        versions["Blender"] = blender_version()
    except MissingPartError as error:
        missing.append(" ".join(str(error).split()))
    made += [by_ray_casting(mesh, cameras, size.rounds, n) for n in (1, 2)]
    lit_rows: list[tuple[Cell, ...]] = []
    try:
        pictures, lit_s, theirs = by_pyrender(mesh, cameras)
        made.append(pictures)
        versions |= {f"{name} (pyrender's)": version for name, version in theirs.items()}
        lit_rows.append(("pyrender", "three lights, no shadows", round(lit_s, 3), *([None] * 5)))
    except MissingPartError as error:
        missing.append(str(error))
    made.append(by_trimesh(mesh, cameras, size.rounds))
    reference = made[1] if made[1].name == "Blender Cycles" else made[0]
    rows = [row(pictures, reference) for pictures in made] + lit_rows
    text = [
        f"{size.views} views of {path.stem} ({len(model.faces):,} triangles, texture of {mesh.texture.shape[1]} × "  # pyright: ignore[reportOptionalMemberAccess]
        f"{mesh.texture.shape[0]}) at {size.size}². "  # pyright: ignore[reportOptionalMemberAccess]
        f"Agreement is with {reference.name}: silhouettes (alpha above 0.5), the unlit base colour and the lit picture, "
        "the latter two inside both silhouettes.",
    ]
    if reference is not made[0]:
        text.append(
            f"Cycles takes {reference.seconds / made[0].seconds:.0f} times as long as mv3d's Embree backend for the "
            "same lit pictures."
        )
    text.append(
        "Not fair: Cycles traces full light paths and is noisy at 32 samples, noise that the lit figure holds as well; mv3d "
        "bakes the light once for all views and lets surfaces reflect it diffusely. pyrender rasterizes on the processor (no GPU here), reads its pictures back, and has no "
        "environment light: its lit row shows another picture. trimesh is timed through its documented interface with "
        "embreex; its nearest texel is not filtered, which its base colour figure says. pyrender's silhouette is read from a "
        "multisampled depth, whose sample lies beside the middle of the pixel. Seconds leave out the "
        "start of other programs (its own column) and Python's imports."
    )
    return Part(
        part="rendering",
        title="Rendering",
        machine=describe_machine(),
        versions=versions,
        seconds=time.perf_counter() - started,
        text=tuple(text),
        tables=(Table(f"{size.views} views at {size.size}²", COLUMNS, tuple(rows)),),
        missing=tuple(missing),
    )


def blender_version() -> str:
    """As the program says. Raises Mv3dError where it does not answer."""
    program = find_program()
    python = Path(program).name.startswith("python")
    command = [program, *(["-c", "import bpy; print(bpy.app.version_string)"] if python else ["--version"])]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    lines = result.stdout.strip().splitlines()
    if result.returncode or not lines:
        raise Mv3dError(f"{program}: expected its version, got {result.stderr.strip()[-200:] or 'nothing'}")
    return lines[-1] if python else lines[0].removeprefix("Blender ")


def main() -> None:
    options = part_parser(__doc__).parse_args()
    part = measure(options)
    for table in part.tables:
        print(table.caption, *(" | ".join(map(str, line)) for line in (table.columns, *table.rows)), sep="\n")
    print(*part.missing, sep="\n")
    if options.out is not None:
        write_part(part, options.out)


if __name__ == "__main__":
    main()
