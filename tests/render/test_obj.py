"""OBJ and MTL as they are found: every way of writing that public reports name, by the value that comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.gltf_files import png_bytes
from PIL import Image

from mv3d.core.colors import linear_from_srgb
from mv3d.core.errors import InputError
from mv3d.render.loading import load_model
from mv3d.render.model import UNSTATED, Model
from mv3d.render.mtl_file import MapStatement, parse_map

HEAD = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
FACE = "f 1/1 2/2 3/3 4/4\n"


def write(folder: Path, mtl: str | bytes | None, obj: str | bytes | None = None, name: str = "m.mtl") -> Path:
    """A textured square of one material, or another OBJ, with its MTL and a red t.png."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f"mtllib {name}\n{HEAD}usemtl skin\n{FACE}" if obj is None else obj
    (folder / "a.obj").write_bytes(text.encode() if isinstance(text, str) else text)
    if mtl is not None:
        (folder / "m.mtl").write_bytes(mtl.encode() if isinstance(mtl, str) else mtl)
    picture(folder / "t.png", [255, 0, 0])
    return folder / "a.obj"


def picture(path: Path, *pixels: list[int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([pixels], np.uint8)).save(path)
    return path


def names(model: Model) -> list[str]:
    return [warning.name for warning in model.warnings]


def is_textured(model: Model) -> bool:
    texture = model.materials[0].base_color_texture
    return texture is not None and texture[0, 0].tolist() == [255, 0, 0, 255]


MTL = "newmtl skin\nKd 1 1 1\nmap_Kd t.png\n"


@pytest.mark.parametrize(
    "mtl",
    [
        "newmtl\tskin\n\tKd\t1 1 1\n\tmap_Kd\tt.png\n",
        b"\xef\xbb\xbf" + MTL.encode(),
        MTL.encode("utf-16"),
        MTL.replace("\n", "\r\n"),
        MTL.replace("\n", "\r"),
        MTL.replace("map_Kd", "MAP_KD").replace("newmtl", "NewMtl"),
        MTL.replace("t.png", "T.PNG"),
        MTL.replace("t.png", '"t.png"'),
        MTL.replace("t.png", "-s 1 1 1 -o 0 0 0 -bm 0.5 -clamp off -mm 0 1 -blendu on t.png"),
        MTL.replace("t.png", "-s 1 -o 0 0 t.png"),
        MTL.replace("t.png", "t.png # the skin"),
        MTL.replace("t.png", "./t.png"),
        MTL.replace("t.png", ".\\t.png"),
        MTL.replace("Kd 1 1 1", "Kd 1"),
        MTL + "# f\xfcr".encode("cp1252").decode("cp1252"),
        (MTL + "# für\n").encode("cp1252"),
    ],
)
def test_ways_to_write_the_same_material(tmp_path, mtl):
    model = load_model(write(tmp_path, mtl))
    assert is_textured(model) and not model.warnings
    assert model.materials[0].base_color == (1, 1, 1, 1) and model.materials[0].wrap == ("repeat", "repeat")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace(" ", "\t"),
        lambda text: text.replace("usemtl skin\nf 1/1 2/2", "usemtl skin\nf 1/1 \\\n2/2"),
        lambda text: text.replace("usemtl skin\nf 1/1 2/2", "usemtl skin\nf 1/1 \\\r\n2/2"),
        lambda text: text.replace("usemtl skin", "usemtl SKIN"),
        lambda text: text.replace(FACE, "f -4/-4 -3/-3 -2/-2 -1/-1 # a square\n"),
        lambda text: text.replace("mtllib m.mtl\n", "") + "mtllib m.mtl\n",
        lambda text: text.replace("m.mtl", "M.MTL"),
        lambda text: text.replace("m.mtl", '"m.mtl"'),
        lambda text: text.replace("mtllib m.mtl", "mtllib other.mtl m.mtl"),
        lambda text: text.replace("mtllib m.mtl", "mtllib other.mtl\nmtllib m.mtl"),
    ],
)
def test_ways_to_write_the_same_shape(tmp_path, change):
    path = write(tmp_path, MTL)
    (tmp_path / "other.mtl").write_text("newmtl other\nKd 0 0 1\n")
    path.write_bytes(change(path.read_text()).encode())
    model = load_model(path)
    assert is_textured(model) and not model.warnings and len(model.faces) == 2
    np.testing.assert_allclose(np.ptp(model.vertices, axis=0), [0, 1, 1])


@pytest.mark.parametrize(
    "name", ["my skin  1.png", "skin#2.png", "größe.png", "a'b.png", "(1).png", "-s.png"]
)
def test_names_of_pictures(tmp_path, name):
    path = write(tmp_path, f"newmtl skin\nmap_Kd {name}\n")
    (tmp_path / "t.png").rename(tmp_path / name)
    assert is_textured(load_model(path)) and not load_model(path).warnings


@pytest.mark.parametrize("name", ["my own.mtl", '"my own.mtl"'])
def test_names_of_libraries(tmp_path, name):
    path = write(tmp_path, MTL, name=name)
    (tmp_path / "m.mtl").rename(tmp_path / "my own.mtl")
    assert is_textured(load_model(path))
    (tmp_path / "my own.mtl").rename(tmp_path / "a.mtl")  # renamed together with the model
    found = load_model(path)
    assert is_textured(found) and names(found) == ["found_elsewhere"]
    (tmp_path / "a.mtl").unlink()
    assert names(load_model(path)) == ["missing_material"] and load_model(path).materials == (UNSTATED,)


@pytest.mark.parametrize(
    "name", ["C:\\Users\\me\\t.png", "/home/me/t.png", "file:///c:/me/t.png", "old\\t.png", "tex.old/t.png"]
)
def test_places_of_other_machines(tmp_path, name):
    found = load_model(write(tmp_path, f"newmtl skin\nmap_Kd {name}\n"))
    assert is_textured(found) and names(found) == ["found_elsewhere"]


def test_layouts_of_public_sets_and_their_borders(tmp_path):
    """ShapeNet's and Google Scanned Objects': within the folder that was handed over, and only there."""
    path = write(tmp_path / "one" / "models", "newmtl skin\nmap_Kd ../images/x.png\n")
    picture(tmp_path / "one" / "images" / "x.png", [255, 0, 0])
    for root in (tmp_path / "one", tmp_path):
        assert is_textured(load_model(path, root=root))
    with pytest.raises(InputError, match="leads out of the file's folder"):
        load_model(path)
    path = write(tmp_path / "two" / "meshes", "newmtl skin\nmap_Kd texture.png\n")
    picture(tmp_path / "two" / "materials" / "textures" / "texture.png", [255, 0, 0])
    found = load_model(path, root=tmp_path)
    assert is_textured(found) and names(found) == ["found_elsewhere"]
    assert names(load_model(path)) == ["missing_texture"]


def test_pictures_are_looked_for_beside_the_library_first(tmp_path):
    path = write(tmp_path, None, f"mtllib sub/m.mtl\n{HEAD}usemtl skin\n{FACE}")
    write(tmp_path / "sub", MTL)
    picture(tmp_path / "t.png", [0, 0, 255])
    assert is_textured(load_model(path)) and not load_model(path).warnings


@pytest.mark.parametrize(
    ("mtl", "opacity", "warned"),
    [
        ("newmtl skin\nd 0.25\nTr 0.25\n", 0.25, []),
        ("newmtl skin\nTr 0.25\nd 0.5\n", 0.5, []),
        ("newmtl skin\nTr 0.25\n", 0.75, []),
        ("newmtl skin\nTr 0\n", 1.0, []),
        ("newmtl skin\nd -halo 0.5\n", 0.5, []),
        ("# Converted by Meshlab Group\nnewmtl skin\nTr 0.25\n", 0.25, []),
        ("# Converted by Meshlab Group\nnewmtl skin\nTr 1.0\nnewmtl unused\nTr 0\n", 1.0, ["read_as_opaque"]),
        ("newmtl skin\nTr 1.000000\n", 1.0, ["read_as_opaque"]),
        ("newmtl skin\nd 0\n", 1.0, ["read_as_opaque"]),
        ("newmtl skin\nd 1\nTr 1\n", 1.0, []),
        ("newmtl skin\nd x\n", 1.0, []),
    ],
)
def test_opacity(tmp_path, mtl, opacity, warned):
    found = load_model(write(tmp_path, mtl))
    assert found.materials[0].base_color[3] == opacity and names(found) == warned
    assert found.materials[0].alpha_mode == ("opaque" if opacity == 1 else "blend")


def test_one_pane_of_glass_stays_clear_beside_other_materials(tmp_path):
    obj = f"mtllib m.mtl\n{HEAD}usemtl wall\n{FACE}usemtl pane\n{FACE}"
    found = load_model(write(tmp_path, "newmtl wall\nTr 0\nnewmtl pane\nTr 1\n", obj))
    assert [material.base_color[3] for material in found.materials] == [1, 0]


def test_pictures_of_light_opacity_and_relief(tmp_path):
    picture(tmp_path / "glow.png", [0, 255, 0])
    picture(tmp_path / "matte.png", [0, 0, 0], [255, 255, 255])
    picture(tmp_path / "cut.png", [9, 9, 9, 64], [9, 9, 9, 255])
    picture(tmp_path / "normal.png", [128, 128, 255])
    Image.fromarray((np.arange(64, dtype=np.uint8) * 4)[None].repeat(8, 0)).save(tmp_path / "height.png")

    def material(mtl: str):
        return load_model(write(tmp_path, f"newmtl skin\nmap_Kd t.png\n{mtl}")).materials[0]

    assert material("Ke 2 1 0\n").emissive == (2, 1, 0)
    glowing = material("map_Ke glow.png\n")
    assert glowing.emissive == (1, 1, 1) and glowing.emissive_texture[0, 0].tolist() == [0, 255, 0]
    assert material("Ke 0.5 0.5 0.5\nmap_Ke glow.png\n").emissive == (0.5, 0.5, 0.5)
    for matte, alphas in (
        ("matte.png", [0, 255]),
        ("cut.png", [64, 255]),
        ("-imfchan l cut.png", [9, 9]),
        ("-imfchan r cut.png", [9, 9]),
    ):
        found = material(f"map_d {matte}\n")
        assert found.base_color_texture[0, :, 3].tolist() == alphas and found.alpha_mode == "blend"
        assert found.base_color_texture[0, 0, :3].tolist() == [255, 0, 0]
    alone = load_model(write(tmp_path, "newmtl skin\nKd 1 0 0\nmap_d matte.png\n")).materials[0]
    assert alone.base_color_texture[0].tolist() == [[255, 255, 255, 0], [255, 255, 255, 255]]
    for key in ("map_Bump", "bump", "norm", "map_Kn"):
        bumpy = material(f"{key} -bm 0.5 normal.png\n")
        assert bumpy.normal_scale == 0.5 and bumpy.normal_texture[0, 0].tolist() == [128, 128, 255]
    ramp = material(
        "map_Bump -bm 2 height.png\n"
    ).normal_texture  # it rises to the right: normals lean to the left
    normal = ramp[4, 30].astype(float) / 127.5 - 1
    slope = 2 * 0.01 * 64 * 4 / 255  # strength, height in widths, width, rise from texel to texel
    np.testing.assert_allclose(-normal[0] / normal[2], slope, atol=0.02)
    shiny = material("Pr 0.25\nPm 0.75\n")
    assert (shiny.roughness, shiny.metallic) == (0.25, 0.75)
    mapped = material("Pm 1\nmap_Pr cut.png\n")
    assert (mapped.roughness, mapped.metallic) == (1, 1)
    assert mapped.metallic_roughness_texture[0, 0].tolist() == [0, 9, 255]


def test_pictures_are_moved_and_clamped(tmp_path):
    obj = f"mtllib m.mtl\n{HEAD}usemtl skin\n{FACE}"
    found = load_model(write(tmp_path, "newmtl skin\nmap_Kd -s 2 3 -o 0.25 0.5 -clamp on t.png\n", obj))
    assert found.uv is not None and found.materials[0].wrap == ("clamp", "clamp")
    u, v = found.uv[:, 0], 1 - found.uv[:, 1]  # as the file counts
    np.testing.assert_allclose([u.min(), u.max(), v.min(), v.max()], [0.25, 2.25, 0.5, 3.5])
    found = load_model(write(tmp_path, "newmtl skin\nmap_Kd t.png\nmap_Ke -s 2 2 t.png\n", obj))
    assert names(found) == ["unusable_texture"] and found.materials[0].emissive == (0, 0, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b.png", MapStatement(("a b.png",))),
        ("-s 2 a.png", MapStatement(("a.png",), scale=(2, 1))),
        ("-s 2 3 4 5.png", MapStatement(("5.png",), scale=(2, 3))),
        ("-o .5 -1 -bm\t2 -imfchan z x.png", MapStatement(("x.png",), (1, 1), (0.5, -1), False, 2, "z")),
        ("-unknown.png", MapStatement(("-unknown.png",))),
        ("-clamp on", MapStatement(("on",))),
        ("-s", MapStatement(("-s",))),
        ('"a # b.png" more', MapStatement(("a # b.png",))),
        ("a.png # b", MapStatement(("a.png # b", "a.png"))),
        ("", MapStatement(())),
    ],
)
def test_map_statements(text, expected):
    assert parse_map(text) == expected


@pytest.mark.parametrize(
    ("mtl", "warned", "color"),
    [
        ("newmtl skin\nKd 1 1 1\nmap_Kd gone.png\n", "missing_texture", (0.5, 0.5, 0.5, 1)),
        ("newmtl skin\nKd 1 1 1\nmap_Kd m.mtl\n", "unusable_texture", (0.5, 0.5, 0.5, 1)),
        ("newmtl skin\nKd 1 1 1\nmap_Kd empty.png\n", "unusable_texture", (0.5, 0.5, 0.5, 1)),
        ("newmtl skin\nKd 1 1 1\nmap_Ke gone.png\n", "missing_texture", (1, 1, 1, 1)),
        ("newmtl skin\nKd 1 1 1\nmap_d gone.png\n", "missing_texture", (1, 1, 1, 1)),
        ("newmtl skin\nKd 1 1 1\nmap_Bump gone.png\n", "missing_detail", (1, 1, 1, 1)),
        ("newmtl other\nKd 1 1 1\nmap_Kd gone.png\n", "missing_material", UNSTATED.base_color),
        ("newmtl skin\nKd spectral a.rfl\n", "approximated", (0.8, 0.8, 0.8, 1)),
        (None, "missing_material", UNSTATED.base_color),
    ],
)
def test_what_is_lost_is_said_and_leaves_no_factor_behind(tmp_path, mtl, warned, color):
    (tmp_path / "empty.png").write_bytes(b"")
    found = load_model(write(tmp_path, mtl))
    assert names(found) == [warned] and found.materials[0].base_color == color
    assert found.materials[0].emissive == (0, 0, 0)


def test_a_picture_without_coordinates(tmp_path):
    obj = "mtllib m.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nusemtl skin\nf 1 2 3\n"
    found = load_model(write(tmp_path, MTL, obj))
    assert names(found) == ["unusable_texture"] and found.materials[0].base_color == (0.5, 0.5, 0.5, 1)
    assert found.materials[0].base_color_texture is None


def test_materials_that_no_face_uses_are_not_read(tmp_path):
    assert not load_model(write(tmp_path, f"{MTL}newmtl unused\nmap_Kd gone.png\n")).warnings


@pytest.mark.parametrize(
    ("faces", "count", "warned"),
    [
        ("f 1/9/9 2/9/9 3/9/9\n", 1, ["values_left_out", "values_left_out"]),
        ("f 1/1/1 2/2/1 3/3/1\n", 1, ["values_left_out"]),
        ("f 1//1 2//1 3//1\n", 1, ["values_left_out"]),
        ("f 1/ 2/ 3/\n", 1, []),
        ("f 1/-9 2/-9 3/-9\n", 1, ["values_left_out"]),
        ("f 1 2 3\nf 1 2 99\nf 0 1 2\nf -9 1 2\n", 1, ["faces_left_out"]),
        ("f 1 2 3 4\nl 1 2\np 1\nf 1 2\nf 1\n", 2, []),
    ],
)
def test_indices_of_nothing(tmp_path, faces, count, warned):
    found = load_model(write(tmp_path, None, HEAD + faces))
    assert len(found.faces) == count and names(found) == warned


def colored(folder: Path, colors: list[str], mtl: str | None = None, tail: str = "") -> Model:
    places = ["0 0 0", "1 0 0", "1 1 0"]
    rows = "".join(f"v {place} {color}\n" for place, color in zip(places, colors, strict=True))
    head = "mtllib m.mtl\n" if mtl else ""
    obj = f"{head}{rows}vt 0 0\n{tail}usemtl skin\nf 1/1 2/1 3/1\n"
    return load_model(write(folder, mtl, obj))


def test_colours_of_vertices(tmp_path):
    expected = linear_from_srgb(np.array([1, 0.5, 0.25]))
    for colors in (["1 0.5 0.25"] * 3, ["255 127.5 63.75"] * 3, ["1 0.5 0.25 1"] * 3):
        plain = colored(tmp_path, colors)
        assert plain.colors is not None and plain.materials[0].base_color == (1, 1, 1, 1)
        np.testing.assert_allclose(plain.colors[0, :3], expected, atol=1e-5)
    grey = colored(tmp_path, ["1 0.5 0.25"] * 3, "newmtl skin\nKd 0.6 0.6 0.6\n")
    assert grey.colors is not None and grey.materials[0].base_color == (1, 1, 1, 1)
    tinted = colored(tmp_path, ["1 0.5 0.25"] * 3, "newmtl skin\nKd 0.6 0.1 0.1\n")
    assert tinted.colors is not None and tinted.materials[0].base_color == (0.6, 0.1, 0.1, 1)
    white = colored(tmp_path, ["1 1 1"] * 3, "newmtl skin\nKd 0.6 0.6 0.6\n")
    assert white.materials[0].base_color == (0.6, 0.6, 0.6, 1)
    textured = colored(tmp_path, ["1 0.5 0.25"] * 3, MTL)
    assert textured.colors is None and is_textured(textured)
    for colors in (["1", "1", "1"], ["1 0.5 0.25", "", ""]):  # a weight; colours of some
        assert colored(tmp_path, colors).colors is None
    painted = colored(tmp_path, [""] * 3, tail="#MRGB ffff8040ffff8040\n#MRGB ffff8040\n")
    assert painted.colors is not None
    np.testing.assert_allclose(
        painted.colors[0, :3], linear_from_srgb(np.array([255, 128, 64]) / 255), atol=1e-5
    )


def test_a_star_keeps_its_notches(tmp_path):
    angle = np.arange(10) * np.pi / 5
    radius = np.where(np.arange(10) % 2, 0.4, 1.0)
    rows = "".join(
        f"v {x} {y} 0\n" for x, y in zip(radius * np.cos(angle), radius * np.sin(angle), strict=True)
    )
    found = load_model(write(tmp_path, None, f"{rows}f {' '.join(map(str, range(1, 11)))}\n"))
    a, b, c = found.triangles.transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    assert len(found.faces) == 8 and area == pytest.approx(10 * 0.5 * 0.4 * np.sin(np.pi / 5), rel=1e-5)


def test_a_picture_that_is_transparent_all_over(tmp_path):
    picture(tmp_path / "clear.png", [10, 20, 30, 0])
    found = load_model(write(tmp_path, "newmtl skin\nmap_Kd clear.png\n"))
    assert names(found) == ["read_as_opaque"]
    assert found.materials[0].base_color_texture[0, 0].tolist() == [10, 20, 30, 255]


def test_too_large_pictures_are_still_refused(tmp_path):
    from mv3d.render.limits import LoadLimits

    path = write(tmp_path, MTL)
    (tmp_path / "t.png").write_bytes(png_bytes())
    with pytest.raises(InputError, match="megapixels"):
        load_model(path, LoadLimits(texture_pixels=1, all_texture_pixels=1))
