"""PLY and STL: every kind of colour, texture and face, in text and in binary."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mv3d.core.colors import linear_from_srgb
from mv3d.core.errors import InputError
from mv3d.render.loading import load_model
from mv3d.render.model import UNSTATED, Model

CODES = {
    "uchar": "B",
    "char": "b",
    "short": "h",
    "ushort": "H",
    "int": "i",
    "uint": "I",
    "float": "f",
    "double": "d",
}
FORMATS = ("ascii", "binary_little_endian", "binary_big_endian")
XYZ = [("float", "x"), ("float", "y"), ("float", "z")]
SQUARE = [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]]
LIST = ("list uchar int", "vertex_indices")


def write(path: Path, form: str, *elements: tuple[str, list, list], comments: tuple[str, ...] = ()) -> Path:
    """elements: name, properties (kind, name), rows of numbers and of lists of numbers."""
    head = ["ply", f"format {form} 1.0", *(f"comment {text}" for text in comments)]
    body = b""
    order = ">" if "big" in form else "<"
    for name, properties, rows in elements:
        head.append(f"element {name} {len(rows)}")
        head += [f"property {kind} {each}" for kind, each in properties]
        for row in rows:
            words = []
            for (kind, _), value in zip(properties, row, strict=True):
                values = [len(value), *value] if kind.startswith("list") else [value]
                kinds = kind.split()[1:] if kind.startswith("list") else [kind]
                codes = [kinds[0]] + [kinds[-1]] * (len(values) - 1)
                if form == "ascii":
                    words += [f"{number:g}" for number in values]
                else:
                    body += struct.pack(order + "".join(CODES[code] for code in codes), *values)
            body += (" ".join(words) + "\n").encode() if form == "ascii" else b""
    path.write_bytes("\n".join([*head, "end_header\n"]).encode() + body)
    return path


def picture(path: Path, color: list[int]) -> Path:
    Image.fromarray(np.array([[color]], np.uint8)).save(path)
    return path


def names(model: Model) -> list[str]:
    return [warning.name for warning in model.warnings]


def rgb(*values: float) -> np.ndarray:
    return linear_from_srgb(np.array(values) / 255)


@pytest.mark.parametrize("form", FORMATS)
def test_polygons_of_several_sizes_in_every_format(tmp_path, form):
    star = [
        [np.cos(a) * r, 0, np.sin(a) * r]
        for a, r in zip(np.arange(10) * np.pi / 5, [1, 0.4] * 5, strict=True)
    ]
    rows = [[[0, 1, 2]], [[0, 1, 2, 3]], [[*range(4, 14)]], [[0, 0, 1]], [[1]], [[]]]
    path = write(tmp_path / "a.ply", form, ("vertex", XYZ, [*SQUARE, *star]), ("face", [LIST], rows))
    found = load_model(path)
    a, b, c = found.triangles.transpose(1, 0, 2)
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    assert len(found.faces) == 1 + 2 + 8
    assert areas.sum() == pytest.approx(0.5 + 1 + 2 * np.sin(np.pi / 5), rel=1e-5)
    assert found.materials == (UNSTATED,)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("kind", "values"),
    [("uchar", (255, 128, 64, 51)), ("float", (1, 128 / 255, 64 / 255, 0.2)), ("float", (255, 128, 64, 51)),
     ("ushort", (65535, 32896, 16448, 13107)), ("int", (255, 128, 64, 51))],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "diffuse_"])
def test_colours_of_vertices(tmp_path, form, kind, values, prefix):
    colors = [(kind, f"{prefix}{name}") for name in ("red", "green", "blue", "alpha")]
    rows = [[*place, *values] for place in SQUARE]
    path = write(tmp_path / "a.ply", form, ("vertex", XYZ + colors, rows), ("face", [LIST], [[[0, 1, 2, 3]]]))
    found = load_model(path)
    assert found.colors is not None and found.materials[0].alpha_mode == "blend"
    np.testing.assert_allclose(found.colors[0], [*rgb(255, 128, 64), 0.2], atol=2e-3)
    assert len(found.vertices) == 4


@pytest.mark.parametrize("form", FORMATS)
def test_colours_of_faces(tmp_path, form):
    colors = [("uchar", "red"), ("uchar", "green"), ("uchar", "blue")]
    faces = [[[0, 1, 2], 255, 0, 0], [[0, 2, 3], 0, 128, 0], [[3, 2, 1, 0], 0, 0, 255]]
    path = write(tmp_path / "a.ply", form, ("vertex", XYZ, SQUARE), ("face", [LIST, *colors], faces))
    found = load_model(path)
    assert found.colors is not None
    per_face = found.colors[found.faces][:, :, :3]
    assert (np.ptp(per_face, axis=1) == 0).all()
    expected = [rgb(255, 0, 0), rgb(0, 128, 0), rgb(0, 0, 255), rgb(0, 0, 255)]
    np.testing.assert_allclose(per_face[:, 0], expected, atol=1e-5)
    white = [[*place, 255, 255, 255] for place in SQUARE]  # as MeshLab writes beside colours of faces
    path = write(tmp_path / "a.ply", form, ("vertex", XYZ + colors, white), ("face", [LIST, *colors], faces))
    np.testing.assert_array_equal(load_model(path).colors, found.colors)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("pair", ["s t", "u v", "texture_u texture_v", "texture_s texture_t"])
def test_texture_by_vertex(tmp_path, form, pair):
    picture(tmp_path / "my skin.png", [255, 0, 0])
    coordinates = [("float", name) for name in pair.split()]
    rows = [[*place, place[0], place[2]] for place in SQUARE]
    elements = ("vertex", XYZ + coordinates, rows), ("face", [LIST], [[[0, 1, 2, 3]]])
    found = load_model(write(tmp_path / "a.ply", form, *elements, comments=("TextureFile my skin.png",)))
    assert found.uv is not None and found.materials[0].base_color_texture[0, 0].tolist() == [255, 0, 0, 255]
    np.testing.assert_allclose(found.uv[:, 1], 1 - found.vertices[:, 2])  # counted from the bottom
    assert not found.warnings
    assert load_model(write(tmp_path / "a.ply", form, *elements)).uv is None  # no picture is named


@pytest.mark.parametrize("form", FORMATS)
def test_textures_by_corner_and_by_number(tmp_path, form):
    picture(tmp_path / "one.png", [255, 0, 0])
    picture(tmp_path / "two.png", [0, 0, 255])
    corners = ("list uchar float", "texcoord")
    faces = [
        [[0, 1, 2], [0, 0, 1, 0, 1, 1], 1],
        [[0, 2, 3], [0, 0, 1, 1, 0, 1], 0],
        [[3, 2, 1, 0], [0, 1, 1, 1, 1, 0, 0, 0], 0],
    ]
    path = write(
        tmp_path / "a.ply",
        form,
        ("vertex", XYZ, SQUARE),
        ("face", [LIST, corners, ("int", "texnumber")], faces),
        comments=("TextureFile one.png", "TextureFile two.png"),
    )
    found = load_model(path)
    assert found.uv is not None and len(found.faces) == 4
    np.testing.assert_allclose(found.uv, np.stack([found.vertices[:, 0], 1 - found.vertices[:, 2]], 1))
    assert found.face_material is not None
    of = [found.materials[number].base_color_texture[0, 0, :3].tolist() for number in found.face_material]
    assert of == [[255, 0, 0]] * 3 + [[0, 0, 255]]


@pytest.mark.parametrize(
    ("name", "warned"), [("gone.png", "missing_texture"), ("a.ply", "unusable_texture"), (r"C:\x\t.png", "found_elsewhere")]
)  # fmt: skip
def test_textures_that_are_lost(tmp_path, name, warned):
    picture(tmp_path / "t.png", [255, 0, 0])
    st = [("float", "s"), ("float", "t")]
    rows = [[*place, 0, 0] for place in SQUARE]
    elements = ("vertex", XYZ + st, rows), ("face", [LIST], [[[0, 1, 2, 3]]])
    found = load_model(write(tmp_path / "a.ply", "ascii", *elements, comments=(f"TextureFile {name}",)))
    assert names(found) == [warned]
    if warned != "found_elsewhere":
        assert found.materials[0].base_color == (0.5, 0.5, 0.5, 1)
    bare = ("vertex", XYZ, SQUARE), ("face", [LIST], [[[0, 1, 2, 3]]])
    found = load_model(write(tmp_path / "a.ply", "ascii", *bare, comments=("TextureFile t.png",)))
    assert names(found) == ["unusable_texture"] and found.materials[0].base_color_texture is None


@pytest.mark.parametrize("form", FORMATS)
def test_strips(tmp_path, form):
    strips = [[[0, 1, 3, 2, -1, 0, 1, 2]]]
    path = write(
        tmp_path / "a.ply",
        form,
        ("vertex", XYZ, SQUARE),
        ("tristrips", [("list int int", "vertex_indices")], strips),
    )
    found = load_model(path)
    assert found.faces.tolist() == [[0, 1, 3], [3, 1, 2], [0, 1, 2]]
    from mv3d.render.mesh import face_normals

    assert (face_normals(found.vertices, found.faces)[:, 1] < 0).all()  # all look to one side


def test_normals_and_an_alpha_of_nothing(tmp_path):
    more = [
        ("float", "nx"),
        ("float", "ny"),
        ("float", "nz"),
        *((("uchar", c)) for c in ("red", "green", "blue", "alpha")),
    ]
    rows = [[*place, 0, 0, 2, 9, 9, 9, 0] for place in SQUARE]
    found = load_model(
        write(tmp_path / "a.ply", "ascii", ("vertex", XYZ + more, rows), ("face", [LIST], [[[0, 1, 2]]]))
    )
    np.testing.assert_allclose(found.normals, [[0, 0, 1]] * 3)  # pyright: ignore[reportCallIssue]
    assert names(found) == ["read_as_opaque"] and found.materials[0].alpha_mode == "opaque"


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_line_ends_of_other_systems(tmp_path, newline):
    path = write(
        tmp_path / "a.ply", "binary_little_endian", ("vertex", XYZ, SQUARE), ("face", [LIST], [[[0, 1, 2]]])
    )
    head, mark, body = path.read_bytes().partition(b"end_header\n")
    path.write_bytes((head + mark).replace(b"\n", newline.encode()) + body)
    np.testing.assert_allclose(load_model(path).vertices, SQUARE[:3])


@pytest.mark.parametrize("form", FORMATS)
def test_broken_ply_is_one_sentence(tmp_path, form):
    elements = ("vertex", XYZ, SQUARE), ("face", [LIST], [[[0, 1, 2]], [[0, 1, 2, 3]]])
    path = write(tmp_path / "a.ply", form, *elements)
    whole = path.read_bytes()
    for data in (
        *(whole[:length] for length in range(0, len(whole) - 1, 7)),
        whole.replace(b"vertex 4", b"vertex 999999999999"),
        whole.replace(b"vertex 4", b"vertex 40"),
        whole.replace(b"vertex 4", b"vertex -4"),
        whole.replace(b"vertex 4", b"vertex 2"),
        whole.replace(b"property float x", b"property list uchar float x"),
        whole.replace(b"property float x", b"property quad x"),
        whole.replace(b"vertex_indices", b"vertex_places"),
        whole.replace(b"list uchar int vertex", b"int vertex"),
        whole.replace(b"1.0", b"1.0\nnonsense"),
    ):
        path.write_bytes(data)
        with pytest.raises(InputError) as caught:
            load_model(path)
        assert "\n" not in str(caught.value)


# -- stl


def stl(path: Path, attributes: list[int], header: bytes = b"x") -> Path:
    rows = b""
    for number, attribute in enumerate(attributes):
        rows += struct.pack("<12fH", 0, 0, 0, *(0, number, 0, 1, number, 0, 0, number, 1), attribute)
    path.write_bytes(header.ljust(80, b" ") + struct.pack("<I", len(attributes)) + rows)
    return path


def test_colours_of_viscam_and_materialise(tmp_path):
    red_high, blue_high = 31 << 10, 31
    found = load_model(stl(tmp_path / "a.stl", [0x8000 | red_high, 0x8000 | blue_high, 0]))
    assert found.colors is not None
    np.testing.assert_allclose(found.colors[::3, :3], [[1, 0, 0], [0, 0, 1], [0.5, 0.5, 0.5]], atol=1e-6)
    head = b"COLOR=\xff\x80\x40\xff,MATERIAL=" + bytes(12)
    found = load_model(stl(tmp_path / "a.stl", [red_high, blue_high, 0x8000], head))
    assert found.colors is not None
    np.testing.assert_allclose(
        found.colors[::3, :3], [[0, 0, 1], [1, 0, 0], list(rgb(255, 128, 64))], atol=1e-5
    )
    for attributes in ([0, 0], [0x8000, 0x8000]):
        whole = load_model(stl(tmp_path / "a.stl", attributes, head))
        assert whole.colors is not None
        np.testing.assert_allclose(whole.colors[:, :3], [rgb(255, 128, 64)] * 6, atol=1e-5)
    plain = load_model(stl(tmp_path / "a.stl", [0, 5, 31]))  # no flag: attributes of another kind
    assert plain.colors is None and plain.materials == (UNSTATED,)


def test_text_and_binary_are_told_apart(tmp_path):
    rows = "".join(f"vertex {a} 0 {b}\n" for a, b in ((0, 0), (1, 0), (1, 1)))
    text = f"solid a\nfacet normal 0 0 0\nouter loop\n{rows}endloop\nendfacet\nendsolid a\n"
    for content in (text, text.upper().replace("E0", "e0"), text.replace("\n", "\r\n"), f"  {text}{text}"):
        (tmp_path / "a.stl").write_text(content)
        found = load_model(tmp_path / "a.stl")
        assert len(found.faces) == content.lower().count("facet normal")
        np.testing.assert_allclose(np.ptp(found.vertices, axis=0), [1, 0, 1])
    binary = load_model(stl(tmp_path / "a.stl", [0, 0], b"solid by name only"))
    assert len(binary.faces) == 2
    path = stl(tmp_path / "a.stl", [0, 0])
    path.write_bytes(path.read_bytes() + b"more")  # some programs append to it
    assert len(load_model(path).faces) == 2


@pytest.mark.parametrize(
    "data",
    [b"solid a\nvertex 0 0\n", b"solid a\nvertex 0 0 x\n" * 3, b"solid a\nvertex 0 0 0\n" * 4, bytes(83), bytes(84),
     b"x" * 80 + struct.pack("<I", 2**31) + bytes(50), b"x" * 80 + struct.pack("<I", 1) + b"\xff" * 50],
)  # fmt: skip
def test_broken_stl_is_one_sentence(tmp_path, data):
    (tmp_path / "a.stl").write_bytes(data)
    with pytest.raises(InputError):
        load_model(tmp_path / "a.stl")


@pytest.mark.parametrize("left", range(1, 6))
def test_a_list_that_is_cut_off_anywhere_is_named(left, tmp_path):
    rows = [[[0, 1, 2]], [[0, 2, 3]]]
    path = write(
        tmp_path / "cut.ply", "binary_little_endian", ("vertex", XYZ, SQUARE), ("face", [LIST], rows)
    )
    path.write_bytes(path.read_bytes()[:-13] if left == 5 else path.read_bytes()[: -left * 2])
    with pytest.raises(InputError, match="cut off"):
        load_model(path)
