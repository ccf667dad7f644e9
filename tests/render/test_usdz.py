"""USDZ: usd-core's own checker, and the stage as it is read back."""

from __future__ import annotations

import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from helpers.shapes import cube, textured_quad

from mv3d.core.errors import InputError, MissingPartError
from mv3d.render.cameras import gltf_from_world
from mv3d.render.mesh import Mesh
from mv3d.render.tangents import with_tangents
from mv3d.render.writers import check_writers


@pytest.fixture
def usd():
    return pytest.importorskip("pxr.Usd")


def complaints(path):
    """What the validators of usd-core say, those that replaced its ComplianceChecker."""
    validation = pytest.importorskip("pxr.UsdValidation", reason="usd-core without validators")
    validators = validation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(validators) > 20
    from pxr import Usd  # pyright: ignore[reportMissingImports]

    found = validation.ValidationContext(validators).Validate(Usd.Stage.Open(str(path)))
    return [error.GetErrorAsString() for error in found]


def checked(path):
    """The stage of a package that the validators find nothing wrong with."""
    from pxr import Usd  # pyright: ignore[reportMissingImports]

    assert complaints(path) == []
    return Usd.Stage.Open(str(path))


def test_the_validators_do_complain(usd, tmp_path):
    from pxr import Sdf, Usd, UsdShade  # pyright: ignore[reportMissingImports]

    stage = Usd.Stage.CreateNew(str(tmp_path / "a.usda"))
    shader = UsdShade.Shader.Define(stage, "/material/surface")
    shader.CreateIdAttr("UsdPreviewSurface")
    shader.CreateInput("metallic", Sdf.ValueTypeNames.Color3f)
    stage.GetRootLayer().Save()
    said = " ".join(complaints(tmp_path / "a.usda"))
    assert "upAxis" in said and "metersPerUnit" in said and "defaultPrim" in said and "metallic" in said


def relief(mesh: Mesh) -> Mesh:
    flat = np.full((8, 8, 3), (128, 128, 255), np.uint8)
    return replace(with_tangents(mesh), normal_map=flat)


@pytest.mark.parametrize("jpeg", [None, 80])
@pytest.mark.parametrize("with_relief", [False, True])
def test_the_checker_passes_a_textured_mesh(usd, jpeg, with_relief, tmp_path):
    from pxr import UsdGeom, UsdShade  # pyright: ignore[reportMissingImports]

    mesh = relief(textured_quad()) if with_relief else textured_quad()
    path = mesh.export(tmp_path / "quad.usdz", jpeg_quality=jpeg, name="my quad")
    stage = checked(path)
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    assert stage.GetDefaultPrim().GetPath() == "/my_quad"
    shape = UsdGeom.Mesh(stage.GetPrimAtPath("/my_quad/mesh"))
    assert np.array(shape.GetPointsAttr().Get()) == pytest.approx(gltf_from_world(mesh.vertices))
    assert (np.array(shape.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3) == mesh.faces).all()
    assert shape.GetSubdivisionSchemeAttr().Get() == "none"
    assert mesh.uv is not None
    st = np.array(UsdGeom.PrimvarsAPI(shape).GetPrimvar("st").Get())
    assert st == pytest.approx(mesh.uv * [1, -1] + [0, 1])
    material, _ = UsdShade.MaterialBindingAPI(shape).ComputeBoundMaterial()
    surface = material.ComputeSurfaceSource()[0]
    source = UsdShade.Shader(surface.GetInput("diffuseColor").GetConnectedSources()[0][0].source.GetPrim())
    ending = "jpg" if jpeg else "png"
    assert source.GetInput("file").Get().path == f"my_quad_albedo.{ending}"
    assert source.GetInput("sourceColorSpace").Get() == "sRGB"
    assert bool(surface.GetInput("normal")) == with_relief
    names = ["my_quad.usdc", f"my_quad_albedo.{ending}", *(["my_quad_normals.png"] if with_relief else [])]
    assert zipfile.ZipFile(path).namelist() == names


def test_colours_of_vertices_are_linear(usd, tmp_path):
    from pxr import UsdGeom  # pyright: ignore[reportMissingImports]

    mesh = cube(0.6, (188, 0, 255))
    stage = checked(mesh.export(tmp_path / "cube.usdz"))
    shape = UsdGeom.Mesh(stage.GetPrimAtPath("/mv3d/mesh"))
    colors = np.array(shape.GetDisplayColorPrimvar().Get())
    assert colors == pytest.approx(np.tile([0.503, 0, 1], (len(mesh.vertices), 1)), abs=1e-3)
    both = replace(textured_quad(), vertex_colors=np.full((4, 3), 255, np.uint8))
    stage = checked(both.export(tmp_path / "both.usdz"))
    assert UsdGeom.Mesh(stage.GetPrimAtPath("/mv3d/mesh")).GetDisplayColorPrimvar().Get()


def test_no_faces_no_file(usd, tmp_path):
    with pytest.raises(InputError, match="at least one face"):
        Mesh(np.zeros((3, 3)), np.zeros((0, 3), np.int32)).export(tmp_path / "a.usdz")
    assert not list(tmp_path.iterdir())


def test_without_usd_core_the_way_out_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pxr", None)
    with pytest.raises(MissingPartError, match=r"a\.usdz: .*pip install usd-core"):
        cube().export(tmp_path / "a.usdz")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_writers(("glb", "3mf"))
    with pytest.raises(MissingPartError, match=r"--format usdz: .*usd-core"):
        check_writers(("glb", "usdz"))
