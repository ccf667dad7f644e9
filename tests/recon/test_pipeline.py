"""From views to files: complete, reproducible, resumable, whole after an interrupt."""

from __future__ import annotations

import json
import resource
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.places import SHARED
from helpers.shapes import cube, orbit_of
from scipy.spatial import KDTree

import mv3d
from mv3d.cli.main import main
from mv3d.core.errors import OutputError, UsageError
from mv3d.core.progress import Clock
from mv3d.core.records import ALGORITHMS
from mv3d.recon.centring import moved_views, origin_of
from mv3d.recon.config import ReconConfig
from mv3d.recon.doubts import doubts
from mv3d.recon.pipeline import run, title_of
from mv3d.recon.representation import METHODS
from mv3d.render.cameras import Cameras
from mv3d.render.mesh_io import load_mesh
from mv3d.render.raycast import render_views
from mv3d.render.topology import inspect_mesh
from mv3d.views.views import Views

QUICK = ReconConfig(quality="draft", faces=2000, texture_size=256)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_run_writes_everything_and_knows_when_it_is_done(cube_views, tmp_path, monkeypatch):
    stages = []
    config = replace(QUICK, formats=("glb", "obj", "ply", "stl"))
    result = run(
        config, cube_views, tmp_path / "out", progress=lambda name, share: stages.append((name, share))
    )
    names = {
        "mesh.glb",
        "mesh.obj",
        "mesh.mtl",
        "mesh_texture.png",
        "mesh.ply",
        "mesh.stl",
        "turntable.mp4",
        "recon.json",
    }
    assert {p.name for p in (tmp_path / "out").iterdir()} == names == set(result.files)
    report = json.loads((tmp_path / "out" / "recon.json").read_text())
    assert report["versions"]["mv3d"] == mv3d.__version__ and report["device_name"] == "cpu"
    assert report["watertight"] and report["shells"] == 1 and report["faces"] <= 2040
    assert report["degenerate_faces"] == report["duplicate_faces"] == 0 and report["volume"] > 0
    assert report["iou_mean"] > 0.95 and report["psnr_mean_db"] > 22 and len(report["iou"]) == 12
    assert {"hull", "tighten", "texture", "total"} <= set(report["seconds"]) and report[
        "peak_memory_bytes"
    ] > 1e7
    assert ("hull", 0.0) in stages and ("texture", 1.0) in stages
    before = files_of(tmp_path / "out")
    again = run(config, cube_views, tmp_path / "out")
    assert again.already_done and again.mesh is not None and files_of(tmp_path / "out") == before
    with pytest.raises(OutputError, match="--overwrite"):
        run(replace(config, faces=1000), cube_views, tmp_path / "out")
    with monkeypatch.context() as patch:
        now = ALGORITHMS["recon"]
        patch.setitem(ALGORITHMS, "recon", now + 1)
        with pytest.raises(OutputError, match=f"algorithm version {now} of recon, now {now + 1}"):
            run(config, cube_views, tmp_path / "out")
    assert files_of(tmp_path / "out") == before
    other = run(replace(config, faces=1000), cube_views, tmp_path / "out", overwrite=True)
    assert other.report["faces"] <= 1020 and not other.already_done


def test_same_seed_same_bytes(cube_views, tmp_path):
    for name in "ab":
        run(QUICK, cube_views, tmp_path / name)
    assert (tmp_path / "a" / "mesh.glb").read_bytes() == (tmp_path / "b" / "mesh.glb").read_bytes()


def test_mesh_lies_in_the_world_of_its_views(tmp_path):
    shape = cube()
    shape = mv3d.Mesh(
        shape.vertices * [0.4, 1, 0.7] + [0.1, 0.05, -0.05], shape.faces, vertex_colors=shape.vertex_colors
    )
    result = run(QUICK, orbit_of(shape), tmp_path / "out")
    back = load_mesh(result.files["mesh.glb"])
    error = KDTree(shape.vertices).query(back.vertices)[0]
    assert np.abs((back.vertices.max(0) + back.vertices.min(0)) / 2 - [0.1, 0.05, -0.05]).max() < 0.04
    assert error.mean() < 0.05


def test_profiles(cube_views, tmp_path):
    web = run(replace(QUICK, profile="web"), cube_views, tmp_path / "web")
    data = web.files["mesh.glb"].read_bytes()
    assert b"image/jpeg" in data and len(data) < 3_000_000
    solid = run(replace(QUICK, profile="print", print_size_mm=80), cube_views, tmp_path / "print")
    assert set(solid.files) == {"mesh.stl", "turntable.mp4", "recon.json"}
    assert np.ptp(load_mesh(solid.files["mesh.stl"]).vertices, axis=0).max() == pytest.approx(80, rel=1e-4)
    assert solid.report["watertight"] and solid.report["shells"] == 1 and solid.report["iou_mean"] > 0.95


def test_nerf_stops_at_the_field_and_writes_novel_views(tmp_path):
    views = orbit_of(cube(), size=64)
    path = tmp_path / "path.json"
    path.write_text(json.dumps({"elevations_deg": [0, 20, -10, 5], "azimuths_deg": [0, 90, 180, 270]}))
    config = ReconConfig(method="nerf", quality="draft", trajectory=str(path))
    result = run(config, views, tmp_path / "out")
    assert result.mesh is None and set(result.files) == {"novel", "turntable.mp4", "recon.json"}
    novel = mv3d.load_views(result.files["novel"])
    assert len(novel) == 4 and novel.orbit.elevations_deg == (0, 20, -10, 5)
    truth = render_views(cube(), novel.cameras)
    inside, wanted = novel.images[..., 3] > 0.5, truth[..., 3] > 0.5
    assert (inside & wanted).sum() / (inside | wanted).sum() > 0.9
    assert run(config, views, tmp_path / "out").already_done


def test_interrupt_and_failure_leave_the_finished_result_alone(cube_views, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(QUICK, cube_views, out)
    before = files_of(out)
    for stage in ("hull", "tighten", "texture", "export", "turntable", "measure"):

        def stop(name, share, stage=stage):
            if name == stage and share == 1.0:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(replace(QUICK, faces=500), cube_views, out, overwrite=True, progress=stop)
        assert files_of(out) == before
    with pytest.raises(KeyboardInterrupt):
        run(QUICK, cube_views, tmp_path / "new", progress=stop)
    assert not (tmp_path / "new").exists()


def test_full_and_unwritable_folders(cube_views, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="choose another --out"):
        run(QUICK, cube_views, tmp_path / "file")
    # A limit on file size stands in for a full disk: the write itself fails, in the midst of the run.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, hard))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            run(replace(QUICK, texture_size=1024), cube_views, tmp_path / "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "full").exists()


def test_settings_are_checked():
    for bad in (
        {"formats": ("fbx",)},
        {"quality": "ultra"},
        {"faces": 5},
        {"texture_size": 1000},
        {"print_size_mm": 0},
        {"print_size_mm": 80.0},
        {"trajectory": "sine"},
        {"method": "nerf", "formats": ("obj",)},
        {"method": "nerf", "faces": 500},
    ):
        with pytest.raises(UsageError, match="expected"):
            ReconConfig(**bad)
    with pytest.raises(UsageError, match="cuda"):
        run(replace(QUICK, device="cuda:9"), orbit_of(cube()), Path("/nonexistent"))


def test_api_takes_views_and_paths(cube_views, tmp_path):
    mesh = mv3d.reconstruct(cube_views, QUICK)
    assert mesh.texture is not None and inspect_mesh(mesh).watertight
    folder = cube_views.save(tmp_path / "v")
    assert inspect_mesh(mv3d.reconstruct(str(folder), QUICK)).watertight
    assert not (folder / "mesh.glb").exists()


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "sv3d_orbits").is_dir(), reason="real orbits are not beside the checkout")
@pytest.mark.parametrize("name", ["bag", "kunkun", "sculpture"])
def test_real_orbits(name, tmp_path):
    from mv3d.api import reconstruct_to

    result = reconstruct_to(SHARED / "sv3d_orbits" / f"{name}.gif", tmp_path / "out")
    assert result.report["watertight"] and result.report["shells"] == 1
    assert result.report["iou_mean"] >= 0.97 and result.report["psnr_mean_db"] >= 22.5


def test_a_result_that_does_not_fit_its_views_is_doubted(tmp_path, monkeypatch, capsys):
    shape = cube(0.6)
    views = orbit_of(replace(shape, vertices=shape.vertices * [0.4, 0.4, 1.2]), count=6, size=48)
    wrong = replace(views.orbit, elevations_deg=(60.0,) * len(views))
    steep = replace(views, orbit=wrong, cameras=wrong.cameras(48, 48))
    steep.save(tmp_path / "v")
    monkeypatch.setitem(METHODS, "fixed", lambda config: Fixed(shape))
    command = ["recon", str(tmp_path / "v"), "--method", "fixed", "--quality", "draft"]
    for ending in (1, 1):  # made, and found again
        assert main(command) == ending
        told = capsys.readouterr().err
        assert "silhouette IoU 0." in told and "orbit at an elevation of" in told and "--accept" in told
    assert main([*command, "--accept"]) == 0
    assert "not of 60" in json.loads((tmp_path / "v" / "recon.json").read_text())["warnings"][0]
    crossed = replace(views, images=np.concatenate([views.images[:3], np.roll(views.images[3:], 16, 2)]))
    assert "contradict each other" in doubts(crossed, {"iou_mean": 0.5})[0]


def test_a_photo_whose_thin_parts_are_lost_and_floating_pieces_are_named(cube_views):
    ious = [0.98] * 11 + [0.89]
    report = {"iou_mean": 0.97, "iou": ious, "shells": 3}
    first, second = doubts(cube_views, report)
    assert "view (11)" in first and "0.89" in first and "thin parts" in first and "3 pieces" in second
    assert doubts(cube_views, report | {"iou": [0.97] * 12, "shells": 1}) == []
    halves = cube_views.images.copy()
    halves[:, :, 40:56] = 0
    assert doubts(replace(cube_views, images=halves, input_view=None), report) == []


def test_a_world_far_from_its_origin_gives_the_same_result(tmp_path):
    views = orbit_of(cube(), count=8, size=64)
    offset = np.array([1000.0, -700.0, 300.0])
    far = moved_views(views, offset)
    result = run(QUICK, far, tmp_path / "far")
    assert np.allclose(origin_of(far.cameras), offset, atol=1e-6) and not origin_of(views.cameras).any()
    back = load_mesh(result.files["mesh.glb"])
    for axis in (np.min, np.max):
        assert axis(back.vertices, 0) - offset == pytest.approx(axis(cube().vertices, 0), abs=0.1)
    assert result.report["iou_mean"] > 0.95 and result.report["coverage"] < 1


@dataclass(frozen=True)
class Fixed:
    """A mesh whatever the views show; its own reconstructor."""

    mesh: mv3d.Mesh
    makes_mesh: bool = True

    def fit(self, views: Views, clock: Clock) -> Fixed:
        return self

    def render(self, cameras: Cameras) -> np.ndarray:
        return render_views(self.mesh, cameras)

    def to_mesh(self) -> mv3d.Mesh:
        return self.mesh

    def details(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("photos/chair.png", "chair"),
        ("out/my chair (2)", "my_chair_2"),
        ("", "mv3d"),
        ("Stühle.gif", "Stühle"),
    ],
)
def test_meshes_are_named_after_what_they_are_made_of(source, title):
    assert title_of(source) == title
