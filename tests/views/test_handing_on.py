"""Views as COLMAP and nerfstudio have them, read back by the readers of these."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.shapes import cube, sphere
from PIL import Image

from mv3d.core.errors import OutputError
from mv3d.render.cameras import Cameras, invert_rigid, opencv_from_opengl
from mv3d.views.colmap import read_model
from mv3d.views.handing_on import POINTS
from mv3d.views.readers import load_views
from mv3d.views.views import Views


def two_lenses(views: Views) -> Views:
    """The same views, but the second half is taken by another camera as the files say."""
    c = views.cameras
    longer = np.where(np.arange(len(c)) < 6, 1.0, 1.25)
    return replace(
        views, cameras=Cameras(c.c2w, c.fl_x * longer, c.fl_y, c.cx, c.cy + 1.5, c.width, c.height)
    )


@pytest.fixture(params=["one", "two"])
def views(request, cube_views):
    return cube_views if request.param == "one" else two_lenses(cube_views)


def same_pictures(got: Views, expected: Views):
    alpha = expected.images[..., 3:]
    assert np.abs(got.images[..., 3:] - alpha).max() < 0.003
    assert np.abs((got.images - expected.images)[..., :3] * (alpha > 0.01)).max() < 0.003


def test_the_model_of_colmap_says_the_same(views, tmp_path):
    folder = views.to_colmap(tmp_path / "c", mesh=cube())
    model = read_model(folder / "sparse" / "0")
    assert [image.name for image in model.images] == [f"{index:03d}.png" for index in range(12)]
    w2c = invert_rigid(opencv_from_opengl(views.cameras.c2w))
    assert np.stack([image.w2c for image in model.images]) == pytest.approx(w2c, abs=1e-9)
    lenses = [model.cameras[image.camera] for image in model.images]
    for name in ("fl_x", "fl_y", "cx", "cy"):
        assert [getattr(lens, name) for lens in lenses] == pytest.approx(getattr(views.cameras, name))
    assert len({image.camera for image in model.images}) == len(np.unique(views.cameras.fl_x))
    assert model.points.shape == (POINTS, 3)
    assert np.abs(model.points).max(1) == pytest.approx(0.3, abs=1e-5)


def test_colmap_is_read_back_in_the_object_world(cube_views, tmp_path):
    folder = cube_views.to_colmap(tmp_path / "c")
    back = load_views(folder)
    same_pictures(back, cube_views)
    world = back.reading["world"]
    moved = world["scale"] * (cube_views.cameras.centers - world["center"]) @ np.array(world["rotation"]).T
    assert np.allclose(moved, back.cameras.centers, atol=1e-9)
    assert Image.open(folder / "images" / "003.png").mode == "RGB"
    assert (folder / "masks" / "003.png.png").is_file()  # the name that COLMAP's mask_path asks for


def test_nerfstudio_is_read_back_as_it_was(views, tmp_path):
    folder = views.to_nerfstudio(tmp_path / "n")
    back = load_views(folder)
    same_pictures(back, views)
    for name in ("c2w", "fl_x", "fl_y", "cx", "cy"):
        assert getattr(back.cameras, name) == pytest.approx(getattr(views.cameras, name))
    assert back.orbit == views.orbit and back.input_view == views.input_view
    document = json.loads((folder / "transforms.json").read_text())
    assert document["frames"][2]["mask_path"] == "masks/002.png" and "ply_file_path" not in document


def test_the_solid_gives_the_points(ball_views, tmp_path):
    led = replace(ball_views, solid=sphere())
    folder = led.to_nerfstudio(tmp_path / "n")
    document = json.loads((folder / "transforms.json").read_text())
    assert document["ply_file_path"] == "points.ply"
    assert f"element vertex {POINTS}\n".encode() in (folder / "points.ply").read_bytes()[:300]
    model = read_model(led.to_colmap(tmp_path / "c") / "sparse" / "0")
    assert np.linalg.norm(model.points, axis=1) == pytest.approx(0.4, rel=0.01)


@pytest.mark.parametrize("method", ["to_colmap", "to_nerfstudio"])
def test_files_of_others_stay(method, ball_views, tmp_path):
    (tmp_path / "o" / "images").mkdir(parents=True)
    (tmp_path / "o" / "images" / "mine.png").write_text("mine")
    with pytest.raises(OutputError):
        getattr(ball_views, method)(tmp_path / "o", overwrite=True)
    assert [p.name for p in (tmp_path / "o").rglob("*.*")] == ["mine.png"]
    assert getattr(ball_views, method)(tmp_path / "p") == getattr(ball_views, method)(
        tmp_path / "p", overwrite=True
    )
