"""Writing a views folder: the form in which stages hand on posed views (nerfstudio's transforms.json)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from mv3d.core.files import to_json
from mv3d.core.outputs import Output
from mv3d.core.records import RunRecord
from mv3d.render.video import encode_mp4
from mv3d.render.writers import WriteOptions, save_mesh
from mv3d.views.views import Views, composite

VIEW_FILES = ("transforms.json", "images", "contact.png", "orbit.mp4", "input.png")
SOLID_FILE = "prior.glb"
"""The solid of the views; it overlays with the mesh that recon makes of them."""
_CONTACT_SIDE = 192


def save_views(
    views: Views, out_dir: str | os.PathLike[str], *, overwrite: bool = False, folder: str = "images"
) -> Path:
    """Write transforms.json, images/, contact.png, orbit.mp4, run.json and, where they are known, input.png of the photo
    and prior.glb of the solid.

    Files appear whole or not at all. Raises OutputError where another result is in the way, or with `overwrite` a file
    that run.json does not list.
    """
    names = (folder, *VIEW_FILES, *([SOLID_FILE] if views.solid is not None else []))
    output = Output(Path(out_dir), "run.json", names, overwrite=overwrite)
    with output.opened() as staged:
        write_views(views, staged, folder=folder)
        output.publish(staged, RunRecord.of("Views.save"))
    return output.folder


def write_views(views: Views, out_dir: str | os.PathLike[str], *, folder: str = "images") -> None:
    """Write the files themselves, straight into `out_dir`, an existing folder."""
    out_dir = Path(out_dir)
    (out_dir / folder).mkdir()
    names = [f"{folder}/{index:03d}.png" for index in range(len(views))]
    for name, image in zip(names, views.images, strict=True):
        Image.fromarray(to_uint8(image)).save(out_dir / name)
    if views.input_view is not None:
        Image.fromarray(to_uint8(views.images[views.input_view])).save(out_dir / "input.png")
    if views.solid is not None:
        save_mesh(views.solid, out_dir / SOLID_FILE, WriteOptions(name="prior"))
    contact_sheet(views).save(out_dir / "contact.png")
    encode_mp4(to_uint8(composite(views.images)), out_dir / "orbit.mp4")
    (out_dir / "transforms.json").write_text(to_json(transforms(views, names)), encoding="utf-8")


def to_uint8(values: Float[np.ndarray, "*s"]) -> UInt8[np.ndarray, "*s"]:
    """Values from 0 to 1 as 0 to 255, rounded."""
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def transforms(views: Views, names: list[str]) -> dict[str, Any]:
    """The content of transforms.json; intrinsics are shared where all cameras agree, else per frame."""
    cameras = views.cameras
    keys = ("fl_x", "fl_y", "cx", "cy")
    shared = all(np.ptp(getattr(cameras, key)) < 1e-9 for key in keys)
    document: dict[str, Any] = {
        "camera_model": "PINHOLE",
        "w": cameras.width,
        "h": cameras.height,
        # nerfstudio turns and centres poses by default; the orbit is upright and centred already.
        "orientation_override": "none",
    }
    intrinsics = [{key: float(getattr(cameras, key)[index]) for key in keys} for index in range(len(cameras))]
    document |= intrinsics[0] if shared else {}
    document["frames"] = [
        {"file_path": name, "transform_matrix": pose.tolist()} | ({} if shared else own)
        for name, pose, own in zip(names, cameras.c2w, intrinsics, strict=True)
    ]
    if views.orbit is not None:
        document["orbit"] = views.orbit.to_dict() | {"input_view": views.input_view}
    return document


def contact_sheet(views: Views, *, columns: int = 7) -> Image.Image:
    """All views on white on one sheet, each with its index and angles."""
    columns = min(columns, len(views))
    rows = -(-len(views) // columns)
    scale = _CONTACT_SIDE / max(views.cameras.width, views.cameras.height)
    width, height = max(1, round(views.cameras.width * scale)), max(1, round(views.cameras.height * scale))
    sheet = Image.new("RGB", (columns * width, rows * (height + 14)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(views.images):
        left, top = index % columns * width, index // columns * (height + 14)
        sheet.paste(Image.fromarray(to_uint8(composite(image))).resize((width, height)), (left, top + 14))
        label = f"{index}"
        if views.orbit is not None:
            label += f"  az {views.orbit.azimuths_deg[index]:.0f}  el {views.orbit.elevations_deg[index]:.0f}"
        if index == views.input_view:
            label += "  input"
        draw.text((left + 3, top + 1), label, fill="black")
    return sheet
