"""Geometry of samples: depth and solids against closed forms, layered depth, and files that change nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers.builds import content
from helpers.objects import colourful, unpack

from mv3d.core.colors import encode_srgb
from mv3d.core.errors import InputError, UsageError
from mv3d.orbits.build import build_shards
from mv3d.orbits.catalogue import CatalogueItem, read_list
from mv3d.orbits.config import OrbitConfig, identity
from mv3d.orbits.geometry import SampleGeometry, decode_normals, encode_normals, read_geometry
from mv3d.orbits.info import inspect_shards
from mv3d.orbits.jobs import render_object
from mv3d.orbits.join import join_shards
from mv3d.orbits.layered_depth import closed, layered_depth
from mv3d.orbits.sample import Sample
from mv3d.orbits.shards import END_OF_TAR, Shard
from mv3d.orbits.solid import SolidGrid, carve_solid, pack_solid, unpack_solid, view_directions
from mv3d.orbits.solid_colors import surface_cells
from mv3d.render.cameras import Cameras, orbit_cameras
from mv3d.render.embree import opaque_caster
from mv3d.render.model import Material, Model

CONFIG = OrbitConfig(views=3, size=48, environments=("uniform",), shard_size=2, trajectory="random")
GEOMETRY = replace(CONFIG, geometry=True, depth_size=32, solid_cells=32)
RADIUS, TUBE = 0.36, 0.14


def model_of(shape: trimesh.Trimesh, material: Material | None = None) -> Model:
    vertices, faces = np.asarray(shape.vertices, np.float32), np.asarray(shape.faces, np.int32)
    return Model(vertices, faces, materials=(material or Material(metallic=0.0),))


def solid_of(shape: trimesh.Trimesh, cells: int = 64) -> SolidGrid:
    return carve_solid(opaque_caster(model_of(shape)), cells=cells)


def depth_of(shape: trimesh.Trimesh, cameras: Cameras) -> np.ndarray:
    origins, directions = cameras.rays(0)
    hits = opaque_caster(model_of(shape)).first_hits(origins, directions)
    along = hits.distance * (directions @ -cameras.c2w[0, :3, 2])
    return np.where(hits.face >= 0, along, 0).reshape(cameras.height, cameras.width)


def members_of(sample: Sample, tmp_path: Path) -> dict[str, memoryview]:
    path = tmp_path / "sample.tar"
    path.write_bytes(sample.fragment + END_OF_TAR)
    return Shard(path).members(0)


def geometry_of(members: dict[str, memoryview]) -> SampleGeometry:
    return read_geometry(json.loads(bytes(members["json"])), members)


def distance_to_torus(points: np.ndarray) -> np.ndarray:
    """Signed, negative inside; around z."""
    return np.hypot(np.hypot(points[..., 0], points[..., 1]) - RADIUS, points[..., 2]) - TUBE


@pytest.mark.parametrize(
    ("shape", "distance"),
    [
        (trimesh.creation.icosphere(4, 0.5), lambda p: np.linalg.norm(p, axis=-1) - 0.5),
        (trimesh.creation.box((1, 0.8, 0.6)), lambda p: (np.abs(p) - [0.5, 0.4, 0.3]).max(-1)),
        (trimesh.creation.torus(RADIUS, TUBE, 64, 48), distance_to_torus),
    ],
    ids=["sphere", "box", "torus"],
)
def test_a_solid_is_the_shape_within_a_shell(shape, distance):
    solid = solid_of(shape)
    axis = ((np.arange(64) + 0.5) / 64 - 0.5) * solid.side
    signed = distance(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1))
    assert solid.occupied[
        signed <= -0.1 * solid.cell
    ].all()  # the facets lie a little inside the round shapes
    assert not solid.occupied[signed > 2 * solid.cell].any()
    shell = (solid.volume - abs(shape.volume)) / shape.area / solid.cell
    assert 0.5 < shell < 1  # thicker by the slack, and by less than a cell


def test_an_open_box_keeps_its_walls_and_its_inside_is_empty():
    shape = trimesh.creation.box((1, 1, 1))
    shape.update_faces(shape.face_normals[:, 2] < 0.5)  # no lid, no thickness
    solid = solid_of(shape, 48)
    ahead = np.linspace(-0.45, 0.45, 40)
    first, second = (part.ravel() for part in np.meshgrid(ahead, ahead))
    for axis in range(2):
        for side in (-0.5, 0.5):
            wall = np.insert(np.stack([first, second], 1), axis, side * (1 - 1e-6), axis=1)
            assert solid.at(wall).all()
    assert solid.at(np.stack([first, second, np.full_like(first, -0.5 + 1e-6)], 1)).all()
    inner = np.stack([first, second, np.zeros_like(first)], 1) * 0.8
    assert not solid.at(inner).any()
    # Inside out and crossing itself, it is the same solid.
    shape.invert()
    again = trimesh.util.concatenate([shape, shape])
    assert (solid_of(again, 48).occupied == solid.occupied).all()


def test_cut_out_faces_are_no_part_of_the_solid():
    clear = Material(base_color=(1, 1, 1, 0.0), alpha_mode="mask", metallic=0.0)
    caster = opaque_caster(model_of(trimesh.creation.box((1, 1, 1)), clear))
    assert not carve_solid(caster, cells=16).occupied.any()


def test_a_solid_survives_its_file():
    solid = SolidGrid(np.random.default_rng(0).random((9, 9, 9)) < 0.5, 1.06)
    packed = pack_solid(solid)
    assert packed == pack_solid(solid)
    found = unpack_solid(memoryview(packed))
    assert (found.occupied == solid.occupied).all() and found.side == solid.side
    for broken in (b"", packed[:40], packed[:200] + b"\0" * 50 + packed[250:]):
        with pytest.raises(InputError, match="solid"):
            unpack_solid(broken)


def test_directions_look_from_everywhere():
    towards = view_directions(28)
    assert towards.shape == (28, 3)
    np.testing.assert_allclose(np.linalg.norm(towards, axis=1), 1)
    anywhere = np.random.default_rng(0).normal(size=(500, 3))
    anywhere /= np.linalg.norm(anywhere, axis=1, keepdims=True)
    assert np.degrees(np.arccos((anywhere @ towards.T).max(1))).max() < 35


def test_the_layers_of_a_sphere_are_its_chords():
    shape = trimesh.creation.icosphere(5, 0.4)
    solid = solid_of(shape, 96)
    cameras = orbit_cameras([20.0], [70.0], radius=2.0, width=48, height=48)
    layers = layered_depth(solid, cameras, 0, depth_of(shape, cameras))
    _, directions = cameras.rays(0)
    cosine = directions @ -cameras.c2w[0, :3, 2]
    middle = 2.0 * cosine  # along the ray, to the point nearest to the centre
    half = np.sqrt(np.maximum(0.4**2 - (4 - middle**2), 0))
    enter, leave, second, last = layers.reshape(4, -1)
    seen = half > 0.1
    np.testing.assert_allclose(enter[seen], ((middle - half) * cosine)[seen], atol=2e-3)
    error = (leave - (middle + half) * cosine)[seen] / solid.cell
    assert abs(np.median(error)) < 0.3 and np.abs(error).max() < 4
    assert not second[seen].any() and not last[seen].any()
    assert not layers[:, depth_of(shape, cameras) == 0].any()


def test_a_torus_side_on_has_two_layers():
    shape = trimesh.creation.torus(RADIUS, TUBE, 96, 64)
    solid = solid_of(shape, 96)
    cameras = orbit_cameras([0.0], [0.0], radius=2.0, width=49, height=49)
    layers = layered_depth(solid, cameras, 0, depth_of(shape, cameras))
    # Through the middle: tube, hole, tube.
    expected = 2 + np.array([-RADIUS - TUBE, -RADIUS + TUBE, RADIUS - TUBE, RADIUS + TUBE])
    np.testing.assert_allclose(layers[:, 24, 24], expected, atol=1.2 * solid.cell)
    # Past the hole there is one.
    edge = np.flatnonzero(layers[0, 24])[[1, -2]]
    assert not layers[2:, 24, edge].any()
    seen = layers[0] > 0
    assert (layers[1] > layers[0])[seen].all()
    two = layers[3] > 0
    assert two.any() and ((layers[2] >= layers[1]) & (layers[3] > layers[2]))[two].all()


def test_short_gaps_are_closed():
    row = np.array([[1, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0]], bool)
    np.testing.assert_array_equal(closed(row, 3), [[1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 0]])
    np.testing.assert_array_equal(closed(row, 1), row)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("objects")
    colourful(trimesh.creation.icosphere(3, 2.0), folder / "ball.glb")
    colourful(trimesh.creation.torus(2.0, 0.7, 16, 12), folder / "torus.glb")
    (folder / "noise.glb").write_bytes(b"glTF" + bytes(range(200)))
    return folder


def test_a_sample_holds_depth_and_solid(folder, tmp_path):
    item = CatalogueItem("ball", folder / "ball.glb")
    members = members_of(render_object(item, GEOMETRY), tmp_path)
    found = geometry_of(members)
    assert found.depth.shape == (3, 32, 32) and found.solid.occupied.shape == (32, 32, 32)
    stored = json.loads(bytes(members["json"]))["cameras"]
    lens = {key: stored[key] for key in ("fl_x", "fl_y", "cx", "cy")}
    cameras = Cameras(
        np.array(stored["c2w"]),
        **{key: np.full(3, value) for key, value in lens.items()},
        width=stored["w"],
        height=stored["h"],
    ).resized(32, 32)
    for view in range(3):
        origins, directions = cameras.rays(view)
        middle = -(origins * directions).sum(1)
        half = 0.25 - ((origins + middle[:, None] * directions) ** 2).sum(1)
        expected = (middle - np.sqrt(np.maximum(half, 0))) * (directions @ -cameras.c2w[view, :3, 2])
        depth = found.depth[view].reshape(-1)
        np.testing.assert_allclose(depth[half > 0.02], expected[half > 0.02], atol=1e-2)
        assert not depth[half < 0].any()
    with pytest.raises(InputError, match="--geometry"):
        read_geometry({}, members)


def test_cells_of_the_surface_are_those_beside_empty_ones():
    solid = np.random.default_rng(0).random((7, 7, 7)) < 0.7
    expected = [
        place
        for place in np.ndindex(7, 7, 7)
        if solid[place]
        and any(
            not 0 <= place[axis] + shift < 7
            or not solid[tuple(np.add(place, shift * np.eye(3, dtype=int)[axis]))]
            for axis in range(3)
            for shift in (-1, 1)
        )
    ]
    assert surface_cells(solid).tolist() == [list(place) for place in expected]


def test_cells_of_the_surface_have_the_colours_there(tmp_path):
    """A ball whose colour is linear in the place, and the colours of its cells by the nearest point of the ball."""
    ball = trimesh.creation.icosphere(4, 0.5)
    colors = (127.5 + 127.5 * ball.vertices / 0.5).round().astype(np.uint8)
    ball.visual.vertex_colors = np.concatenate([colors, np.full((len(colors), 1), 255, np.uint8)], 1)
    ball.export(tmp_path / "ball.glb")
    config = replace(GEOMETRY, views=1, solid_colors=True)
    item = CatalogueItem("ball", tmp_path / "ball.glb")
    found = geometry_of(members_of(render_object(item, config), tmp_path))
    cells = surface_cells(found.solid.occupied)
    towards = (cells + 0.5) / 32 - 0.5
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    expected = encode_srgb((0.5 + 0.5 * towards[:, [1, 2, 0]]).astype(np.float32)) * 255
    assert found.solid_colors is not None and found.solid_colors.shape == cells.shape
    # A file's up is y. A cell is a sixteenth of the radius, and dark values are steep in sRGB.
    assert np.abs(found.solid_colors - expected).mean() < 4
    # Without them the sample is the same but for their file and their number.
    members, plain = (
        {
            name: memoryview(bytes(part))
            for name, part in members_of(render_object(item, asked), tmp_path).items()
        }
        for asked in (config, replace(config, solid_colors=False))
    )
    assert members.keys() - plain.keys() == {"solid_colors.png"} and geometry_of(plain).solid_colors is None
    assert bytes(members["solid.npz"]) == bytes(plain["solid.npz"])
    with pytest.raises(InputError, match="expected 0 pixels, one a surface cell"):
        geometry_of(members | {"solid.npz": memoryview(pack_solid(SolidGrid(np.zeros((8, 8, 8), bool))))})
    with pytest.raises(UsageError, match="--solid-colors: expected --geometry"):
        replace(CONFIG, solid_colors=True)


def test_normals_and_albedo_come_on_demand(folder, tmp_path):
    item = CatalogueItem("ball", folder / "ball.glb")
    plain = render_object(item, CONFIG)
    sample = render_object(item, replace(CONFIG, normals=True, albedo=True))
    members = members_of(sample, tmp_path)
    assert {"000.normals.png", "002.albedo.png"} <= members.keys() and "solid.npz" not in members
    document, frames = unpack(sample, tmp_path)
    np.testing.assert_array_equal(frames, unpack(plain, tmp_path)[1])
    normals = decode_normals(members["000.normals.png"])
    back = np.array(document["cameras"]["c2w"][0])[:3, 2]
    middle = normals[24, 24]
    assert middle @ back > 0.99 and not normals[0, 0].any()
    np.testing.assert_allclose(decode_normals(encode_normals(normals)), normals, atol=0.012)


def test_what_is_not_asked_for_changes_nothing(folder):
    assert (
        identity(CONFIG)
        .keys()
        .isdisjoint({"geometry", "depth_size", "solid_cells", "solid_colors", "normals", "albedo"})
    )
    assert identity(GEOMETRY.resolved())["geometry"] is True
    assert replace(GEOMETRY, depth_size=48).resolved().depth_size is None
    with pytest.raises(UsageError, match="--depth-size"):
        replace(CONFIG, depth_size=64)


def test_shards_with_geometry_resume_verify_and_join(folder, tmp_path):
    items, out = read_list(folder)[:2], tmp_path / "a"
    config = replace(GEOMETRY, views=2, shard_size=1, solid_cells=16, solid_colors=True)
    build_shards(items, out, config, workers=1)
    whole = content(out)
    index = out / "index.json"
    before = json.loads(index.read_text())
    assert before["config"]["geometry"] and before["config"]["depth_size"] == 32
    for name in ("shard-000000.json", "shard-000000.tar"):  # as if killed before this shard was written
        (out / name).unlink()
    index.write_text(json.dumps(before | {"finished": False}))
    build_shards(items, out, config, workers=1)
    assert content(out) == whole
    assert not inspect_shards(out, verify=True).problems
    build_shards(read_list(folder)[2:3], tmp_path / "b", config, workers=1)
    joined = join_shards([out, tmp_path / "b"], tmp_path / "joined")
    assert joined.index["config"]["geometry"] and joined.index["config"]["solid_colors"]
    without = {key: value for key, value in before["config"].items() if key != "geometry"}
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "index.json").write_text(json.dumps(before | {"config": without}))
    with pytest.raises(InputError, match="geometry"):
        join_shards([out, tmp_path / "c"], tmp_path / "never")
