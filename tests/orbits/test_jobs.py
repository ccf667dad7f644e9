"""One object from file to sample: the right pixels, the right cameras, the same bytes each time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers.objects import colourful, unpack

from mv3d.core.errors import InputError
from mv3d.core.files import sha256
from mv3d.orbits.build import build_shards
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig
from mv3d.orbits.decontamination import evaluation_entries, write_evaluation_list
from mv3d.orbits.gate import Rejected
from mv3d.orbits.jobs import decode_frame, encode_frame, object_rng, render_object
from mv3d.orbits.shards import Shard
from mv3d.render.cameras import Cameras
from mv3d.render.environment import uniform_environment
from mv3d.render.loading import load_model
from mv3d.render.model import normalize_model
from mv3d.render.renderer import RenderSettings, get_renderer

CONFIG = OrbitConfig(views=5, size=48, environments=("uniform",), shard_size=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A block, a torus away from the origin, and a file of noise."""
    folder = tmp_path_factory.mktemp("objects")
    colourful(trimesh.creation.box((1, 2, 3)).subdivide().subdivide(), folder / "block.glb")
    torus = trimesh.creation.torus(2.0, 0.7)
    torus.apply_translation([10, 20, 30])
    colourful(torus, folder / "torus.glb")
    (folder / "noise.glb").write_bytes(b"glTF" + bytes(range(200)))
    return folder


def test_a_sample_holds_what_was_rendered(folder, tmp_path):
    item = CatalogueItem("torus", folder / "torus.glb", "CC0-1.0", "Ann", "here", title="Ring")
    config = replace(CONFIG, trajectory="dynamic")
    document, frames = unpack(render_object(item, config), tmp_path)
    assert frames.shape == (5, 48, 48, 4)
    assert {key: document[key] for key in ("uid", "licence", "author", "source", "title")} == {
        "uid": "torus",
        "licence": "CC0-1.0",
        "author": "Ann",
        "source": "here",
        "title": "Ring",
    }
    assert document["sha256"] == sha256(folder / "torus.glb")
    stored = document["cameras"]
    lens = {key: stored[key] for key in ("fl_x", "fl_y", "cx", "cy")}
    cameras = Cameras(np.array(stored["c2w"]), **lens, width=stored["w"], height=stored["h"])
    model, normalization = normalize_model(load_model(folder / "torus.glb"))
    assert document["normalization"] == {
        "center": list(normalization.center),
        "scale": normalization.scale,
    }
    rendered = get_renderer().render(model, cameras, uniform_environment(), RenderSettings(samples=4)).rgba
    seen = rendered[..., 3] > 0
    assert np.abs(frames / 255 - rendered)[seen].max() < 0.51 / 255
    # The stored cameras put every vertex inside the frame, and close to its border in one of them.
    reach = 0.0
    for view in range(5):
        xy, _ = cameras.project(model.vertices.astype(np.float64), view)
        reach = max(reach, float(np.abs(xy / 24 - 1).max()))
    assert reach == pytest.approx(0.95, abs=1e-4)
    assert stored["azimuths_deg"][-1] == 0 and stored["input_view"] == 4


def test_the_bytes_depend_on_seed_and_uid(folder):
    item = CatalogueItem("block", folder / "block.glb")
    first, again = (render_object(item, CONFIG).fragment for _ in range(2))
    assert first == again
    assert first != render_object(item, replace(CONFIG, seed=1)).fragment
    assert first != render_object(replace(item, uid="brick"), CONFIG).fragment


def test_random_numbers_of_one_object():
    draws = {(seed, uid): object_rng(seed, uid).random() for seed in (0, 1, 11) for uid in ("a", "1a")}
    assert len(set(draws.values())) == len(draws)


def test_elevations_fill_their_range(folder):
    draws = [object_rng(0, str(index)).uniform(-5, 30) for index in range(200)]
    assert min(draws) < -3 and max(draws) > 28


@pytest.mark.parametrize("size", [(7, 5), (64, 64)])
def test_frames_are_lossless(size):
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (*size, 4), dtype=np.uint8)
    frame[0, :, 3] = 0
    np.testing.assert_array_equal(decode_frame(encode_frame(frame)), frame)


def test_an_evaluation_object_is_rejected_under_any_name(folder, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "secret.glb").write_bytes((folder / "torus.glb").read_bytes())
    write_evaluation_list(tmp_path / "guard.json", evaluation_entries(tmp_path / "kept"))
    config = replace(CONFIG, evaluation=(str(tmp_path / "guard.json"),))
    with pytest.raises(Rejected, match="secret"):
        render_object(CatalogueItem("ring", folder / "torus.glb"), config)
    turned = trimesh.load(folder / "torus.glb", force="mesh")
    turned.apply_transform(trimesh.transformations.rotation_matrix(0.3, [1, 2, 3]))
    turned.export(tmp_path / "turned.glb")
    with pytest.raises(Rejected, match="secret"):
        render_object(CatalogueItem("turned", tmp_path / "turned.glb"), config)
    assert render_object(CatalogueItem("block", folder / "block.glb"), config).fragment


def test_a_missing_or_changed_file(folder):
    with pytest.raises(InputError, match="fetch it first"):
        render_object(CatalogueItem("gone", folder / "gone.glb"), CONFIG)
    with pytest.raises(InputError, match="expected sha256 0000"):
        render_object(CatalogueItem("block", folder / "block.glb", sha256="0" * 64), CONFIG)


def test_a_folder_becomes_shards(folder, tmp_path):
    from mv3d.orbits.catalogue import read_list

    result = build_shards(read_list(folder), tmp_path, CONFIG, workers=2)
    assert result.index["samples"] == 2 and result.index["rejected"] == {"unreadable": 1}
    reject = json.loads((tmp_path / "rejects.jsonl").read_text())
    assert reject["uid"] == "noise" and "noise.glb" in reject["detail"]
    assert "block" in (tmp_path / "ATTRIBUTION.md").read_text()
    sample = render_object(CatalogueItem("block", folder / "block.glb", title="block"), CONFIG)
    shard = Shard(tmp_path / "shard-000000.tar")
    place = shard.places[0]
    assert (place.offset, place.bytes) == (0, len(sample.fragment))
    assert (tmp_path / "shard-000000.tar").read_bytes()[: place.bytes] == sample.fragment
