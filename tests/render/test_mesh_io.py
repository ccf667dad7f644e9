"""Mesh files: round trips, the frames of the formats, and failures that leave nothing behind."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from helpers.shapes import cube, sphere, textured_quad

from mv3d.core.colors import linear_from_srgb
from mv3d.core.errors import InputError, OutputError, UsageError
from mv3d.render.cameras import orbit_cameras
from mv3d.render.limits import LoadLimits
from mv3d.render.mesh import Mesh, face_normals, vertex_normals, weld
from mv3d.render.mesh_io import glb_bytes, load_mesh
from mv3d.render.raycast import render_view
from mv3d.render.topology import inspect_mesh
from mv3d.render.writers import save_mesh


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply", "stl"])
def test_round_trip_keeps_the_world_frame(tmp_path, suffix):
    mesh = cube()
    mesh = Mesh(mesh.vertices * [1, 2, 3], mesh.faces, vertex_colors=mesh.vertex_colors)
    back = load_mesh(mesh.export(tmp_path / f"m.{suffix}"))
    assert np.allclose(np.ptp(back.vertices, axis=0), [0.6, 1.2, 1.8], atol=1e-5)
    report = inspect_mesh(back)
    assert report.watertight and report.shells == 1
    assert report.volume == pytest.approx(0.6 * 1.2 * 1.8, rel=1e-4)


def test_glb_front_faces_positive_z_and_texture_is_upright(tmp_path):
    path = textured_quad().export(tmp_path / "quad.glb")
    # trimesh is the independent reader: Y up, front along +Z.
    part = trimesh.load_scene(path).dump()[0]
    assert np.allclose(part.face_normals, [0, 0, 1])
    top = np.asarray(part.vertices)[:, 1] > 0
    picked = part.visual.to_color().vertex_colors
    assert (picked[top][:, 0] > 100).all() and (picked[~top][:, 2] > 100).all()


@pytest.mark.parametrize("suffix", ["glb", "obj"])
def test_texture_round_trip(tmp_path, suffix):
    back = load_mesh(textured_quad().export(tmp_path / f"q.{suffix}"))
    assert np.array_equal(back.texture, textured_quad().texture)
    order = np.lexsort(back.vertices.T)
    expected = textured_quad()
    assert np.allclose(back.uv[order], expected.uv[np.lexsort(expected.vertices.T)], atol=1e-5)


@pytest.mark.parametrize("suffix", ["glb", "ply"])
def test_texture_and_vertex_colours_are_multiplied_as_light(tmp_path, suffix):
    quad = textured_quad()
    mesh = replace(quad, vertex_colors=np.tile(np.uint8([188, 188, 188]), (4, 1)))  # half of the light
    back = load_mesh(mesh.export(tmp_path / f"q.{suffix}"))
    cameras = orbit_cameras(0.0, [0.0], radius=5.0, width=64, height=64)
    half, full = render_view(back, cameras, 0), render_view(quad, cameras, 0)
    inside = (half[..., 3] == 1) & (full[..., 0] > 0.4)
    if suffix == "glb":
        assert np.allclose(
            linear_from_srgb(half[inside]),
            linear_from_srgb(full[inside]) * [0.503, 0.503, 0.503, 1],
            atol=0.01,
        )
    else:
        assert half[..., 0].max() == pytest.approx(184 / 255, abs=0.01)  # half of 250


def test_glb_is_a_dielectric_with_named_parts():
    data = glb_bytes(textured_quad(), name="chair")
    length = struct.unpack("<I", data[12:16])[0]
    document = json.loads(data[20 : 20 + length])
    material = document["materials"][0]["pbrMetallicRoughness"]
    assert material["metallicFactor"] == 0.0 and "roughnessFactor" in material
    assert document["nodes"][0]["name"] == document["meshes"][0]["name"] == "chair"


def test_vertex_colors_are_linear_in_glb(tmp_path):
    path = sphere(color=(188, 188, 188)).export(tmp_path / "s.glb")
    data = path.read_bytes()
    assert linear_from_srgb(np.array([188 / 255]))[0] == pytest.approx(0.503, abs=2e-3)
    assert np.float32(linear_from_srgb(np.array(188 / 255))).tobytes() in data


def test_stl_scale_is_millimetres(tmp_path):
    path = cube(0.5).export(tmp_path / "c.stl", scale=200.0)
    assert np.allclose(np.ptp(load_mesh(path).vertices, axis=0), 100)


def test_unknown_suffix_and_unwritable_place(tmp_path):
    with pytest.raises(UsageError, match="fbx"):
        save_mesh(cube(), tmp_path / "m.fbx")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        save_mesh(cube(), tmp_path / "file" / "m.glb")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = cube().export(tmp_path / "m.glb")
    before = path.read_bytes()

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match="No space"):
        sphere().export(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"glTF garbage", b"solid\n"])
def test_corrupt_files_are_refused(tmp_path, content):
    path = tmp_path / "bad.glb"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.glb"):
        load_mesh(path)


def test_a_picture_that_is_cut_off_is_a_warning(tmp_path):
    path = tmp_path / "a.glb"
    textured_quad().export(path)
    data = path.read_bytes()
    begin = data.index(b"IDAT") + 4
    path.write_bytes(data[:begin] + bytes(16) + data[begin + 16 :])
    (warning,) = load_mesh(path).warnings
    assert warning.name == "unusable_texture" and "the picture is broken" in warning.sentence
    assert "\n" not in warning.sentence


def test_more_instances_than_memory_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "many.glb"
    cube().export(path)
    data = path.read_bytes()
    length = int.from_bytes(data[12:16], "little")
    document = json.loads(data[20 : 20 + length])
    document["nodes"] = [{"mesh": 0}] * 50
    document["scenes"] = [{"nodes": list(range(50))}]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    sizes = (20 + len(text) + len(rest)).to_bytes(4, "little") + len(text).to_bytes(4, "little")
    path.write_bytes(data[:8] + sizes + data[16:20] + text + rest)
    assert len(load_mesh(path).faces) == 50 * len(cube().faces)
    monkeypatch.setattr("mv3d.render.mesh_io._LIMITS", LoadLimits(faces=1000))
    with pytest.raises(InputError, match=r"many\.glb: expected at most 1,000 faces with instances"):
        load_mesh(path)


def test_degenerate_faces_are_left_out(tmp_path):
    mesh = cube()
    mesh = Mesh(mesh.vertices, np.concatenate([mesh.faces, [[0, 0, 1]]]))
    assert inspect_mesh(mesh).degenerate == 1
    assert inspect_mesh(load_mesh(mesh.export(tmp_path / "m.glb"))).degenerate == 0


def test_topology_of_known_solids():
    ball, box = sphere(), cube()
    both = Mesh(
        np.concatenate([ball.vertices, box.vertices + 2]),
        np.concatenate([ball.faces, box.faces + len(ball.vertices)]),
    )
    assert inspect_mesh(both).shells == 2 and inspect_mesh(both).watertight
    opened = Mesh(ball.vertices, ball.faces[1:])
    assert not inspect_mesh(opened).watertight
    flipped = Mesh(ball.vertices, np.concatenate([ball.faces[:1, ::-1], ball.faces[1:]]))
    assert not inspect_mesh(flipped).watertight
    assert inspect_mesh(Mesh(ball.vertices, ball.faces[:, ::-1])).volume < 0


def test_normals_of_a_sphere_point_outward():
    ball = sphere(0.5)
    radial = ball.vertices / np.linalg.norm(ball.vertices, axis=1, keepdims=True)
    assert (vertex_normals(ball.vertices, ball.faces) * radial).sum(1).min() > 0.99
    assert np.linalg.norm(face_normals(ball.vertices, ball.faces), axis=1).sum() / 2 == pytest.approx(
        np.pi, rel=0.01
    )


def test_weld_joins_split_seams():
    ball = sphere()
    split = Mesh(ball.vertices[ball.faces].reshape(-1, 3), np.arange(3 * len(ball.faces)).reshape(-1, 3))
    assert len(weld(split.vertices, split.faces)[0]) == len(ball.vertices)
    assert inspect_mesh(split).watertight
