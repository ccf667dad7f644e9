"""Another reconstruction is one entry of METHODS: a coloured box goes through the command line."""

from __future__ import annotations

import json

import pytest
from helpers.stand_ins import Box

import mv3d
from mv3d.cli.main import main
from mv3d.core.errors import UsageError
from mv3d.recon.config import ReconConfig
from mv3d.recon.representation import METHODS


@pytest.mark.parametrize("makes_mesh", [True, False])
def test_a_box_through_the_command_line(makes_mesh, cube_views, tmp_path, monkeypatch, capsys):
    cube_views.save(tmp_path / "v")
    arguments = ["recon", str(tmp_path / "v"), "--method", "box", "--quality", "draft", "--json"]
    assert main(arguments) == 2 and "box" in capsys.readouterr().err
    monkeypatch.setitem(METHODS, "box", lambda config: Box(makes_mesh))
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    assert report["iou_mean"] > 0.95 and report["color"] and "box" in report["seconds"]
    assert ("mesh.glb" in report["outputs"]) == makes_mesh != ("novel" in report["outputs"])
    assert main(arguments) == 0 and "done already" in capsys.readouterr().err
    if makes_mesh:
        assert mv3d.reconstruct(cube_views, method="box").vertices.max() == pytest.approx(0.3)
    else:
        with pytest.raises(UsageError, match="makes no mesh"):
            mv3d.reconstruct(cube_views, method="box")


def test_settings_by_name():
    with pytest.raises(UsageError, match="did you mean quality"):
        mv3d.reconstruct("nowhere", qualty="draft")
    with pytest.raises(UsageError, match="expected one of mesh, nerf, splats, got box"):
        ReconConfig(method="box")
