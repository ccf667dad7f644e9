"""What mv3d writes, judged by the Khronos validator: no error, no warning, no info, no hint."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from helpers.shapes import cube, sphere, textured_quad
from helpers.validator import READY, issues_of

from mv3d.recon.config import ReconConfig
from mv3d.recon.pipeline import run
from mv3d.render.mesh import Mesh
from mv3d.render.writers import WriteOptions, save_mesh

# CI sets MV3D_REQUIRE_VALIDATOR, so that there a missing validator is a failure and not a skip.
pytestmark = pytest.mark.skipif(
    not READY and "MV3D_REQUIRE_VALIDATOR" not in os.environ,
    reason="npm install in tests/gltf_validator first",
)


def test_glb_has_no_issue_of_any_kind(tmp_path, cube_views):
    plain = sphere()
    degenerate = Mesh(plain.vertices, [*plain.faces.tolist(), [0, 0, 1]], vertex_colors=plain.vertex_colors)
    paths = [
        textured_quad().export(tmp_path / "png.glb"),
        save_mesh(textured_quad(), tmp_path / "jpeg.glb", WriteOptions(jpeg_quality=80)),
        cube().export(tmp_path / "colors.glb"),
        Mesh(plain.vertices, plain.faces).export(tmp_path / "bare.glb"),
        degenerate.export(tmp_path / "degenerate.glb"),
    ]
    config = ReconConfig(quality="draft", faces=1000, texture_size=256)
    relief = replace(config, normal_map=True)
    for name, settings in (("default", relief), ("web", replace(relief, profile="web"))):
        paths.append(run(settings, cube_views, tmp_path / name).files["mesh.glb"])
    reports = issues_of(paths)
    assert len(reports) == len(paths)
    for path, issues in reports.items():
        counts = {key: issues[key] for key in ("numErrors", "numWarnings", "numInfos", "numHints")}
        assert not any(counts.values()), f"{path}: {counts} {issues['messages'][:3]}"


def test_the_validator_does_object(tmp_path):
    data = bytearray(textured_quad().export(tmp_path / "q.glb").read_bytes())
    bad = bytes(data).replace(b'"VEC2"', b'"VEC4"')
    (tmp_path / "bad.glb").write_bytes(bad)
    assert issues_of([tmp_path / "bad.glb"])[str(tmp_path / "bad.glb")]["numErrors"] > 0
