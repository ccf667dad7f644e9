"""PLY → `Model`: polygons and strips, colours of vertices or faces, textures as MeshLab and its kin name them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int, UInt8

from mv3d.core.colors import linear_from_srgb
from mv3d.core.errors import InputError
from mv3d.render.assembly import Assembly, Part
from mv3d.render.limits import LoadLimits
from mv3d.render.mesh import vertex_normals
from mv3d.render.model import UNSTATED, Material, Model, without_picture
from mv3d.render.ply_file import PlyFile, Rows, read_ply_file
from mv3d.render.polygons import triangulate
from mv3d.render.resources import MissingFileError, PictureError, Resources, UnusableFileError

PLY_COLOURS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
"""Names of the properties of vertices or faces that are colours, sRGB; alpha (a, diffuse_alpha) may follow."""
PLY_COORDINATES = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"), ("texture_s", "texture_t"))
"""Names of the properties of vertices that are texture coordinates, the second from the bottom up."""
_ALPHAS = {"red": "alpha", "diffuse_red": "diffuse_alpha", "r": "a"}
_INDICES = ("vertex_indices", "vertex_index")
_FULL = {"u1": 255.0, "i1": 127.0, "u2": 65535.0}


def read_ply(resources: Resources, limits: LoadLimits) -> Model:
    """Z up. Without normals vertices are smooth. Pictures are those of `comment TextureFile`, per vertex or per corner
    (`texcoord`, `texnumber`). Raises InputError for a broken file."""
    try:
        file = read_ply_file(resources.main(), max(limits.vertices, limits.faces))
        return _model(file, resources, limits)
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise InputError(
            f"{resources.name}: not a valid ply file ({' '.join(str(error).split())[:100]})"
        ) from error


def _model(file: PlyFile, resources: Resources, limits: LoadLimits) -> Model:
    vertex, face = file.elements.get("vertex", {}), file.elements.get("face", {})
    if not all(axis in vertex for axis in "xyz"):
        raise ValueError("expected vertices with x, y and z")
    places = _columns(vertex, "xyz").astype(np.float64)
    if not np.isfinite(places).all():
        raise InputError(f"{resources.name}: vertices: expected finite numbers, got NaN or infinity")
    corner, sizes = _polygons(face)
    strips = _strips(file.elements.get("tristrips", {}))
    for what in (corner, strips):
        if len(what) and (what.min() < 0 or what.max() >= len(places)):
            raise InputError(
                f"{resources.name}: expected vertex indices in 0..{len(places) - 1}, got {what.min()}..{what.max()}"
            )
    Assembly(resources.name, limits).check_room(
        int(np.maximum(sizes - 2, 0).sum()) + len(strips), len(places)
    )
    triangles, owner = triangulate(places[corner], sizes)
    faces = corner[triangles]
    proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    triangles, owner, faces = triangles[proper], owner[proper], faces[proper]
    normals = _normals(vertex, places, np.concatenate([faces, strips]))
    assembly, looks = Assembly(resources.name, limits, resources.warnings), list[Material]()
    textures = [line.split(None, 1)[1] for line in file.comments if line.lower().startswith("texturefile ")]
    colors, per_face = _colors(vertex, resources), _colors(face, resources)
    if colors is not None and per_face is not None and not np.ptp(colors, axis=0).any():
        colors = None  # one colour all over says less than the faces'
    uv = next(
        (_columns(vertex, pair) for pair in PLY_COORDINATES if all(name in vertex for name in pair)), None
    )
    per_corner = _corner_coordinates(face, sizes)
    number = np.zeros(len(sizes), np.int64)
    if textures and "texnumber" in face and face["texnumber"].sizes is None:
        number = np.clip(face["texnumber"].values.astype(np.int64), 0, len(textures) - 1)
    materials = [_textured(name, resources) for name in textures]
    split = per_corner is not None or (colors is None and per_face is not None)
    for which in np.unique(number[owner]) if len(owner) else ():
        mine = number[owner] == which
        looks.append(materials[which] if textures else _plain(colors if colors is not None else per_face))
        own_faces, rows = faces[mine], np.arange(len(places))
        if split:
            rows = own_faces.reshape(-1)
            own_faces = np.arange(len(rows)).reshape(-1, 3)
        else:
            rows, inverse = np.unique(own_faces, return_inverse=True)
            own_faces = inverse.reshape(-1, 3)
        own_uv = None if uv is None else uv[rows]
        if per_corner is not None:
            own_uv = per_corner[triangles[mine].reshape(-1)]
        tint = None if colors is None else colors[rows]
        if tint is None and per_face is not None:
            tint = np.repeat(per_face[owner[mine]], 3, axis=0)
        assembly.add(
            Part(
                places[rows].astype(np.float32),
                own_faces,
                len(looks) - 1,
                normals[rows],
                None if own_uv is None or not textures else (own_uv * [1, -1] + [0, 1]).astype(np.float32),
                None if looks[-1].base_color_texture is not None else tint,
            )
        )
    if len(strips):
        looks.append(_plain(colors))
        assembly.add(Part(places.astype(np.float32), strips, len(looks) - 1, normals, None, colors))
    return assembly.model(tuple(looks))


def _columns(element: Mapping[str, Rows], names: tuple[str, ...] | str) -> Float[np.ndarray, "n k"]:
    if any(element[name].sizes is not None for name in names):
        raise ValueError(f"expected one value a row in {', '.join(names)}, got lists")
    return np.stack([element[name].values.astype(np.float64) for name in names], 1)


def _polygons(face: Mapping[str, Rows]) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " p"]]:
    """Indices of the corners, polygon after polygon, and the corners of each."""
    name = next((name for name in _INDICES if name in face), None)
    if name is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows = face[name]
    if rows.sizes is None:
        raise ValueError(f"expected lists in {name}, got single values")
    if not np.isfinite(rows.values).all():
        raise ValueError("expected whole numbers as indices")
    return rows.values.astype(np.int64), rows.sizes.astype(np.int64)


def _strips(element: Mapping[str, Rows]) -> Int[np.ndarray, "t 3"]:
    """The triangles of strips that -1 ends; every second one is turned round."""
    corner, sizes = _polygons(element)
    found = [np.zeros((0, 3), np.int64)]
    for strip in np.split(corner, np.cumsum(sizes)[:-1]) if len(sizes) else ():
        for piece in np.split(strip, np.flatnonzero(strip == -1)):
            part = piece[piece != -1]
            if len(part) < 3:
                continue
            triangles = np.stack([part[:-2], part[1:-1], part[2:]], 1)
            triangles[1::2] = triangles[1::2, [1, 0, 2]]
            found.append(triangles)
    triangles = np.concatenate(found)
    a, b, c = triangles.T
    return triangles[(a != b) & (b != c) & (c != a)]


def _normals(
    vertex: Mapping[str, Rows], places: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> Float[np.ndarray, "v 3"]:
    """The file's normals where all have a length, else smooth ones."""
    if all(name in vertex for name in ("nx", "ny", "nz")):
        given = _columns(vertex, ("nx", "ny", "nz"))
        length = np.linalg.norm(np.nan_to_num(given), axis=1, keepdims=True)
        if np.isfinite(given).all() and (length > 1e-6).all():
            return (given / length).astype(np.float32)
    return vertex_normals(places.astype(np.float32), faces)


def _colors(element: Mapping[str, Rows], resources: Resources) -> Float[np.ndarray, "n 4"] | None:
    """Linear RGBA of vertices or faces, or None."""
    names = next((names for names in PLY_COLOURS if all(name in element for name in names)), None)
    if names is None or not len(element[names[0]].values):
        return None
    alpha = _ALPHAS[names[0]]
    shown = np.stack([_levels(element[name]) for name in names], 1)
    opacity = _levels(element[alpha]) if alpha in element else np.ones(len(shown))
    if not opacity.any():
        resources.warnings.add("read_as_opaque", "the alpha of all colours is 0 and is left out")
        opacity = np.ones(len(shown))
    return np.concatenate([linear_from_srgb(shown), opacity[:, None]], 1).astype(np.float32)


def _levels(rows: Rows) -> Float[np.ndarray, " n"]:
    """In [0, 1]: whole numbers by the range of their type, fractions as they are, up to 255 where any is above 1."""
    if rows.sizes is not None:
        raise ValueError("expected one value a row as colour, got lists")
    values = np.nan_to_num(rows.values.astype(np.float64))
    full = _FULL.get(rows.kind, 255.0 if rows.kind[0] in "iu" or values.max() > 1.001 else 1.0)
    return np.clip(values / full, 0, 1)


def _corner_coordinates(
    face: Mapping[str, Rows], sizes: Int[np.ndarray, " p"]
) -> Float[np.ndarray, "c 2"] | None:
    """Of every corner; zeros for faces whose list has another length than twice their corners. None where no face has
    any."""
    rows = face.get("texcoord")
    if rows is None or rows.sizes is None or not (rows.sizes == 2 * sizes).any():
        return None
    if (rows.sizes == 2 * sizes).all():
        return np.nan_to_num(rows.values.astype(np.float64)).reshape(-1, 2)
    found = np.zeros((int(sizes.sum()), 2))
    good = rows.sizes == 2 * sizes
    found[np.repeat(good, sizes)] = rows.values[np.repeat(good, rows.sizes)].reshape(-1, 2)
    return np.nan_to_num(found)


def _plain(colors: np.ndarray | None) -> Material:
    if colors is None:
        return UNSTATED
    clear = bool((colors[:, 3] < 1).any())
    return Material(metallic=0.0, roughness=0.8, alpha_mode="blend" if clear else "opaque")


def _textured(name: str, resources: Resources) -> Material:
    name = name.strip().strip("\"'")
    material = Material(name=name[:80], metallic=0.0, roughness=0.8)
    try:
        data, _ = resources.found(name, "the picture")
        texture: UInt8[np.ndarray, "h w 4"] = resources.picture(data, f"texture {name[:80]!r}")
        clear = bool((texture[..., 3] < 255).any())
        return Material(
            name[:80],
            base_color_texture=texture,
            metallic=0.0,
            roughness=0.8,
            alpha_mode="blend" if clear else "opaque",
        )
    except MissingFileError:
        resources.warnings.add("missing_texture", f"the picture {name[:80]!r} is not there")
    except (PictureError, UnusableFileError) as error:
        resources.warnings.add("unusable_texture", f"the picture {name[:80]!r} cannot be used ({error.why})")
    return without_picture(material, "base_color_texture")
