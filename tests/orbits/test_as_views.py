"""One object, or one sample of shards, as a views folder: true cameras, the shape where they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers.objects import colourful

import mv3d
from mv3d.cli.main import main
from mv3d.orbits.as_views import write_orbit_views
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig, identity
from mv3d.orbits.gate import ANYTHING
from mv3d.orbits.index import PIXELS, write_index
from mv3d.orbits.jobs import render_object
from mv3d.orbits.shards import write_shard
from mv3d.views.views import Views

SMALL = ["--views", "5", "--size", "48", "--environments", "uniform"]
CONFIG = OrbitConfig(views=5, size=48, environments=("uniform",), elevation_deg=(10.0, 10.0), gate=ANYTHING)


@pytest.fixture(scope="module")
def block(tmp_path_factory) -> Path:
    """A grey block of sides 1, 2, 3 away from the origin, which a data set would reject."""
    solid = trimesh.creation.box((1, 2, 3))
    solid.apply_translation([5, 6, 7])
    path = tmp_path_factory.mktemp("objects") / "block.ply"
    solid.export(path)
    return path


def shadow_of_box(views: Views, half_sides: np.ndarray) -> np.ndarray:
    """Which rays through pixel centres meet a box around the origin, by its three slabs."""
    cameras, (height, width) = views.cameras, views.images.shape[1:3]
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    found = []
    for view, c2w in enumerate(cameras.c2w):
        ray = np.stack(
            [(x - cameras.cx[view]) / cameras.fl_x[view], (cameras.cy[view] - y) / cameras.fl_y[view]]
        )
        toward = np.concatenate([ray, -np.ones_like(x)[None]]).transpose(1, 2, 0) @ c2w[:3, :3].T
        ends = (np.array([-1.0, 1.0])[:, None, None, None] * half_sides - c2w[:3, 3]) / toward
        found.append(ends.min(0).max(-1) < ends.max(0).min(-1))
    return np.stack(found)


def test_an_object_stands_where_its_cameras_say(block, tmp_path, capsys):
    command = ["orbits", "views", str(block), "--out", str(tmp_path / "v"), *SMALL]
    assert main([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)["record"]
    assert record == json.loads((tmp_path / "v" / "run.json").read_text())
    assert record["command"] == "orbits views" and record["normalization"]["scale"] == pytest.approx(1 / 3)
    views = mv3d.load_views(tmp_path / "v")
    assert len(views) == 5 and views.input_view == 4 and views.orbit.elevations_deg == (10.0,) * 5
    seen = views.images[..., 3] > 0.5
    assert (shadow_of_box(views, np.array([1, 2, 3]) / 6) == seen).mean() > 0.99
    assert main(command) == 0 and "done already" in capsys.readouterr().err
    assert main([*command, "--seed", "1"]) == 1 and "--overwrite" in capsys.readouterr().err
    assert main([*command, "--elevation", "-20", "--overwrite"]) == 0
    assert mv3d.load_views(tmp_path / "v").orbit.elevations_deg == (-20.0,) * 5


def test_a_sample_gives_the_views_of_its_file(block, tmp_path, capsys):
    items = [
        CatalogueItem("block", block),
        CatalogueItem("ball", colourful(trimesh.creation.icosphere(), tmp_path / "ball.ply")),
    ]
    shards = tmp_path / "shards"
    shards.mkdir()
    samples = [render_object(item, CONFIG) for item in items]
    record = write_shard(shards / "shard-000000.tar", samples, scratch=shards)
    document = {"kind": PIXELS, "config": identity(CONFIG), "objects": 2}
    write_index(shards, document, [record], finished=True, scratch=shards)
    assert main(["orbits", "views", str(shards), "--uid", "block", "--out", str(tmp_path / "a")]) == 0
    write_orbit_views(block, tmp_path / "b", CONFIG)
    for name in ("images/002.png", "transforms.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    capsys.readouterr()
    for arguments, code, words in (
        ([str(shards)], 2, "expected one of 2 samples, such as block, ball; got none"),
        ([str(shards), "--uid", "blok"], 1, "did you mean block?"),
        ([str(shards), "--uid", "block", "--size", "64"], 2, "rendered already"),
        ([str(block), "--uid", "block"], 2, "--uid: expected none"),
        ([str(tmp_path)], 1, "found neither"),
        ([str(tmp_path / "none.glb")], 1, "expected a folder of shards or a .glb"),
    ):
        assert main(["orbits", "views", *arguments, "--out", str(tmp_path / "c")]) == code
        assert words in capsys.readouterr().err and not (tmp_path / "c").exists()
