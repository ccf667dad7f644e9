"""Painted shapes: the same bytes each time, looks by part, textures without stretching, whose shapes they are."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers.places import SHARED

from mv3d.cli.main import main
from mv3d.core.errors import InputError, OutputError, UsageError
from mv3d.core.files import sha256
from mv3d.orbits.catalogue import read_list
from mv3d.orbits.gate import check_model
from mv3d.orbits.paint import _cut, _Shape, paint_shapes, painted, stretched
from mv3d.orbits.parts import face_parts
from mv3d.render.loading import load_model
from mv3d.render.mesh import vertex_normals
from mv3d.render.model import Model


def table_of(height: float = 0.05) -> trimesh.Trimesh:
    """A plate on four legs of one size, apart from each other."""
    parts = [trimesh.creation.box((1, 0.8, height))]
    for x, y in ((0.4, 0.3), (0.4, -0.3), (-0.4, 0.3), (-0.4, -0.3)):
        parts.append(trimesh.creation.box((0.06, 0.06, 0.6)).apply_translation((x, y, -0.4)))
    return trimesh.util.concatenate(parts)  # pyright: ignore[reportReturnType]


def model_of(shape: trimesh.Trimesh) -> Model:
    flat = shape.triangles.reshape(-1, 3)
    return Model(flat.astype(np.float32), np.arange(len(flat), dtype=np.int32).reshape(-1, 3))


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "shapes"
    folder.mkdir()
    table_of().export(folder / "table.stl")
    trimesh.creation.icosphere(2).export(folder / "ball.ply")
    (folder / "noise.glb").write_bytes(b"glTF" + bytes(range(200)))
    (folder / "SOURCES.csv").write_text(
        "name,source_repo,path,licence,author\ntable,someone/tables,a/table.stl,MIT,Ann\n", encoding="utf-8"
    )
    return folder


def test_files_are_the_same_bytes_and_runs_go_on(folder, tmp_path):
    out, seen = tmp_path / "out", []
    made = paint_shapes(folder, out, paints=2, seed=3, progress=lambda *numbers: seen.append(numbers))
    assert [reject.uid for reject in made.rejects] == ["noise"] and seen[-1] == (3, 3, 1)
    assert len(made.items) == 4 and made.kept == 0
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    assert len({data for name, data in whole.items() if name.endswith(".glb")}) == 4
    (out / made.items[0].path.name).unlink()
    (out / "SOURCES.csv").unlink()
    again = paint_shapes(folder, out, paints=2, seed=3)
    assert again.kept == 3 and again.items == made.items
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    more = paint_shapes(folder, out, paints=3, seed=3)
    assert (
        more.kept == 4
        and {path.name: path.read_bytes() for path in out.glob("*.glb")}.items()
        >= {name: data for name, data in whole.items() if name.endswith(".glb")}.items()
    )
    with pytest.raises(OutputError, match="which no record"):
        paint_shapes(folder, out, paints=3, seed=4)
    # Another shape under the same name is painted anew.
    table_of(0.1).export(folder / "table.stl")
    assert paint_shapes(folder, out, paints=3, seed=3).kept == 3


def test_the_table_says_whose_shapes_they_are(folder, tmp_path):
    made = paint_shapes(folder, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "SOURCES.csv").open(encoding="utf-8")))
    row = next(row for row in rows if row["name"].startswith("table"))
    assert row["licence"] == "MIT" and row["author"] == "Ann"
    assert row["original_sha256"] == sha256(folder / "table.stl")
    item = next(item for item in read_list(tmp_path / "out") if item.uid == row["name"])
    assert item.source == "someone/tables/a/table.stl" and item.sha256 == sha256(item.path)
    assert {item.uid for item in made.items} == {row["name"] for row in rows}


def test_parts_of_one_size_share_a_look(tmp_path):
    for seed in range(12):
        pieces = painted(model_of(table_of()), np.random.default_rng(seed))
        legs = set()
        for number, piece in enumerate(pieces):
            low = piece.solid.vertices[piece.solid.faces][..., 2].min(1) < -0.2
            legs |= {number} if low.any() else set()
        assert len(legs) == 1, seed


def test_the_surface_stays_and_textures_are_not_stretched():
    shape = trimesh.creation.box((1.0, 0.7, 0.4)).subdivide()
    for seed in range(12):
        pieces = painted(model_of(shape), np.random.default_rng(seed))
        area = 0.0
        for piece in pieces:
            corners = piece.solid.vertices[piece.solid.faces]
            faces = (
                np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
                / 2
            )
            area += faces.sum()
            assert piece.solid.uv.min() >= -1e-9
            a, b, c = (piece.solid.uv[piece.solid.faces[:, k]] for k in range(3))
            (one, two), (three, four) = (b - a).T, (c - a).T
            flat = np.abs(one * four - two * three) / 2
            if piece.look.tile:
                np.testing.assert_allclose(flat * piece.look.tile**2, faces, atol=1e-6)
            else:
                assert piece.solid.uv.max() <= 1 + 1e-9
        assert area == pytest.approx(shape.area, rel=1e-5)


def test_a_cut_keeps_the_surface_and_its_winding():
    shape = trimesh.creation.icosphere(2)
    vertices, faces = np.asarray(shape.vertices), np.asarray(shape.faces)
    normals = vertex_normals(vertices.astype(np.float32), faces.astype(np.int32)).astype(np.float64)
    whole = _Shape(vertices, faces, normals, np.zeros(len(faces), np.int64))
    cut, source = _cut(whole, np.ones(len(faces), bool), 0.123)
    side = cut.vertices[cut.faces][..., 2]
    assert ((side >= 0.123 - 1e-12).all(1) | (side <= 0.123 + 1e-12).all(1)).all()
    again = trimesh.Trimesh(cut.vertices, cut.faces)
    assert (
        again.is_watertight and again.volume == pytest.approx(shape.volume) and len(source) == len(cut.faces)
    )
    assert face_parts(cut.vertices, cut.faces, 2.0).max() == 0


def test_painted_files_pass_the_gate(folder, tmp_path):
    for item in paint_shapes(folder, tmp_path / "out", paints=3).items:
        model = load_model(item.path)
        check_model(model)
        assert len(model.faces) == item.faces and model.uv is not None


def test_numbers_out_of_range_and_empty_folders(folder, tmp_path):
    for values in ({"paints": 0}, {"seed": -1}):
        with pytest.raises(UsageError):
            paint_shapes(folder, tmp_path / "out", **values)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        paint_shapes(tmp_path / "empty", tmp_path / "out")


def test_the_command(folder, tmp_path, capsys):
    command = ["orbits", "paint", str(folder), "--out", str(tmp_path / "out"), "--paints", "2", "--json"]
    assert main(command) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["objects"] == 4 and list(document["rejected"]) == ["noise"]
    assert sum(line.startswith("noise:") for line in captured.err.splitlines()) == 1
    for path in folder.glob("[bt]a*"):
        path.unlink()
    assert main(["orbits", "paint", str(folder), "--out", str(tmp_path / "none")]) == 1


@pytest.mark.skipif(not (SHARED / "assets" / "train_geom").is_dir(), reason="needs the shared shapes")
def test_everyday_shapes(tmp_path):
    shapes = read_list(SHARED / "assets" / "train_geom")
    chosen = tmp_path / "two"
    chosen.mkdir()
    for shape in shapes[:2]:
        (chosen / shape.path.name).write_bytes(shape.path.read_bytes())
    (chosen / "SOURCES.csv").write_bytes((SHARED / "assets" / "train_geom" / "SOURCES.csv").read_bytes())
    made = paint_shapes(chosen, tmp_path / "out", paints=2)
    assert len(made.items) == 4 and not made.rejects
    assert {item.licence for item in made.items} == {"CC0-1.0"} and all(item.source for item in made.items)
    again = paint_shapes(chosen, tmp_path / "again", paints=2)
    assert [item.sha256 for item in again.items] == [item.sha256 for item in made.items]


def test_normals_of_a_stretched_shape_are_those_of_its_faces():
    ball = trimesh.creation.icosphere(4, 0.5)
    model = Model(ball.vertices.astype(np.float32), ball.faces.astype(np.int32), ball.vertices * 2)
    made = stretched(model, np.array([1.4, 0.7, 1.1]), 0.5)
    cosines = np.sum(made.normals * vertex_normals(made.vertices, made.faces), axis=1)
    assert cosines.min() > 0.998
    np.testing.assert_allclose(
        np.ptp(made.vertices[np.abs(model.vertices[:, 2]) < 1e-6], axis=0), [1.4, 0.7, 0], atol=1e-3
    )


def test_stretched_copies_differ_in_form_and_take_the_place_of_plain_ones(folder, tmp_path):
    def sizes(made):
        return [np.ptp(load_model(item.path).vertices, axis=0) for item in made.items if "ball" in item.uid]

    plain = paint_shapes(folder, tmp_path / "out", paints=2)
    np.testing.assert_allclose(sizes(plain), 1, atol=1e-5)
    made = paint_shapes(folder, tmp_path / "out", paints=2, stretch=0.3)
    first, second = sizes(made)
    assert made.kept == 0 and np.abs(first - second).max() > 0.05 and first.max() == pytest.approx(1)
    assert paint_shapes(folder, tmp_path / "out", paints=2, stretch=0.3).kept == 4
    with pytest.raises(UsageError, match="--stretch: expected 0 to 1, got 2"):
        paint_shapes(folder, tmp_path / "out", stretch=2)
