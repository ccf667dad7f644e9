"""Meshes of other libraries and back: nothing moves, turns or changes its colour."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from helpers.shapes import cube, sphere, textured_quad

from mv3d.core.errors import InputError, MissingPartError
from mv3d.render.mesh import Mesh, smooth_normals
from mv3d.render.mesh_io import sampled_vertex_colors
from mv3d.render.tangents import with_tangents

FIELDS = ("vertices", "faces", "normals", "uv", "texture", "vertex_colors", "normal_map", "tangents")


def full() -> Mesh:
    relief = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)
    mesh = replace(with_tangents(textured_quad()), normal_map=relief)
    return replace(
        mesh, vertex_colors=np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [255, 255, 0]], np.uint8)
    )


MESHES = {
    "bare": replace(cube(), vertex_colors=None),
    "colours": sphere(),
    "normals": replace(cube(), normals=smooth_normals(cube().vertices, cube().faces)),
    "texture": textured_quad(),
    "everything": full(),
}


@pytest.mark.parametrize("name", MESHES)
def test_there_and_back_by_trimesh(name):
    mesh = MESHES[name]
    back = Mesh.from_trimesh(mesh.to_trimesh())
    for field in FIELDS:
        expected, got = getattr(mesh, field), getattr(back, field)
        assert (expected is None) == (got is None), field
        if expected is not None:
            assert got == pytest.approx(expected, abs=1e-6), field


def test_trimesh_shows_the_texture_as_mv3d_does():
    """Its own sampler at the corners' places finds red above and blue below, and so does the glb that it writes."""
    made = textured_quad().to_trimesh()
    colors = made.visual.to_color().vertex_colors[:, :3]
    assert (colors == [[0, 0, 125], [0, 0, 250], [250, 0, 0], [125, 0, 0]]).all()
    read = trimesh.load(
        trimesh.util.wrap_as_stream(made.export(file_type="glb")), file_type="glb", force="mesh"
    )
    again = Mesh.from_trimesh(read)
    assert again.uv == pytest.approx(textured_quad().uv) and (again.texture == textured_quad().texture).all()


def test_colours_of_faces_and_of_materials_from_trimesh():
    box = trimesh.creation.box()
    box.visual.face_colors = np.arange(36, dtype=np.uint8).reshape(12, 3)
    mesh = Mesh.from_trimesh(box)
    assert len(mesh.vertices) == 36 and (mesh.vertex_colors[mesh.faces[5]] == [15, 16, 17]).all()
    assert mesh.triangles == pytest.approx(box.triangles)
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=[200, 100, 50, 255])
    box.visual = trimesh.visual.TextureVisuals(uv=np.zeros((8, 2)), material=material)
    assert (Mesh.from_trimesh(box).vertex_colors == [200, 100, 50]).all()


def test_no_trimesh_is_refused():
    scene = trimesh.Scene([trimesh.creation.box()])
    with pytest.raises(InputError, match=r"got Scene; a scene becomes one by scene\.to_geometry"):
        Mesh.from_trimesh(scene)
    assert len(Mesh.from_trimesh(scene.to_geometry()).faces) == 12


@pytest.mark.parametrize("library", ["open3d", "pytorch3d"])
def test_an_absent_library_is_one_sentence(library, monkeypatch):
    for name in [library, f"{library}.renderer", f"{library}.structures"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPartError, match=f"expected the package {library}, got none"):
        getattr(cube(), f"to_{library}")()


def test_open3d_has_the_same_mesh(tmp_path):
    open3d = pytest.importorskip("open3d")
    mesh = MESHES["everything"]
    made = mesh.to_open3d()
    assert np.asarray(made.vertices) == pytest.approx(mesh.vertices)
    assert (np.asarray(made.triangles) == mesh.faces).all()
    assert np.asarray(made.vertex_normals) == pytest.approx(mesh.normals)
    assert np.asarray(made.vertex_colors) * 255 == pytest.approx(mesh.vertex_colors)
    # What it writes looks the same: it turns picture and coordinates over.
    quad = textured_quad()
    assert open3d.io.write_triangle_mesh(str(tmp_path / "a.obj"), quad.to_open3d())
    back = Mesh.load(tmp_path / "a.obj")
    world = back.vertices[:, [1, 2, 0]]  # obj is read as Y up
    order = [int(np.abs(world - place).sum(1).argmin()) for place in quad.vertices]
    colors = sampled_vertex_colors(back)[order]
    assert (colors == [[0, 0, 125], [0, 0, 250], [250, 0, 0], [125, 0, 0]]).all()


def test_pytorch3d_has_the_same_mesh():
    pytest.importorskip("pytorch3d")
    mesh = MESHES["texture"]
    made = mesh.to_pytorch3d()
    assert made.verts_packed().numpy() == pytest.approx(mesh.vertices)
    assert (made.faces_packed().numpy() == mesh.faces).all()
    assert made.textures.maps_padded()[0].numpy() * 255 == pytest.approx(mesh.texture)
    assert mesh.uv is not None
    assert made.textures.verts_uvs_padded()[0].numpy() == pytest.approx(mesh.uv * [1, -1] + [0, 1])
    colors = sphere().to_pytorch3d().textures.verts_features_packed().numpy()
    assert colors * 255 == pytest.approx(sphere().vertex_colors)


def test_import_stays_light():
    code = "import sys, mv3d; print(*({'trimesh', 'open3d', 'pxr', 'pytorch3d', 'torch', 'scipy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
