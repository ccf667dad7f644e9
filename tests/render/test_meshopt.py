"""The meshopt decoder against streams of a real encoder, a slow twin, and files that hold them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.gltf_files import Document, triangle
from helpers.meshopt_streams import (
    encode_attributes,
    encode_indices,
    encode_triangles,
    slow_attributes,
)

from mv3d.core.errors import InputError
from mv3d.render.loading import load_model
from mv3d.render.meshopt import decode_attributes, decode_indices, decode_triangles, decode_view

# Arrays of this project's own, encoded and decoded by the npm package meshoptimizer 1.3.0 (MIT).
STREAMS = json.loads((Path(__file__).parent / "data" / "meshopt_streams.json").read_text())


@pytest.mark.parametrize("entry", STREAMS, ids=[entry["name"] for entry in STREAMS])
def test_streams_of_a_real_encoder(entry):
    stream, expected = (base64.b64decode(entry[key]) for key in ("stream", "bytes"))
    got = decode_view(stream, entry)
    kind = np.uint8 if entry["byteStride"] == 4 else np.uint16
    # Both extensions allow filters one unit in the last place, apart from the exponential one.
    most = 1 if entry["filter"] in ("OCTAHEDRAL", "QUATERNION", "COLOR") else 0
    got, expected = (np.frombuffer(data, kind).astype(int) for data in (got, expected))
    apart = np.abs(got - expected)
    assert np.minimum(apart, np.iinfo(kind).max + 1 - apart).max() <= most


@pytest.mark.parametrize("version", [0, 1])
def test_attributes_come_back(version):
    rng = np.random.default_rng(version)
    for count, stride in ((1, 4), (16, 4), (17, 8), (300, 12), (150, 64), (40, 256)):
        walk = np.cumsum(rng.integers(-3, 4, (count, stride)), 0).astype(np.uint8)
        noise = rng.integers(0, 256, (count, stride)).astype(np.uint8)
        for values in (walk, noise, np.zeros_like(walk)):
            stream = encode_attributes(values, version=version)
            assert (decode_attributes(stream, count, stride) == values).all()
            assert (slow_attributes(stream, count, stride) == values).all()


def test_indices_come_back():
    rng = np.random.default_rng(0)
    grid = np.arange(30).reshape(5, 6)
    corners = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[:-1, 1:], grid[1:, 1:]], -1).reshape(-1, 4)
    faces = corners[:, [0, 1, 2, 2, 1, 3]].reshape(-1)
    for given in (faces, rng.integers(0, 2**32, 300, np.uint32), np.zeros(0, int), np.arange(3)):
        indices = np.asarray(given, np.uint32)
        assert (decode_triangles(encode_triangles(indices), len(indices)) == indices).all()
    for given in (faces, rng.integers(0, 2**29, 101)):
        indices = np.asarray(given, np.uint32)
        assert (decode_indices(encode_indices(indices), len(indices)) == indices).all()


@pytest.mark.parametrize("version", [0, 1])
def test_a_real_encoder_agrees_wherever_it_is_installed(version):
    encoder = pytest.importorskip("meshoptimizer", reason="pip install meshoptimizer")
    rng = np.random.default_rng(version)
    encoder.encode_vertex_version(version)
    for _ in range(30):
        count, stride = int(rng.integers(1, 700)), 4 * int(rng.integers(1, 65))
        spread = int(rng.integers(1, 80))
        values = np.cumsum(rng.integers(-spread, spread + 1, (count, stride)), 0).astype(np.uint8)
        stream = encoder.encode_vertex_buffer(values, count, stride)
        assert (decode_attributes(stream, count, stride) == values).all()
    encoder.encode_index_version(1)
    for _ in range(30):
        indices = rng.integers(0, 400, 3 * int(rng.integers(1, 400)), np.uint32)
        stream = encoder.encode_index_buffer(indices, len(indices), 400)
        own = encoder.decode_index_buffer(len(indices), 4, stream)  # triangles may be turned
        assert (decode_triangles(stream, len(indices)) == own.reshape(-1)).all()
        stream = encoder.encode_index_sequence(indices, len(indices), 400)
        assert (decode_indices(stream, len(indices)) == indices).all()


def compress(document: Document, accessor: int, mode: str, name: str = "EXT_meshopt_compression") -> dict:
    """Put the bytes of an accessor's bufferView into a stream; its plain bytes stay in the buffer."""
    accessor_entry = document.json["accessors"][accessor]
    view = document.json["bufferViews"][accessor_entry["bufferView"]]
    plain = document.binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    count, stride = accessor_entry["count"], view["byteLength"] // accessor_entry["count"]
    if mode == "ATTRIBUTES":
        stream = encode_attributes(np.frombuffer(plain, np.uint8).reshape(count, stride), version=0)
    else:
        kind = {2: np.uint16, 4: np.uint32}[stride]
        encode = encode_triangles if mode == "TRIANGLES" else encode_indices
        stream = encode(np.frombuffer(plain, kind).astype(np.uint32))
    place = document.json["bufferViews"][document.view(stream)]
    entry: dict[str, Any] = {"mode": mode, "count": count, "byteStride": stride}
    entry |= {key: place[key] for key in ("buffer", "byteOffset", "byteLength")}
    view["extensions"] = {name: entry}
    return entry


@pytest.mark.parametrize("name", ["EXT_meshopt_compression", "KHR_meshopt_compression"])
@pytest.mark.parametrize("mode", ["TRIANGLES", "INDICES"])
def test_a_compressed_file_is_the_plain_one(tmp_path, name, mode):
    plain = load_model(triangle().write(tmp_path / "plain.glb"))
    document = triangle()
    position, indices = document.primitive["attributes"]["POSITION"], document.primitive["indices"]
    compress(document, position, "ATTRIBUTES", name)
    compress(document, indices, mode, name)
    for view in document.json["bufferViews"]:
        if "extensions" in view:  # a placeholder, as the extension allows
            view |= {"buffer": 1, "byteOffset": 0}
    document.json["buffers"] = [{"byteLength": len(document.binary)}, {"byteLength": 999}]
    document.json["extensionsRequired"] = document.json["extensionsUsed"] = [name]
    packed = load_model(document.write(tmp_path / "packed.glb"))
    assert (packed.vertices == plain.vertices).all() and (packed.faces == plain.faces).all()
    assert packed.warnings == ()


def test_a_broken_stream_falls_back_to_plain_data_and_says_so(tmp_path):
    document = triangle()
    entry = compress(document, document.primitive["attributes"]["POSITION"], "ATTRIBUTES")
    entry["byteLength"] -= 1
    model = load_model(document.write(tmp_path / "a.glb"))
    assert (model.vertices == load_model(triangle().write(tmp_path / "plain.glb")).vertices).all()
    assert [warning.name for warning in model.warnings] == ["values_left_out"]
    view = document.json["bufferViews"][0]
    view |= {"buffer": 1, "byteOffset": 0}
    document.json["buffers"] = [{"byteLength": len(document.binary)}, {"byteLength": 999}]
    with pytest.raises(InputError, match="bufferView 0: its meshopt data is broken"):
        load_model(document.write(tmp_path / "b.glb"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "POINTS"}, "mode: expected"),
        ({"filter": "SHARPEN"}, "filter: expected"),
        ({"filter": "OCTAHEDRAL"}, "byteStride of filter"),
        ({"byteStride": 6, "count": 6}, "multiple of 4"),
        ({"count": 10**9}, "MiB of decoded data"),
        ({"count": -1}, "MiB of decoded data"),
        ({"mode": "TRIANGLES"}, "indices of 2 or 4 bytes"),
        ({"count": 4}, "bytes for a bufferView of"),
        ({"byteLength": 10**6}, "expected bytes within"),
    ],
)
def test_bad_entries(tmp_path, changes, message):
    document = triangle()
    entry = compress(document, document.primitive["attributes"]["POSITION"], "ATTRIBUTES")
    document.json["bufferViews"][0] |= {"buffer": 1, "byteOffset": 0}
    document.json["buffers"] = [{"byteLength": len(document.binary)}, {"byteLength": 999}]
    entry |= changes
    with pytest.raises(InputError, match=message):
        load_model(document.write(tmp_path / "a.glb"))


@pytest.mark.parametrize(
    ("decode", "stream", "message"),
    [
        (lambda d: decode_attributes(d, 16, 4), b"", "header byte"),
        (lambda d: decode_attributes(d, 16, 4), b"\xa2" + bytes(64), "header byte"),
        (lambda d: decode_attributes(d, 16, 4), b"\xa0" + bytes(20), "at least 33 bytes"),
        (lambda d: decode_attributes(d, 10**6, 4), b"\xa0" + bytes(64), "cannot hold 1,000,000"),
        (lambda d: decode_attributes(d, 16, 4), b"\xa0" + b"\3" + bytes(33), "ends within a block"),
        (lambda d: decode_attributes(d, 16, 4), b"\xa0" + bytes(60), "left over"),
        (lambda d: decode_attributes(d, 16, 4), b"\xa1\xaa" + bytes(23) + b"\x03", "channel mode"),
        (lambda d: decode_triangles(d, 3), b"\xe0" + bytes(40), "header byte"),
        (lambda d: decode_triangles(d, 300), b"\xe1" + bytes(40), "cannot hold 100 triangles"),
        (lambda d: decode_triangles(d, 3), b"\xe1\x00" + bytes(16), "edge that was not there"),
        (lambda d: decode_triangles(d, 3), b"\xe1\xf0\x11" + b"\x11" + bytes(15), "not there yet"),
        (lambda d: decode_triangles(d, 3), b"\xe1\xf0" + bytes(18), "left over"),
        (lambda d: decode_triangles(d, 3), b"\xe1\xff\xff" + b"\x80" * 6 + bytes(16), "five bytes"),
        (lambda d: decode_indices(d, 3), b"\xd1\x80\x80\x80" + bytes(4), "ends within an index"),
        (lambda d: decode_indices(d, 2), b"\xd1\0\0\0" + bytes(4), "left over"),
        (lambda d: decode_indices(d, 99), b"\xd1\0\0\0" + bytes(4), "cannot hold 99"),
    ],
)
def test_bad_streams(decode, stream, message):
    with pytest.raises(ValueError, match=message):
        decode(stream)
