"""`mv3d eval mesh`: closed forms of spheres and cubes, alignments that are undone, protocols, mistakes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from helpers.places import SHARED
from helpers.shapes import as_mesh, cube, sphere
from scipy.spatial.transform import Rotation

from mv3d.cli.main import main
from mv3d.core.errors import InputError, UsageError
from mv3d.evaluation import (
    PROTOCOLS,
    MeshProtocol,
    Samples,
    align,
    evaluate_mesh,
    normalized,
    sample_surface,
    surface_distances,
    thinned,
    volume_iou,
)
from mv3d.evaluation.alignment import cube_rotations, rotation_z, similarity_between
from mv3d.evaluation.surfaces import moved, nearly_closed, occupancy
from mv3d.render.mesh import Mesh

QUICK = MeshProtocol(samples=20_000, iou_resolution=64, render_azimuths=2, render_size=64)


def ball(radius: float) -> Mesh:
    return as_mesh(trimesh.creation.icosphere(6, radius))


def shifted(mesh: Mesh, by: tuple[float, float, float]) -> Mesh:
    return replace(mesh, vertices=mesh.vertices + np.float32(by))


def similarity(rotation: Rotation, scale: float, by: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation.as_matrix()
    matrix[:3, 3] = by
    return matrix


def test_concentric_spheres():
    """Every point of one is as far from the other as the radii differ; the solids are nested."""
    found = evaluate_mesh(ball(0.45), ball(0.5), replace(QUICK, thresholds=(0.04, 0.06)))
    metrics = found["metrics"]
    for key in ("chamfer", "accuracy", "completeness"):
        assert metrics[key] == pytest.approx(0.05, abs=1e-3)
    assert metrics["chamfer_squared"] == pytest.approx(0.05**2, rel=0.04)
    assert metrics["f_score"] == {"0.04": 0.0, "0.06": 1.0}
    assert metrics["normal_consistency"] > 0.999
    assert metrics["iou"] == pytest.approx(0.9**3, abs=0.01)
    assert found["alignment"]["found"] == [] and np.allclose(found["alignment"]["matrix"], np.eye(4))


@pytest.mark.parametrize("shift", [0.1, 0.25])
def test_shifted_cubes(shift):
    """Cubes of side 1, one pushed by s along x; the solids overlap in 1 - s of 1 + s.

    Of the six sides, the leading one is s away. The trailing one lies inside: the other's end is s away, its long
    sides as far as the rim, whose distance r has P(r > t) = (1 - 2t)². The long sides lie on each other but for a
    strip of width s, s/2 away in the mean. Where surfaces lie on each other, the nearest of n samples an area is
    1/(2√n) away: what sampling costs.
    """
    a, b = shifted(cube(1.0), (shift, 0, 0)), cube(1.0)
    assert volume_iou(a, b, resolution=100) == pytest.approx((1 - shift) / (1 + shift), abs=0.01)
    rng, count = np.random.default_rng(0), 100_000
    found = surface_distances(sample_surface(a, count, rng), sample_surface(b, count, rng), (shift * 1.05,))
    inner = (1 - (1 - 2 * shift) ** 3) / 6
    floor = 4 * (1 - shift) * 0.5 / np.sqrt(count / 6)
    assert found["chamfer"] == pytest.approx((shift + inner + 4 * shift * shift / 2 + floor) / 6, abs=3e-4)
    assert found["f_score"][f"{shift * 1.05:g}"] > 0.999


def test_distances_are_their_definition():
    rng = np.random.default_rng(0)

    def cloud(count: int) -> Samples:
        normals = rng.normal(size=(count, 3))
        return Samples(rng.random((count, 3)), normals / np.linalg.norm(normals, axis=1, keepdims=True))

    a, b = cloud(150), cloud(220)
    found = surface_distances(a, b, (0.1,))
    table = np.linalg.norm(a.points[:, None] - b.points[None], axis=2)
    there, back = table.min(1), table.min(0)
    assert found["chamfer"] == pytest.approx((there.mean() + back.mean()) / 2)
    assert found["chamfer_squared"] == pytest.approx(((there**2).mean() + (back**2).mean()) / 2)
    p, r = (there <= 0.1).mean(), (back <= 0.1).mean()
    assert found["f_score"] == {"0.1": pytest.approx(2 * p * r / (p + r))}
    cosines = np.abs(a.normals @ b.normals.T)
    both = (
        cosines[np.arange(150), table.argmin(1)].mean() + cosines[table.argmin(0), np.arange(220)].mean()
    ) / 2
    assert found["normal_consistency"] == pytest.approx(both)


def test_same_mesh_same_seed():
    found = [evaluate_mesh(cube(), cube(), QUICK) for _ in range(2)]
    assert found[0] == found[1]
    metrics = found[0]["metrics"]
    assert (
        metrics["iou"] == 1 and metrics["f_score"]["0.05"] == 1 and found[0]["renders"]["mean"]["psnr"] == 100
    )
    assert evaluate_mesh(cube(), cube(), replace(QUICK, seed=1))["metrics"]["chamfer"] != metrics["chamfer"]


def test_samples_are_uniform_and_outer_ones_are_outside():
    inner, outer = ball(0.2), ball(0.5)
    faces = np.concatenate([outer.faces, inner.faces + len(outer.vertices)])
    both = Mesh(np.concatenate([outer.vertices, inner.vertices]), faces)
    rng = np.random.default_rng(0)
    radius = np.linalg.norm(sample_surface(both, 20_000, rng).points, axis=1)
    assert (radius < 0.3).mean() == pytest.approx(0.04 / 0.29, abs=0.01)  # areas as r²
    seen = sample_surface(both, 20_000, rng, outer=True)
    assert np.linalg.norm(seen.points, axis=1).min() > 0.49 and len(seen) == 20_000
    assert (seen.points * seen.normals).sum(1).min() > 0.49  # outward
    halves = (seen.points > 0).mean(0)
    assert np.abs(halves - 0.5).max() < 0.02


def test_thinning_leaves_one_point_in_a_cube():
    samples = sample_surface(ball(0.5), 20_000, np.random.default_rng(0))
    few = thinned(samples, 0.1)
    cells = np.unique(np.floor(samples.points / 0.1), axis=0)
    assert len(few) == len(cells) and np.abs(np.linalg.norm(few.normals, axis=1) - 1).max() < 1e-9


def test_insides():
    low, spacing = np.array([-0.6, -0.6, -0.6]), 1.2 / 48
    points = low + spacing * (np.stack(np.meshgrid(*[np.arange(48)] * 3, indexing="ij"), -1) + 0.5)
    inside = occupancy(cube(1.0), low, spacing, (48, 48, 48))
    assert np.array_equal(inside, (np.abs(points) < 0.5).all(-1))
    ring = trimesh.creation.torus(0.4, 0.15, major_sections=64, minor_sections=48)
    distance = np.hypot(np.hypot(points[..., 0], points[..., 1]) - 0.4, points[..., 2])
    away = np.abs(distance - 0.15) > 0.01
    found = occupancy(as_mesh(ring), low, spacing, (48, 48, 48))
    assert np.array_equal(found[away], (distance < 0.15)[away])
    assert nearly_closed(cube()) and not nearly_closed(replace(cube(), faces=cube().faces[10:]))


def pawn() -> Mesh:
    """Nothing about it is symmetric."""
    parts = [
        trimesh.creation.box((0.6, 0.3, 0.2)),
        trimesh.creation.box((0.1, 0.1, 0.7)).apply_translation((0.2, 0.05, 0.3)),
        trimesh.creation.icosphere(3, 0.12).apply_translation((-0.2, 0.15, 0.15)),
    ]
    return as_mesh(trimesh.util.concatenate(parts))


@pytest.mark.parametrize(
    "steps, matrix",
    [
        (("scale",), similarity(Rotation.identity(), 1.7, (0.3, -0.2, 0.1))),
        (("azimuth-search",), similarity(Rotation.from_euler("z", 73, degrees=True), 1.0, (0, 0, 0))),
        (
            ("scale", "azimuth-search"),
            similarity(Rotation.from_euler("z", -138.6, degrees=True), 0.6, (1, 2, 3)),
        ),
        (("icp",), similarity(Rotation.from_euler("xyz", (5, -8, 10), degrees=True), 1.0, (0.05, 0, -0.04))),
        (("icp-scale",), similarity(Rotation.from_euler("y", 6, degrees=True), 1.1, (0.03, 0.02, 0))),
        (
            ("scale", "rotation-search", "icp-scale"),
            similarity(Rotation.from_euler("xyz", (90, 10, 200), degrees=True), 2.0, (0.3, 0, 1)),
        ),
    ],
)
def test_alignment_undoes_what_was_done(steps, matrix):
    gt = normalized(pawn())
    turned = moved(gt, matrix)
    if steps == ("azimuth-search",):
        matrix = matrix.copy()
    found = align(turned, gt, steps, np.random.default_rng(0))
    back = moved(turned, found.matrix)
    error = np.linalg.norm(back.vertices - gt.vertices, axis=1)
    assert error.max() < 0.02, found.record
    assert [entry["step"] for entry in found.record] == list(steps)


def test_alignment_is_recorded_and_moves_the_figure(tmp_path, capsys):
    pawn().export(tmp_path / "gt.glb")
    turned = moved(pawn(), similarity(Rotation.from_euler("z", 40, degrees=True), 1.0, (0, 0, 0)))
    turned.export(tmp_path / "pred.glb")
    command = [
        "eval",
        "mesh",
        str(tmp_path / "pred.glb"),
        str(tmp_path / "gt.glb"),
        "--samples",
        "5000",
        "--json",
        "--no-renders",
    ]
    assert main(command) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main([*command, "--align", "azimuth-search,icp"]) == 0
    aligned = json.loads(capsys.readouterr().out)
    assert plain["metrics"]["chamfer"] > 3 * aligned["metrics"]["chamfer"] and "renders" not in plain
    search, icp = aligned["alignment"]["found"]
    assert search["azimuth_deg"] == pytest.approx(-40, abs=2) and icp["rms_after"] <= icp["rms_before"]
    assert aligned["alignment"]["steps"] == ["azimuth-search", "icp"] == aligned["protocol"]["align"]
    turn = np.array(aligned["alignment"]["matrix"])[:3, :3]
    assert np.allclose(turn, Rotation.from_euler("z", -40, degrees=True).as_matrix(), atol=0.02)


def test_rotations_of_the_cube_and_the_best_similarity():
    turns = cube_rotations()
    assert len({tuple(m[:3, :3].astype(int).ravel()) for m in turns}) == 24 and np.array_equal(
        turns[0], np.eye(4)
    )
    assert all(np.linalg.det(m[:3, :3]) == pytest.approx(1) for m in turns)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 3))
    matrix = similarity(Rotation.from_euler("xyz", (20, 70, -130), degrees=True), 1.3, (1, -2, 0.5))
    target = points @ matrix[:3, :3].T + matrix[:3, 3]
    assert np.allclose(similarity_between(points, target, with_scale=True), matrix)
    rigid = similarity_between(points, target, with_scale=False)
    assert np.linalg.det(rigid[:3, :3]) == pytest.approx(1)


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_every_protocol_runs(name):
    chosen = replace(PROTOCOLS[name], samples=3000, iou_resolution=32, render_size=64, render_azimuths=2)
    found = evaluate_mesh(shifted(pawn(), (0.01, 0, 0)), pawn(), chosen)
    assert found["protocol"]["name"] == name and found["protocol"]["source"]
    assert 0 < found["metrics"]["chamfer"] < 0.2
    assert len(found["metrics"]["f_score"]) == len(chosen.thresholds)
    json.dumps(found, allow_nan=False)


def test_lengths_are_in_the_unit_that_is_told():
    small, big = (
        evaluate_mesh(moved(ball(0.45), s), moved(ball(0.5), s), QUICK)
        for s in (np.eye(4), np.diag([5.0, 5, 5, 1]))
    )
    assert small["metrics"]["chamfer"] == pytest.approx(big["metrics"]["chamfer"], rel=1e-3)
    assert big["unit"] == {"gt_side_in_file": pytest.approx(5), "gt_side_here": pytest.approx(1)}
    raw = evaluate_mesh(
        moved(ball(0.45), np.diag([5.0, 5, 5, 1])),
        moved(ball(0.5), np.diag([5.0, 5, 5, 1])),
        replace(QUICK, side=None),
    )
    assert raw["metrics"]["chamfer"] == pytest.approx(0.25, abs=5e-3)


def test_meshes_of_different_frames_are_warned_of(tmp_path, capsys):
    quick = replace(QUICK, render_azimuths=0)
    assert evaluate_mesh(ball(0.45), ball(0.5), quick)["warnings"] == []
    assert (
        "centres are 0.8 of"
        in evaluate_mesh(shifted(ball(0.5), (0.8, 0, 0)), ball(0.5), quick)["warnings"][0]
    )
    cube().export(tmp_path / "pred.ply")
    moved(cube(), np.diag([0.23, 0.23, 0.23, 1])).export(tmp_path / "gt.ply")
    command = ["eval", "mesh", str(tmp_path / "pred.ply"), str(tmp_path / "gt.ply"), "--samples", "1000"]
    command += ["--iou-resolution", "16", "--no-renders", "--json"]
    assert main(command) == 0
    captured = capsys.readouterr()
    (warning,) = json.loads(captured.out)["warnings"]
    assert warning.startswith("pred's largest side is 4.35 times that of gt") and "--align scale" in warning
    assert captured.err == f"warning: {warning}\n"
    assert main([*command, "--align", "scale"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


def test_renders_show_the_colours():
    red, blue = sphere(0.4, (255, 0, 0)), sphere(0.4, (0, 0, 255))
    same = evaluate_mesh(red, red, QUICK)["renders"]
    other = evaluate_mesh(red, blue, QUICK)["renders"]
    assert same["mean"]["psnr"] == 100 and other["mean"]["mask_iou"] == 1
    row = other["views"][0]
    silhouette = row["mse"] * 3 / 2  # two of three channels are off by 1 inside
    assert 0.4 < silhouette < 0.75 and len(other["views"]) == 4


def test_open_meshes_have_no_volume_figure():
    found = evaluate_mesh(replace(cube(), faces=cube().faces[10:]), cube(), QUICK)
    assert "iou" not in found["metrics"] and "pred not closed" in found["missing"]["iou"]


def test_mesh_command_prints_its_figures(tmp_path, capsys):
    sphere(0.45).export(tmp_path / "pred.glb")
    sphere(0.5).export(tmp_path / "gt.ply")
    assert (
        main(
            [
                "eval",
                "mesh",
                str(tmp_path / "pred.glb"),
                str(tmp_path / "gt.ply"),
                "--samples",
                "2000",
                "--iou-resolution",
                "32",
                "--lpips",
                "no",
                "--clip-s",
                "no",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "Chamfer" in out and "alignment none" in out and "novel views" in out


@pytest.mark.parametrize(
    "extra, words",
    [
        (["none.glb", "gt.glb"], "none.glb: expected a file, got nothing"),
        (["bad.glb", "gt.glb"], "bad.glb"),
        (["zero.glb", "gt.glb"], "zero.glb: expected data, got an empty file"),
        (["flat.ply", "gt.glb"], "without area"),
        (["empty.ply", "gt.glb"], "empty.ply"),
        (["nan.ply", "gt.glb"], "nan.ply: vertices: expected finite numbers"),
        (["folder", "gt.glb"], "a folder with mesh.glb"),
        (["gt.glb", "gt.glb", "--align", "sideways"], "expected some of none, scale"),
        (["gt.glb", "gt.glb", "--align", "none,icp"], "none stands alone"),
        (["gt.glb", "gt.glb", "--thresholds", "a,b"], "expected lengths"),
        (["gt.glb", "gt.glb", "--thresholds", "-1"], "above 0"),
        (["gt.glb", "gt.glb", "--samples", "1"], "expected 100"),
    ],
)
def test_one_line_for_every_mistake(extra, words, tmp_path, capsys):
    cube().export(tmp_path / "gt.glb")
    (tmp_path / "bad.glb").write_bytes(b"glTF" + bytes(40))
    (tmp_path / "zero.glb").touch()
    (tmp_path / "folder").mkdir()
    header = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    header += "element face {}\nproperty list uchar int vertex_indices\nend_header\n"
    (tmp_path / "flat.ply").write_text(header.format(1) + "0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n")
    (tmp_path / "empty.ply").write_text(header.format(0) + "0 0 0\n1 0 0\n0 1 0\n")
    (tmp_path / "nan.ply").write_text(header.format(1) + "0 0 0\n1 0 nan\n0 1 0\n3 0 1 2\n")
    arguments = [
        str(tmp_path / part) if not part.startswith("-") and k < 2 else part for k, part in enumerate(extra)
    ]
    assert main(["eval", "mesh", *arguments, "--no-renders"]) in (1, 2)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("mv3d: ") and words in lines[0] and captured.out == ""


def test_settings_and_empty_meshes_in_python():
    with pytest.raises(InputError, match="pred: expected a mesh with faces"):
        evaluate_mesh(Mesh(np.zeros((3, 3)), np.zeros((0, 3))), cube())
    with pytest.raises(InputError, match="NaN"):
        evaluate_mesh(replace(cube(), vertices=np.full_like(cube().vertices, np.nan)), cube())
    with pytest.raises(UsageError, match="--iou-resolution"):
        MeshProtocol(iou_resolution=4)
    with pytest.raises(InputError, match="expected points on both sides"):
        surface_distances(
            Samples(np.zeros((0, 3)), np.zeros((0, 3))), sample_surface(cube(), 100, np.random.default_rng(0))
        )


def test_colours_decide_between_turns_that_the_shape_cannot_tell_apart():
    """Four turns take a cube onto itself, one of them its colours, too."""
    gt = cube(1.0)
    turn = rotation_z(90)[:3, :3]
    found = align(
        replace(gt, vertices=gt.vertices @ turn.T), gt, ("azimuth-search",), np.random.default_rng(0)
    )
    assert found.record[0]["azimuth_deg"] == pytest.approx(-90, abs=1)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the cases are not beside the checkout")
def test_a_mesh_and_its_copy_in_the_frame_of_another_program(tmp_path, capsys):
    """Blender's glTF faces +Z, its PLY faces -Y: a quarter turn apart in our world."""
    folder = SHARED / "cases" / "15_eval_mesh_vertex_colours"
    files = [str(folder / "vcs.glb"), str(folder / "vcs.ply")]
    quick = ["--json", "--align", "azimuth-search", "--lpips", "no", "--clip-s", "no", "--samples", "20000"]
    assert main(["eval", "mesh", *files, *quick]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["renders"]["mean"]["psnr"] >= 40 and document["alignment"]["found"][0][
        "azimuth_deg"
    ] == pytest.approx(-90, abs=3)
