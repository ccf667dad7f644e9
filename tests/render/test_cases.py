"""Files after public bug reports that lie beside the checkout: what they look like, in pixels."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.places import SHARED

from mv3d.cli.main import main
from mv3d.evaluation import evaluate_mesh, protocol
from mv3d.orbits.as_views import read_sample
from mv3d.orbits.catalogue import read_list
from mv3d.orbits.config import OrbitConfig
from mv3d.orbits.gate import ANYTHING
from mv3d.orbits.jobs import render_object
from mv3d.render.mesh_io import load_mesh

CASES = SHARED / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="no shared cases")
CONFIG = OrbitConfig(
    views=4,
    size=64,
    elevation_deg=(20.0, 20.0),
    environments=("uniform",),
    samples=1,
    light_samples=16,
    gate=replace(ANYTHING, max_blank_views=1.0),
)
RED, GREEN, BLUE, YELLOW = ([222, 62, 66], [66, 180, 80], [70, 92, 222], [240, 202, 66])


def seen(source: Path, uid: str = "") -> np.ndarray:
    """(4, 64, 64, 4) in 0..255: the object of a file or a folder under even light, seen from 90, 180, 270 and 0 degrees."""
    (item,) = (item for item in read_list(source) if uid in item.uid)
    views, _ = read_sample(render_object(item, CONFIG))
    return np.round(views.images * 255)


def at(views: np.ndarray, view: int, down: float, right: float) -> np.ndarray:
    """A pixel, by shares of height and width."""
    return views[view, round(down * 64), round(right * 64)]


@pytest.mark.parametrize(
    "case",
    [
        "01_obj_Tr1_opaque",
        "09_obj_mtl_silently_lost",
        "09b_obj_bom",
        "10_obj_paths_refused",
        "10b_shapenet_layout",
    ],
)
def test_a_textured_cube(case):
    views = seen(CASES / case)
    for view in range(4):
        for color, down, right in ((RED, 0.4, 0.3), (GREEN, 0.4, 0.7), (BLUE, 0.8, 0.3), (YELLOW, 0.8, 0.7)):
            pixel = at(views, view, down, right)
            assert pixel[3] == 255
            assert np.abs(pixel[:3] - color).max() < 30


def test_a_star_keeps_its_notches():
    views = seen(CASES / "02_obj_concave_ngon")
    front = views[3, ..., 3] > 128
    rows, columns = np.flatnonzero(front.any(1)), np.flatnonzero(front.any(0))
    box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert 0.3 < front.sum() / box < 0.48  # 0.38 for the star, 0.68 with its notches filled


def test_colours_of_vertices_are_as_bright_as_they_are():
    pixel = at(seen(CASES / "03_obj_vertex_colours_half_as_bright"), 3, 0.6, 0.5)
    np.testing.assert_allclose(pixel, [254, 135, 83, 255], atol=10)


def test_indices_that_nothing_has():
    views = seen(CASES / "10d_obj_vt_out_of_range")
    assert (at(views, 0, 0.6, 0.5)[:3] > 150).all() and at(views, 0, 0.6, 0.5)[3] == 255


@pytest.mark.parametrize("name", ["diffuse_red", "face_colours", "texturefile", "vertex_st", "viscam_colour"])
def test_colours_and_textures_of_ply_and_stl(name):
    views = seen(CASES / "11_ply_colours_and_textures_lost", name)
    expected = {
        "diffuse_red": [([255, 135, 82], 3, 0.6, 0.5)],
        "face_colours": [([232, 80, 80], 2, 0.2, 0.5), ([75, 88, 232], 0, 0.6, 0.5)],
        "texturefile": [(RED, 2, 0.4, 0.3), (GREEN, 2, 0.4, 0.7), (BLUE, 2, 0.8, 0.3), (YELLOW, 2, 0.8, 0.7)],
        # Along the picture's upper edge, where it meets its lower one: red with blue, green with yellow.
        "vertex_st": [([168, 77, 166], 2, 0.6, 0.25), ([183, 190, 70], 2, 0.6, 0.75)],
        "viscam_colour": [([255, 80, 58], 3, 0.6, 0.5)],
    }
    for color, view, down, right in expected[name]:
        assert np.abs(at(views, view, down, right)[:3] - color).max() < 30


@pytest.mark.parametrize(
    ("pred", "gt"),
    [
        ("simple-instancing.glb", "simple-instancing_baked.obj"),
        ("cornell_box.obj", "cornell_box_baked.obj"),
    ],
)
def test_what_is_measured_is_what_is_drawn(pred, gt):
    folder = CASES / "16_eval_mesh_other_geometry"
    chosen = replace(protocol("mv3d"), align=("none",), render_azimuths=0, samples=2000, iou_resolution=16)
    found = evaluate_mesh(folder / pred, folder / gt, chosen)
    itself = evaluate_mesh(folder / gt, folder / gt, chosen)
    # Not 0, since both sides are sampled on their own.
    assert found["metrics"]["chamfer"] < 1.1 * itself["metrics"]["chamfer"]
    triangles = [np.sort(load_mesh(folder / name).triangles.reshape(-1, 9).sum(1)) for name in (pred, gt)]
    np.testing.assert_allclose(triangles[0], triangles[1], atol=1e-4)


def test_one_file_is_rendered(tmp_path, capsys):
    small = ["--views", "2", "--size", "64", "--workers", "1", "--environments", "uniform"]
    gate = ["--gate.textures", "any", "--gate.min-contrast", "0"]
    for source in (CASES / "24_single_model_path" / "a.glb", CASES / "02_obj_concave_ngon" / "a.obj"):
        out = tmp_path / source.parent.name
        assert main(["orbits", "render", str(source), "--out", str(out), *small, *gate]) == 0
        assert "1 of 1 objects" in capsys.readouterr().err


def test_a_list_hands_its_folder_over(tmp_path):
    shutil.copytree(CASES / "10b_shapenet_layout", tmp_path / "chair")
    (tmp_path / "list.jsonl").write_text('{"uid": "chair", "path": "chair/models/model_normalized.obj"}\n')
    np.testing.assert_array_equal(seen(tmp_path / "list.jsonl"), seen(CASES / "10b_shapenet_layout"))
