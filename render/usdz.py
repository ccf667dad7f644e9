"""USDZ for Quick Look and what else reads USD: one mesh with UsdPreviewSurface (openusd.org/release/spec_usdpreviewsurface.html).

Needs usd-core, the extra `usd`.
"""

# usd-core comes without types.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mv3d.core.colors import linear_from_srgb
from mv3d.core.errors import InputError, MissingPartError
from mv3d.core.files import write_files
from mv3d.render.cameras import gltf_from_world
from mv3d.render.mesh import Mesh, smooth_normals, unit_vectors
from mv3d.render.mesh_io import image_bytes, sampled_vertex_colors
from mv3d.render.writers import USD_HINT, WriteOptions

_ROUGHNESS = 0.9  # as the glb's


def write_usdz(mesh: Mesh, path: Path, options: WriteOptions) -> None:
    """Write a package of one binary USD layer and its pictures: metres, Y up, the front along +Z, as the glb.

    Faces, normals, `st`, texture and normal map; colours of vertices as displayColor. A mesh with a texture and colours
    gets their product as colours. Raises MissingPartError without usd-core, InputError for a mesh without faces.
    """
    if not len(mesh.faces):
        raise InputError("mesh: expected at least one face, got none")
    try:
        from pxr import Sdf, Tf  # pyright: ignore[reportMissingImports]  # noqa: PLC0415 - optional
    except ImportError as error:
        raise MissingPartError(f"{path.name}: {USD_HINT}") from error
    name = Tf.MakeValidIdentifier(options.name)
    pictures: dict[str, bytes] = {}
    if mesh.texture is not None and mesh.uv is not None and mesh.vertex_colors is None:
        ending = "jpg" if options.jpeg_quality else "png"
        pictures[f"{name}_albedo.{ending}"] = image_bytes(mesh.texture, options.jpeg_quality)
    if mesh.normal_map is not None:
        pictures[f"{name}_normals.png"] = image_bytes(mesh.normal_map)
    # usd-core writes files, not bytes; what it wrote is moved into place whole.
    with tempfile.TemporaryDirectory() as folder:
        layer, package = Path(folder, f"{name}.usdc"), Path(folder, "package.usdz")
        _stage(mesh, name, list(pictures), layer)
        writer = Sdf.ZipFileWriter.CreateNew(str(package))
        writer.AddFile(str(layer), layer.name)  # the first one is what opens
        for title, data in pictures.items():
            Path(folder, title).write_bytes(data)
            writer.AddFile(str(Path(folder, title)), title)
        writer.Save()
        data = package.read_bytes()
    write_files({path: data})


def _stage(mesh: Mesh, name: str, pictures: list[str], layer: Path) -> None:
    from pxr import Usd, UsdGeom, UsdShade  # pyright: ignore[reportMissingImports]  # noqa: PLC0415

    stage = Usd.Stage.CreateNew(str(layer))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, f"/{name}")
    Usd.ModelAPI(root).SetKind("component")
    stage.SetDefaultPrim(root.GetPrim())
    albedo = next((title for title in pictures if "_albedo." in title), None)
    normals = next((title for title in pictures if "_normals." in title), None)
    colors = None if albedo else sampled_vertex_colors(mesh)
    shape = _shape(stage, f"/{name}/mesh", mesh, colors, textured=bool(pictures))
    material = _material(stage, f"/{name}/{_surface_of(name)}", albedo, normals, colored=colors is not None)
    UsdShade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(material)
    stage.GetRootLayer().Save()


def _surface_of(name: str) -> str:
    """What the material is called: as the mesh, unless that is the name of another part of it."""
    return f"{name}_material" if name == "mesh" else name


def _shape(
    stage: Any, at: str, mesh: Mesh, colors: UInt8[np.ndarray, "v 3"] | None, *, textured: bool
) -> Any:
    from pxr import Gf, Sdf, UsdGeom, Vt  # pyright: ignore[reportMissingImports]  # noqa: PLC0415

    shape = UsdGeom.Mesh.Define(stage, at)
    places = gltf_from_world(mesh.vertices)
    normals = mesh.normals if mesh.normals is not None else smooth_normals(mesh.vertices, mesh.faces)
    shape.CreatePointsAttr(_vectors(Vt.Vec3fArray, places))
    shape.CreateFaceVertexCountsAttr(Vt.IntArray(len(mesh.faces), 3))
    shape.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(mesh.faces.reshape(-1)))
    shape.CreateNormalsAttr(_vectors(Vt.Vec3fArray, gltf_from_world(unit_vectors(normals, least=1e-6))))
    shape.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    # Without it, USD takes the mesh for the cage of a smooth surface.
    shape.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    shape.CreateExtentAttr([Gf.Vec3f(*places.min(0).tolist()), Gf.Vec3f(*places.max(0).tolist())])
    if textured and mesh.uv is not None:
        primvars = UsdGeom.PrimvarsAPI(shape)
        st = primvars.CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex)
        st.Set(_vectors(Vt.Vec2fArray, mesh.uv * [1, -1] + [0, 1]))  # from the bottom up
    if colors is not None:
        linear = linear_from_srgb(colors.astype(np.float64) / 255)
        shape.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex).Set(_vectors(Vt.Vec3fArray, linear))
    return shape


def _material(stage: Any, at: str, albedo: str | None, normals: str | None, *, colored: bool) -> Any:
    """albedo, normals: files in the package. colored: the vertices have colours, and there is no albedo."""
    from pxr import Gf, Sdf, UsdShade  # pyright: ignore[reportMissingImports]  # noqa: PLC0415

    kinds = Sdf.ValueTypeNames
    material = UsdShade.Material.Define(stage, at)

    def shader(title: str, kind: str, **inputs: tuple[Any, Any]) -> Any:
        made = UsdShade.Shader.Define(stage, f"{at}/{title}")
        made.CreateIdAttr(kind)
        for key, (value_type, value) in inputs.items():
            made.CreateInput(key, value_type).Set(value)
        return made

    def texture(title: str, file: str, space: str, **inputs: tuple[Any, Any]) -> Any:
        common = {"file": (kinds.Asset, file), "sourceColorSpace": (kinds.Token, space)}
        common |= {wrap: (kinds.Token, "clamp") for wrap in ("wrapS", "wrapT")}
        made = shader(title, "UsdUVTexture", **common, **inputs)
        made.CreateInput("st", kinds.Float2).ConnectToSource(coordinates)
        return made.CreateOutput("rgb", kinds.Float3)

    surface = shader(
        "surface", "UsdPreviewSurface", metallic=(kinds.Float, 0.0), roughness=(kinds.Float, _ROUGHNESS)
    )
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", kinds.Token))
    if albedo or normals:
        reader = shader("coordinates", "UsdPrimvarReader_float2", varname=(kinds.String, "st"))
        coordinates = reader.CreateOutput("result", kinds.Float2)
    color = None
    if albedo:
        color = texture("albedo", albedo, "sRGB")
    elif colored:
        reader = shader("colors", "UsdPrimvarReader_float3", varname=(kinds.String, "displayColor"))
        color = reader.CreateOutput("result", kinds.Float3)
    if color is not None:
        surface.CreateInput("diffuseColor", kinds.Color3f).ConnectToSource(color)
    if normals:
        # 0 to 1 in the picture is -1 to 1 in the tangent space.
        scale, bias = Gf.Vec4f(2, 2, 2, 1), Gf.Vec4f(-1, -1, -1, 0)
        ranges = {"scale": (kinds.Float4, scale), "bias": (kinds.Float4, bias)}
        bent = texture("normals", normals, "raw", **ranges)
        surface.CreateInput("normal", kinds.Normal3f).ConnectToSource(bent)
    return material


def _vectors(kind: Any, values: np.ndarray) -> Any:
    return kind.FromNumpy(np.ascontiguousarray(values, np.float32))
