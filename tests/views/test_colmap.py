"""COLMAP models, text and binary: cameras, world, masks, and what is damaged."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.colmap_files import write_images, write_model
from PIL import Image

from mv3d.core.errors import InputError, Mv3dWarning, UsageError
from mv3d.render.cameras import Cameras
from mv3d.views.folder import to_uint8
from mv3d.views.lens import CAMERA_MODELS
from mv3d.views.readers import load_views

NAMES = [f"frame {index}.png" for index in range(12)]  # 10 comes after 9


def corners(side: float = 0.6) -> np.ndarray:
    """Points on the cube's faces."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-side / 2, side / 2, (300, 3))
    points[np.arange(300), np.arange(300) % 3] = side / 2 * np.where(np.arange(300) % 2, 1, -1)
    return points


def foreign(cameras: Cameras, points: np.ndarray) -> tuple[Cameras, np.ndarray]:
    """In a world that is turned, moved and 4 times as large."""
    angle = np.radians(50)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    c2w = cameras.c2w.copy()
    c2w[:, :3, :3] = turn @ c2w[:, :3, :3]
    c2w[:, :3, 3] = 4 * c2w[:, :3, 3] @ turn.T + [3, -2, 9]
    return Cameras(c2w, cameras.fl_x, cameras.fl_y, cameras.cx, cameras.cy, 96, 96), 4 * points @ turn.T + [
        3,
        -2,
        9,
    ]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("place", ["sparse/0", "sparse", "colmap/sparse/0", "."])
def test_cameras_are_those_that_were_written(binary, place, cube_views, tmp_path):
    write_images(tmp_path / "images", cube_views, NAMES)
    write_model(
        tmp_path / place if place != "." else tmp_path / "x",
        cube_views.cameras,
        NAMES,
        corners(),
        binary=binary,
    )
    if place == ".":
        for file in (tmp_path / "x").iterdir():
            file.rename(tmp_path / file.name)
    back = load_views(tmp_path)
    world = back.reading["world"]
    assert world["from"] == "points" and 280 < world["points"] <= 300
    assert np.allclose(world["rotation"], np.eye(3), atol=1e-9)  # the orbit is upright already
    assert np.allclose(world["center"], 0, atol=0.02) and 1 / world["scale"] == pytest.approx(0.6, rel=0.03)
    expected = cube_views.cameras.c2w.copy()
    expected[:, :3, 3] = (expected[:, :3, 3] - world["center"]) * world["scale"]
    assert np.allclose(back.cameras.c2w, expected, atol=1e-9)
    assert np.allclose(back.cameras.fl_x, cube_views.cameras.fl_x) and np.allclose(back.cameras.cy, 48)
    assert np.abs(back.images - cube_views.images).max() < 0.003


@pytest.mark.parametrize("points", [True, False])
def test_a_foreign_world_becomes_the_objects(points, cube_views, tmp_path):
    cameras, where = foreign(cube_views.cameras, corners())
    strays = np.random.default_rng(1).uniform(-60, 60, (200, 3))  # a background
    write_images(tmp_path / "images", cube_views, NAMES)
    shown = np.concatenate([where, strays]) if points else where[:5]
    write_model(tmp_path / "sparse" / "0", cameras, NAMES, shown, binary=True)
    back = load_views(tmp_path)
    world = back.reading["world"]
    assert world["from"] == ("points" if points else "silhouettes")
    around = back.cameras.centers
    radius = np.linalg.norm(around, axis=1)
    # The cube's side is 0.6 (its diagonal is what silhouettes show), the cameras are at 2.
    assert radius == pytest.approx(np.full(12, 2 / (0.6 if points else 1.0)), rel=0.03 if points else 0.25)
    assert around[:, 2] / radius == pytest.approx(np.full(12, np.sin(np.radians(10))), abs=0.04)
    moved = world["scale"] * (cameras.centers - world["center"]) @ np.array(world["rotation"]).T
    assert np.allclose(moved, around, atol=1e-9)


@pytest.mark.parametrize("model", [name for name in CAMERA_MODELS if "FULL" not in name])
def test_every_model_reads(model, cube_views, tmp_path):
    write_images(tmp_path / "images", cube_views, NAMES)
    coefficients = {"k1": 0.01, "k2": 0.002, "p1": 0.001, "k3": 0.001}
    write_model(
        tmp_path / "sparse",
        cube_views.cameras,
        NAMES,
        corners(),
        binary=True,
        model=model,
        coefficients=coefficients,
    )
    back = load_views(tmp_path)
    assert ("undistorted" in back.reading) == ("k1" in CAMERA_MODELS[model])
    assert back.cameras.fl_x == pytest.approx(cube_views.cameras.fl_x)


@pytest.mark.parametrize(
    "form", ["masks/{name}.png", "masks/{stem}.png", "images/{stem}_mask.png", "images/{stem}.mask.png"]
)
@pytest.mark.parametrize("inverted", [False, True])
def test_masks_by_their_names(form, inverted, cube_views, tmp_path):
    write_images(tmp_path / "images", cube_views, NAMES, on=0.3)
    write_model(tmp_path / "sparse", cube_views.cameras, NAMES, corners(), binary=False)
    (tmp_path / "masks").mkdir()
    for name, image in zip(NAMES, cube_views.images, strict=True):
        mask = to_uint8(1 - image[..., 3] if inverted else image[..., 3])
        Image.fromarray(mask).save(tmp_path / form.format(name=name, stem=name.removesuffix(".png")))
    if inverted:
        with pytest.warns(Mv3dWarning, match="the masks are inverted .frames all 12."):
            back = load_views(tmp_path)
    else:
        back = load_views(tmp_path)
    assert np.abs(back.images[..., 3] - cube_views.images[..., 3]).max() < 0.003


def test_the_larger_of_two_models_is_read(cube_views, tmp_path):
    write_images(tmp_path / "images", cube_views, NAMES)
    write_model(tmp_path / "sparse" / "0", cube_views.cameras[:4], NAMES[:4], corners(), binary=True)
    write_model(tmp_path / "sparse" / "1", cube_views.cameras, NAMES, corners(), binary=True)
    assert len(load_views(tmp_path)) == 12


def test_flags_of_reading_are_refused(cube_views, tmp_path):
    write_model(tmp_path / "sparse", cube_views.cameras, NAMES, corners(), binary=True)
    with pytest.raises(UsageError, match="has its own"):
        load_views(tmp_path, elevation_deg=3.0)


def absent(folder):
    (folder / "images" / NAMES[3]).unlink()


def renamed(old: str, new: str):
    return lambda folder: [
        file.write_text(file.read_text().replace(old, new)) for file in (folder / "sparse").glob("*.txt")
    ]


BAD = {
    "absent image": (False, absent, "frame 3.png does not exist"),
    "other camera": (False, renamed(" 7 frame", " 8 frame"), "expected camera 8 in the cameras file"),
    "FOV": (False, renamed("PINHOLE", "FOV"), "expected a model of SIMPLE_PINHOLE"),
    "fewer parameters": (False, renamed("PINHOLE", "OPENCV"), "expected 8 parameters"),
    "leads out": (False, renamed("frame 3", "../../x"), "inside"),
    "cut off": (True, lambda f: (f / "sparse/images.bin").write_bytes((f / "sparse/images.bin").read_bytes()[:300]), "cut off"),
    "endless": (True, lambda f: (f / "sparse/images.bin").write_bytes(b"\xff" * 64), "damaged"),
    "no points file": (True, lambda f: (f / "sparse/points3D.bin").unlink(), None),
    "empty points": (True, lambda f: (f / "sparse/points3D.bin").write_bytes(b""), "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_damage_is_one_sentence(case, cube_views, tmp_path):
    binary, spoil, expected = BAD[case]
    write_images(tmp_path / "images", cube_views, NAMES)
    write_model(tmp_path / "sparse", cube_views.cameras, NAMES, corners(), binary=binary)
    spoil(tmp_path)
    if expected is None:
        assert load_views(tmp_path).reading["world"]["from"] == "silhouettes"
        return
    with pytest.raises(InputError) as caught:
        load_views(tmp_path)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_reconstruction_of_a_model_is_the_object(cube_views, tmp_path):
    from mv3d.api import reconstruct

    cameras, where = foreign(cube_views.cameras, corners())
    write_images(tmp_path / "images", cube_views, NAMES)
    write_model(tmp_path / "sparse" / "0", cameras, NAMES, where, binary=True)
    mesh = reconstruct(tmp_path, quality="draft", texture_size=256)
    # The points span the cube: its side is 1 now. So few small views leave it larger, in its own world as in this one.
    own = reconstruct(cube_views, quality="draft", texture_size=256)
    assert np.ptp(mesh.vertices, axis=0) == pytest.approx(np.ptp(own.vertices, axis=0) / 0.6, rel=0.03)
    assert np.abs(mesh.vertices.mean(0)).max() < 0.08
