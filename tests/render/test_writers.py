"""Another mesh format is one entry of WRITERS: a text file of points goes through the command line and the API."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.shapes import cube

from mv3d.cli.main import main
from mv3d.core.errors import UsageError
from mv3d.core.files import write_text
from mv3d.render.mesh import Mesh
from mv3d.render.writers import WRITERS, WriteOptions


def write_xyz(mesh: Mesh, path: Path, options: WriteOptions) -> None:
    write_text(path, "".join(f"{x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in mesh.vertices * options.scale))


def test_another_format_through_the_command_line(cube_views, tmp_path, monkeypatch, capsys):
    cube_views.save(tmp_path / "v")
    arguments = ["recon", str(tmp_path / "v"), "--quality", "draft", "--format", "xyz,glb", "--json"]
    assert main(arguments) == 2 and "xyz" in capsys.readouterr().err
    monkeypatch.setitem(WRITERS, "xyz", write_xyz)
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    points = np.loadtxt(tmp_path / "v" / "mesh.xyz")
    # Vertices are split along texture seams, so every one of the report's is there at least once.
    assert len(np.unique(points.round(5), axis=0)) >= report["vertices"] // 4 and {
        "mesh.xyz",
        "mesh.glb",
    } <= set(report["outputs"])
    assert main(arguments) == 0 and "done already" in capsys.readouterr().err


def test_another_format_through_the_api(tmp_path, monkeypatch):
    with pytest.raises(
        UsageError, match=r"expected one of \.glb, \.obj, \.ply, \.stl, \.3mf, \.usdz, got \.xyz"
    ):
        cube(0.5).export(tmp_path / "c.xyz")
    monkeypatch.setitem(WRITERS, "xyz", write_xyz)
    cube(0.5).export(tmp_path / "c.xyz", scale=2.0)
    assert np.abs(np.loadtxt(tmp_path / "c.xyz")).max() == pytest.approx(2 * np.abs(cube(0.5).vertices).max())
