"""What `mv3d view` finds in a path, and its pictures without a browser."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers.objects import colourful
from helpers.shapes import cube, orbit_of, sphere
from helpers.splat_files import splat_file
from PIL import Image

from mv3d.app.exhibits import difference, open_collection
from mv3d.app.looks import MODES, in_mode
from mv3d.app.shot import own_shot
from mv3d.app.splats import read_splats
from mv3d.cli.main import main
from mv3d.core.errors import InputError
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig, identity
from mv3d.orbits.gate import ANYTHING
from mv3d.orbits.index import PIXELS, write_index
from mv3d.orbits.jobs import render_object
from mv3d.orbits.shards import write_shard
from mv3d.recon.splats.files import SH_C0, load_splats, save_splats


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One shard of two samples."""
    folder = tmp_path_factory.mktemp("shards")
    config = OrbitConfig(views=4, size=32, environments=("uniform",), light_samples=1, gate=ANYTHING)
    source = tmp_path_factory.mktemp("objects") / "a.glb"
    colourful(trimesh.creation.box((1, 2, 3)), source)
    samples = [render_object(CatalogueItem(uid, source), config) for uid in ("first", "second")]
    record = write_shard(folder / "shard-000000.tar", samples, scratch=folder)
    write_index(
        folder,
        {"kind": PIXELS, "objects": 2, "config": identity(config)},
        [record],
        finished=True,
        scratch=folder,
    )
    return folder


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation: one object with a model's views, one without."""
    folder = tmp_path_factory.mktemp("evaluation")
    orbit_of(cube(), count=4, size=48).save(folder / "truth" / "cube")
    orbit_of(sphere(), count=4, size=48).save(folder / "truth" / "sphere")
    orbit_of(cube(0.5), count=4, size=48).save(folder / "generated" / "cube")
    (folder / "objects").mkdir()
    scores = {"schema": 1, "uid": "cube", "mean": {"psnr": 20.123}, "seconds": 1.5}
    (folder / "objects" / "cube.json").write_text(json.dumps(scores))
    return folder


def test_shards_are_browsed_by_sample(shards: Path):
    for place in (shards, shards / "shard-000000.tar"):
        collection = open_collection(place)
        assert collection.names == ("first", "second")
        exhibit = collection.read("second")
        assert exhibit.name == "second" and len(exhibit.views) == 4 and exhibit.other(0) is None
        assert dict(exhibit.rows)["Views"] == "4" and exhibit.labels[3].startswith("view 3 · azimuth 0°")


def test_truth_stands_beside_the_model(evaluation: Path):
    collection = open_collection(evaluation)
    assert collection.names == ("cube", "sphere")
    exhibit = collection.read("cube")
    assert exhibit.names == ("truth", "model") and dict(exhibit.rows) == {
        "mean, psnr": "20.12",
        "seconds": "1.5",
    }
    _, figures = difference(exhibit.views.images[1], exhibit.other(1))
    areas = [(views.images[1, ..., 3] > 0.5).sum() for views in (exhibit.others, exhibit.views)]
    assert figures["mask_iou"] == pytest.approx(
        areas[0] / areas[1], abs=0.02
    )  # the smaller lies in the larger
    assert collection.read("sphere").other(0) is None


def test_a_mesh_is_compared_with_its_views(tmp_path: Path):
    orbit_of(cube(), count=4, size=48).save(tmp_path / "v")
    cube().export(tmp_path / "v" / "mesh.glb")
    collection = open_collection(tmp_path / "v")
    exhibit = collection.read(*collection.names)
    apart, figures = difference(exhibit.views.images[2], exhibit.other(2))
    assert figures["psnr"] > 50 and figures["mask_iou"] > 0.9 and apart.min() > 0.8


def test_difference_is_white_where_nothing_differs_and_red_elsewhere():
    a = np.ones((16, 16, 4), np.float32)
    b = a.copy()
    b[:8, :, :3] = 0
    apart, figures = difference(a, b)
    assert np.allclose(apart[8:], 1) and np.allclose(apart[:8], [0.65, 0, 0])
    assert figures["mse"] == pytest.approx(0.5) and figures["mask_iou"] == 1


def test_looks_keep_the_shape_and_show_what_they_say():
    ball = sphere(0.4)
    for mode in MODES:
        shown = in_mode(ball, mode)
        assert np.array_equal(shown.vertices, ball.vertices) and np.array_equal(shown.faces, ball.faces)
    assert in_mode(ball, "textured") is ball
    normals = in_mode(ball, "normals").vertex_colors
    assert normals is not None
    assert np.abs(normals - (ball.vertices / 0.4 * 127.5 + 127.5)).max() < 3
    grey = in_mode(ball, "grey").vertex_colors
    assert grey is not None
    assert (
        np.ptp(grey, axis=1).max() == 0
        and grey[ball.vertices[:, 2].argmax()][0] > grey[ball.vertices[:, 2].argmin()][0]
    )


def test_splats_lie_in_the_world_as_their_file_says(tmp_path: Path):
    # One to the viewer's right, one below, one away; long along the file's x, the second turned by 90 degrees around z.
    turned = [np.sqrt(0.5), 0, 0, np.sqrt(0.5)]
    rows = np.zeros((3, 14))
    rows[:, :3] = np.diag([1.0, 2, 3])
    rows[:, 3:6] = (np.array([1.0, 0.5, 0.0]) - 0.5) / SH_C0
    rows[:, 7:10] = np.log([0.3, 0.1, 0.1])
    rows[:, 10] = 1
    rows[1, 10:] = turned
    cloud = read_splats(splat_file(tmp_path / "s.ply", rows))
    # The photo's camera stands on +X: to its right is +Y, below is -Z, away is -X.
    assert np.allclose(cloud.centers, [[0, 1, 0], [0, 0, -2], [-3, 0, 0]], atol=1e-6)
    assert np.allclose(cloud.covariances[0], np.diag([0.01, 0.09, 0.01]), atol=1e-6)
    assert np.allclose(cloud.covariances[1], np.diag([0.01, 0.01, 0.09]), atol=1e-6)
    assert np.allclose(cloud.colors, [1, 0.5, 0], atol=1e-6) and np.allclose(cloud.opacities, 0.5)


@pytest.mark.parametrize("suffix", [".splat", ".spz"])
def test_splats_of_other_formats_are_the_same_cloud(suffix: str, tmp_path: Path):
    rows = np.random.default_rng(0).uniform(-1, 1, (20, 14))
    rows[:, 7:10] -= 2
    ply = splat_file(tmp_path / "s.ply", rows)
    other = save_splats(load_splats(ply), tmp_path / f"s{suffix}")
    expected = read_splats(ply)
    exhibit = open_collection(other).read("s")
    assert exhibit.mesh is None and exhibit.splats == other and open_collection(ply).read("s").splats == ply
    got = read_splats(other)
    # .splat writes the most visible first; .spz keeps the order.
    order = np.argmin(np.linalg.norm(got.centers[:, None] - expected.centers, axis=-1), 1)
    assert sorted(order) == list(range(20))
    assert np.allclose(got.centers, expected.centers[order], atol=1e-4)
    assert np.allclose(got.colors, expected.colors[order], atol=0.02)
    assert np.allclose(got.opacities, expected.opacities[order], atol=0.005)
    size = np.abs(expected.covariances[order]).max((1, 2), keepdims=True)
    assert (np.abs(got.covariances - expected.covariances[order]) < 0.15 * size).all()


def test_a_damaged_file_of_splats_is_one_sentence_with_its_name(tmp_path: Path):
    rows = np.eye(3, 14)
    rows[1, 0] = np.nan
    with pytest.raises(InputError, match=r"s\.ply: splats: means: expected finite"):
        read_splats(splat_file(tmp_path / "s.ply", rows))
    (tmp_path / "s.splat").write_bytes(b"")
    with pytest.raises(InputError, match=r"s\.splat: expected 1 to 5000000 3D Gaussians, got 0"):
        read_splats(tmp_path / "s.splat")
    (tmp_path / "s.spz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match=r"s\.spz: expected a whole \.spz file of 3D Gaussians"):
        read_splats(tmp_path / "s.spz")


@pytest.mark.parametrize(
    "content", [b"", b"ply\nend_header\n", b"ply\nformat ascii 1.0\nelement vertex 1\nend_header\n1"]
)
def test_other_plys_are_no_splats(tmp_path: Path, content: bytes):
    (tmp_path / "s.ply").write_bytes(content)
    with pytest.raises(InputError, match="3D Gaussians"):
        read_splats(tmp_path / "s.ply")


@pytest.fixture
def no_browser(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mv3d.app.shot.find_browser", lambda: None)


def test_a_shot_without_a_browser_says_so_and_shows_everything(tmp_path: Path, no_browser, capsys):
    folder = tmp_path / "v"
    orbit_of(cube(), count=4, size=48).save(folder)
    cube().export(folder / "mesh.glb")
    assert main(["view", str(folder), "--shot", str(tmp_path / "a.png")]) == 0
    said = capsys.readouterr()
    assert (
        said.out.strip() == str(tmp_path / "a.png") and "own renderer: no Chromium is installed" in said.err
    )
    picture = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    assert picture.shape[0] == 640 and picture.shape[1] > 640 + 3 * 160
    mesh, views = picture[:, :640], picture[:, 648 : 648 + 320]
    assert 0.05 < (mesh.min(-1) < 250).mean() < 0.6 and 0.05 < (views.min(-1) < 250).mean() < 0.6
    # The second column repeats the first: the mesh is what the views show.
    assert np.abs(views[:, :160] - views[:, 160:]).mean() < 3


def test_a_shot_of_an_evaluation_shows_both(evaluation: Path):
    exhibit = open_collection(evaluation).read("cube")
    picture = np.asarray(Image.open(io.BytesIO(own_shot(exhibit))))
    assert picture.shape == (4 * 160, 3 * 160 + 8, 3)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["nothing"], 1, "found nothing there"),
        (["empty"], 1, "found neither"),
        (["cube.glb", "--shot", "a.jpg"], 2, "ends in .png"),
        (["cube.glb", "--shot", "there.png"], 1, "is there already"),
        (["cube.glb", "--shot", "no/where.png"], 1, "make it first"),
        (["cube.glb", "--port", "0"], 2, "1 to 65535"),
        (["broken.tar"], 1, "broken.tar"),
    ],
)
def test_what_cannot_be_shown_costs_one_sentence(
    arguments, code, told, tmp_path, monkeypatch, capsys, no_browser
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mv3d.app.viewer.import_viser", lambda: None)
    cube().export(tmp_path / "cube.glb")
    (tmp_path / "there.png").write_bytes(b"mine")
    (tmp_path / "broken.tar").write_bytes(b"x" * 600)
    (tmp_path / "empty").mkdir()
    assert main(["view", *arguments]) == code
    said = capsys.readouterr().err
    assert re.search(re.escape(told), said) and len(said.splitlines()) == 1
    assert (tmp_path / "there.png").read_bytes() == b"mine"


def test_without_viser_the_way_out_is_said(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "viser", None)
    cube().export(tmp_path / "cube.glb")
    assert main(["view", str(tmp_path / "cube.glb")]) == 3
    assert "pip install viser" in capsys.readouterr().err


def test_splats_alone_are_something_to_see(tmp_path: Path):
    splat_file(tmp_path / "splats.ply", np.eye(3, 14))
    exhibit = open_collection(tmp_path).read(tmp_path.name)
    assert exhibit.mesh is None and exhibit.splats == tmp_path / "splats.ply"
