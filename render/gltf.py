"""glTF 2.0 (.glb, .gltf) → `Model`: scene graph, instances, skins and morph targets in rest pose, materials.

Everything that a file says is checked before it is used; see `LoadLimits`.
"""

from __future__ import annotations

import struct
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import InputError, MissingPartError
from mv3d.core.installing import install_command
from mv3d.render.assembly import Assembly, Part
from mv3d.render.cameras import world_from_gltf
from mv3d.render.gltf_extensions import EXTENSIONS
from mv3d.render.gltf_file import GltfFile
from mv3d.render.gltf_geometry import colors, compose, transformed, triangles, unit
from mv3d.render.gltf_materials import MaterialReader
from mv3d.render.gltf_textures import Mapping, channels_of, texture_coordinates
from mv3d.render.limits import LoadLimits
from mv3d.render.model import Model
from mv3d.render.resources import Resources

_DRACO_HINT = install_command("DracoPy")
# What a wrong kind, key or length in the JSON raises when it is used.
_WRONG = (LookupError, TypeError, ValueError, AttributeError, OverflowError, struct.error, RecursionError)


def read_gltf(resources: Resources, limits: LoadLimits) -> Model:
    """Read the default scene. Raises InputError for a broken or hostile file, MissingPartError without the
    decoder that it needs."""
    try:
        return _Reader(GltfFile(resources, limits)).model()
    except _WRONG as error:
        raise InputError(
            f"{resources.name}: not a valid glTF file ({type(error).__name__}: {' '.join(str(error).split())[:100]})"
        ) from error


class _Reader:
    def __init__(self, file: GltfFile) -> None:
        self.file, self.name, self.limits, self._json = file, file.name, file.limits, file.json
        limits, document = file.limits, file.json
        self._required = set(document.get("extensionsRequired", []))
        unknown = sorted(self._required - set(EXTENSIONS))
        if unknown:
            raise InputError(
                f"{self.name}: requires {', '.join(map(str, unknown))[:120]}, which is not supported; export the "
                "file without it"
            )
        most_of = {"nodes": limits.nodes, "meshes": limits.nodes, "materials": limits.materials}
        for what, most in most_of.items():
            count = len(document.get(what, []))
            if count > most:
                raise InputError(f"{self.name}: expected at most {most:,} {what}, got {count:,}; merge them")
        self.materials = MaterialReader(file)
        self._parents = self._check_tree()
        self._world: dict[int, np.ndarray] = {}
        self._primitives: dict[tuple[int, int], tuple[dict[str, np.ndarray], np.ndarray]] = {}
        self.assembly = Assembly(self.name, limits, file.resources.warnings)

    # -- scene graph

    def _check_tree(self) -> dict[int, int]:
        """Parent of every node that has one. Raises InputError for cycles and nodes with two parents."""
        parents: dict[int, int] = {}
        for index, node in enumerate(self._json.get("nodes", [])):
            for child in map(partial(self.file.index, "nodes"), node.get("children", [])):
                if child in parents or child == index:
                    raise InputError(
                        f"{self.name}: node {child} has two parents or is its own; expected a tree"
                    )
                parents[child] = index
        for index in range(len(self._json.get("nodes", []))):
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
            own = self._local_matrix(self._json["nodes"][index])
            parent = self._parents.get(index)
            self._world[index] = own if parent is None else self.world_matrix(parent) @ own
        return self._world[index]

    def _local_matrix(self, node: dict[str, Any]) -> np.ndarray:
        if "matrix" in node:
            matrix = np.array(node["matrix"], np.float64).reshape(4, 4).T
        else:
            matrix = compose(
                np.array(node.get("translation", [0, 0, 0]), np.float64),
                np.array(node.get("rotation", [0, 0, 0, 1]), np.float64),
                np.array(node.get("scale", [1, 1, 1]), np.float64),
            )
        if not np.isfinite(matrix).all():
            raise InputError(f"{self.name}: node {node.get('name', '')!r}: its transform is not finite")
        return matrix

    def _scene_nodes(self) -> list[int]:
        nodes = self._json.get("nodes", [])
        scenes = self._json.get("scenes", [])
        if scenes:
            scene = scenes[self.file.index("scenes", self._json.get("scene", 0))]
            stack = [self.file.index("nodes", index) for index in scene.get("nodes", [])]
        else:
            stack = [index for index in range(len(nodes)) if index not in self._parents]
        found, seen = [], set()
        while stack:
            index = stack.pop()
            if index in seen:
                continue
            seen.add(index)
            if (
                nodes[index].get("extensions", {}).get("KHR_node_visibility", {}).get("visible", True)
                is False
            ):
                continue
            found.append(index)
            stack.extend(self.file.index("nodes", child) for child in nodes[index].get("children", []))
        return sorted(found)

    def model(self) -> Model:
        """The default scene, joined, in the world frame."""
        for index in self._scene_nodes():
            node = self._json["nodes"][index]
            if "mesh" in node:
                self._add_node(index, node)
        if not self.assembly.parts:
            raise InputError(f"{self.name}: expected at least one face with a size, got none")
        return self.assembly.model(self.materials.all())

    def _add_node(self, index: int, node: dict[str, Any]) -> None:
        mesh_index = self.file.index("meshes", node["mesh"])
        mesh = self._json["meshes"][mesh_index]
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
            material = self.materials.number(primitive.get("material"), channels_of(attributes))
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
                placed = (transformed(attributes, matrix) for matrix in matrices)
            uv = self._texture_coordinates(attributes, material)
            for vertices, normals, mirrored in placed:
                self.assembly.add(
                    Part(
                        world_from_gltf(vertices).astype(np.float32),
                        faces[:, ::-1] if mirrored else faces,
                        material,
                        None if normals is None else world_from_gltf(normals).astype(np.float32),
                        uv[0] if uv else None,
                        colors(attributes),
                        uv[1:],
                    )
                )

    def _texture_coordinates(
        self, attributes: dict[str, np.ndarray], material: int
    ) -> tuple[Float[np.ndarray, "v 2"], ...]:
        """The sets that a material's textures use; without textures the mesh's own first set, if it has one."""
        mappings = self.materials.mappings(material)
        if not mappings and 0 in channels_of(attributes):
            mappings = (Mapping(),)
        return tuple(texture_coordinates(attributes, mapping) for mapping in mappings)

    def _instances(self, node: dict[str, Any]) -> list[np.ndarray]:
        extension = node.get("extensions", {}).get("EXT_mesh_gpu_instancing")
        if extension is None:
            return [np.eye(4)]
        values = {name: self.file.accessor(index) for name, index in extension["attributes"].items()}
        still = {"TRANSLATION": np.zeros(3), "ROTATION": np.array([0, 0, 0, 1.0]), "SCALE": np.ones(3)}
        counts = [len(values[name]) for name in still if name in values]
        if not counts:
            return [np.eye(4)]
        count = min(counts)
        if count > self.limits.nodes:
            raise InputError(f"{self.name}: expected at most {self.limits.nodes:,} instances, got {count:,}")
        columns = (
            values[name][:count].astype(np.float64) if name in values else [default] * count
            for name, default in still.items()
        )
        return [compose(*row) for row in zip(*columns, strict=True)]

    # -- geometry

    def _read_primitive(self, primitive: dict[str, Any]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        draco = primitive.get("extensions", {}).get("KHR_draco_mesh_compression")
        if draco is not None and self._needs_draco(primitive):
            attributes, indices = self._draco(primitive, draco)
        else:
            if "POSITION" not in primitive["attributes"]:
                return {}, np.zeros((0, 3), np.int64)
            attributes = {name: self.file.accessor(index) for name, index in primitive["attributes"].items()}
            indices = np.arange(len(attributes["POSITION"]))
            if "indices" in primitive:
                indices = self.file.accessor(primitive["indices"])[:, 0].astype(np.int64)
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
        faces = triangles(indices, primitive.get("mode", 4))
        if len(faces) and faces.max() >= len(position):
            raise InputError(
                f"{self.name}: expected vertex indices in 0..{len(position) - 1}, got {faces.min()}..{faces.max()}"
            )
        proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
        return attributes, faces[proper]

    def _needs_draco(self, primitive: dict[str, Any]) -> bool:
        """Whether there is no other way to the geometry: where the decoder is missing, a file that does not require
        the extension holds the plain data, too."""
        if "KHR_draco_mesh_compression" in self._required or find_spec("DracoPy") is not None:
            return True
        named = [*primitive["attributes"].values()]
        named += [primitive["indices"]] if "indices" in primitive else []
        entries = [self._json["accessors"][self.file.index("accessors", index)] for index in named]
        return not all("bufferView" in entry for entry in entries)

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
            decoded = DracoPy.decode(bytes(self.file.view_bytes(entry["bufferView"])))
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
            accessor = self._json["accessors"][self.file.index("accessors", primitive["attributes"][name])]
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
                    offset = self.file.accessor(target[name])
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
        skin = self._json["skins"][self.file.index("skins", skin_index)]
        joints = [self.file.index("nodes", joint) for joint in skin["joints"]]
        matrices = np.stack([self.world_matrix(joint) for joint in joints])
        if "inverseBindMatrices" in skin:
            inverse = self.file.accessor(skin["inverseBindMatrices"]).astype(np.float64)
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
        bound = np.abs(total) > 1e-6
        blended = np.where(bound, blended / np.where(bound, total, 1), np.eye(4))
        if not np.isfinite(blended).all():
            raise InputError(f"{self.name}: the skin's matrices are not finite")
        linear, position = blended[:, :3, :3], attributes["POSITION"].astype(np.float64)
        vertices = np.einsum("nij,nj->ni", linear, position) + blended[:, :3, 3]
        normals = None
        if "NORMAL" in attributes:
            normals = unit(np.einsum("nij,nj->ni", linear, attributes["NORMAL"].astype(np.float64)))
        return vertices, normals, bool(np.linalg.det(linear).mean() < 0)
