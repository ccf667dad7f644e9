"""The stages of the reconstruction against spheres and cubes, and the whole way to files."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.places import SHARED
from helpers.shapes import cube, orbit_of, sphere
from scipy.spatial import KDTree

import mv3d
from mv3d.core.errors import EmptyHullError, InputError, OutputError, UsageError
from mv3d.recon.config import ReconConfig
from mv3d.recon.field import FieldConfig, _surface_loss, fit_field
from mv3d.recon.hull import visual_hull
from mv3d.recon.pipeline import run
from mv3d.recon.surface import clean_field, decimate, extract_mesh, mesh_within, smooth
from mv3d.recon.texture import BakeConfig, bake, texel_map, unwrap
from mv3d.recon.tighten import TightenConfig, tighten
from mv3d.render.mesh import face_normals
from mv3d.render.mesh_io import load_mesh
from mv3d.render.raycast import render_views
from mv3d.render.topology import inspect_mesh, is_closed
from mv3d.views.grid import Grid
from mv3d.views.silhouettes import silhouette_distance

CPU = torch.device("cpu")
QUICK = ReconConfig(quality="draft", faces=2000, texture_size=256)


def ball_grid(resolution: int = 40, radius: float = 0.4) -> tuple[Grid, torch.Tensor]:
    grid = Grid.around([-0.5] * 3, [0.5] * 3, resolution)
    return grid, (grid.points(CPU).norm(dim=1) - radius).reshape(grid.shape)


def test_a_sponge_becomes_simple_and_a_ball_stays_as_it_is():
    grid, ball = ball_grid()
    x, y, z = (40 * grid.points(CPU)).T
    gyroid = x.sin() * y.cos() + y.sin() * z.cos() + z.sin() * x.cos()  # tunnels in all directions
    sponge = torch.maximum(ball, (gyroid.reshape(grid.shape) - 1) / 40)
    vertices, faces = extract_mesh(sponge, grid)
    _, simplified = decimate(smooth(vertices, faces), faces, 300)
    assert len(simplified) > 600  # its handles need them
    vertices, faces = mesh_within(sponge, grid, 300)
    assert len(faces) <= 375 and is_closed(faces)
    assert np.abs(np.linalg.norm(vertices, axis=1) - 0.4).mean() < 0.06
    vertices, faces = extract_mesh(ball, grid)
    expected = decimate(smooth(vertices, faces), faces, 300)
    for ours, theirs in zip(mesh_within(ball, grid, 300), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_grid_sampling_is_trilinear():
    grid = Grid((0.0, 1.0, 2.0), 0.5, (3, 4, 5))
    points = grid.points(CPU)
    values = (points * torch.tensor([1.0, 10, 100])).sum(1).reshape(1, *grid.shape)
    at = torch.tensor([[0.3, 1.7, 3.1], [1.0, 2.5, 4.0]])
    assert torch.allclose(
        grid.sample(values, at)[:, 0], (at * torch.tensor([1.0, 10, 100])).sum(1), atol=1e-4
    )


def test_silhouette_distance_of_a_disc():
    yy, xx = np.mgrid[:80, :80] + 0.5
    ring = np.hypot(xx - 40, yy - 40)
    distance = silhouette_distance(np.clip(25.5 - ring, 0, 1).astype(np.float32))
    assert np.abs(distance - (25 - ring)).max() < 0.8


def test_hull_of_a_ball_from_all_around_is_nearly_the_ball():
    views = orbit_of(sphere(), count=20, size=96, elevation_deg=0)
    hull = visual_hull(views.images[..., 3], views.cameras, resolution=48, device=CPU)
    assert hull.dropped == 0
    points = hull.grid.points(CPU)
    middle = points[:, 2].abs() < 0.05
    error = hull.sdf.reshape(-1)[middle] - (points[middle].norm(dim=1) - 0.4)
    near = (points[middle].norm(dim=1) - 0.4).abs() < 0.05
    assert error[near].abs().mean() < 0.01
    # No cone may cut into the ball.
    assert (hull.sdf.reshape(-1)[points.norm(dim=1) < 0.38] < 0).all()


def test_one_bad_mask_does_not_amputate(cube_views):
    alphas = cube_views.images[..., 3].copy()
    alphas[4, :, 48:] = 0
    soft = visual_hull(alphas, cube_views.cameras, resolution=48, device=CPU)
    hard = visual_hull(alphas, cube_views.cameras, resolution=48, device=CPU, max_dropped=0)
    whole = visual_hull(cube_views.images[..., 3], cube_views.cameras, resolution=48, device=CPU)
    volumes = [float((h.sdf < 0).sum()) * h.grid.spacing**3 for h in (hard, soft, whole)]
    assert volumes[0] < 0.75 * volumes[2] < 0.93 * volumes[2] < volumes[1] < 1.05 * volumes[2]
    assert soft.dropped > 0


def test_views_without_a_common_object_are_refused(cube_views):
    images = cube_views.images.copy()
    images[..., 3] = 0
    for i in range(len(images)):
        images[i, (5 if i % 2 else 80) : (12 if i % 2 else 88), 5:12, 3] = 1
    with pytest.raises(EmptyHullError, match="empty hull"):
        visual_hull(images[..., 3], cube_views.cameras, device=CPU)


def test_tightening_flattens_the_cones_and_keeps_the_silhouettes(cube_views):
    alphas = cube_views.images[..., 3]
    hull = visual_hull(alphas, cube_views.cameras, resolution=48, device=CPU)
    tight = tighten(alphas, cube_views.cameras, hull, TightenConfig(levels=((32, 80),)))
    assert (tight.sdf >= hull.sdf - 1e-5).all()
    heights = [float(h.grid.points(CPU)[h.sdf.reshape(-1) < 0][:, 2].min()) for h in (hull, tight)]
    assert heights[0] < -0.33 and abs(heights[1] + 0.3) < 0.7 * abs(heights[0] + 0.3)
    vertices, faces = extract_mesh(tight.sdf, tight.grid)
    shown = render_views(mv3d.Mesh(vertices, faces), cube_views.cameras)[..., 3] > 0.5
    wanted = alphas > 0.5
    assert (shown & wanted).sum() / (shown | wanted).sum() > 0.95


def test_field_finds_the_cubes_colours_and_is_reproducible(cube_views):
    hull = visual_hull(cube_views.images[..., 3], cube_views.cameras, resolution=32, device=CPU)
    config = FieldConfig(levels=((24, 40),), rays=2048)
    first, second = (fit_field(cube_views, hull, config) for _ in range(2))
    assert torch.equal(first.sdf, second.sdf)
    assert (first.gains[11] == 1).all() and (first.shifts[11] == 0).all()
    front = torch.tensor([[0.3, 0.0, 0.0], [0.3, 0.15, 0.1]])
    exact = (127.5 + 127.5 * torch.sin(7 * front + torch.tensor([0.0, 1, 2]))) / 255
    assert (first.grid.sample(first.rgb, front) - exact).abs().mean() < 0.15


def area_pull(sdf: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """What the area term alone wants each sample `at` to grow by, per unit of its weight."""
    quiet = FieldConfig(smooth=0, prior=0, eikonal=0, area=1.0)
    variable = sdf.clone().requires_grad_(True)
    _surface_loss(variable, sdf, at, quiet).backward()
    assert variable.grad is not None
    moved = variable.grad.reshape(-1).nonzero()[:, 0]
    assert torch.isin(moved, at).all()
    return -variable.grad.reshape(-1)[at] * len(at) / 2


def test_area_term_is_motion_by_mean_curvature():
    # Distance to a ball: the mean of six neighbours lies ∇²|x| / 6 = 1 / (3 |x|) above the middle; spacing 1.
    for radius in (6.0, 12.0):
        points = torch.stack(torch.meshgrid(*[torch.arange(33.0) - 16] * 3, indexing="ij"))
        ball = points.norm(dim=0) - radius
        at = (ball[1:-1, 1:-1, 1:-1].abs() < 0.1).nonzero() + 1
        flat = (at[:, 0] * 33 + at[:, 1]) * 33 + at[:, 2]
        pull = area_pull(ball, flat)
        assert torch.allclose(pull, torch.full_like(pull, 1 / (3 * radius)), rtol=0.05)
        # The slow twin: one sample at a time.
        for index, (i, j, k) in list(enumerate(at.tolist()))[:20]:
            near = [ball[i - 1, j, k], ball[i + 1, j, k], ball[i, j - 1, k]]
            near += [ball[i, j + 1, k], ball[i, j, k - 1], ball[i, j, k + 1]]
            slow = (sum(near) / 6 - ball[i, j, k]) * torch.exp(-0.5 * ball[i, j, k] ** 2)
            assert abs(slow - pull[index]) < 1e-5
    plane = torch.arange(9.0)[:, None, None].expand(9, 9, 9) - 4.25
    inner = torch.tensor([(i * 9 + 4) * 9 + 4 for i in (3, 4, 5)])
    assert area_pull(plane.contiguous(), inner).abs().max() < 1e-6


def test_clean_field_removes_floaters_and_voids():
    grid, sdf = ball_grid()
    points = grid.points(CPU)
    floater = ((points - torch.tensor([0.45, 0.45, 0.45])).norm(dim=1) - 0.05).reshape(grid.shape)
    hollow = torch.maximum(sdf, 0.15 - points.norm(dim=1).reshape(grid.shape))
    vertices, faces = extract_mesh(torch.minimum(hollow, floater), grid)
    report = inspect_mesh(mv3d.Mesh(vertices, faces))
    assert report.watertight and report.shells == 1
    assert report.volume == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=0.03)
    with pytest.raises(InputError, match="nothing is inside"):
        clean_field(np.ones((5, 5, 5), np.float32))


def test_smoothing_takes_the_crumples_and_leaves_the_size():
    grid, sdf = ball_grid()
    vertices, faces = extract_mesh(sdf, grid)
    crumpled = vertices + np.random.default_rng(0).normal(0, 0.004, vertices.shape).astype(np.float32)
    radius = np.linalg.norm(smooth(crumpled, faces), axis=1)
    assert abs(radius.mean() - 0.4) < 0.001
    assert np.linalg.norm(crumpled, axis=1).std() > 0.0035 and radius.std() < 0.0015
    # One step against its slow twin.
    neighbours = [set() for _ in vertices]
    for a, b, c in faces:
        for one, other in ((a, b), (b, c), (c, a)):
            neighbours[one].add(other)
            neighbours[other].add(one)
    slow = crumpled.astype(np.float64)
    for step in (0.5, -0.53):
        slow = slow + step * (np.stack([slow[list(near)].mean(0) for near in neighbours]) - slow)
    assert np.abs(smooth(crumpled, faces, rounds=1) - slow).max() < 1e-5


@pytest.mark.parametrize("target", [300, 1500])
def test_decimation_stays_closed_and_on_the_surface(target):
    grid, sdf = ball_grid(60)
    vertices, faces = decimate(*extract_mesh(sdf, grid), target)
    assert len(faces) <= 1.02 * target and is_closed(faces)
    assert np.abs(np.linalg.norm(vertices, axis=1) - 0.4).max() < 0.02
    assert ((face_normals(vertices, faces) * vertices[faces].mean(1)).sum(1) > 0).all()


def test_unwrap_and_texel_map_agree_with_the_slow_twin():
    grid, sdf = ball_grid(24)
    vertices, faces = extract_mesh(sdf, grid)
    old, new_faces, uv = unwrap(vertices, faces, 256)
    assert uv.min() >= 0 and uv.max() <= 1 and np.array_equal(old[new_faces], faces)
    mask, face, bary = texel_map(uv, new_faces, 256)
    ys, xs = np.nonzero(mask)
    at = (uv[new_faces[face]] * bary[..., None]).sum(1) * 256
    assert np.abs(at - np.stack([xs + 0.5, ys + 0.5], 1)).max() < 1e-2


def test_bake_returns_the_true_colours(cube_views):
    box = cube()
    baked = bake(
        box.vertices,
        box.faces,
        cube_views.images,
        cube_views.cameras,
        BakeConfig(texture_size=256),
        input_view=11,
    )
    assert 0.6 < baked.coverage < 0.95  # the bottom is hidden
    assert np.abs(baked.gains - 1).max() < 0.05
    again = render_views(baked.mesh, cube_views.cameras, supersample=2)
    both = (again[..., 3] > 0.99) & (cube_views.images[..., 3] > 0.99)
    assert np.abs(again - cube_views.images)[both].mean() < 0.03
    assert baked.mesh.texture is not None
    # No background (white) reaches the texture: the cube has no white face.
    assert (baked.mesh.texture.min(-1) < 250).all()


def test_bake_evens_out_a_view_that_is_too_bright():
    views = orbit_of(sphere(color=(120, 90, 60)))
    images = views.images.copy()
    images[3, ..., :3] = np.clip(images[3, ..., :3] * 1.2, 0, 1)
    ball = sphere()
    baked = bake(
        ball.vertices, ball.faces, images, views.cameras, BakeConfig(texture_size=256), input_view=11
    )
    # Half of the way towards the mean of the views; the neighbours, compared with it too, hardly move.
    assert 0.9 <= baked.gains[3].mean() < 0.96
    assert np.abs(np.delete(baked.gains, 3, 0) - 1).max() < 0.03


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_run_writes_everything_and_knows_when_it_is_done(cube_views, tmp_path):
    stages = []
    config = replace(QUICK, formats=("glb", "obj", "ply", "stl"))
    result = run(
        config, cube_views, tmp_path / "out", progress=lambda name, share: stages.append((name, share))
    )
    names = {
        "mesh.glb",
        "mesh.obj",
        "mesh.mtl",
        "mesh.png",
        "mesh.ply",
        "mesh.stl",
        "turntable.mp4",
        "recon.json",
    }
    assert {p.name for p in (tmp_path / "out").iterdir()} == names == set(result.files)
    report = json.loads((tmp_path / "out" / "recon.json").read_text())
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
    ):
        with pytest.raises(UsageError, match="expected"):
            ReconConfig(**bad)
    with pytest.raises(UsageError, match="cuda"):
        run(replace(QUICK, device="cuda:9"), orbit_of(cube()), Path("/nonexistent"))


def cli(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mv3d", *arguments],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_command_line(cube_views, tmp_path):
    cube_views.save(tmp_path / "v")
    quick = ("recon", "v", "--quality", "draft", "--faces", "1000", "--texture-size", "256")
    done = cli(*quick, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["report"]["watertight"] and Path(tmp_path, answer["files"]["mesh.glb"]).is_file()
    assert "IoU" in done.stderr and "\r" not in done.stderr
    again = cli(*quick, cwd=tmp_path)
    assert again.returncode == 0 and "done already" in again.stderr and "v/mesh.glb" in again.stdout
    other = cli(*quick, "--seed", "1", cwd=tmp_path)
    assert other.returncode == 1 and "--overwrite" in other.stderr and other.stderr.count("\n") == 1
    for arguments, code, expected in (
        (("recon", "none"), 1, "found nothing"),
        (("recon", "v", "--format", "fbx"), 2, "--format"),
        (("recon", "v", "--faces", "many"), 2, "faces"),
        (("paint",), 2, "recon"),
        ((), 2, ""),
    ):
        answer = cli(*arguments, cwd=tmp_path)
        assert answer.returncode == code and expected in answer.stderr and "Traceback" not in answer.stderr


def test_interrupt_of_the_command_exits_130_and_leaves_nothing(cube_views, tmp_path):
    cube_views.save(tmp_path / "v")
    before = {p.name for p in (tmp_path / "v").iterdir()}
    # A shell starts its background jobs with interrupts ignored, and a job's children inherit that.
    code = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); runpy.run_module('mv3d', run_name='__main__')"
    running = subprocess.Popen(
        [sys.executable, "-c", code, "recon", "v"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    while {p.name for p in (tmp_path / "v").iterdir()} == before and time.monotonic() < deadline:
        time.sleep(0.05)  # until the staging folder shows that the work has begun
    running.send_signal(signal.SIGINT)
    _, message = running.communicate(timeout=120)
    assert running.returncode == 130 and "interrupted" in message and "Traceback" not in message
    assert {p.name for p in (tmp_path / "v").iterdir()} == before


def test_help_loads_no_torch(tmp_path):
    code = "import sys, mv3d; from mv3d.cli.main import main; main(['--help']); main(['recon', '--help']); print([m for m in ('torch', 'diffusers', 'trimesh') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip().endswith("[]"), done.stderr


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
