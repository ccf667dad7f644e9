"""Splats through the command line: files, figures, and what becomes of other files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.shapes import cube, orbit_of
from helpers.stand_ins import Box

import mv3d
from mv3d.cli.main import main
from mv3d.core.errors import OutputError, UsageError
from mv3d.recon.centring import moved_views
from mv3d.recon.config import ReconConfig
from mv3d.recon.pipeline import run
from mv3d.recon.products import input_sha256, recon_products
from mv3d.recon.representation import METHODS
from mv3d.recon.splats import making
from mv3d.recon.splats.files import load_splats
from mv3d.recon.splats.making import SplatConfig
from mv3d.recon.splats.refine import RefineConfig
from mv3d.recon.stages import PRESETS


@pytest.fixture
def quick(monkeypatch):
    """A box instead of a reconstruction, and few splats on it."""
    monkeypatch.setitem(METHODS, "mesh", lambda config: Box(True))
    monkeypatch.setitem(METHODS, "splats", lambda config: Box(True))
    monkeypatch.setitem(making.SPLAT_PRESETS, "draft", SplatConfig(400, RefineConfig(passes=1)))
    monkeypatch.setitem(PRESETS, "draft", replace(PRESETS["draft"], turntable=(2, 32)))


@pytest.fixture(scope="module")
def views():
    return orbit_of(cube(), count=6, size=40)


def test_splats_beside_a_mesh_with_their_own_figures(quick, views, tmp_path, capsys):
    folder = views.save(tmp_path / "v")
    before = input_sha256(folder)
    arguments = ["recon", str(folder), "--quality", "draft", "--json", "--accept"]
    assert main([*arguments, "--format", "glb,splat,ply-splat,spz"]) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    names = {"splats.splat", "splats.ply", "splats.spz"}
    assert set(report["outputs"]) == {"mesh.glb", "turntable.mp4", *names}
    found = report["splats"]
    assert found["file"] == "splats.splat" and found["rasteriser"] == "mv3d" and 300 < found["count"] <= 400
    assert found["bytes"] == {name: (folder / name).stat().st_size for name in names}
    assert found["bytes"]["splats.splat"] == 32 * found["count"] and len(found["psnr_db"]) == 6
    assert found["psnr_mean_db"] > 15 and "splats" in report["seconds"]
    # A folder's own products are no part of its input, and go with the views.
    assert input_sha256(folder) == before and names < set(recon_products(folder))
    assert main([*arguments, "--format", "glb,splat,ply-splat,spz"]) == 0
    assert "done already" in capsys.readouterr().err
    # Other formats need --overwrite, which removes those that are not made again.
    assert main([*arguments, "--format", "spz"]) == 1 and "--overwrite" in capsys.readouterr().err
    (folder / "splats.ply").write_text("mine now")
    assert main([*arguments, "--format", "spz", "--overwrite"]) == 0
    left = {p.name for p in folder.iterdir()}
    assert (
        "splats.splat" not in left
        and "mesh.glb" not in left
        and (folder / "splats.ply").read_text() == "mine now"
    )


def test_a_file_of_other_origin_stays(quick, views, tmp_path):
    (tmp_path / "splats.ply").write_text("someone else's")
    config = ReconConfig(method="splats", quality="draft")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"splats\.ply"):
            run(config, views, tmp_path, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["splats.ply"]


def test_the_method_writes_no_mesh_and_lies_in_the_world_of_its_views(quick, views, tmp_path):
    offset = np.array([500.0, -300.0, 100.0])
    result = run(ReconConfig(method="splats", quality="draft"), moved_views(views, offset), tmp_path)
    assert set(result.files) == {"splats.ply", "turntable.mp4", "recon.json"}
    back = load_splats(result.files["splats.ply"])
    assert np.abs(back.means - offset).max() < 0.31 and np.ptp(back.means, axis=0) == pytest.approx(
        0.6, abs=0.05
    )


def test_what_makes_no_sense_is_refused(views):
    with pytest.raises(UsageError, match="splat, ply-splat, spz with --method splats"):
        ReconConfig(method="splats", formats=("glb",))
    with pytest.raises(UsageError, match="expected only with --method nerf"):
        ReconConfig(method="splats", trajectory="sine")
    with pytest.raises(UsageError, match="glb, obj, ply, stl, 3mf, usdz, ply-points, splat, ply-splat, spz"):
        ReconConfig(formats=("ksplat",))
    with pytest.raises(UsageError, match="reconstruct_to"):
        mv3d.reconstruct(views, method="splats")
    assert replace(ReconConfig(), method="splats").resolved().formats == ("ply-splat",)
