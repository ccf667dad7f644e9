"""Files after public bug reports that lie beside the checkout: what they look like, in pixels."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.places import SHARED

from mv3d.cli.main import main
from mv3d.orbits.as_views import read_sample
from mv3d.orbits.catalogue import read_list
from mv3d.orbits.config import OrbitConfig
from mv3d.orbits.gate import ANYTHING
from mv3d.orbits.jobs import render_object

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
