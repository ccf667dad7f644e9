"""Another reconstruction is one entry of METHODS: a coloured box goes through the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from helpers.shapes import cube

import mv3d
from mv3d.cli.main import main
from mv3d.core.errors import UsageError
from mv3d.core.progress import Clock
from mv3d.recon.config import ReconConfig
from mv3d.recon.representation import METHODS
from mv3d.render.cameras import Cameras
from mv3d.render.raycast import render_views
from mv3d.views.views import Views


@dataclass(frozen=True)
class Box:
    """A box of the views' mean colour, whatever they show; it is its own reconstructor."""

    makes_mesh: bool
    color: tuple[int, ...] = ()

    def fit(self, views: Views, clock: Clock) -> Box:
        with clock.stage("box"):
            rgb = views.images[views.images[..., 3] > 0.5][:, :3].mean(0)
        return Box(self.makes_mesh, tuple((255 * rgb).astype(int).tolist()))

    def _mesh(self) -> mv3d.Mesh:
        return cube(0.6, self.color)  # type: ignore[arg-type]

    def render(self, cameras: Cameras) -> np.ndarray:
        return render_views(self._mesh(), cameras)

    def to_mesh(self) -> mv3d.Mesh | None:
        return self._mesh() if self.makes_mesh else None

    def details(self) -> dict[str, Any]:
        return {"color": list(self.color)}


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
    with pytest.raises(UsageError, match="expected one of mesh, nerf, got box"):
        ReconConfig(method="box")
