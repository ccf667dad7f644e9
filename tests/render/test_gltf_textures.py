"""Textures of glTF files, each kind in a file made here, judged by the pixels that come out."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.gltf_files import write_glb
from helpers.gltf_quads import UV, add_texture, quad, quarters, rendered, rendered_file
from PIL import Image, ImageCms, features

from mv3d.core.errors import InputError, MissingPartError
from mv3d.orbits.gate import GateConfig, Rejected, check_model
from mv3d.render.flattening import mesh_of_model
from mv3d.render.limits import LoadLimits
from mv3d.render.loading import load_model
from mv3d.render.model import Material, Model, TextureUse
from mv3d.render.resources import Resources

RED, GREEN, BLUE, YELLOW, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 0, 0)
FOUR = quarters(RED, GREEN, BLUE, YELLOW)
LIGHT = np.array([RED, GREEN, BLUE, YELLOW]) / 255


def unlit(**more: Any) -> dict[str, Any]:
    """A material that shows its base colour as it is."""
    return {"extensions": {"KHR_materials_unlit": {}}, **more}


def based(document: Any, picture: Any, **reference: Any) -> Any:
    """Put a picture on the base colour."""
    index = add_texture(document, picture)
    document.json["materials"][0]["pbrMetallicRoughness"] = {
        "baseColorTexture": {"index": index, **reference}
    }
    return document


# -- where textures lie


def test_a_picture_lies_upright(tmp_path):
    model, seen = rendered_file(based(quad(**unlit()), FOUR), tmp_path / "a.glb")
    np.testing.assert_allclose(seen, LIGHT, atol=0.01)
    assert model.warnings == () and model.more_uv == ()


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ({"texCoord": 1}, [YELLOW, BLUE, GREEN, RED]),  # a set that is turned by 180 degrees
        ({"offset": [0.5, 0]}, [GREEN, RED, YELLOW, BLUE]),
        ({"scale": [-1, 1]}, [GREEN, RED, YELLOW, BLUE]),
        ({"rotation": np.pi}, [YELLOW, BLUE, GREEN, RED]),
        ({"rotation": np.pi / 2, "offset": [0, 1]}, [BLUE, RED, YELLOW, GREEN]),
    ],
)
@pytest.mark.parametrize("slot", ["base", "emission"])
def test_every_texture_has_its_own_place(tmp_path, slot, transform, expected):
    """The base colour and the emission on coordinates of their own, the other one upright."""
    moved = {"extensions": {"KHR_texture_transform": transform}}
    document = quad()
    document.attribute("TEXCOORD_1", 1 - UV, "VEC2")
    dark = quarters(BLACK, BLACK, BLACK, BLACK)
    picture, plain = add_texture(document, FOUR), add_texture(document, dark)
    base, glow = ({"index": picture, **moved}, {"index": plain})[:: 1 if slot == "base" else -1]
    document.json["materials"][0] |= {
        "pbrMetallicRoughness": {"baseColorTexture": base, "metallicFactor": 0, "roughnessFactor": 1},
        "emissiveTexture": glow,
        "emissiveFactor": [1, 1, 1],
    }
    model, seen = rendered_file(document, tmp_path / "a.glb")
    assert model.warnings == () and len(model.more_uv) == 1
    np.testing.assert_allclose(seen, np.array(expected) / 255, atol=0.06)  # with the gloss of 4 %


def test_emission_on_a_second_set_adds_its_patch_only(tmp_path):
    """The factor of an emissive texture that lies elsewhere must not light the whole object."""
    document = based(quad(), FOUR)
    document.json["materials"][0]["pbrMetallicRoughness"]["metallicFactor"] = 0
    document.attribute("TEXCOORD_1", UV, "VEC2")
    patch = add_texture(document, quarters(BLACK, BLACK, BLACK, (0, 0, 255)))
    document.json["materials"][0] |= {
        "emissiveTexture": {"index": patch, "texCoord": 1},
        "emissiveFactor": [1, 1, 1],
    }
    _, seen = rendered_file(document, tmp_path / "a.glb")
    np.testing.assert_allclose(seen, [*LIGHT[:3], [1, 1, 1]], atol=0.08)


def test_every_texture_has_its_own_sampler(tmp_path):
    document = quad(**unlit())
    document.json["samplers"] = [{"wrapS": 33071, "wrapT": 33071}]
    base = add_texture(document, FOUR, sampler=0)
    glow = add_texture(document, FOUR)
    document.json["materials"][0] |= {
        "pbrMetallicRoughness": {"baseColorTexture": {"index": base}},
        "emissiveTexture": {"index": glow},
        "emissiveFactor": [1, 0, 0],
    }
    material = load_model(document.write(tmp_path / "a.glb")).materials[0]
    assert material.wrap == ("clamp", "clamp")
    assert material.uses == {"emissive_texture": TextureUse(0, ("repeat", "repeat"))}


def test_normals_and_roughness_on_other_sets_shade_as_on_one(tmp_path):
    rng = np.random.default_rng(0)
    bumps = np.full((8, 8, 3), 255, np.uint8)
    bumps[..., :2] = rng.integers(60, 190, (8, 8, 2))
    looks = {}
    for name, other in (("one", 0), ("two", 1)):
        document = quad()
        document.attribute("TEXCOORD_1", UV, "VEC2")
        document.attribute("TEXCOORD_2", UV * 0.5, "VEC2")
        detail, base = add_texture(document, bumps), add_texture(document, FOUR)
        place = {"index": detail, "texCoord": 1} if other else {"index": detail}
        half = {"texCoord": 2, "scale": [2, 2]} if other else {}
        document.json["materials"][0] = {
            "pbrMetallicRoughness": {
                "baseColorTexture": {"index": base},
                "metallicRoughnessTexture": {
                    "index": detail,
                    "extensions": {"KHR_texture_transform": half},
                },
            },
            "normalTexture": place,
        }
        model, looks[name] = rendered_file(document, tmp_path / f"{name}.glb")
        # TEXCOORD_1 holds the same numbers as TEXCOORD_0, but is another set.
        assert len(model.more_uv) == 2 * other
    np.testing.assert_allclose(looks["one"], looks["two"], atol=2e-3)


def test_one_material_on_meshes_with_and_without_a_second_set(tmp_path):
    document = based(quad(**unlit()), FOUR, texCoord=1)
    mesh = json.loads(json.dumps(document.json["meshes"][0]))
    document.attribute("TEXCOORD_1", UV, "VEC2")
    document.json["meshes"].append(mesh)
    document.json["nodes"] = [{"mesh": 0}, {"mesh": 1, "translation": [0, 0, -1]}]
    document.json["scenes"] = [{"nodes": [0, 1]}]
    model, seen = rendered_file(document, tmp_path / "a.glb")
    np.testing.assert_allclose(seen, LIGHT, atol=0.01)
    assert [material.base_color_texture is None for material in model.materials] == [False, True]
    assert model.materials[1].base_color == (0.5, 0.5, 0.5, 1)
    assert [str(warning) for warning in model.warnings] == [
        "unusable_texture: material 0: texture of the base colour left out: its mesh has no TEXCOORD_1"
    ]


def test_models_refuse_sets_that_are_not_there():
    square = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    arrays = (np.array(square), np.array([[0, 1, 2]]), None)
    material = Material(uses={"normal_texture": TextureUse(1)})
    with pytest.raises(InputError, match="beyond 1"):
        Model(*arrays, np.zeros((3, 2)), materials=(material,))
    with pytest.raises(InputError, match="none without uv"):
        Model(*arrays, more_uv=(np.zeros((3, 2)),))
    with pytest.raises(InputError, match=r"more_uv: expected shape \(3, 2\)"):
        Model(*arrays, np.zeros((3, 2)), more_uv=(np.zeros((4, 2)),))
    with pytest.raises(InputError, match="uses: expected fields"):
        Material(uses={"base_color_texture": TextureUse(1)})


# -- what cannot be used

DAMAGED = {
    "no source": lambda d: d.json["textures"][0].pop("source"),
    "a picture without data": lambda d: d.json["images"][0].pop("bufferView"),
    "a file that is not there": lambda d: d.json["images"].__setitem__(0, {"uri": "gone.png"}),
    "only DDS": lambda d: d.json["textures"].__setitem__(0, {"extensions": {"MSFT_texture_dds": {"source": 0}}}),
    "text": lambda d: d.json["images"].__setitem__(0, {"bufferView": d.view(b"no picture at all")}),
    "cut off": lambda d: d.json["bufferViews"][d.json["images"][0]["bufferView"]].__setitem__("byteLength", 60),
    "broken KTX2": lambda d: d.json["images"].__setitem__(0, {"bufferView": d.view(KTX2 + bytes(80))}),
    "KTX 1": lambda d: d.json["images"].__setitem__(0, {"bufferView": d.view(b"\xabKTX 11\xbb\r\n\x1a\n")}),
    "no coordinates": lambda d: d.primitive["attributes"].pop("TEXCOORD_0"),
}  # fmt: skip
KTX2 = b"\xabKTX 20\xbb\r\n\x1a\n"
THERE = {"only DDS", "text", "cut off", "broken KTX2", "KTX 1", "no coordinates"}
NEUTRAL = {
    "base": (0.5, "the base colour"),
    "emission": (1.0, "the emission"),
    "surface": (1.0, "the metalness and roughness"),
    "bumps": (1.0, "the normals"),
    "diffuse": (0.5, "the base colour"),
}


@pytest.mark.parametrize(
    ("kind", "slot"), [(kind, "base") for kind in DAMAGED] + [("text", slot) for slot in list(NEUTRAL)[1:]]
)
def test_a_lost_picture_takes_its_factor_along(tmp_path, kind, slot):
    """A neutral colour instead of a white, glowing or mirroring object; a warning; a reason of the gate."""
    document = quad()
    reference = {
        "index": add_texture(document, Image.fromarray(FOUR) if kind != "only DDS" else b"DDS " + bytes(99))
    }
    pbr: dict[str, Any] = {"metallicFactor": 0}
    material: dict[str, Any] = {"name": "paint", "pbrMetallicRoughness": pbr}
    if slot == "base":
        pbr["baseColorTexture"] = reference
    elif slot == "surface":
        pbr |= {"metallicRoughnessTexture": reference, "metallicFactor": 1, "roughnessFactor": 0}
    elif slot == "emission":
        material |= {"emissiveTexture": reference, "emissiveFactor": [9, 9, 9]}
    elif slot == "bumps":
        material["normalTexture"] = reference
    else:
        gloss = {"diffuseTexture": reference, "specularFactor": [0, 0, 0], "glossinessFactor": 0}
        material["extensions"] = {"KHR_materials_pbrSpecularGlossiness": gloss}
    document.json["materials"] = [material]
    DAMAGED[kind](document)
    model, seen = rendered_file(document, tmp_path / "a.glb")
    grey, what = NEUTRAL[slot]
    np.testing.assert_allclose(seen, grey, atol=0.03)
    (warning,) = model.warnings
    if slot in ("surface", "bumps"):
        assert warning.name == "missing_detail"
        check_model(model, GateConfig(textures="any", min_third_side=0))
    else:
        name = "unusable_texture" if kind in THERE else "missing_texture"
        assert warning.name == name
        with pytest.raises(Rejected, match=f"{name}: paint: texture of {what} left out") as caught:
            check_model(model, GateConfig(textures="any"))
        assert caught.value.reason == name
    assert warning.sentence.startswith(f"paint: texture of {what} left out: ")


def test_an_emissive_texture_without_a_factor_is_not_missed(tmp_path):
    document = quad(emissiveTexture={"index": 0})
    assert load_model(document.write(tmp_path / "a.glb")).warnings == ()


def test_looks_that_are_left_out_are_named(tmp_path):
    extensions = {"KHR_materials_transmission": {"transmissionFactor": 1}, "VENDOR_x": {}}
    model = load_model(quad(name="glass", extensions=extensions).write(tmp_path / "a.glb"))
    assert [str(warning) for warning in model.warnings] == [
        "approximated: glass: KHR_materials_transmission: opaque, in its base colour"
    ]


# -- pictures


def png16(values: np.ndarray, kind: int, palette: bytes = b"") -> bytes:
    """A PNG of 16 bits a channel. values: (h, w) or (h, w, c) uint16. kind: PNG's colour type."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = values.astype(">u2").reshape(len(values), -1)
    head = struct.pack(">IIBBBBB", values.shape[1], len(values), 16, kind, 0, 0, 0)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + palette
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("channels", "kind"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, channels, kind):
    rng = np.random.default_rng(channels)
    values = rng.integers(0, 65536, (16, 16, channels)).astype(np.uint16)
    document = based(quad(**unlit()), png16(values, kind))
    texture = load_model(document.write(tmp_path / "a.glb")).materials[0].base_color_texture
    assert texture is not None
    opaque = np.full((16, 16, 1), 65535)
    rgba = {
        1: lambda: [values] * 3 + [opaque],
        2: lambda: [values[..., :1]] * 3 + [values[..., 1:]],
        3: lambda: [values, opaque],
        4: lambda: [values],
    }[channels]()
    expected = np.concatenate(rgba, -1) / 257
    assert np.abs(texture - expected).max() <= 1  # Pillow cuts the lower byte off


def test_a_sixteen_bit_ramp_is_a_ramp(tmp_path):
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16)
    picture = png16(np.tile(ramp, (8, 1)), 0)
    _, seen = rendered_file(based(quad(**unlit()), picture), tmp_path / "a.glb")
    srgb = np.array([0.25, 0.75, 0.25, 0.75])
    np.testing.assert_allclose(seen[:, 0], ((srgb + 0.055) / 1.055) ** 2.4, atol=0.03)
    large = png16(np.tile(np.linspace(0, 65535, 4096).astype(np.uint16), (2, 1)), 0)
    resources = Resources(tmp_path / "x.glb", LoadLimits())
    small = resources.picture(large, "t")
    assert small.shape == (1, 2048, 4)
    np.testing.assert_allclose(small[0, :, 0], np.linspace(0, 255, 2048), atol=1)


def test_floats_and_one_transparent_value(tmp_path):
    resources = Resources(tmp_path / "x.glb", LoadLimits())
    out = io.BytesIO()
    Image.fromarray(np.array([[0, 0.5, 1, 7]], np.float32)).save(out, "TIFF")
    assert resources.picture(out.getvalue(), "t")[0, :, 0].tolist() == [0, 128, 255, 255]
    clear = (
        struct.pack(">I", 2) + b"tRNS" + struct.pack(">H", 257) + struct.pack(">I", zlib.crc32(b"tRNS\1\1"))
    )
    picture = resources.picture(png16(np.array([[0, 257, 514]]), 0, clear), "t")
    assert picture[0, :, 3].tolist() == [255, 0, 255]


def test_profiles_and_orientation_do_not_count(tmp_path):
    """glTF 2.0, section 3.8.2: colour space information in a picture is ignored; Exif turns nothing either."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    tags = Image.Exif()
    tags[0x0112] = 6
    picture = np.asarray(Image.fromarray(FOUR).resize((16, 16)))
    resources = Resources(tmp_path / "x.glb", LoadLimits())
    for kind, extra in (
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("JPEG", {"quality": 95, "subsampling": 0}),
    ):
        plain, marked = io.BytesIO(), io.BytesIO()
        Image.fromarray(picture).save(plain, kind, **extra)
        Image.fromarray(picture).save(marked, kind, icc_profile=profile, exif=tags.tobytes(), **extra)
        assert plain.getvalue() != marked.getvalue()
        first, second = (resources.picture(data.getvalue(), "t") for data in (plain, marked))
        assert (first == second).all()
        assert np.abs(first[..., :3].astype(int) - picture).max() <= (0 if kind != "JPEG" else 12)


def test_alpha_does_not_weigh_colours_that_are_scaled_down(tmp_path):
    """What alpha means, only the material knows: an opaque one must not lose its colours to it."""
    picture = np.full((4, 4096, 4), (200, 100, 50, 0), np.uint8)
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    small = Resources(tmp_path / "x.glb", LoadLimits()).picture(out.getvalue(), "t")
    assert (small == [200, 100, 50, 0]).all() and small.shape == (2, 2048, 4)


@pytest.mark.parametrize(
    ("kind", "extension", "mime"),
    [("WEBP", "EXT_texture_webp", "image/webp"), ("AVIF", "EXT_texture_avif", "image/avif")],
)
def test_webp_and_avif_stand_before_the_other_source(tmp_path, kind, extension, mime):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    out = io.BytesIO()
    Image.fromarray(FOUR).save(out, kind, **({"lossless": True} if kind == "WEBP" else {"quality": 100}))
    document = based(quad(**unlit()), quarters(BLACK, BLACK, BLACK, BLACK))
    document.json["images"].append({"bufferView": document.view(out.getvalue()), "mimeType": mime})
    document.json["textures"][0]["extensions"] = {extension: {"source": 1}}
    document.json["extensionsUsed"] = [extension]
    _, seen = rendered_file(document, tmp_path / "a.glb")
    np.testing.assert_allclose(seen, LIGHT, atol=0.03)
    # A picture that cannot be used leaves the other one, without a word: the file offers both.
    document.json["images"][1]["bufferView"] = document.view(b"broken")
    model, seen = rendered_file(document, tmp_path / "b.glb")
    np.testing.assert_allclose(seen, 0, atol=0.01)
    assert model.warnings == ()


def ktx2_header(width: int, height: int, faces: int = 1) -> bytes:
    return KTX2 + struct.pack("<9I", 0, 1, width, height, 0, 0, faces, 1, 0) + bytes(60)


@pytest.mark.parametrize("uri", [False, True])
def test_ktx2_without_its_decoder_says_what_to_do(tmp_path, monkeypatch, uri):
    monkeypatch.setitem(__import__("sys").modules, "opengl_basisu", None)
    document = based(quad(**unlit()), ktx2_header(8, 8))
    if uri:  # a plain .ktx2 file, without the extension
        (tmp_path / "t.ktx2").write_bytes(ktx2_header(8, 8))
        document.json["images"] = [{"uri": "t.ktx2"}]
    path = document.write(tmp_path / "a.gltf")
    with pytest.raises(
        MissingPartError, match=r"KTX2 .*pip install .opengl-basisu.* gltf-transform ktxdecompress"
    ) as caught:
        load_model(path)
    assert str(caught.value).startswith("a.gltf: texture 0: ")
    # Where the texture has a PNG, too, that is taken.
    document.json["textures"][0] |= {"extensions": {"KHR_texture_basisu": {"source": 0}}, "source": 1}
    document.json["images"].append({"bufferView": document.view(_png(FOUR))})
    _, seen = rendered_file(document, tmp_path / "b.gltf")
    np.testing.assert_allclose(seen, LIGHT, atol=0.01)


def _png(picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def test_ktx2_is_bounded_by_its_header(tmp_path):
    with pytest.raises(InputError, match="60000x60000; scale the texture down"):
        Resources(tmp_path / "x.glb", LoadLimits()).picture(ktx2_header(60000, 60000), "t")
    with pytest.raises(InputError, match="6 faces"):
        Resources(tmp_path / "x.glb", LoadLimits()).picture(ktx2_header(8, 8, faces=6), "t")


KTX2_FILES = sorted((Path(__file__).parent / "data").glob("*.ktx2"))


@pytest.mark.parametrize("path", KTX2_FILES, ids=[path.stem for path in KTX2_FILES])
def test_ktx2_with_its_decoder(tmp_path, path):
    """Four colours of this project's own, encoded as ETC1S and as UASTC by basis_universal (Apache 2.0)."""
    pytest.importorskip("opengl_basisu", reason='pip install "mv3d[ktx2]"')
    document = quad(**unlit())
    document.json["images"] = [{"bufferView": document.view(path.read_bytes()), "mimeType": "image/ktx2"}]
    document.json["textures"] = [{"extensions": {"KHR_texture_basisu": {"source": 0}}}]
    document.json["materials"][0]["pbrMetallicRoughness"] = {"baseColorTexture": {"index": 0}}
    document.json["extensionsRequired"] = ["KHR_texture_basisu"]
    model, seen = rendered_file(document, tmp_path / "a.glb")
    np.testing.assert_allclose(seen, LIGHT, atol=0.03)
    assert model.warnings == ()
    small = load_model(tmp_path / "a.glb", LoadLimits(texture_size=8)).materials[0].base_color_texture
    assert small is not None and small.shape == (8, 8, 4)


# -- the container


@pytest.mark.parametrize("missing", [0, 1, 2, 3])
@pytest.mark.parametrize("padded", [False, True])
def test_chunks_that_are_not_padded(tmp_path, missing, padded):
    """The length as it stands, as other readers take it; and padding that the length does not count."""
    document = based(quad(**unlit()), FOUR)
    document.json["buffers"] = [{"byteLength": len(document.binary)}]
    text = json.dumps(document.json).encode()
    text += b" " * (-len(text) % 4 + 4 - missing)
    gap = b"\0" * (missing if padded else 0)
    chunk = struct.pack("<II", len(text), 0x4E4F534A) + text + gap
    chunk += struct.pack("<II", len(document.binary), 0x004E4942) + document.binary
    path = tmp_path / "a.glb"
    path.write_bytes(struct.pack("<III", 0x46546C67, 2, 12 + len(chunk)) + chunk)
    np.testing.assert_allclose(rendered(load_model(path)), LIGHT, atol=0.01)


def test_a_last_chunk_may_count_padding_that_is_not_there(tmp_path):
    document = based(quad(**unlit()), FOUR)
    document.binary += b"\0" * (-len(document.binary) % 4)
    path = write_glb(
        tmp_path / "a.glb",
        json.dumps({"buffers": [{"byteLength": len(document.binary)}], **document.json}).encode(),
        document.binary,
    )
    data = bytearray(path.read_bytes())
    at = 20 + struct.unpack_from("<I", data, 12)[0]
    struct.pack_into("<I", data, at, len(document.binary) + 3)
    path.write_bytes(data)
    assert len(load_model(path).faces) == 2
    struct.pack_into("<I", data, at, len(document.binary) + 4)
    path.write_bytes(data)
    with pytest.raises(InputError, match="runs over the end"):
        load_model(path)


def test_hidden_nodes_are_not_there(tmp_path):
    document = based(quad(**unlit()), FOUR)
    hidden = {"extensions": {"KHR_node_visibility": {"visible": False}}, "children": [2]}
    document.json["nodes"] = [{"mesh": 0}, hidden, {"mesh": 0, "translation": [0, 0, 1]}]
    document.json["scenes"] = [{"nodes": [0, 1]}]
    assert len(load_model(document.write(tmp_path / "a.glb")).faces) == 2


def test_a_mesh_takes_the_colours_from_their_own_set(tmp_path):
    document = based(quad(**unlit()), FOUR, texCoord=1)
    document.attribute("TEXCOORD_1", 1 - UV, "VEC2")
    mesh = mesh_of_model(load_model(document.write(tmp_path / "a.glb")))
    assert mesh.uv is not None and mesh.texture is not None
    np.testing.assert_allclose(mesh.uv, (1 - UV)[[0, 1, 2, 0, 2, 3]])  # split, since it has no normals
    assert (mesh.texture == FOUR).all()
