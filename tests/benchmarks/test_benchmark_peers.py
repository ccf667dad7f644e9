"""The benchmarks beside other programs, without these programs: what they are handed, and what is read back."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from helpers.places import REPOSITORY

from mv3d.core.errors import InputError, UsageError
from mv3d.render.cameras import orbit_cameras
from mv3d.render.mesh import Mesh
from mv3d.render.writers import save_mesh

BENCHMARKS = REPOSITORY / "benchmarks"
BOX = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.3, 0.3) for z in (-0.2, 0.2)])
BOX_FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
     [1, 5, 7], [1, 7, 3]]
)  # fmt: skip


@pytest.fixture(scope="module")
def load() -> object:
    """Imports a benchmark by name, as its own folder's scripts do, and forgets it afterwards."""
    folders = [str(BENCHMARKS), str(BENCHMARKS / "peers")]
    before = set(sys.modules)
    sys.path[:0] = folders

    def module(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield module
    for folder in folders:
        sys.path.remove(folder)
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def box() -> Mesh:
    colors = ((BOX + 0.5) * 255).clip(0, 255).astype(np.uint8)
    return Mesh(BOX, BOX_FACES, vertex_colors=colors)


def boxed_truth(load):
    ground = load("ground_truth")
    return ground.Truth("box", box(), None, None)


def cameras(size: int = 24):
    return orbit_cameras([10.0, -20.0, 35.0], [15.0, 130.0, 260.0], radius=2.4, width=size, height=size)


def test_open3d_cameras_project_as_ours(load):
    """Open3D: u = fx·x/z + cx with pixel centres at whole numbers, camera axes +Y down and +Z forward."""
    fusion, ours = load("open3d_fusion"), cameras()
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 3))
    for view in range(len(ours)):
        extrinsic = fusion.open3d_extrinsic(ours.c2w[view])
        x, y, z = extrinsic[:3, :3] @ points.T + extrinsic[:3, 3:]
        cx, cy = fusion.open3d_principal(ours.cx[view], ours.cy[view])
        theirs = np.stack([ours.fl_x[view] * x / z + cx, ours.fl_y[view] * y / z + cy], 1)
        pixels, depth = ours.project(points, view)
        np.testing.assert_allclose(theirs + 0.5, pixels, atol=1e-9)
        np.testing.assert_allclose(z, depth, atol=1e-12)


def test_true_depth_leads_back_to_the_surface(load):
    """Unprojected by Open3D's formula, every pixel's depth lies on a face of the box."""
    ground, fusion, ours = load("ground_truth"), load("open3d_fusion"), cameras()
    depths = ground.true_depths(boxed_truth(load), ours)
    half = np.array([0.5, 0.3, 0.2])
    for view, depth in enumerate(depths):
        row, column = np.nonzero(depth)
        assert len(row) > 30
        z = depth[row, column]
        cx, cy = fusion.open3d_principal(ours.cx[view], ours.cy[view])
        local = np.stack(
            [(column - cx) * z / ours.fl_x[view], (row - cy) * z / ours.fl_y[view], z, np.ones_like(z)]
        )
        world = (np.linalg.inv(fusion.open3d_extrinsic(ours.c2w[view])) @ local)[:3].T
        np.testing.assert_allclose((np.abs(world) / half).max(1), 1, atol=1e-5)


def fake_peer(folder: Path, body: str) -> Path:
    """A stand-in for a peer's Python: it answers `-c`, and for a script runs `body` with the script's arguments."""
    program = folder / "python"
    program.write_text(
        f"#!{sys.executable}\nimport json, sys\nif sys.argv[1] == '-c': sys.exit(0)\nargs = sys.argv[2:]\n{body}\n"
    )
    program.chmod(0o755)
    return program


def test_open3d_output_is_read(load, tmp_path):
    runs, ground = load("peer_runs"), load("ground_truth")
    save_mesh(box(), tmp_path / "made.ply")
    body = (
        "import shutil, pathlib\n"
        "out = pathlib.Path(args[0])\n"
        "assert (out / 'views.npz').exists()\n"
        f"[shutil.copy({str(tmp_path / 'made.ply')!r}, out / name) for name in ('tsdf.ply', 'poisson.ply')]\n"
        "(out / 'open3d.json').write_text(json.dumps({'version': '0', 'seconds': {'tsdf': 1.5, 'poisson': 2.5}}))"
    )
    work = tmp_path / "work"
    work.mkdir()
    truth = boxed_truth(load)
    views = ground.truth_views(truth, "static", 24)
    found, version = runs.open3d_meshes(fake_peer(tmp_path, body), truth, views, work)
    assert version == "0"
    assert [(name, seconds) for name, _, seconds in found] == [("TSDF fusion", 1.5), ("Poisson", 2.5)]
    mesh = found[0][1]
    np.testing.assert_allclose(np.sort(mesh.vertices, 0), np.sort(BOX, 0), atol=1e-6)
    assert mesh.vertex_colors is not None and mesh.vertex_colors.shape == (8, 3)
    with np.load(work / "views.npz") as handed:
        assert handed["depth"].dtype == np.float32 and handed["rgb"].dtype == np.uint8
        np.testing.assert_array_equal(handed["c2w"], views.cameras.c2w)


def nerfacto_folder(load, folder: Path, no_mesh: str):
    """What nerfacto.py leaves for one mark, with the truth's own pictures."""
    from mv3d.render.raycast import render_views
    from mv3d.views.views import composite

    truth = boxed_truth(load)
    unseen = load("ground_truth").unseen_cameras(truth, 16)
    np.savez(folder / "0.npz", rgb=composite(render_views(truth.mesh, unseen, supersample=2)))
    if not no_mesh:
        (folder / "0").mkdir()
        save_mesh(box(), folder / "0" / "poisson_mesh.ply")
    mark = {"seconds": 20.5, "iterations": 7, "export_seconds": 3.0, "no_mesh": no_mesh}
    return truth, unseen, mark


@pytest.mark.parametrize("no_mesh", ["", "nothing is opaque yet"])
def test_nerfacto_output_is_read(load, tmp_path, no_mesh):
    truth, unseen, mark = nerfacto_folder(load, tmp_path, no_mesh)
    found = load("peer_runs").read_mark(tmp_path, 0, mark, truth, unseen)
    assert (found.seconds, found.iterations, found.no_mesh) == (20.5, 7, no_mesh)
    assert found.psnr_db > 60
    assert (found.mesh is None) == bool(no_mesh)


def test_pictures_of_another_size_are_an_error(load, tmp_path):
    truth, unseen, mark = nerfacto_folder(load, tmp_path, "")
    np.savez(tmp_path / "0.npz", rgb=np.zeros((2, 8, 8, 3)))
    with pytest.raises(InputError, match=r"expected pictures \(16, 16, 16, 3\), got \(2, 8, 8, 3\)"):
        load("peer_runs").read_mark(tmp_path, 0, mark, truth, unseen)


def test_a_missing_peer_gives_its_sentence(load, tmp_path):
    runs = load("peer_runs")
    with pytest.raises(
        runs.PeerMissing, match=r"MV3D_OPEN3D=o3d/bin/python.*expected a Python or its folder, got /none"
    ):
        runs.python_of("MV3D_OPEN3D", "open3d", runs.OPEN3D_HELP, {"MV3D_OPEN3D": "/none"})
    with pytest.raises(runs.PeerMissing, match="No module named 'no_such_peer'"):
        runs.python_of("MV3D_PEER", "no_such_peer", "It was not there.", {})
    python = fake_peer(tmp_path, "")
    assert runs.python_of("MV3D_PEER", "anything", "", {"MV3D_PEER": str(tmp_path)}) == python


def test_a_failing_peer_gives_its_last_word(load, tmp_path):
    runs = load("peer_runs")
    python = fake_peer(tmp_path, "raise ValueError('the volume is empty')")
    with pytest.raises(
        runs.PeerMissing,
        match=r"open3d_fusion.py did not run to its end .exit code 1.*ValueError: the volume is empty",
    ):
        runs.run_peer(python, "open3d_fusion.py", [], tmp_path / "report.json")
    (tmp_path / "report.json").touch()
    words = runs.run_peer(python, "open3d_fusion.py", [], tmp_path / "report.json")
    assert "(exit code 1)" in words
    assert runs.run_peer(fake_peer(tmp_path, ""), "open3d_fusion.py", [], tmp_path / "report.json") == ""


def test_a_mesh_without_faces_is_an_error(load, tmp_path):
    path = tmp_path / "empty.ply"
    path.write_text(
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n0 0 0\n"
    )
    with pytest.raises(InputError, match=r"empty.ply: expected a mesh with faces"):
        load("peer_runs").read_ply(path)
    (tmp_path / "r.json").write_text(json.dumps([1]))
    with pytest.raises(InputError, match="expected one JSON object, got list"):
        load("peer_runs").read_report(tmp_path / "r.json")


def test_rows_become_lines_and_means(load):
    peers = load("recon_peers")
    rows = [
        peers.Row(thing, who, seconds, chamfer, iou, psnr)
        for thing in ("a", "b")
        for who, seconds, chamfer, iou, psnr in (
            ("mv3d, standard", 40.0, 0.01, 0.9, 28.0),
            ("mv3d, draft", 10.0, 0.02, None if thing == "b" else 0.8, 25.0),
        )
    ]
    rows.append(peers.Row("a", "nerfacto, 1× our standard, exported mesh", 41.0, None, None, None, "nothing"))
    rows.append(
        peers.Row(
            "a", "nerfacto, 1× our standard, its own pictures", 41.0, None, None, 18.0, own_pictures=True
        )
    )
    chamfer, psnr = peers.charts_of(rows)
    assert [(s.label, s.points) for s in chamfer.series] == [("mv3d", ((10.0, 0.02), (40.0, 0.01)))]
    assert [s.label for s in psnr.series] == ["mv3d", "nerfacto, its own pictures"]
    means, every = peers.tables_of(rows)
    assert means.rows == (("mv3d, standard", 40.0, 0.01, 0.9, 28.0), ("mv3d, draft", 10.0, 0.02, None, 25.0))
    assert len(every.rows) == 6


def nerfacto_stand_in(folder: Path, python_mesh: Path) -> Path:
    """Answers as nerfacto.py does: a mark without a mesh, then one with."""
    return fake_peer(
        folder,
        "import shutil, pathlib, numpy\n"
        "out = pathlib.Path(args[0])\n"
        "unseen = numpy.load(out / 'unseen.npz')\n"
        "assert (out / 'transforms.json').exists() and 0 < unseen['near'] < unseen['far']\n"
        "assert args[args.index('--seconds') + 1:] == ['1.0', '2.0']\n"
        "side = int(unseen['width'])\n"
        "[numpy.savez(out / f'{i}.npz', rgb=numpy.ones((16, side, side, 3))) for i in (0, 1)]\n"
        "(out / '1').mkdir()\n"
        f"shutil.copy({str(python_mesh)!r}, out / '1' / 'poisson_mesh.ply')\n"
        "mark = {'seconds': 1.5, 'iterations': 3, 'export_seconds': 1.0, 'no_mesh': 'nothing is opaque yet'}\n"
        "versions = {'nerfstudio': '1', 'nerfacc': '2', 'torch': '3', 'open3d': '4'}\n"
        "report = {'versions': versions, 'settings': {}, 'rays': 8, 'marks': [mark, mark | {'no_mesh': '', 'seconds': 2.5}]}\n"
        "(out / 'nerfacto.json').write_text(json.dumps(report))",
    )


def test_nerfacto_rows_text_and_part(load, tmp_path, monkeypatch):
    """From the rows to the JSON, with stand-ins for nerfstudio and for the scores."""
    peers, part = load("recon_peers"), load("part")
    save_mesh(box(), tmp_path / "made.ply")
    monkeypatch.setattr(
        peers, "nerfstudio_python", lambda: nerfacto_stand_in(tmp_path, tmp_path / "made.ply")
    )
    monkeypatch.setattr(peers, "score", lambda *_: {"chamfer": 0.01, "iou": float("nan"), "psnr_db": 20.0})
    setup = peers.Setup(24, 1, ("draft", "standard"), (0.5, 1.0), 8, 16, 10)
    truth, notes = boxed_truth(load), peers.Notes()
    views = load("ground_truth").truth_views(truth, "static", 24)
    rows = peers.nerfacto_rows(truth, views, 2.0, setup, notes)
    assert rows[0].note == "nothing is opaque yet"
    assert [row.chamfer for row in rows] == [None, None, 0.01, None]
    assert [row.own_pictures for row in rows] == [False, True, False, True]
    assert notes.versions == {
        "torch (nerfstudio's)": "3",
        "open3d (nerfstudio's)": "4",
        "nerfstudio": "1",
        "nerfacc": "2",
    }
    machine = part.Machine("", 1, 0.0, "", "")
    made = part.Part(
        "recon_peers", "t", machine, notes.versions, 1.0, peers.text_of(setup, notes.nerfacto), peers.tables_of(rows),
        peers.charts_of(rows),
    )  # fmt: skip
    assert part.read_part(part.write_part(made, tmp_path / "part.json")) == made


def test_the_preferred_objects_come_first(load, tmp_path):
    for name in ("aaa", "scan_orion_pie", "modelled_cordless_drill"):
        (tmp_path / f"{name}.glb").touch()
    peers = load("recon_peers")
    assert [p.stem for p in peers.chosen_objects(tmp_path, 3)] == [
        "modelled_cordless_drill",
        "scan_orion_pie",
        "aaa",
    ]
    assert peers.chosen_objects(tmp_path / "none", 3) == []


def test_the_built_in_mug_is_closed_and_hollow(load):
    from mv3d.evaluation.surfaces import nearly_closed
    from mv3d.render.topology import inspect_mesh

    mesh = load("ground_truth").built_in_mug(48)
    assert nearly_closed(mesh)
    wall, floor = np.pi * (0.32**2 - 0.26**2) * 0.72, np.pi * 0.32**2 * 0.08
    handle = 2 * np.pi * 0.18 * np.pi * 0.045**2
    assert wall + floor < inspect_mesh(mesh).volume < wall + floor + handle


@pytest.mark.parametrize("who", ["mv3d", "diffusers"])
def test_generation_measures_both_sides(load, who):
    """The tiny network; in this process."""
    generation = load("generation")
    setup = generation.Setup((32, 32), 32, 3, 2, 1, 2, (2,), threads=1)
    measured = generation.run_job(generation.Job(setup, who, chunk=2))
    assert measured.frames.shape == (3, 8, 8, 3)
    assert 0 < measured.step < measured.seconds
    decoded = generation.run_job(generation.Job(setup, who, "decode", chunk=2))
    assert decoded.frames.shape == (3, 8, 8, 3) and decoded.step is None


def test_the_same_seed_gives_the_same_frames_on_both_sides(load):
    generation = load("generation")
    # Below 64² the last level has so few pixels that its norms blow rounding up.
    setup = generation.Setup((32, 32), 64, 3, 2, 1, 3, (3,), threads=1)
    found = {
        job: [generation.run_job(job)]
        for job in (generation.Job(setup, "mv3d", chunk=3), generation.Job(setup, "diffusers", chunk=3))
    }
    largest, mean = generation.differences(found)[generation.Job(setup, "diffusers", chunk=3)]
    assert 0 < mean < 0.05 and largest < 0.5
    assert np.ptp(found[generation.Job(setup, "mv3d", chunk=3)][0].frames.astype(np.float32)) > 0.1


def test_how_far_frames_lie_apart_is_told_of_every_variant(load):
    generation = load("generation")
    jobs = [generation.Job(generation.SETUPS["quick"], who) for who in ("mv3d", "diffusers")]
    plain = np.zeros((1, 1, 2, 3), np.float32)
    other = plain.copy()
    other[0, 0, 0, 0] = 0.6 / 255
    found = {
        job: [generation.Measured(1.0, 0.5, 0.1, None, frames)]
        for job, frames in zip(jobs, (plain, other), strict=True)
    }
    assert generation.differences(found) == {jobs[0]: (0, 0), jobs[1]: pytest.approx((0.6, 0.1))}
    assert "of 255: diffusers' pipeline 0.6, 0.1." in generation.difference_text(found, fp16=False)
    assert "half precision" in generation.difference_text(found, fp16=True)


def test_rounds_alternate_and_sizes_are_checked(load):
    generation, order = load("generation"), []
    setup = generation.SETUPS["quick"]
    jobs = generation.variants(setup)
    done = generation.Measured(1.0, 0.5, 0.1, None, np.zeros((1, 1, 1, 3), np.float16))

    def run(job):
        order.append(job.who)
        return done

    found = generation.alternating(jobs, 2, run)
    assert order == ["mv3d", "diffusers", "diffusers", "mv3d"]
    assert generation.table_of("t", found).rows[0] == ("mv3d", setup.chunk, 0.5, 1.0, 0.1, None)
    parser = load("part").part_parser("")
    for name in ("channels", "size", "frames", "steps", "rounds", "decode_chunk"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=None)
    options = parser.parse_args(["--quick", "--size", "50"])
    with pytest.raises(UsageError, match="multiple of 32 for 3 levels, got 50"):
        generation.setup_of(options)


@pytest.mark.skipif(not os.environ.get("MV3D_OPEN3D"), reason="Open3D is not named in MV3D_OPEN3D")
def test_open3d_itself_fuses_a_box(load, tmp_path):
    runs, ground = load("peer_runs"), load("ground_truth")
    truth = boxed_truth(load)
    views = ground.truth_views(truth, "sine", 64)
    for _, mesh, _ in runs.open3d_meshes(runs.open3d_python(), truth, views, tmp_path)[0]:
        away = np.abs((np.abs(mesh.vertices) / np.array([0.5, 0.3, 0.2])).max(1) - 1)
        assert np.median(away) < 0.02
