"""Formats of a reconstruction through the command line: 3MF in millimetres, USDZ, points."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from helpers.shapes import cube, orbit_of
from helpers.stand_ins import Box

from mv3d.cli.main import main
from mv3d.core.errors import UsageError
from mv3d.recon.config import ReconConfig
from mv3d.recon.products import input_sha256, recon_products
from mv3d.recon.representation import METHODS
from mv3d.recon.stages import PRESETS


@pytest.fixture
def quick(monkeypatch):
    """A box instead of a reconstruction."""
    monkeypatch.setitem(METHODS, "mesh", lambda config: Box(True))
    monkeypatch.setitem(PRESETS, "draft", replace(PRESETS["draft"], turntable=(2, 32)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return orbit_of(cube(), count=6, size=40).save(tmp_path_factory.mktemp("v") / "views")


def arguments(folder, out, formats, *more):
    return ["recon", str(folder), "--out", str(out), "--quality", "draft", "--json", "--accept", "--format", formats, *more]  # fmt: skip


def test_points_and_3mf_beside_each_other(quick, folder, tmp_path, capsys):
    before, out = input_sha256(folder), folder
    flags = ("--points", "3000", "--print-size-mm", "60")
    assert main(arguments(folder, out, "ply-points,3mf", *flags)) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    names = {"points.ply", "mesh.3mf"}
    assert set(report["outputs"]) == {*names, "turntable.mp4"} and report["watertight"]
    cloud = trimesh.load(out / "points.ply")
    assert len(cloud.vertices) == 3000
    # The box is 0.6 wide about zero; every point lies on one of its sides.
    assert np.abs(cloud.vertices).max(1) == pytest.approx(0.3, abs=0.01)
    model = zipfile.ZipFile(out / "mesh.3mf").read("3D/3dmodel.model").decode()
    places = np.array([float(part.split('"')[0]) for part in model.split('" z="')[1:]])
    assert 'unit="millimeter"' in model and np.ptp(places) == pytest.approx(60, abs=0.01)
    # Products are no part of the input, go with the views, and are done once.
    assert input_sha256(folder) == before and names < set(recon_products(folder))
    assert main(arguments(folder, out, "ply-points,3mf", *flags)) == 0
    assert "done already" in capsys.readouterr().err
    assert main(arguments(folder, out, "ply-points", "--points", "10")) == 1
    assert "--overwrite" in capsys.readouterr().err and len(trimesh.load(out / "points.ply").vertices) == 3000
    assert main(arguments(folder, out, "ply-points", "--points", "10", "--overwrite")) == 0
    assert not (out / "mesh.3mf").exists() and len(trimesh.load(out / "points.ply").vertices) == 10


def test_usdz_where_its_package_is(quick, folder, tmp_path, capsys):
    usd = pytest.importorskip("pxr.Usd")
    assert main(arguments(folder, tmp_path / "o", "usdz")) == 0
    assert usd.Stage.Open(str(tmp_path / "o" / "mesh.usdz")).GetDefaultPrim().GetName() == folder.name


def test_usdz_without_its_package_fails_before_the_work(folder, tmp_path, capsys, monkeypatch):
    def never(config):
        raise AssertionError("the work has begun")

    monkeypatch.setitem(METHODS, "mesh", lambda config: Box(True))
    monkeypatch.setattr("mv3d.recon.pipeline.fitted", never)
    monkeypatch.setattr("mv3d.render.writers.importlib.util.find_spec", lambda name: None)
    assert main(arguments(folder, tmp_path / "o", "glb,usdz")) == 3
    assert "pip install usd-core" in capsys.readouterr().err and not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"points": 5}, "--points: expected only with --format ply-points"),
        ({"formats": ("ply-points",), "points": 0}, "--points: expected 1 to"),
        ({"print_size_mm": 50.0}, "--profile print or --format 3mf"),
        ({"formats": ("3mf",), "normal_map": True}, "glb, obj or usdz"),
        ({"formats": ("stl",), "albedo": True}, "with colours"),
    ],
)
def test_flags_without_a_meaning(settings, expected):
    with pytest.raises(UsageError, match=expected):
        ReconConfig(**settings)
    ReconConfig(formats=("usdz",), normal_map=True)
    ReconConfig(formats=("stl", "3mf"), print_size_mm=50.0)
