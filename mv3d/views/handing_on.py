"""Views in the forms that other reconstructions read: COLMAP's sparse model as text, nerfstudio's transforms.json.

Images are opaque, in straight colours, white where there is no object; masks stand beside them, white for the object.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from mv3d.core.files import to_json
from mv3d.core.outputs import Output
from mv3d.core.records import RunRecord
from mv3d.render.cameras import opencv_from_opengl
from mv3d.render.mesh import Mesh
from mv3d.render.points import PointCloud, sample_surface
from mv3d.render.writers import WriteOptions, save_mesh
from mv3d.views.folder import to_uint8, transforms
from mv3d.views.views import Views

POINTS = 20_000
"""Points on the mesh, from which splats begin in other programs."""


def to_colmap(
    views: Views, out_dir: str | os.PathLike[str], *, mesh: Mesh | None = None, overwrite: bool = False
) -> Path:
    """Write sparse/0/{cameras,images,points3D}.txt (colmap.github.io/format.html), images/000.png and
    masks/000.png.png. Poses are those of the views' world. points3D.txt has points on `mesh`, by default on the views'
    solid, and none where there is neither.

    Files appear whole or not at all. Raises OutputError where another result is in the way.
    """
    output = Output(Path(out_dir), "run.json", ("sparse", "images", "masks"), overwrite=overwrite)
    with output.opened() as staged:
        names = _write_pictures(views, staged, "masks/{:03d}.png.png")
        model = staged / "sparse" / "0"
        model.mkdir(parents=True)
        texts = _colmap_texts(
            views, [name.removeprefix("images/") for name, _ in names], _points(views, mesh)
        )
        for name, lines in texts.items():
            (model / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        output.publish(staged, RunRecord.of("Views.to_colmap"))
    return output.folder


def to_nerfstudio(
    views: Views, out_dir: str | os.PathLike[str], *, mesh: Mesh | None = None, overwrite: bool = False
) -> Path:
    """Write transforms.json with `mask_path` of every frame, images/ and masks/, and, of `mesh` or the views' solid,
    points.ply, which nerfstudio's splatfacto begins with (`ply_file_path`).

    Files appear whole or not at all. Raises OutputError where another result is in the way.
    """
    solid = mesh if mesh is not None else views.solid
    names = ("transforms.json", "images", "masks", *(["points.ply"] if solid is not None else []))
    output = Output(Path(out_dir), "run.json", names, overwrite=overwrite)
    with output.opened() as staged:
        files = _write_pictures(views, staged, "masks/{:03d}.png")
        document = transforms(views, [image for image, _ in files])
        for frame, (_, mask) in zip(document["frames"], files, strict=True):
            frame["mask_path"] = mask
        if solid is not None:
            save_mesh(solid, staged / "points.ply", WriteOptions(points=POINTS))
            document["ply_file_path"] = "points.ply"
        (staged / "transforms.json").write_text(to_json(document), encoding="utf-8")
        output.publish(staged, RunRecord.of("Views.to_nerfstudio"))
    return output.folder


def _write_pictures(views: Views, folder: Path, mask_name: str) -> list[tuple[str, str]]:
    """Names of images and masks, which lie in `folder` then."""
    for part in ("images", "masks"):
        (folder / part).mkdir()
    names = [(f"images/{index:03d}.png", mask_name.format(index)) for index in range(len(views))]
    for (image, mask), rgba in zip(names, views.images, strict=True):
        alpha = rgba[..., 3]
        color = np.where(alpha[..., None] > 0, rgba[..., :3], 1.0)
        Image.fromarray(to_uint8(color)).save(folder / image)
        Image.fromarray(to_uint8(alpha)).save(folder / mask)
    return names


def _points(views: Views, mesh: Mesh | None) -> PointCloud | None:
    solid = mesh if mesh is not None else views.solid
    return None if solid is None else sample_surface(solid, POINTS)


def _colmap_texts(views: Views, names: list[str], cloud: PointCloud | None) -> dict[str, list[str]]:
    cameras = views.cameras
    lenses = np.stack([cameras.fl_x, cameras.fl_y, cameras.cx, cameras.cy], 1)
    different, number = np.unique(lenses, axis=0, return_inverse=True)
    found = {"cameras.txt": ["# CAMERA_ID MODEL WIDTH HEIGHT fl_x fl_y cx cy"]}
    found["cameras.txt"] += [
        f"{index} PINHOLE {cameras.width} {cameras.height} {_numbers(values)}"
        for index, values in enumerate(different, 1)
    ]
    w2c = np.linalg.inv(opencv_from_opengl(cameras.c2w))
    turns = Rotation.from_matrix(w2c[:, :3, :3]).as_quat()[:, [3, 0, 1, 2]]
    found["images.txt"] = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME", "# POINTS2D: none"]
    for index, name in enumerate(names):
        pose = _numbers([*turns[index], *w2c[index, :3, 3]])
        found["images.txt"] += [f"{index + 1} {pose} {number.reshape(-1)[index] + 1} {name}", ""]
    found["points3D.txt"] = ["# POINT3D_ID X Y Z R G B ERROR TRACK[]: none"]
    if cloud is not None:
        colors = np.full((len(cloud.points), 3), 128) if cloud.colors is None else cloud.colors
        found["points3D.txt"] += [
            f"{index} {x:.7g} {y:.7g} {z:.7g} {r} {g} {b} 0"
            for index, ((x, y, z), (r, g, b)) in enumerate(zip(cloud.points, colors, strict=True), 1)
        ]
    return found


def _numbers(values) -> str:  # pyright: ignore[reportMissingParameterType]
    return " ".join(repr(float(value)) for value in values)
