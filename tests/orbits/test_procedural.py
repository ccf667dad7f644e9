"""Procedural objects: always the same ones, all of them usable, and a folder that renders."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mv3d.cli.main import main
from mv3d.core.errors import OutputError, UsageError
from mv3d.orbits.catalogue import read_list
from mv3d.orbits.gate import check_frames, check_model
from mv3d.orbits.licences import parse_licence
from mv3d.orbits.procedural import patterns
from mv3d.orbits.procedural.families import FAMILIES
from mv3d.orbits.procedural.generate import drawn_families, make_object, write_objects
from mv3d.orbits.procedural.pieces import MAX_FACES, MIN_FACES
from mv3d.render.cameras import Orbit
from mv3d.render.environment import uniform_environment
from mv3d.render.loading import load_model
from mv3d.render.model import normalize_model
from mv3d.render.renderer import RenderSettings, get_renderer

SEEDS = (0, 1, 7)
RED, BLUE = (0.8, 0.1, 0.1), (0.1, 0.2, 0.8)


@pytest.mark.parametrize("family", FAMILIES)
def test_objects_are_the_same_on_every_call_and_differ_by_seed(family: str) -> None:
    files = [make_object(family, seed).glb() for seed in SEEDS]
    assert files[0] == make_object(family, SEEDS[0]).glb()
    assert len(set(files)) == len(SEEDS)
    shapes = {make_object(family, seed).model.vertices.tobytes() for seed in SEEDS}
    assert len(shapes) == len(SEEDS)


@pytest.mark.parametrize("family", FAMILIES)
def test_objects_pass_the_gate_and_render(family: str, tmp_path: Path) -> None:
    made = make_object(family, 3)
    path = tmp_path / "object.glb"
    path.write_bytes(made.glb())
    model = load_model(path)
    # The file holds what the value holds.
    assert len(model.faces) == made.faces
    np.testing.assert_allclose(model.vertices.min(0), made.model.vertices.min(0), atol=1e-6)
    np.testing.assert_allclose(model.vertices.max(0), made.model.vertices.max(0), atol=1e-6)
    assert model.vertices[:, 2].min() == pytest.approx(0, abs=1e-6)
    assert MIN_FACES <= len(model.faces) <= MAX_FACES
    assert model.uv is not None
    assert all(material.base_color_texture is not None for material in model.materials)
    check_model(model)
    normalized, _ = normalize_model(model)
    frame = get_renderer("embree").render(
        normalized,
        Orbit((15.0,), (30.0,), radius=2.6).cameras(32, 32),
        uniform_environment(),
        RenderSettings(samples=1, light_samples=16, bounces=0),
    )
    check_frames(frame.rgba)


def test_all_seeds_stay_in_bounds() -> None:
    for family in ("chair", "composite", "flower", "blocks"):
        for seed in range(100, 112):
            made = make_object(family, seed)
            assert MIN_FACES <= made.faces <= MAX_FACES, made.uid
            for piece in made.pieces:
                assert np.isfinite(piece.solid.vertices).all()
                assert 0 <= piece.solid.uv.min() and piece.solid.uv.max() < 100


def test_a_chair_faces_x_and_stands_on_its_feet() -> None:
    for seed in range(12):
        vertices = make_object("chair", seed).model.vertices
        high = vertices[vertices[:, 2] > 0.9 * vertices[:, 2].max()]
        # The upper end of the back is behind the middle.
        assert high[:, 0].mean() < 0, seed
        assert abs(vertices[:, 1].mean()) < 0.05


@pytest.mark.parametrize(
    "picture",
    [
        lambda rng: patterns.wood(rng, 128, RED, BLUE),
        lambda rng: patterns.marble(rng, 128, RED, BLUE),
        lambda rng: patterns.stone(rng, 128, RED, BLUE),
        lambda rng: patterns.bricks(rng, 128, RED, BLUE),
        lambda rng: patterns.weave(rng, 128, RED, BLUE),
        lambda rng: patterns.dots(rng, 128, RED, BLUE),
        lambda rng: patterns.tiles(rng, 128, RED, BLUE),
        lambda rng: patterns.brushed(rng, 128, RED),
    ],
    ids=["wood", "marble", "stone", "bricks", "weave", "dots", "tiles", "brushed"],
)
def test_patterns_tile_and_have_contrast(picture) -> None:
    for seed in range(3):
        values = picture(np.random.default_rng(seed)).astype(np.float64)
        assert values.shape == (128, 128, 3) and values.std((0, 1)).max() > 2
        for axis in (0, 1):
            inner = np.abs(np.diff(values, axis=axis)).mean((1 - axis, 2))
            seam = np.abs(np.take(values, 0, axis) - np.take(values, -1, axis)).mean()
            # The step over the border is not above the steps inside.
            assert seam <= inner.max() * 1.2 + 1


def test_noise_is_periodic_centred_and_seeded() -> None:
    first = patterns.noise(np.random.default_rng(0), 64)
    assert np.array_equal(first, patterns.noise(np.random.default_rng(0), 64))
    assert not np.array_equal(first, patterns.noise(np.random.default_rng(1), 64))
    assert first.mean() == pytest.approx(0.5, abs=0.02) and 0 <= first.min() and first.max() <= 1


def test_families_are_drawn_by_weight_and_a_longer_list_begins_the_same() -> None:
    many = drawn_families(4000, 0)
    assert drawn_families(50, 0) == many[:50]
    assert len({seed for _, seed in many}) == 4000
    total = sum(family.weight for family in FAMILIES.values())
    share = sum(name == "chair" for name, _ in many) / 4000
    assert share == pytest.approx(FAMILIES["chair"].weight / total, abs=0.03)
    assert {name for name, _ in drawn_families(20, 0, ("mug", "car"))} == {"mug", "car"}
    assert not {seed for _, seed in many} & {seed for _, seed in drawn_families(4000, 1)}


def test_a_folder_is_a_catalogue_with_rights(tmp_path: Path) -> None:
    items = write_objects(tmp_path / "objects", number=3, seed=2, families=("mug", "stool"))
    found = {item.uid: item for item in read_list(tmp_path / "objects")}
    assert sorted(found) == sorted(item.uid for item in items)
    for item in items:
        there = found[item.uid]
        assert there.path == item.path and there.path is not None and there.path.is_file()
        assert (there.licence, there.author, there.source) == ("CC0-1.0", "mv3d", "procedural")
        assert parse_licence(there.licence).commercial
        assert (there.sha256, there.faces, there.bytes) == (item.sha256, item.faces, item.bytes)
    again = write_objects(tmp_path / "again", number=3, seed=2, families=("mug", "stool"))
    assert [item.sha256 for item in again] == [item.sha256 for item in items]


def test_from_the_command_to_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, shards = tmp_path / "objects", tmp_path / "shards"
    arguments = ["--count", "2", "--families", "stool,mug", "--out", str(out), "--json"]
    assert main(["orbits", "procedural", *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["objects"] == 2 and sum(document["families"].values()) == 2
    small = ["--views", "2", "--size", "32", "--samples", "1", "--workers", "1"]
    assert main(["orbits", "render", str(out), "--out", str(shards), *small, "--json"]) == 0
    index = json.loads(capsys.readouterr().out)
    assert index["samples"] == 2 and index["licences"] == {"CC0-1.0": 2}


def test_bad_requests_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "objects"
    for bad in (
        ["--count", "0"],
        ["--count", "1", "--seed", "-1"],
        ["--count", "1", "--families", "chair,unicorn"],
    ):
        assert main(["orbits", "procedural", *bad, "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and bad[-2] in error
        assert not out.exists()
    with pytest.raises(UsageError, match="unicorn"):
        make_object("unicorn", 0)
    with pytest.raises(UsageError, match="seed"):
        make_object("chair", -1)
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    assert main(["orbits", "procedural", "--count", "1", "--out", str(out)]) == 1
    assert "choose another --out" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    with pytest.raises(OutputError, match="cannot be written"):
        write_objects(out / "mine.txt" / "below", number=1)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            write_objects(tmp_path / "objects", number=1)
    finally:
        tmp_path.chmod(0o700)
