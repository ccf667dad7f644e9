"""3MF: what readers of others (trimesh, lib3mf) find in it, and what its XML says."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import trimesh
from helpers.shapes import cube, sphere, textured_quad
from PIL import Image

from mv3d.core.errors import InputError
from mv3d.render.mesh import Mesh, weld
from mv3d.render.threemf import threemf_bytes
from mv3d.render.writers import WriteOptions

CORE = "{http://schemas.microsoft.com/3dmanufacturing/core/2015/02}"
MATERIAL = "{http://schemas.microsoft.com/3dmanufacturing/material/2015/02}"


def split(mesh: Mesh) -> Mesh:
    """Every face with vertices of its own, as along the seams of a texture."""
    rows = mesh.faces.reshape(-1)
    return replace(mesh.with_vertices(rows), faces=np.arange(len(rows)).reshape(-1, 3))


def model_of(data: bytes) -> ElementTree.Element:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return ElementTree.fromstring(archive.read("3D/3dmodel.model"))


def test_trimesh_reads_a_closed_solid_that_stands_on_the_plate(tmp_path):
    pytest.importorskip("lxml")
    mesh = split(sphere(0.4))
    path = mesh.export(tmp_path / "ball.3mf", scale=125.0)
    read = trimesh.load(path, force="mesh")
    assert read.is_watertight and read.is_winding_consistent
    assert read.bounds[0] == pytest.approx(np.zeros(3), abs=1e-4)
    assert read.extents == pytest.approx(np.ptp(mesh.vertices, axis=0) * 125, rel=1e-6)
    assert read.volume == pytest.approx(
        trimesh.Trimesh(*weld(mesh.vertices, mesh.faces)).volume * 125**3, rel=1e-5
    )


def test_texture_coordinates_of_the_corners_are_those_of_the_mesh():
    mesh = textured_quad()
    data = threemf_bytes(mesh, WriteOptions(scale=10, name='a "b" <c>'))
    model = model_of(data)
    assert model.get("unit") == "millimeter"
    group, item = model.find(f".//{MATERIAL}texture2dgroup"), model.find(f".//{CORE}object")
    assert item.get("name") == 'a "b" <c>'
    assert group is not None
    uv = np.array([[float(c.get("u")), float(c.get("v"))] for c in group])
    points = np.array([[float(v.get(a)) for a in "xyz"] for v in model.iter(f"{CORE}vertex")])
    for triangle, face in zip(model.iter(f"{CORE}triangle"), mesh.faces, strict=True):
        corners = [int(triangle.get(f"v{k}")) for k in (1, 2, 3)]
        assert points[corners] == pytest.approx(mesh.vertices[face] * 10)
        at = [int(triangle.get(f"p{k}")) for k in (1, 2, 3)]
        assert uv[at] == pytest.approx(mesh.uv[face] * [1, -1] + [0, 1])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        picture = Image.open(io.BytesIO(archive.read("3D/Textures/texture.png")))
    assert (np.asarray(picture) == mesh.texture).all()


def test_lib3mf_takes_it_without_a_warning(tmp_path):
    lib3mf = pytest.importorskip("lib3mf")
    wrapper = lib3mf.get_wrapper()

    def read(path):
        model = wrapper.CreateModel()
        reader = model.QueryReader("3mf")
        reader.SetStrictModeActive(True)
        reader.ReadFromFile(str(path))
        assert reader.GetWarningCount() == 0
        assert model.GetUnit() == lib3mf.ModelUnit.MilliMeter
        objects = model.GetMeshObjects()
        objects.MoveNext()
        return model, objects.GetCurrentMeshObject()

    ball = split(sphere(0.4))
    model, found = read(ball.export(tmp_path / "ball.3mf", scale=100))
    assert found.IsManifoldAndOriented() and found.GetTriangleCount() == len(ball.faces)
    assert model.GetColorGroups().Count() == 1
    places = np.array([list(v.Coordinates) for v in found.GetVertices()])
    color = model.GetColorGroups()
    color.MoveNext()
    group = color.GetCurrentColorGroup()
    for number in (0, 777):
        at = found.GetTriangleProperties(number).PropertyIDs
        got = [(c.Red, c.Green, c.Blue) for c in map(group.GetColor, at)]
        assert got == [tuple(row) for row in ball.vertex_colors[ball.faces[number]].tolist()]
        corners = list(found.GetTriangle(number).Indices)
        assert places[corners] == pytest.approx(ball.vertices[ball.faces[number]] * 100, abs=1e-4)
    model, _ = read(textured_quad().export(tmp_path / "quad.3mf", jpeg_quality=90))
    assert model.GetTexture2Ds().Count() == 1 and model.GetTexture2DGroups().Count() == 1


def test_a_texture_with_colours_becomes_their_product():
    mesh = replace(textured_quad(), vertex_colors=np.full((4, 3), 188, np.uint8))
    colors = [c.get("color") for c in model_of(threemf_bytes(mesh, WriteOptions())).iter(f"{MATERIAL}color")]
    # 188 is half the light of 255, and 188 of 250 in it is near 184.
    assert {c for c in colors if c != "#000000"} and all(int(c[1:3], 16) < 190 for c in colors)


def test_the_same_mesh_gives_the_same_bytes_and_none_has_no_file(tmp_path):
    assert threemf_bytes(cube(), WriteOptions()) == threemf_bytes(cube(), WriteOptions())
    empty = Mesh(np.zeros((3, 3)), np.zeros((0, 3), np.int32))
    with pytest.raises(InputError, match="at least one face"):
        empty.export(tmp_path / "a.3mf")
    assert not list(tmp_path.iterdir())
