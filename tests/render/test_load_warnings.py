"""Warnings of a reader: counted, named, and brought to whoever reads the file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mv3d.cli.main import main
from mv3d.core.errors import Mv3dWarning
from mv3d.evaluation import evaluate_mesh, protocol
from mv3d.orbits.shards import read_shard_record
from mv3d.render.load_warnings import LOAD_WARNINGS, LoadWarning, WarningLog, warning_texts
from mv3d.render.loading import load_model
from mv3d.render.mesh import Mesh
from mv3d.render.model import Material, without_picture

TETRAHEDRON = """mtllib m.mtl
usemtl skin
v 0 0 0
v 1 0 0
v 0 1 0
v 0 0 1
f 1 3 2
f 1 2 4
f 2 3 4
f 3 1 4
"""
GONE = "missing_texture: skin: the picture 'gone.png' is not there"


@pytest.fixture
def incomplete(tmp_path: Path) -> Path:
    """An OBJ whose red material names a picture that is not there."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.obj").write_text(TETRAHEDRON)
    (tmp_path / "in" / "m.mtl").write_text("newmtl skin\nKd 1 0.5 0.5\nmap_Kd gone.png\n")
    return tmp_path / "in" / "a.obj"


def test_a_log_counts_what_comes_again_and_bounds_what_does_not():
    log = WarningLog()
    log.add("found_elsewhere", "there")
    for _ in range(3):
        log.add("missing_texture", "a.png")
    for number in range(20):
        log.add("faces_left_out", f"part {number}", 2)
    found = log.found()
    assert found[:2] == (LoadWarning("missing_texture", "a.png", 3), LoadWarning("found_elsewhere", "there"))
    assert [warning.count for warning in found[2:]] == [2] * 8 + [24]
    assert str(found[0]) == "missing_texture: a.png (3 times)" and str(found[1]) == "found_elsewhere: there"
    order = [LOAD_WARNINGS.index(warning.name) for warning in found]
    assert order == sorted(order)
    assert warning_texts(json.loads(json.dumps([found[0].document()]))) == [str(found[0])]


def test_without_its_picture_no_factor_stays_as_it_is():
    lit = Material(base_color=(1, 0.5, 1, 0.25), emissive=(1, 1, 1))
    assert without_picture(lit, "base_color_texture").base_color == (0.5, 0.25, 0.5, 0.25)
    assert without_picture(lit, "emissive_texture").emissive == (0, 0, 0)
    chrome = without_picture(replace(lit, roughness=0.0), "metallic_roughness_texture")
    assert (chrome.metallic, chrome.roughness) == (0, 0.8)
    assert without_picture(lit, "normal_texture") == lit


def test_a_model_and_a_mesh_carry_them(incomplete):
    model = load_model(incomplete)
    assert [str(warning) for warning in model.warnings] == [GONE]
    np.testing.assert_allclose(model.materials[0].base_color[:3], [0.5, 0.25, 0.25])
    with pytest.warns(Mv3dWarning, match="a.obj: missing_texture: skin"):
        mesh = Mesh.load(incomplete)
    assert mesh.warnings == model.warnings


def test_an_evaluation_names_the_side(incomplete):
    chosen = replace(protocol("mv3d"), samples=100, render_azimuths=0, iou_resolution=8)
    found = evaluate_mesh(incomplete, incomplete, chosen)["warnings"]
    assert found == [f"pred: {GONE}", f"gt: {GONE}"]


def test_they_reach_the_record_the_index_and_the_command_line(incomplete, tmp_path, capsys):
    small = ["--views", "2", "--size", "24", "--workers", "1", "--environments", "uniform"]
    command = ["orbits", "render", str(incomplete.parent), "--out", str(tmp_path / "out"), *small]
    assert main([*command]) == 1
    line = "rejected: a: missing_texture: skin: the picture 'gone.png' is not there\n"
    assert line in capsys.readouterr().err
    assert main([*command, "--gate.allow-incomplete", "--gate.min-contrast", "0", "--overwrite"]) == 0
    assert f"warning: a: {GONE}\n" in capsys.readouterr().err
    record = read_shard_record(tmp_path / "out" / "shard-000000.json")
    assert record is not None
    sentence = GONE.partition(": ")[2]
    assert record["samples"][0]["warnings"] == [{"name": "missing_texture", "sentence": sentence, "count": 1}]
    assert json.loads((tmp_path / "out" / "index.json").read_text())["warnings"] == {"missing_texture": 1}
    assert json.loads((tmp_path / "out" / "run.json").read_text())["warnings"] == [f"a: {GONE}"]


def test_they_reach_the_record_of_views(incomplete, tmp_path, capsys):
    out = tmp_path / "views"
    small = ["--views", "4", "--size", "64", "--environments", "uniform"]
    assert main(["orbits", "views", str(incomplete), "--out", str(out), *small]) == 0
    assert f"warning: {GONE}\n" in capsys.readouterr().err
    assert json.loads((out / "run.json").read_text())["warnings"][0]["name"] == "missing_texture"
