"""Reading models: what files say, and what they must not do."""

from __future__ import annotations

import builtins
import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from helpers.gltf_files import TRIANGLE, Document, png_bytes, textured, triangle, write_glb
from helpers.places import SHARED

from mv3d.core.errors import InputError, MissingPartError, Mv3dError
from mv3d.render.cameras import gltf_from_world
from mv3d.render.fingerprint import geometry_hash, texture_hash
from mv3d.render.loading import LoadLimits, load_model
from mv3d.render.model import Model, normalize_model


def gltf_vertices(model: Model) -> np.ndarray:
    return gltf_from_world(model.vertices)


def test_triangle_comes_into_the_world_frame(tmp_path):
    for name in ("a.glb", "a.gltf"):
        model = load_model(triangle().write(tmp_path / name))
        # glTF (x, y, z) is the world's (z, x, y): front (+Z) on +X, up (+Y) on +Z.
        np.testing.assert_allclose(model.vertices, TRIANGLE[:, [2, 0, 1]])
        np.testing.assert_allclose(model.normals, [[1, 0, 0]] * 3)  # pyright: ignore[reportCallIssue]
        assert model.materials[0].metallic == 1.0  # as glTF says of a missing factor


def test_scene_graph_mirrors_and_instances(tmp_path):
    document = triangle()
    document.attribute("NORMAL", np.tile(np.float32([0, 0, 1]), (3, 1)), "VEC3")
    half = float(np.sqrt(0.5))
    document.json["nodes"] = [
        {"children": [1, 2], "translation": [10, 0, 0], "rotation": [0, 0, half, half]},
        {"mesh": 0, "scale": [2, 1, 1]},
        {"mesh": 0, "scale": [-1, 1, 1]},
    ]
    model = load_model(document.write(tmp_path / "a.glb"))
    points = gltf_vertices(model)
    np.testing.assert_allclose(
        points[:3], [[10, 0, 0], [10, 2, 0], [9, 0, 0]], atol=1e-6
    )  # a quarter turn by Z
    np.testing.assert_allclose(points[3:], [[10, 0, 0], [10, -1, 0], [9, 0, 0]], atol=1e-6)
    # The mirrored one keeps its front: winding turned round, normal still +Z.
    from mv3d.render.mesh import face_normals

    np.testing.assert_allclose(np.sign(face_normals(points, model.faces)[:, 2]), [1, 1])
    np.testing.assert_allclose(gltf_from_world(model.normals)[:, 2], 1)


def test_gpu_instancing(tmp_path):
    document = triangle()
    places = document.accessor(np.array([[0, 0, 0], [5, 0, 0], [0, 7, 0]], np.float32), "VEC3")
    document.json["nodes"][0]["extensions"] = {
        "EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": places}}
    }
    document.json["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]
    model = load_model(document.write(tmp_path / "a.glb"))
    assert len(model.faces) == 3
    np.testing.assert_allclose(gltf_vertices(model)[[0, 3, 6]], [[0, 0, 0], [5, 0, 0], [0, 7, 0]])


def test_skin_is_posed_by_its_joints_and_not_by_its_node(tmp_path):
    document = triangle()
    document.attribute("JOINTS_0", np.tile(np.array([0, 1, 0, 0], np.uint8), (3, 1)), "VEC4")
    document.attribute(
        "WEIGHTS_0", np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0]], np.float32), "VEC4"
    )
    inverse = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    inverse[1, 3, 0] = -1  # column-major: joint 1 was bound at x = 1
    matrices = document.accessor(inverse.reshape(2, 16), "MAT4")
    document.json["nodes"] = [
        {"mesh": 0, "skin": 0, "translation": [100, 100, 100]},
        {"children": [2]},
        {"translation": [1, 3, 0]},
    ]
    document.json["scenes"] = [{"nodes": [0, 1]}]
    document.json["skins"] = [{"joints": [1, 2], "inverseBindMatrices": matrices}]
    points = gltf_vertices(load_model(document.write(tmp_path / "a.glb")))
    np.testing.assert_allclose(points, [[0, 0, 0], [1, 3, 0], [0, 2.5, 0]], atol=1e-6)


def test_morph_targets_at_default_weights(tmp_path):
    document = triangle()
    offset = document.accessor(np.tile(np.float32([0, 0, 4]), (3, 1)), "VEC3")
    document.primitive["targets"] = [{"POSITION": offset}]
    at_rest = load_model(document.write(tmp_path / "a.glb"))
    np.testing.assert_allclose(gltf_vertices(at_rest)[:, 2], 0)
    document.json["meshes"][0]["weights"] = [0.25]
    np.testing.assert_allclose(gltf_vertices(load_model(document.write(tmp_path / "b.glb")))[:, 2], 1)
    document.json["nodes"][0]["weights"] = [0.5]  # the node's count before the mesh's
    np.testing.assert_allclose(gltf_vertices(load_model(document.write(tmp_path / "c.glb")))[:, 2], 2)


def test_sparse_strided_and_quantized_accessors(tmp_path):
    document = Document()
    packed = np.zeros(4, dtype=[("p", "<i2", 3), ("pad", "<i2", 1)])
    packed["p"] = [[0, 0, 0], [32767, 0, 0], [0, 32767, 0], [0, 0, 0]]
    view = document.view(packed.tobytes(), byteStride=8)
    indices = document.view(np.array([3], np.uint8).tobytes())
    values = document.view(np.array([[0, 0, -32767]], np.int16).tobytes())
    document.json["accessors"] = [
        {
            "bufferView": view,
            "componentType": 5122,
            "normalized": True,
            "count": 4,
            "type": "VEC3",
            "sparse": {
                "count": 1,
                "indices": {"bufferView": indices, "componentType": 5121},
                "values": {"bufferView": values},
            },
        }
    ]
    document.primitive["attributes"]["POSITION"] = 0
    document.primitive["mode"] = 5  # a strip: two triangles, the second wound back
    model = load_model(document.write(tmp_path / "a.glb"))
    assert len(model.faces) == 2
    corners = gltf_vertices(model).reshape(2, 3, 3)
    np.testing.assert_allclose(corners[0], [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(corners[1], [[0, 1, 0], [1, 0, 0], [0, 0, -1]])


def test_material_factors_colours_and_wrap(tmp_path):
    document = textured(png_bytes((2, 2), (10, 20, 30, 40)))
    document.attribute(
        "COLOR_0",
        np.array([[255, 0, 0, 255], [0, 51, 0, 255], [0, 0, 0, 0]], np.uint8),
        "VEC4",
        normalized=True,
    )
    document.json["samplers"] = [{"wrapS": 33648, "wrapT": 33071}]
    document.json["textures"] = [{"source": 0, "sampler": 0}]
    document.json["materials"] = [
        {
            "pbrMetallicRoughness": {
                "baseColorFactor": [0.1, 0.2, 0.3, 0.4],
                "baseColorTexture": {"index": 0},
                "metallicFactor": 0.5,
                "roughnessFactor": 0.25,
                "metallicRoughnessTexture": {"index": 0},
            },
            "normalTexture": {"index": 0, "scale": 0.7},
            "emissiveFactor": [1, 0.5, 0],
            "emissiveTexture": {"index": 0},
            "alphaMode": "MASK",
            "alphaCutoff": 0.3,
            "doubleSided": True,
            "extensions": {
                "KHR_materials_emissive_strength": {"emissiveStrength": 4},
                "KHR_materials_unlit": {},
            },
        }
    ]
    model = load_model(document.write(tmp_path / "a.glb"))
    material = model.materials[0]
    assert material.base_color == (0.1, 0.2, 0.3, 0.4)
    assert (material.metallic, material.roughness, material.normal_scale) == (0.5, 0.25, 0.7)
    assert material.emissive == (4, 2, 0) and material.unlit and material.double_sided
    assert (material.alpha_mode, material.alpha_cutoff, material.wrap) == ("mask", 0.3, ("mirror", "clamp"))
    assert (material.base_color_texture == [10, 20, 30, 40]).all()
    assert (material.metallic_roughness_texture == [10, 20, 30]).all()
    np.testing.assert_allclose(model.colors[1], [0, 0.2, 0, 1])  # linear, not sRGB


def test_texture_transform_and_second_coordinates(tmp_path):
    document = textured()
    second = np.array([[0.5, 0.5], [1, 0.5], [0.5, 1]], np.float32)
    document.attribute("TEXCOORD_1", second, "VEC2")
    reference = document.json["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]
    reference["extensions"] = {
        "KHR_texture_transform": {"offset": [0.1, 0.2], "rotation": np.pi / 2, "scale": [2, 4], "texCoord": 1}
    }
    model = load_model(document.write(tmp_path / "a.glb"))
    # offset · rotation · scale, the rotation as in the extension's own matrix.
    u, v = (second * [2, 4]).T
    np.testing.assert_allclose(model.uv, np.stack([v + 0.1, -u + 0.2], 1), atol=1e-6)  # pyright: ignore[reportCallIssue]


def test_external_files_in_the_same_folder(tmp_path):
    document = textured()
    (tmp_path / "sub dir").mkdir()
    (tmp_path / "sub dir" / "t.png").write_bytes(png_bytes())
    (tmp_path / "data.bin").write_bytes(document.binary)
    document.json["buffers"] = [{"uri": "data.bin", "byteLength": len(document.binary)}]
    document.json["images"] = [{"uri": "sub%20dir/t.png"}]
    model = load_model(document.write(tmp_path / "a.gltf"))
    assert model.materials[0].base_color_texture.shape == (4, 4, 4)


def test_large_textures_are_scaled_down(tmp_path):
    model = load_model(textured(png_bytes((64, 32))).write(tmp_path / "a.glb"), LoadLimits(texture_size=16))
    assert model.materials[0].base_color_texture.shape == (8, 16, 4)


def test_draco(tmp_path):
    DracoPy = pytest.importorskip("DracoPy")
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    packed = DracoPy.encode(points, np.array([[0, 1, 2], [0, 2, 3]], np.uint32), quantization_bits=14)
    document = Document()
    document.json["accessors"] = [{"componentType": 5126, "count": 4, "type": "VEC3"}]
    document.primitive["attributes"]["POSITION"] = 0
    document.primitive["extensions"] = {
        "KHR_draco_mesh_compression": {"bufferView": document.view(packed), "attributes": {"POSITION": 0}}
    }
    document.json["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    model = load_model(document.write(tmp_path / "a.glb"))
    assert len(model.faces) == 2
    np.testing.assert_allclose(
        np.sort(np.unique(gltf_vertices(model).round(3), axis=0), 0).max(0), 1, atol=1e-3
    )


def test_draco_without_its_decoder_says_so(tmp_path, monkeypatch):
    document = Document()
    document.primitive["attributes"]["POSITION"] = 0
    document.json["accessors"] = [{"componentType": 5126, "count": 3, "type": "VEC3"}]
    document.primitive["extensions"] = {
        "KHR_draco_mesh_compression": {"bufferView": document.view(b"DRACO"), "attributes": {"POSITION": 0}}
    }
    path = document.write(tmp_path / "a.glb")
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "DracoPy":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPartError, match="pip install DracoPy"):
        load_model(path)


def test_broken_draco_is_an_input_error(tmp_path):
    pytest.importorskip("DracoPy")
    document = Document()
    document.primitive["attributes"]["POSITION"] = 0
    document.json["accessors"] = [{"componentType": 5126, "count": 3, "type": "VEC3"}]
    document.primitive["extensions"] = {
        "KHR_draco_mesh_compression": {
            "bufferView": document.view(b"DRACO" * 20),
            "attributes": {"POSITION": 0},
        }
    }
    with pytest.raises(InputError, match="Draco"):
        load_model(document.write(tmp_path / "a.glb"))


# -- bad files: name → (what is done to a good document, what the message says)


def _set(document, *keys, value):
    at = document.json
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value


def _external_buffer(document, uri):
    document.json["buffers"] = [{"uri": uri, "byteLength": len(document.binary)}]


def _external_image(document, uri):
    document.json["images"] = [{"uri": uri}]


def _many_nodes(document, count):
    document.json["nodes"] = [{"mesh": 0}] * count
    document.json["scenes"] = [{"nodes": list(range(count))}]


def _chain(document, count):
    document.json["nodes"] = [{"children": [k + 1]} for k in range(count - 1)] + [{"mesh": 0}]


def huge_png(side):
    """A PNG whose header says side × side pixels; there is hardly any data."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )


BAD = {
    "buffer over http": (lambda d: _external_buffer(d, "http://127.0.0.1:9/a.bin"), "only files in its own folder"),
    "buffer as file url": (lambda d: _external_buffer(d, "file:///etc/passwd"), "only files in its own folder"),
    "buffer on a share": (lambda d: _external_buffer(d, "//host/a.bin"), "only files in its own folder"),
    "buffer outside": (lambda d: _external_buffer(d, "../secret.bin"), "leads out of the file's folder"),
    "buffer outside, escaped": (lambda d: _external_buffer(d, "%2e%2e/secret.bin"), "leads out of the file's folder"),
    "buffer outside, backslash": (lambda d: _external_buffer(d, "..\\secret.bin"), "leads out of the file's folder"),
    "buffer absolute": (lambda d: _external_buffer(d, "/etc/passwd"), "leads out of the file's folder"),
    "buffer by link": (lambda d: _external_buffer(d, "link.bin"), "leads out of the file's folder"),
    "buffer of a long name": (lambda d: _external_buffer(d, "x" * 5000), "is missing"),
    "buffer of no text": (lambda d: _external_buffer(d, "\ud800"), "is missing"),
    "buffer missing": (lambda d: _external_buffer(d, "nowhere.bin"), "is missing"),
    "buffer a folder": (lambda d: _external_buffer(d, "."), "is missing"),
    "buffer too short": (lambda d: _set(d, "buffers", value=[{"byteLength": 10**6}]), "expected 1,000,000 bytes"),
    "buffer no number": (lambda d: _set(d, "buffers", value=[{"byteLength": "x"}]), "not a valid glTF"),
    "buffer not base64": (lambda d: _external_buffer(d, "data:;base64,@@@@"), "broken base64"),
    "buffer not a text": (lambda d: _external_buffer(d, 5), "expected a text as URI"),
    "view too long": (lambda d: _set(d, "bufferViews", 0, "byteLength", value=10**9), "expected bytes within"),
    "view before the start": (lambda d: _set(d, "bufferViews", 0, "byteOffset", value=-4), "expected bytes within"),
    "accessor too long": (lambda d: _set(d, "accessors", 0, "count", value=5000), "they need"),
    "accessor endless": (lambda d: _set(d, "accessors", 0, "count", value=10**12), "expected at most"),
    "accessor negative": (lambda d: _set(d, "accessors", 0, "count", value=-3), "expected at most"),
    "accessor of no kind": (lambda d: _set(d, "accessors", 0, "type", value="VEC9"), "not a valid glTF"),
    "stride too small": (lambda d: _set(d, "bufferViews", 0, "byteStride", value=2), "they need"),
    "no accessors": (lambda d: d.json.pop("accessors"), "not a valid glTF"),
    "index out of range": (lambda d: d.primitive.update(indices=d.accessor(np.array([0, 1, 9], np.uint16), "SCALAR")), "expected vertex indices in 0..2, got 0..9"),
    "attribute lengths differ": (lambda d: d.attribute("NORMAL", np.ones((7, 3), np.float32), "VEC3"), "expected 3 entries, got 7"),
    "positions of two numbers": (lambda d: d.attribute("POSITION", np.ones((3, 2), np.float32), "VEC2"), "three numbers a vertex"),
    "nan": (lambda d: d.attribute("POSITION", TRIANGLE * np.float32(np.nan), "VEC3"), "NaN or infinity"),
    "infinite": (lambda d: d.attribute("POSITION", TRIANGLE + np.float32(np.inf), "VEC3"), "NaN or infinity"),
    "immense": (lambda d: d.attribute("POSITION", TRIANGLE * np.float32(1e30), "VEC3"), "below 1e15"),
    "no faces": (lambda d: d.primitive.update(indices=d.accessor(np.zeros(0, np.uint16), "SCALAR")), "at least one face"),
    "points only": (lambda d: d.primitive.update(mode=0), "at least one face"),
    "no meshes": (lambda d: _set(d, "nodes", value=[{}]), "at least one face"),
    "no nodes": (lambda d: _set(d, "nodes", value=[]), "nodes: expected an index"),
    "hidden by zero scale": (lambda d: _set(d, "nodes", 0, "scale", value=[0, 0, 0]), "at least one face with a size"),
    "scale nan": (lambda d: _set(d, "nodes", 0, "scale", value=[float("nan"), 1, 1]), "not finite"),
    "matrix of 15": (lambda d: _set(d, "nodes", 0, "matrix", value=[1] * 15), "not a valid glTF"),
    "node its own child": (lambda d: _set(d, "nodes", 0, "children", value=[0]), "expected a tree"),
    "cycle of two": (lambda d: _set(d, "nodes", value=[{"children": [1], "mesh": 0}, {"children": [0]}]), "expected a tree"),
    "two parents": (lambda d: _set(d, "nodes", value=[{"children": [2]}, {"children": [2]}, {"mesh": 0}]), "expected a tree"),
    "endless depth": (lambda d: _chain(d, 5000), "at most 512 deep"),
    "a million parts": (lambda d: _many_nodes(d, 1_000_000), "expected at most 20,000 nodes"),
    "child out of range": (lambda d: _set(d, "nodes", 0, "children", value=[7]), "nodes: expected an index in 0..0, got 7"),
    "mesh out of range": (lambda d: _set(d, "nodes", 0, "mesh", value=3), "meshes: expected an index"),
    "mesh true": (lambda d: _set(d, "nodes", 0, "mesh", value=True), "meshes: expected an index"),
    "material out of range": (lambda d: d.primitive.update(material=9), "materials: expected an index"),
    "texture out of range": (lambda d: _set(d, "textures", value=[]), "textures: expected an index"),
    "wrap of no kind": (lambda d: (_set(d, "samplers", value=[{"wrapS": 1}]), _set(d, "textures", value=[{"source": 0, "sampler": 0}])), "not a valid glTF"),
    "colour of three": (lambda d: _set(d, "materials", 0, "pbrMetallicRoughness", "baseColorFactor", value=[1, 1, 1]), "four numbers"),
    "colour nan": (lambda d: _set(d, "materials", 0, "pbrMetallicRoughness", "metallicFactor", value=float("nan")), "finite factors"),
    "alpha of no kind": (lambda d: _set(d, "materials", 0, "alphaMode", value="FOG"), "OPAQUE, MASK or BLEND"),
    "image over https": (lambda d: _external_image(d, "https://example.org/a.png"), "only files in its own folder"),
    "image outside": (lambda d: _external_image(d, "../../a.png"), "leads out of the file's folder"),
    "image of 16k": (lambda d: _external_image(d, "huge.png"), "megapixels a texture and .* scale the texture down"),
    "skin out of range": (lambda d: (d.attribute("JOINTS_0", np.full((3, 4), 9, np.uint8), "VEC4"), d.attribute("WEIGHTS_0", np.ones((3, 4), np.float32), "VEC4"), _set(d, "skins", value=[{"joints": [0]}]), _set(d, "nodes", 0, "skin", value=0)), "expected joints in 0..0"),
    "skin without weights": (lambda d: (d.attribute("JOINTS_0", np.zeros((3, 4), np.uint8), "VEC4"), _set(d, "skins", value=[{"joints": [0]}]), _set(d, "nodes", 0, "skin", value=0)), "no joint weights"),
    "morph weights wrong": (lambda d: (d.primitive.update(targets=[{"POSITION": 0}]), _set(d, "nodes", 0, "weights", value=[1, 2])), "expected 1 finite morph weights, got 2"),
    "sparse out of range": (lambda d: _set(d, "accessors", 0, "sparse", value={"count": 9, "indices": {}, "values": {}}), "9 sparse entries"),
    "required extension": (lambda d: _set(d, "extensionsRequired", value=["EXT_no_such_thing"]), "requires EXT_no_such_thing"),
    "version 1": (lambda d: _set(d, "asset", value={"version": "1.0"}), "glTF version 2"),
    "asset a list": (lambda d: _set(d, "asset", value=[1]), "not a valid glTF|glTF version"),
    "meshes a number": (lambda d: _set(d, "meshes", value=5), "not a valid glTF"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
def test_bad_gltf(tmp_path, name, suffix):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 4096)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "huge.png").write_bytes(huge_png(16384))
    document = textured()
    spoil, message = BAD[name]
    spoil(document)
    with pytest.raises(InputError, match=message) as caught:
        load_model(document.write(folder / f"bad{suffix}"))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b"glTF", "cut off"),
        (b"glTF" + struct.pack("<II", 2, 900) + b"\0" * 30, "cut off"),
        (b"glTF" + struct.pack("<II", 1, 20) + b"\0" * 8, "version 2"),
        (b"glTF" + struct.pack("<IIII", 2, 28, 4000, 0x4E4F534A) + b"{}" * 4, "over the end"),
        (b"glTF" + struct.pack("<IIII", 2, 28, 8, 0x12345678) + b"{}" * 4, "JSON chunk"),
        (b"not json at all", "expected glTF"),
        (b"[" * 100_000, "expected glTF"),
        (b"[1, 2]", "asset block"),
        (b"\xff\xfe\x00", "expected glTF"),
    ],
)
def test_bad_containers(tmp_path, data, message):
    path = tmp_path / "bad.glb"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        load_model(path)


def test_cut_off_glb(tmp_path):
    path = textured().write(tmp_path / "a.glb")
    whole = path.read_bytes()
    for keep in range(0, len(whole), 37):
        path.write_bytes(whole[:keep])
        with pytest.raises(InputError):
            load_model(path)


def test_limits(tmp_path):
    path = triangle().write(tmp_path / "a.glb")
    for limits, message in (
        (LoadLimits(file_bytes=64), "MiB"),
        (LoadLimits(faces=0), "0 faces"),
        (LoadLimits(vertices=2), "entries|vertices"),
    ):
        with pytest.raises(InputError, match=message):
            load_model(path, limits)
    document = triangle()
    document.json["nodes"] = [{"mesh": 0}] * 50
    document.json["scenes"] = [{"nodes": list(range(50))}]
    with pytest.raises(InputError, match="instances expanded"):
        load_model(document.write(tmp_path / "b.glb"), LoadLimits(faces=40))
    picture = textured(png_bytes((64, 64))).write(tmp_path / "c.glb")
    with pytest.raises(InputError, match="64x64"):
        load_model(picture, replace(LoadLimits(), texture_pixels=1000))


def test_random_damage_is_always_one_clear_error(tmp_path):
    path = textured().write(tmp_path / "a.glb")
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            assert len(load_model(path).faces)
        except Mv3dError:
            pass


def test_absent_and_unknown(tmp_path):
    with pytest.raises(InputError, match="nothing"):
        load_model(tmp_path / "no.glb")
    with pytest.raises(InputError, match="a folder"):
        (tmp_path / "d.glb").mkdir()
        load_model(tmp_path / "d.glb")
    (tmp_path / "a.fbx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"expected one of \.glb"):
        load_model(tmp_path / "a.fbx")


# -- obj, ply, stl

OBJ = """mtllib m.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl skin
f 1/1 2/2 3/3 4/4
"""


def write_obj(folder, text=OBJ, mtl="newmtl skin\nKd 1 0.5 0.25\nmap_Kd t.png\n"):
    (folder / "a.obj").write_text(text)
    if mtl is not None:
        (folder / "m.mtl").write_text(mtl)
    return folder / "a.obj"


def test_obj_with_material_and_texture(tmp_path):
    picture = np.zeros((4, 4, 4), np.uint8)
    picture[..., 3], picture[:2, :, 0], picture[2:, :, 2] = 255, 255, 255  # red above blue
    from PIL import Image

    Image.fromarray(picture).save(tmp_path / "t.png")
    model = load_model(write_obj(tmp_path))
    assert len(model.faces) == 2 and model.materials[0].metallic == 0
    np.testing.assert_allclose(np.ptp(gltf_vertices(model), axis=0), [1, 1, 0])
    top = gltf_vertices(model)[:, 1] > 0.5
    np.testing.assert_allclose(model.uv[top, 1], 0, atol=1e-6)  # v = 1 of an obj is the top row
    assert (model.materials[0].base_color_texture[0, 0] == [255, 0, 0, 255]).all()
    assert (
        load_model(write_obj(tmp_path, mtl="newmtl skin\nKd 1 0.5 0.25\n")).materials[0].base_color[2] < 0.3
    )


@pytest.mark.parametrize(
    ("text", "mtl", "message"),
    [
        (OBJ, "newmtl skin\nmap_Kd ../t.png\n", "leads out"),
        (OBJ, "newmtl skin\nmap_Kd sub/../../t.png\n", "leads out"),
        (OBJ, "newmtl skin\nmap_Kd http://127.0.0.1:9/t.png\n", "only files in its own folder"),
        (OBJ.replace("m.mtl", "../m.mtl"), None, "leads out"),
        (OBJ.replace("v 1 0 0", "v nan 0 0"), None, "NaN|not a valid"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\n", None, "at least one face|not a valid"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", None, "index|indices|not a valid"),
        ("\0\1\2", None, "not a valid|at least one face"),
    ],
)
def test_bad_obj(tmp_path, text, mtl, message):
    (tmp_path / "in").mkdir()
    for name in ("t.png", "m.mtl"):
        (tmp_path / name).write_bytes(png_bytes())
    with pytest.raises(InputError, match=message):
        load_model(write_obj(tmp_path / "in", text, mtl))


def test_obj_without_its_mtl_keeps_its_shape(tmp_path):
    assert len(load_model(write_obj(tmp_path, mtl=None)).faces) == 2


def test_ply_and_stl(tmp_path):
    import trimesh

    box = trimesh.creation.box((1, 2, 3))
    box.export(tmp_path / "a.stl")
    model = load_model(tmp_path / "a.stl")
    np.testing.assert_allclose(np.ptp(model.vertices, axis=0), [1, 2, 3])  # Z up stays
    assert len(model.faces) == 12 and len(model.vertices) == 36  # flat
    box.visual.vertex_colors = [255, 188, 0, 255]
    box.export(tmp_path / "a.ply")
    model = load_model(tmp_path / "a.ply")
    np.testing.assert_allclose(np.ptp(model.vertices, axis=0), [1, 2, 3])
    np.testing.assert_allclose(model.colors[0], [1, 0.5029, 0, 1], atol=1e-3)  # linear
    for name in ("a.stl", "a.ply"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(InputError):
            load_model(tmp_path / name)


# -- fingerprints


def test_hashes_do_not_depend_on_order_place_size_or_container(tmp_path):
    document = textured()
    first = load_model(document.write(tmp_path / "a.glb"))
    again = load_model(document.write(tmp_path / "a.gltf"))
    assert geometry_hash(first) == geometry_hash(again) and texture_hash(first) == texture_hash(again)
    from helpers.models import sphere_model

    ball = sphere_model(rings=12)
    order = np.random.default_rng(0).permutation(len(ball.faces))
    shuffled = Model(ball.vertices * 3 + 5, np.roll(ball.faces[order], 1, 1), materials=ball.materials)
    assert geometry_hash(shuffled) == geometry_hash(ball)
    assert geometry_hash(sphere_model(rings=13)) != geometry_hash(ball)
    other = load_model(textured(png_bytes(color=(200, 100, 51, 255))).write(tmp_path / "b.glb"))
    assert geometry_hash(other) == geometry_hash(first) and texture_hash(other) != texture_hash(first)


def test_assets_load_as_trimesh_sees_them():
    folder = SHARED / "assets" / "train"
    if not folder.is_dir():
        pytest.skip("no shared assets")
    import trimesh

    for path in sorted(folder.glob("*.glb"))[::150]:
        model = load_model(path)
        used = model.vertices[np.unique(model.faces)]
        bounds = trimesh.load_scene(path).bounds[:, [2, 0, 1]]
        np.testing.assert_allclose([used.min(0), used.max(0)], bounds, atol=1e-3 * np.ptp(used, axis=0).max())
        normalized, _ = normalize_model(model)
        assert np.ptp(normalized.vertices[np.unique(model.faces)], axis=0).max() == pytest.approx(1, abs=1e-5)


def test_json_chunk_may_be_padded(tmp_path):
    document = triangle()
    document.json["buffers"] = [{"byteLength": len(document.binary)}]
    path = write_glb(tmp_path / "a.glb", json.dumps(document.json).encode() + b"   ", document.binary)
    assert len(load_model(path).faces) == 1
