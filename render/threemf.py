"""3MF, the format of slicers: millimetres, Z up, the picture or the colours of the mesh.

Core Specification 1.3 and Materials and Properties Extension 1.2.1 of the 3MF Consortium (github.com/3MFConsortium).
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Int, UInt8

from mv3d.core.errors import InputError
from mv3d.core.files import write_files
from mv3d.render.mesh import Mesh, weld
from mv3d.render.mesh_io import image_bytes, sampled_vertex_colors
from mv3d.render.writers import WriteOptions

_CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
_MATERIAL = "http://schemas.microsoft.com/3dmanufacturing/material/2015/02"
_RELATION = "http://schemas.microsoft.com/3dmanufacturing/2013/01"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_MODEL = "3D/3dmodel.model"
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold: the same mesh gives the same bytes


def write_3mf(mesh: Mesh, path: Path, options: WriteOptions) -> None:
    """Write one object that stands on the plate; `options.scale` makes millimetres of its coordinates."""
    write_files({path: threemf_bytes(mesh, options)})


def threemf_bytes(mesh: Mesh, options: WriteOptions) -> bytes:
    """A 3MF package. Vertices at the same place are one, so that a closed mesh is closed to slicers; texture coordinates
    and colours belong to the corners of the faces. A mesh with a texture and colours gets their product as colours.

    The object keeps its place; the item of the build moves its box to the corner of the plate. Raises InputError for a
    mesh without faces.
    """
    if not len(mesh.faces):
        raise InputError("mesh: expected at least one face, got none")
    vertices, faces = weld(mesh.vertices, mesh.faces)
    used, inverse = np.unique(faces, return_inverse=True)  # vertices of no face would count for the box
    vertices, faces = vertices[used].astype(np.float64) * options.scale, inverse.reshape(-1, 3)
    picture: tuple[str, bytes] | None = None
    textured = mesh.texture is not None and mesh.uv is not None and mesh.vertex_colors is None
    resources = io.StringIO()
    properties = None  # an entry of the resource for each corner
    if textured and mesh.texture is not None and mesh.uv is not None:
        kind, ending = ("image/jpeg", "jpg") if options.jpeg_quality else ("image/png", "png")
        picture = (f"3D/Textures/texture.{ending}", image_bytes(mesh.texture, options.jpeg_quality))
        resources.write(
            f'<m:texture2d id="1" path="/{picture[0]}" contenttype="{kind}" tilestyleu="clamp" tilestylev="clamp"/>\n'
            '<m:texture2dgroup id="2" texid="1">\n'
        )
        np.savetxt(
            resources, mesh.uv * [1, -1] + [0, 1], '<m:tex2coord u="%.7g" v="%.7g"/>'
        )  # v from the bottom
        resources.write("</m:texture2dgroup>\n")
        properties = mesh.faces
    elif (colors := sampled_vertex_colors(mesh)) is not None:
        different, properties = _distinct(colors, mesh)
        resources.write('<m:colorgroup id="2">\n')
        np.savetxt(resources, different, '<m:color color="#%02X%02X%02X"/>')
        resources.write("</m:colorgroup>\n")
    named = quoteattr(options.name)
    of_object = "" if properties is None else ' pid="2" pindex="0"'
    resources.write(f'<object id="3" type="model" name={named}{of_object}><mesh>\n<vertices>\n')
    np.savetxt(resources, vertices, '<vertex x="%.9g" y="%.9g" z="%.9g"/>')
    resources.write("</vertices>\n<triangles>\n")
    triangle = '<triangle v1="%d" v2="%d" v3="%d"'
    if properties is None:
        np.savetxt(resources, faces, triangle + "/>")
    else:
        triangle += ' pid="2" p1="%d" p2="%d" p3="%d"/>'
        np.savetxt(resources, np.concatenate([faces, properties], 1), triangle)
    resources.write("</triangles>\n</mesh></object>\n")
    shift = " ".join(f"{value:.9g}" for value in -vertices.min(0))
    model = (
        f'{_XML}<model unit="millimeter" xml:lang="en-US" xmlns="{_CORE}" xmlns:m="{_MATERIAL}">\n'
        f'<metadata name="Application">mv3d</metadata>\n<resources>\n{resources.getvalue()}</resources>\n'
        f'<build><item objectid="3" transform="1 0 0 0 1 0 0 0 1 {shift}"/></build>\n</model>\n'
    )
    return _package(model, picture)


def _distinct(
    colors: UInt8[np.ndarray, "v 3"], mesh: Mesh
) -> tuple[UInt8[np.ndarray, "c 3"], Int[np.ndarray, "f 3"]]:
    """Every colour once, and its number for each corner."""
    different, number = np.unique(colors, axis=0, return_inverse=True)
    return different, number.reshape(-1)[mesh.faces]


def _package(model: str, picture: tuple[str, bytes] | None) -> bytes:
    relation = f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">\n<Relationship Id="rel0" Target="/%s" Type="{_RELATION}/%s"/>\n</Relationships>\n'
    types = {"rels": "application/vnd.openxmlformats-package.relationships+xml"}
    types |= {"model": "application/vnd.ms-package.3dmanufacturing-3dmodel+xml"}
    types |= {"png": "image/png", "jpg": "image/jpeg"} if picture else {}
    entries = "".join(f'<Default Extension="{end}" ContentType="{kind}"/>\n' for end, kind in types.items())
    files: dict[str, str | bytes] = {
        "[Content_Types].xml": f'{_XML}<Types xmlns="{_PACKAGE}/content-types">\n{entries}</Types>\n',
        "_rels/.rels": relation % (_MODEL, "3dmodel"),
        _MODEL: model,
    }
    if picture is not None:
        files["3D/_rels/3dmodel.model.rels"] = relation % (picture[0], "3dtexture")
        files[picture[0]] = picture[1]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            packed = isinstance(data, str)
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
            archive.writestr(entry, data)
    return buffer.getvalue()
