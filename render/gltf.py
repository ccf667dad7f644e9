"""glTF 2.0 (.glb, .gltf) → `Model`: scene graph, instances, skins and morph targets in rest pose, materials.

Everything that a file says is checked before it is used; see `LoadLimits`.
"""

from __future__ import annotations

import json
import struct
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mv3d.core.errors import InputError, MissingPartError
from mv3d.render.assembly import Assembly, Part
from mv3d.render.cameras import world_from_gltf
from mv3d.render.gltf_materials import MaterialReader, texture_coordinates
from mv3d.render.limits import LoadLimits
from mv3d.render.model import Model
from mv3d.render.resources import Resources

_TYPES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_COMPONENTS = {
    5120: np.int8,
    5121: np.uint8,
    5122: np.int16,
    5123: np.uint16,
    5125: np.uint32,
    5126: np.float32,
}
_KNOWN = {
    "KHR_draco_mesh_compression",
    "KHR_mesh_quantization",
    "KHR_texture_transform",
    "KHR_materials_unlit",
    "KHR_materials_emissive_strength",
    "KHR_materials_pbrSpecularGlossiness",
    "EXT_mesh_gpu_instancing",
    "EXT_texture_webp",
    # Looks that are approximated by the base material.
    "KHR_materials_clearcoat",
    "KHR_materials_transmission",
    "KHR_materials_volume",
    "KHR_materials_ior",
    "KHR_materials_specular",
    "KHR_materials_sheen",
    "KHR_materials_iridescence",
    "KHR_materials_anisotropy",
    "KHR_materials_dispersion",
    "KHR_materials_variants",
    "KHR_lights_punctual",
    "KHR_xmp_json_ld",
    "KHR_animation_pointer",
}
_DRACO_HINT = 'pip install "mv3d[data]" (or pip install DracoPy)'
# What a wrong kind, key or length in the JSON raises when it is used.
_WRONG = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    struct.error,
    RecursionError,
)


def read_gltf(resources: Resources, limits: LoadLimits) -> Model:
    """Read the default scene. Raises InputError for a broken or hostile file, MissingPartError without the
    decoder that it needs."""
    data = resources.main()
    try:
        return _Reader(resources, limits, *_document(data, resources.name)).model()
    except _WRONG as error:
        raise InputError(
            f"{resources.name}: not a valid glTF file ({type(error).__name__}: {' '.join(str(error).split())[:100]})"
        ) from error


def _document(data: bytes, name: str) -> tuple[dict[str, Any], bytes | None]:
    """The JSON and the binary chunk."""
    text, binary = _chunks(data, name) if data[:4] == b"glTF" else (data, None)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: expected glTF (JSON), got something else ({str(error)[:80]})") from error
    if not isinstance(document, dict) or "asset" not in document:
        raise InputError(f"{name}: expected a glTF document with an asset block, got other JSON")
    if not str(document["asset"].get("version", "")).startswith("2"):
        raise InputError(f"{name}: expected glTF version 2, got {document['asset'].get('version')!r}")
    return document, binary


def _chunks(data: bytes, name: str) -> tuple[bytes, bytes | None]:
    """The JSON and the binary chunk of a GLB."""
    if len(data) < 20:
        raise InputError(
            f"{name}: expected a GLB header of 20 bytes, got a file of {len(data)}; it is cut off"
        )
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise InputError(f"{name}: expected glTF version 2, got {version}")
    if length > len(data):
        raise InputError(f"{name}: expected {length:,} bytes, got {len(data):,}; the file is cut off")
    text, binary, at = None, None, 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<II", data, at)
        if at + 8 + size > length:
            raise InputError(f"{name}: a chunk of {size:,} bytes runs over the end of the file")
        chunk = data[at + 8 : at + 8 + size]
        if kind == 0x4E4F534A and text is None:
            text = chunk
        elif kind == 0x004E4942 and binary is None:
            binary = chunk
        at += 8 + size + (-size) % 4
    if text is None:
        raise InputError(f"{name}: expected a JSON chunk, got none")
    return text, binary


class _Reader:
    def __init__(
        self, resources: Resources, limits: LoadLimits, document: dict[str, Any], binary: bytes | None
    ) -> None:
        self.name, self.limits, self.json, self._binary = resources.name, limits, document, binary
        self.resources = resources
        self._buffers: dict[int, bytes] = {}
        unknown = sorted(set(document.get("extensionsRequired", [])) - _KNOWN)
        if unknown:
            raise InputError(
                f"{self.name}: requires {', '.join(map(str, unknown))[:120]}, which is not supported; export the "
                "file without it"
            )
        for what, most in (
            ("nodes", limits.nodes),
            ("meshes", limits.nodes),
            ("materials", limits.materials),
        ):
            count = len(document.get(what, []))
            if count > most:
                raise InputError(f"{self.name}: expected at most {most:,} {what}, got {count:,}; merge them")
        self.materials = MaterialReader(resources, document, self.view_bytes)
        self._parents = self._check_tree()
        self._world: dict[int, np.ndarray] = {}
        self._primitives: dict[tuple[int, int], tuple[dict[str, np.ndarray], np.ndarray]] = {}
        self.assembly = Assembly(self.name, limits)

    # -- bytes

    def buffer(self, index: int) -> bytes:
        index = self._index("buffers", index)
        if index not in self._buffers:
            entry = self.json["buffers"][index]
            if "uri" in entry:
                data = self.resources.named(entry["uri"], f"buffer {index}")
            elif index == 0 and self._binary is not None:
                data = self._binary
            else:
                raise InputError(f"{self.name}: buffer {index} has no data")
            if len(data) < int(entry["byteLength"]):
                raise InputError(
                    f"{self.name}: buffer {index}: expected {int(entry['byteLength']):,} bytes, got {len(data):,}"
                )
            self._buffers[index] = data
        return self._buffers[index]

    def view_bytes(self, index: int) -> memoryview:
        view = self.json["bufferViews"][self._index("bufferViews", index)]
        if "EXT_meshopt_compression" in view.get("extensions", {}):
            raise InputError(f"{self.name}: meshopt compression is not supported; export the file without it")
        data = self.buffer(view["buffer"])
        start, length = int(view.get("byteOffset", 0)), int(view["byteLength"])
        if start < 0 or length < 0 or start + length > len(data):
            raise InputError(
                f"{self.name}: bufferView {index}: expected bytes within 0..{len(data):,}, got {start:,}.."
                f"{start + length:,}"
            )
        return memoryview(data)[start : start + length]

    def _index(self, what: str, index: Any) -> int:
        count = len(self.json.get(what, []))
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise InputError(
                f"{self.name}: {what}: expected an index in 0..{count - 1}, got {str(index)[:20]}"
            )
        return index

    # -- accessors

    def accessor(self, index: int) -> np.ndarray:
        """(count, width) as float32 (normalized integers in [-1, 1] or [0, 1]) or as integers."""
        entry = self.json["accessors"][self._index("accessors", index)]
        width, kind = _TYPES[entry["type"]], np.dtype(_COMPONENTS[entry["componentType"]])
        count = int(entry["count"])
        most = max(self.limits.vertices, 3 * self.limits.faces)
        if not 0 <= count <= most:
            raise InputError(
                f"{self.name}: accessor {index}: expected at most {most:,} entries, got {count:,}"
            )
        if "bufferView" in entry:
            stride = self.json["bufferViews"][self._index("bufferViews", entry["bufferView"])].get(
                "byteStride"
            )
            data = self.view_bytes(entry["bufferView"])
            values = self._strided(data, int(entry.get("byteOffset", 0)), count, width, kind, stride, index)
        else:
            values = np.zeros((count, width), kind)
        if "sparse" in entry:
            values = self._sparse(values.copy(), entry["sparse"], width, kind, index)
        if kind == np.float32:
            return values
        if entry.get("normalized", False):
            scale = np.float32(np.iinfo(kind).max)
            return np.maximum(values.astype(np.float32) / scale, -1)
        return values

    def _strided(
        self, data: memoryview, start: int, count: int, width: int, kind: np.dtype, stride: Any, index: int
    ) -> np.ndarray:
        size = width * kind.itemsize
        stride = size if stride is None else int(stride)
        needed = start + (count - 1) * stride + size if count else start
        if start < 0 or stride < size or needed > len(data):
            raise InputError(
                f"{self.name}: accessor {index}: expected {count:,} entries of {size} bytes within {len(data):,} "
                f"bytes, they need {needed:,}"
            )
        if stride == size:
            return np.frombuffer(data, kind, count * width, start).reshape(count, width)
        raw = np.frombuffer(data, np.uint8)
        places = start + np.arange(count)[:, None] * stride + np.arange(size)
        return raw[places].reshape(count, size).copy().view(kind).reshape(count, width)

    def _sparse(self, values: np.ndarray, entry: dict, width: int, kind: np.dtype, index: int) -> np.ndarray:
        count = int(entry["count"])
        if not 0 <= count <= len(values):
            raise InputError(
                f"{self.name}: accessor {index}: {count} sparse entries for {len(values)} values"
            )
        where = self._strided(
            self.view_bytes(entry["indices"]["bufferView"]),
            int(entry["indices"].get("byteOffset", 0)),
            count,
            1,
            np.dtype(_COMPONENTS[entry["indices"]["componentType"]]),
            None,
            index,
        )[:, 0].astype(np.int64)
        if count and where.max() >= len(values):
            raise InputError(f"{self.name}: accessor {index}: a sparse index is out of range")
        values[where] = self._strided(
            self.view_bytes(entry["values"]["bufferView"]),
            int(entry["values"].get("byteOffset", 0)),
            count,
            width,
            kind,
            None,
            index,
        )
        return values

    # -- scene graph

    def _check_tree(self) -> dict[int, int]:
        """Parent of every node that has one. Raises InputError for cycles and nodes with two parents."""
        parents: dict[int, int] = {}
        for index, node in enumerate(self.json.get("nodes", [])):
            for child in map(partial(self._index, "nodes"), node.get("children", [])):
                if child in parents or child == index:
                    raise InputError(
                        f"{self.name}: node {child} has two parents or is its own; expected a tree"
                    )
                parents[child] = index
        for index in range(len(self.json.get("nodes", []))):
            slow, steps = index, 0
            while slow in parents and steps <= 512:
                slow, steps = parents[slow], steps + 1
                if slow == index:
                    raise InputError(f"{self.name}: node {index} is its own ancestor; expected a tree")
            if steps > 512:
                raise InputError(f"{self.name}: expected nodes at most 512 deep, got more or a cycle")
        return parents

    def world_matrix(self, index: int) -> Float[np.ndarray, "4 4"]:
        """Node → glTF world."""
        if index not in self._world:
            own = self._local_matrix(self.json["nodes"][index])
            parent = self._parents.get(index)
            self._world[index] = own if parent is None else self.world_matrix(parent) @ own
        return self._world[index]

    def _local_matrix(self, node: dict[str, Any]) -> np.ndarray:
        if "matrix" in node:
            matrix = np.array(node["matrix"], np.float64).reshape(4, 4).T
        else:
            matrix = _compose(
                np.array(node.get("translation", [0, 0, 0]), np.float64),
                np.array(node.get("rotation", [0, 0, 0, 1]), np.float64),
                np.array(node.get("scale", [1, 1, 1]), np.float64),
            )
        if not np.isfinite(matrix).all():
            raise InputError(f"{self.name}: node {node.get('name', '')!r}: its transform is not finite")
        return matrix

    def _scene_nodes(self) -> list[int]:
        nodes = self.json.get("nodes", [])
        scenes = self.json.get("scenes", [])
        if scenes:
            scene = scenes[self._index("scenes", self.json.get("scene", 0))]
            stack = [self._index("nodes", index) for index in scene.get("nodes", [])]
        else:
            stack = [index for index in range(len(nodes)) if index not in self._parents]
        found, seen = [], set()
        while stack:
            index = stack.pop()
            if index in seen:
                continue
            seen.add(index)
            found.append(index)
            stack.extend(self._index("nodes", child) for child in nodes[index].get("children", []))
        return sorted(found)

    def model(self) -> Model:
        """The default scene, joined, in the world frame."""
        for index in self._scene_nodes():
            node = self.json["nodes"][index]
            if "mesh" in node:
                self._add_node(index, node)
        if not self.assembly.parts:
            raise InputError(f"{self.name}: expected at least one face with a size, got none")
        return self.assembly.model(self.materials.all())

    def _add_node(self, index: int, node: dict[str, Any]) -> None:
        mesh_index = self._index("meshes", node["mesh"])
        mesh = self.json["meshes"][mesh_index]
        for number, primitive in enumerate(mesh["primitives"]):
            if primitive.get("mode", 4) not in (4, 5, 6):
                continue  # points and lines have no surface
            key = (mesh_index, number)
            if key not in self._primitives:
                self._primitives[key] = self._read_primitive(primitive)
            attributes, faces = self._primitives[key]
            if not len(faces):
                continue
            attributes = self._morphed(attributes, primitive, node.get("weights", mesh.get("weights")))
            material = self.materials.number(primitive.get("material"))
            if "skin" in node and "JOINTS_0" in attributes:
                placed = [self._skinned(attributes, node["skin"])]
            else:
                matrices = [self.world_matrix(index) @ matrix for matrix in self._instances(node)]
                if not all(np.isfinite(matrix).all() for matrix in matrices):
                    raise InputError(f"{self.name}: node {index}: its transform is not finite")
                # A part of zero scale is how files hide things.
                matrices = [matrix for matrix in matrices if np.abs(matrix[:3, :3]).max() > 1e-12]
                self.assembly.check_room(
                    len(faces) * len(matrices), len(attributes["POSITION"]) * len(matrices)
                )
                placed = (_transformed(attributes, matrix) for matrix in matrices)
            for vertices, normals, mirrored in placed:
                self.assembly.add(
                    Part(
                        world_from_gltf(vertices).astype(np.float32),
                        faces[:, ::-1] if mirrored else faces,
                        material,
                        None if normals is None else world_from_gltf(normals).astype(np.float32),
                        texture_coordinates(attributes, self.materials.mapping(primitive.get("material"))),
                        _colors(attributes),
                    )
                )

    def _instances(self, node: dict[str, Any]) -> list[np.ndarray]:
        extension = node.get("extensions", {}).get("EXT_mesh_gpu_instancing")
        if extension is None:
            return [np.eye(4)]
        values = {name: self.accessor(index) for name, index in extension["attributes"].items()}
        known = [values[name] for name in ("TRANSLATION", "ROTATION", "SCALE") if name in values]
        if not known:
            return [np.eye(4)]
        count = min(len(value) for value in known)
        if count > self.limits.nodes:
            raise InputError(f"{self.name}: expected at most {self.limits.nodes:,} instances, got {count:,}")
        return [
            _compose(
                values["TRANSLATION"][k].astype(np.float64) if "TRANSLATION" in values else np.zeros(3),
                values["ROTATION"][k].astype(np.float64)
                if "ROTATION" in values
                else np.array([0, 0, 0, 1.0]),
                values["SCALE"][k].astype(np.float64) if "SCALE" in values else np.ones(3),
            )
            for k in range(count)
        ]

    # -- geometry

    def _read_primitive(self, primitive: dict[str, Any]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        draco = primitive.get("extensions", {}).get("KHR_draco_mesh_compression")
        if draco is not None:
            attributes, indices = self._draco(primitive, draco)
        else:
            if "POSITION" not in primitive["attributes"]:
                return {}, np.zeros((0, 3), np.int64)
            attributes = {name: self.accessor(index) for name, index in primitive["attributes"].items()}
            count = len(attributes["POSITION"])
            indices = (
                self.accessor(primitive["indices"])[:, 0].astype(np.int64)
                if "indices" in primitive
                else np.arange(count)
            )
        position = attributes["POSITION"]
        if position.ndim != 2 or position.shape[1] != 3:
            raise InputError(f"{self.name}: POSITION: expected three numbers a vertex, got {position.shape}")
        for name, values in attributes.items():
            if len(values) != len(position):
                raise InputError(
                    f"{self.name}: {name}: expected {len(position):,} entries, got {len(values):,}"
                )
        if not np.isfinite(position).all():
            raise InputError(f"{self.name}: vertices: expected finite numbers, got NaN or infinity")
        faces = _triangles(indices, primitive.get("mode", 4))
        if len(faces) and faces.max() >= len(position):
            raise InputError(
                f"{self.name}: expected vertex indices in 0..{len(position) - 1}, got {faces.min()}..{faces.max()}"
            )
        proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
        return attributes, faces[proper]

    def _draco(
        self, primitive: dict[str, Any], entry: dict[str, Any]
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        try:
            import DracoPy  # noqa: PLC0415 - only for files that need it
        except ImportError as error:
            raise MissingPartError(
                f"{self.name}: its geometry is Draco-compressed; install the decoder: {_DRACO_HINT}"
            ) from error
        try:
            decoded = DracoPy.decode(bytes(self.view_bytes(entry["bufferView"])))
        except InputError:
            raise
        except Exception as error:  # the decoder's own kinds
            raise InputError(
                f"{self.name}: Draco data is broken ({' '.join(str(error).split())[:80]})"
            ) from error
        by_id = {attribute["unique_id"]: attribute["data"] for attribute in decoded.attributes}
        attributes: dict[str, np.ndarray] = {}
        for name, identifier in entry["attributes"].items():
            if identifier not in by_id:
                raise InputError(f"{self.name}: Draco data lacks attribute {name}")
            values = np.asarray(by_id[identifier])
            values = values.reshape(len(values), -1)
            accessor = self.json["accessors"][self._index("accessors", primitive["attributes"][name])]
            if accessor.get("normalized", False) and values.dtype.kind in "ui":
                values = values.astype(np.float32) / np.iinfo(values.dtype).max
            attributes[name] = values
        if decoded.faces is None:
            raise InputError(f"{self.name}: Draco data holds points, no faces")
        return attributes, np.asarray(decoded.faces, np.int64).reshape(-1)

    def _morphed(
        self, attributes: dict[str, np.ndarray], primitive: dict[str, Any], weights: Any
    ) -> dict[str, np.ndarray]:
        """Morph targets at the file's default weights."""
        targets = primitive.get("targets")
        if not targets or not weights or not np.any(weights):
            return attributes
        if len(weights) != len(targets) or not np.isfinite(np.array(weights, np.float64)).all():
            raise InputError(f"{self.name}: expected {len(targets)} finite morph weights, got {len(weights)}")
        result = dict(attributes)
        for weight, target in zip(weights, targets, strict=True):
            for name in ("POSITION", "NORMAL"):
                if weight and name in target and name in result:
                    offset = self.accessor(target[name])
                    if offset.shape != result[name].shape:
                        raise InputError(
                            f"{self.name}: morph target: expected shape {result[name].shape}, got {offset.shape}"
                        )
                    result[name] = result[name] + np.float32(weight) * offset
        return result

    def _skinned(
        self, attributes: dict[str, np.ndarray], skin_index: int
    ) -> tuple[np.ndarray, np.ndarray | None, bool]:
        """Vertices posed by the file's joints; the node's own transform does not count (glTF 2.0, 3.7.3.3)."""
        skin = self.json["skins"][self._index("skins", skin_index)]
        joints = [self._index("nodes", joint) for joint in skin["joints"]]
        matrices = np.stack([self.world_matrix(joint) for joint in joints])
        if "inverseBindMatrices" in skin:
            inverse = self.accessor(skin["inverseBindMatrices"]).astype(np.float64)
            if len(inverse) < len(joints) or inverse.shape[1] != 16:
                raise InputError(
                    f"{self.name}: expected {len(joints)} inverse bind matrices, got {len(inverse)}"
                )
            matrices = matrices @ inverse[: len(joints)].reshape(-1, 4, 4).transpose(0, 2, 1)
        blended, total = 0.0, 0.0
        for group in ("0", "1"):
            if f"JOINTS_{group}" not in attributes or f"WEIGHTS_{group}" not in attributes:
                continue
            which = attributes[f"JOINTS_{group}"].astype(np.int64)
            weight = attributes[f"WEIGHTS_{group}"].astype(np.float64)
            if weight.shape != which.shape:
                raise InputError(
                    f"{self.name}: expected joint weights of shape {which.shape}, got {weight.shape}"
                )
            if which.size and (which.max() >= len(joints) or which.min() < 0):
                raise InputError(f"{self.name}: expected joints in 0..{len(joints) - 1}, got {which.max()}")
            for k in range(which.shape[1]):
                blended = blended + weight[:, k, None, None] * matrices[which[:, k]]
                total = total + weight[:, k]
        total = np.asarray(total).reshape(-1, 1, 1)
        if total.size != len(attributes["POSITION"]):
            raise InputError(f"{self.name}: a skinned mesh has no joint weights")
        blended = np.where(
            np.abs(total) > 1e-6, blended / np.where(np.abs(total) > 1e-6, total, 1), np.eye(4)
        )
        if not np.isfinite(blended).all():
            raise InputError(f"{self.name}: the skin's matrices are not finite")
        position = attributes["POSITION"].astype(np.float64)
        vertices = np.einsum("nij,nj->ni", blended[:, :3, :3], position) + blended[:, :3, 3]
        normals = None
        if "NORMAL" in attributes:
            normals = _unit(
                np.einsum("nij,nj->ni", blended[:, :3, :3], attributes["NORMAL"].astype(np.float64))
            )
        mirrored = bool(np.linalg.det(blended[:, :3, :3]).mean() < 0)
        return vertices, normals, mirrored


def _compose(translation: np.ndarray, rotation: np.ndarray, scale: np.ndarray) -> Float[np.ndarray, "4 4"]:
    x, y, z, w = rotation / max(float(np.linalg.norm(rotation)), 1e-12)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix[:3, :3] *= scale
    matrix[:3, 3] = translation
    return matrix


def _transformed(
    attributes: dict[str, np.ndarray], matrix: Float[np.ndarray, "4 4"]
) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """World vertices, unit normals if there are any, and whether the winding is turned round."""
    linear = matrix[:3, :3]
    vertices = attributes["POSITION"].astype(np.float64) @ linear.T + matrix[:3, 3]
    determinant = float(np.linalg.det(linear))
    normals = None
    if "NORMAL" in attributes:
        # The cofactors are the inverse transpose times the determinant, and exist for flattened parts, too.
        cofactors = np.stack(
            [np.cross(linear[1], linear[2]), np.cross(linear[2], linear[0]), np.cross(linear[0], linear[1])]
        )
        normals = _unit(attributes["NORMAL"].astype(np.float64) @ cofactors.T) * (
            -1 if determinant < 0 else 1
        )
    return vertices, normals, determinant < 0


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    good = np.isfinite(length) & (length > 1e-12)
    return np.where(good, vectors / np.where(good, length, 1), [0.0, 1.0, 0.0])


def _triangles(indices: Int[np.ndarray, " n"], mode: int) -> Int[np.ndarray, "f 3"]:
    if mode == 4:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    if len(indices) < 3:
        return np.zeros((0, 3), np.int64)
    if mode == 6:
        return np.stack([np.full(len(indices) - 2, indices[0]), indices[1:-1], indices[2:]], 1)
    faces = np.stack([indices[:-2], indices[1:-1], indices[2:]], 1)
    faces[1::2] = faces[1::2, [1, 0, 2]]
    return faces


def _colors(attributes: dict[str, np.ndarray]) -> Float[np.ndarray, "v 4"] | None:
    colors = attributes.get("COLOR_0")
    if colors is None:
        return None
    if colors.dtype.kind in "ui":  # not marked as normalized, though it must be
        colors = colors.astype(np.float32) / np.iinfo(colors.dtype).max
    colors = np.clip(np.nan_to_num(colors.astype(np.float32)), 0, 1)
    if colors.shape[1] == 3:
        colors = np.concatenate([colors, np.ones((len(colors), 1), np.float32)], 1)
    return colors
