"""The quality reference: Blender (Cycles or EEVEE), driven as an external program.

Blender is never imported: a job is written to a temporary folder, `blender_script.py` renders it inside
Blender's own Python, and the pictures come back as EXR files. So exactly the model, cameras and light that the
other backends get are rendered, none of Blender's importers in between.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from mv3d.core.colors import LINEAR_OF_SRGB, srgb_from_linear
from mv3d.core.errors import InputError, MissingPartError, Mv3dError, UsageError
from mv3d.render.cameras import Cameras
from mv3d.render.environment import Environment
from mv3d.render.mesh import weld
from mv3d.render.model import TEXTURES, Material, Model
from mv3d.render.renderer import Rendered, RenderSettings
from mv3d.render.surface import facing_signs

PROGRAM_VARIABLE = "MV3D_BLENDER"
INSTALL = (
    "install Blender 4.2 or newer from https://www.blender.org/download/ and put `blender` on the PATH, or\n"
    "  python3.11 -m venv blender-env && blender-env/bin/pip install bpy && "
    f"export {PROGRAM_VARIABLE}=$PWD/blender-env/bin/python"
)
_SCRIPT = Path(__file__).with_name("blender_script.py")
_LAST_LINES = 12


@dataclass(frozen=True)
class BlenderRenderer:
    """See `mv3d.render.renderer.Renderer`.

    program: a `blender` executable, or a Python that has the `bpy` package; by default what the variable
        MV3D_BLENDER names, else `blender` on the PATH.
    samples: paths a pixel (Cycles) or jitters a pixel (EEVEE). RenderSettings.samples, which counts edges
        only, is a floor for it; RenderSettings.light_samples does not apply.
    device: of Cycles; anything but "cpu" must be there, nothing falls back.
    threads: 0 takes all cores. timeout_s: for all views together.
    """

    program: str | None = None
    engine: Literal["cycles", "eevee"] = "cycles"
    samples: int = 128
    device: Literal["cpu", "cuda", "optix", "hip", "oneapi", "metal"] = "cpu"
    denoise: bool = False
    threads: int = 0
    timeout_s: float = 3600.0

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= 65536:
            raise UsageError(f"samples: expected 1..65536, got {self.samples}")
        if not self.timeout_s > 0:
            raise UsageError(f"timeout_s: expected more than 0, got {self.timeout_s}")

    def render(
        self, model: Model, cameras: Cameras, environment: Environment, settings: RenderSettings
    ) -> Rendered:
        """One process renders all views. Raises MissingPartError where there is no Blender, Mv3dError with its
        last lines where it fails or takes longer than `timeout_s`."""
        program = find_program(self.program)
        passes = passes_of(settings)
        with tempfile.TemporaryDirectory(prefix="mv3d-blender-") as name:
            folder = Path(name)
            write_job(folder, model, cameras, environment, settings, self)
            run_script(program, folder, timeout_s=self.timeout_s)
            pictures = {
                part: [read_plain_exr(folder / f"{part}_{view:04d}.exr") for view in range(len(cameras))]
                for part in passes
            }
        return rendered_from_passes(pictures, settings)


def find_program(program: str | None = None) -> str:
    """The path of Blender (or of a Python with bpy). Raises MissingPartError with what to install."""
    asked = program or os.environ.get(PROGRAM_VARIABLE) or None
    found = shutil.which(asked or "blender")
    if found is None:
        what = f"{asked}: no such program" if asked else "Blender is not installed"
        raise MissingPartError(f"renderer blender: {what}; {INSTALL}")
    return found


def passes_of(settings: RenderSettings) -> tuple[str, ...]:
    """The passes of the script that the outputs need."""
    passes = ["beauty"]
    if "albedo" in settings.outputs:
        passes.append("albedo")
    if {"depth", "normals"} & set(settings.outputs):
        passes.append("centre")
    return tuple(passes)


def write_job(
    folder: Path,
    model: Model,
    cameras: Cameras,
    environment: Environment,
    settings: RenderSettings,
    options: BlenderRenderer,
) -> None:
    """job.json, geometry.npz, environment.npy and texture_*: all that `blender_script.py` reads."""
    if not len(model.faces):
        raise InputError("model: expected at least one face, got none")
    keep = _drawable_faces(model, both_sides=settings.backfaces == "shade")
    arrays = {
        "vertices": model.vertices,
        "faces": model.faces[keep],
        "face_material": np.asarray(model.face_material)[keep],
        "normals": _corner_normals(model)[keep],
        **{f"uv{number}": uv for number, uv in enumerate(model.uv_sets)},
        "colors": model.colors,
    }
    np.savez(folder / "geometry.npz", **{k: v for k, v in arrays.items() if v is not None})
    np.save(folder / "environment.npy", environment.radiance)
    job = {
        "engine": options.engine,
        "device": options.device,
        "samples": max(options.samples, settings.samples),
        "albedo_samples": max(16, settings.samples),
        "bounces": settings.bounces,
        "denoise": options.denoise,
        "threads": options.threads or _cores(),
        "seed": settings.seed,
        "width": cameras.width,
        "height": cameras.height,
        "passes": passes_of(settings),
        "cameras": _camera_entries(model, cameras),
        "materials": [
            _material_entry(folder, number, material, model, settings)
            for number, material in enumerate(model.materials)
        ],
    }
    (folder / "job.json").write_text(json.dumps(job, indent=1), encoding="utf-8")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # what this process may use; Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _drawable_faces(model: Model, *, both_sides: bool) -> Bool[np.ndarray, " f"]:
    """Without faces that name a vertex twice, which Blender does not take; where both sides are shown, without
    those that lie exactly on an earlier one (files draw the two sides of a sheet as two faces, and Cycles' shadow
    rays that leave one would be stopped by the other)."""
    a, b, c = model.faces.T
    keep = (a != b) & (b != c) & (c != a)
    if both_sides:
        _, welded = weld(model.vertices, model.faces)
        key = np.column_stack([np.sort(welded, 1), np.asarray(model.face_material)])
        first = np.zeros(len(key), bool)
        first[np.unique(key, axis=0, return_index=True)[1]] = True
        keep &= first
    return keep


def _corner_normals(model: Model) -> Float[np.ndarray, "f 3 3"]:
    """Normals at the corners of every face, on the side that its winding shows, as the Embree backend shades them."""
    assert model.normals is not None  # Model fills them in
    return model.normals[model.faces] * facing_signs(model)[:, None, None]


def _camera_entries(model: Model, cameras: Cameras) -> list[dict[str, Any]]:
    low, high = model.vertices.min(0).astype(float), model.vertices.max(0).astype(float)
    radius = float(np.linalg.norm(high - low)) / 2
    entries = []
    for view in range(len(cameras)):
        away = float(np.linalg.norm(cameras.centers[view] - (low + high) / 2))
        far = 1.01 * (away + radius)
        entries.append(
            {
                "c2w": cameras.c2w[view].tolist(),
                **{name: float(getattr(cameras, name)[view]) for name in ("fl_x", "fl_y", "cx", "cy")},
                "near": max(0.9 * (away - radius), 1e-4 * far),
                "far": far,
            }
        )
    return entries


def _material_entry(
    folder: Path, number: int, material: Material, model: Model, settings: RenderSettings
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "base_color": material.base_color,
        "metallic": 0.0 if settings.diffuse_only else material.metallic,
        "roughness": material.roughness,
        "specular": 0.0 if settings.diffuse_only else 0.5,  # Blender's 0.5 is glTF's reflectance of 4 %
        "emissive": material.emissive,
        "normal_scale": material.normal_scale,
        "alpha_mode": material.alpha_mode,
        "alpha_cutoff": material.alpha_cutoff,
        "cull": settings.backfaces == "cull" and not material.double_sided,
        "unlit": material.unlit,
        "wrap": {name: material.use(name).wrap for name in TEXTURES},
        "uv_set": {name: material.use(name).uv_set for name in TEXTURES},
        "vertex_colors": model.colors is not None,
    }
    for name in TEXTURES:
        texture = getattr(material, name)
        entry[name] = None
        if texture is None or model.uv is None:
            continue
        if settings.diffuse_only and name == "metallic_roughness_texture":
            continue
        if name in ("base_color_texture", "emissive_texture"):
            # Handed over decoded: glTF filters light, Cycles would interpolate the sRGB values of a PNG.
            entry[name] = f"texture_{number}_{name}.npy"
            alpha = texture[..., 3:].astype(np.float32) / 255
            np.save(folder / entry[name], np.concatenate([LINEAR_OF_SRGB[texture[..., :3]], alpha], -1))
        else:
            entry[name] = f"texture_{number}_{name}.png"
            Image.fromarray(texture).save(folder / entry[name], compress_level=1)
    return entry


def run_script(program: str, folder: Path, *, timeout_s: float) -> None:
    """Run `blender_script.py` on a job folder, inside Blender or inside a Python that has bpy.

    The process and its children end with this call, whatever happens, and when this process is killed (the
    script watches its standard input)."""
    command = [program, str(_SCRIPT), "--", str(folder)]
    if not Path(program).name.lower().startswith("python"):
        blender = ["--background", "--factory-startup", "--python-exit-code", "1", "--python"]
        command = [program, *blender, str(_SCRIPT), "--", str(folder)]
    log = folder / "log.txt"
    with log.open("wb") as stream, _running(command, stream, folder) as process:
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
    if code == 0 and (folder / "done.json").exists():
        return
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if any("No module named 'bpy'" in line for line in lines):
        raise MissingPartError(f"renderer blender: {program} has no bpy package; {INSTALL}")
    last = "\n  ".join(lines[-_LAST_LINES:]) or "(it printed nothing)"
    if code is None:
        what = f"not done after {timeout_s:g} s and stopped; raise timeout_s or ask for less"
    elif code < 0:
        what = f"killed by {signal.Signals(-code).name}; out of memory is the usual reason"
    elif code == 0:
        what = "ended without a result"
    else:
        what = f"failed with exit code {code}"
    raise Mv3dError(f"renderer blender: {program} {what}. Its last lines:\n  {last}")


@contextmanager
def _running(command: list[str], log: Any, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, which is gone afterwards."""
    own_group = os.name == "posix"
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=own_group,
        )
    except OSError as error:
        raise MissingPartError(
            f"renderer blender: {command[0]} cannot be started ({error.strerror}); {INSTALL}"
        ) from error
    try:
        yield process
    finally:
        if process.poll() is None:
            if own_group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def rendered_from_passes(
    pictures: dict[str, list[dict[str, np.ndarray]]], settings: RenderSettings
) -> Rendered:
    """Linear premultiplied EXR channels → the seam's sRGB with straight alpha."""
    rgba, albedo = (
        [_straight(_channels(picture, "Combined", "RGBA")) for picture in pictures.get(name, [])]
        for name in ("beauty", "albedo")
    )
    depth = normals = None
    if "centre" in pictures:
        centre = pictures["centre"]
        solid = np.stack([_channels(picture, "Combined", "A")[..., 0] >= 0.5 for picture in centre])
        if "depth" in settings.outputs:
            depth = np.stack([_channels(picture, "Depth", ("Z", "V"))[..., 0] for picture in centre])
            depth = np.where(solid, depth, np.inf).astype(np.float32)
        if "normals" in settings.outputs:
            normals = np.stack([_channels(picture, "Normal", "XYZ") for picture in centre])
            length = np.linalg.norm(normals, axis=-1, keepdims=True)
            normals = np.where(solid[..., None], normals / np.maximum(length, 1e-12), 0).astype(np.float32)
    return Rendered(np.stack(rgba), depth, normals, np.stack(albedo)[..., :3] if albedo else None)


def _straight(premultiplied: Float[np.ndarray, "h w 4"]) -> Float[np.ndarray, "h w 4"]:
    alpha = np.clip(premultiplied[..., 3:], 0, 1)
    color = premultiplied[..., :3] / np.maximum(alpha, 1e-6)
    color = srgb_from_linear(np.clip(color, 0, 1))
    return np.concatenate([np.where(alpha > 0, color, 0), alpha], -1).astype(np.float32)


def _channels(
    picture: dict[str, np.ndarray], part: str, names: str | tuple[str, ...]
) -> Float[np.ndarray, "h w c"]:
    """The channels `*.part.name` of a picture; of a tuple of names, the first that is there."""
    found = []
    for name in names:
        found += [value for key, value in picture.items() if key.endswith(f"{part}.{name}")][:1]
        if isinstance(names, tuple) and found:
            break
    if len(found) != (1 if isinstance(names, tuple) else len(names)):
        raise Mv3dError(
            f"renderer blender: expected the channels {part}.{'/'.join(names)} in its picture, "
            f"got {', '.join(sorted(picture))}; report this with the version of Blender"
        )
    return np.stack(found, -1)


def read_plain_exr(path: Path) -> dict[str, Float[np.ndarray, "h w"]]:
    """The float32 channels of an uncompressed scan-line OpenEXR file of one part (as the script has Blender
    write it), by name. Layout: https://openexr.com/en/latest/OpenEXRFileLayout.html.

    Raises Mv3dError for any other file.
    """
    data = path.read_bytes()
    bad = Mv3dError(f"{path.name}: expected an uncompressed one-part OpenEXR file of 32-bit channels")
    magic, version = struct.unpack_from("<II", data)
    if magic != 20000630 or version & ~0x4FF:  # bit 10 (long names) is harmless, tiles and parts are not
        raise bad
    at, header = 8, {}
    while data[at]:
        name_end = data.index(b"\0", at)
        kind_end = data.index(b"\0", name_end + 1)
        (size,) = struct.unpack_from("<i", data, kind_end + 1)
        header[data[at:name_end].decode()] = data[kind_end + 5 : kind_end + 5 + size]
        at = kind_end + 5 + size
    x0, y0, x1, y1 = struct.unpack("<4i", header["dataWindow"])
    width, height = x1 - x0 + 1, y1 - y0 + 1
    names, place, kinds = [], 0, header["channels"]
    while kinds[place]:
        end = kinds.index(b"\0", place)
        names.append(kinds[place:end].decode())
        if struct.unpack_from("<i", kinds, end + 1)[0] != 2:  # FLOAT
            raise bad
        place = end + 17
    if header["compression"] != b"\0":
        raise bad
    offsets = np.frombuffer(data, "<u8", height, at + 1)
    row = width * len(names)
    lines = np.stack([np.frombuffer(data, "<f4", row, int(offset) + 8) for offset in offsets])
    planes = lines.reshape(height, len(names), width)
    return {name: planes[:, number] for number, name in enumerate(names)}
