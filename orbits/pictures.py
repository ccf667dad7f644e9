"""Pictures that a 3D file names and that are not there: loaders replace them by white without a word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mv3d.core.errors import InputError
from mv3d.render.gltf_file import gltf_document

_SOURCES = ("KHR_texture_basisu", "EXT_texture_webp", "MSFT_texture_dds", "EXT_texture_avif")


def missing_pictures(path: Path) -> list[str]:
    """Colour and emission pictures of the materials of a .glb or .gltf that lead nowhere, one phrase each.

    Files that cannot be parsed have none: that is for the loader to report.
    """
    try:
        if path.suffix.lower() in (".glb", ".gltf"):
            return sorted(set(_missing_in_gltf(gltf_document(path.read_bytes(), path.name)[0], path.parent)))
    except (InputError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return []
    return []


def _missing_in_gltf(document: Mapping[str, Any], folder: Path) -> Iterator[str]:
    textures, images = document.get("textures", []), document.get("images", [])
    views = document.get("bufferViews", [])
    used = {
        primitive["material"]
        for mesh in document.get("meshes", [])
        for primitive in mesh["primitives"]
        if "material" in primitive
    }
    for number in sorted(used):
        material = document["materials"][number]
        name = material.get("name") or f"material {number}"
        for slot in _colour_slots(material):
            if slot["index"] >= len(textures):
                yield f"{name}: texture {slot['index']} does not exist"
                continue
            texture = textures[slot["index"]]
            sources = [texture.get("source")]
            sources += [texture.get("extensions", {}).get(kind, {}).get("source") for kind in _SOURCES]
            found = [source for source in sources if source is not None]
            if not found:
                yield f"{name}: texture {slot['index']} has no picture"
            elif not any(
                source < len(images) and _is_there(images[source], views, folder) for source in found
            ):
                yield f"{name}: {_label(images, found[0])} is not there"


def _colour_slots(material: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    glossy = material.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness", {})
    for owner, slot in (
        (material.get("pbrMetallicRoughness", {}), "baseColorTexture"),
        (glossy, "diffuseTexture"),
        (material, "emissiveTexture"),
    ):
        if slot in owner:
            yield owner[slot]


def _is_there(image: Mapping[str, Any], views: list[Mapping[str, Any]], folder: Path) -> bool:
    if "bufferView" in image:
        view = image["bufferView"]
        return view < len(views) and views[view]["byteLength"] > 0
    address = image.get("uri", "")
    if address.startswith("data:"):
        return len(address.partition(",")[2]) > 0
    return bool(address) and (folder / unquote(address)).is_file()


def _label(images: list[Mapping[str, Any]], number: int) -> str:
    image = images[number] if number < len(images) else {}
    address = image.get("uri", "")
    return address[:80] if address and not address.startswith("data:") else f"picture {number}"
