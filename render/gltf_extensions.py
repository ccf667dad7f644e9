"""glTF extensions and what the reader does with each: the one table behind reading, warnings and documentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Handling = Literal["read", "approximated", "left out"]


@dataclass(frozen=True)
class Extension:
    """handling: read as it says; approximated by the base material (named in the warnings); left out, since it does
    not change the object's shape or colours. note: for people."""

    handling: Handling
    note: str


def _look(note: str) -> Extension:
    return Extension("approximated", note)


EXTENSIONS: dict[str, Extension] = {
    "EXT_mesh_gpu_instancing": Extension("read", "instances are expanded"),
    "EXT_meshopt_compression": Extension("read", "a decoder of mv3d's own"),
    "EXT_texture_avif": Extension("read", "where Pillow reads AVIF, else the texture's PNG or JPEG"),
    "EXT_texture_webp": Extension("read", "in place of the texture's PNG or JPEG"),
    "KHR_draco_mesh_compression": Extension("read", 'with DracoPy (`pip install "mv3d[data]"`)'),
    "KHR_materials_emissive_strength": Extension("read", "multiplied with the emissive factor"),
    "KHR_materials_pbrSpecularGlossiness": Extension(
        "read", "converted to metallic-roughness, textures included"
    ),
    "KHR_materials_unlit": Extension("read", "the base colour as it is, whatever the light"),
    "KHR_mesh_quantization": Extension("read", "integer attributes of every kind"),
    "KHR_meshopt_compression": Extension(
        "read", "as EXT_meshopt_compression, with version 1 and the colour filter"
    ),
    "KHR_node_visibility": Extension("read", "nodes that are not visible, and all below them, are not there"),
    "KHR_texture_basisu": Extension("read", 'KTX2, with opengl_basisu (`pip install "mv3d[ktx2]"`)'),
    "KHR_texture_transform": Extension("read", "of every texture on its own"),
    "KHR_materials_anisotropy": _look("reflections are as wide in all directions"),
    "KHR_materials_clearcoat": _look("the coat is left out"),
    "KHR_materials_diffuse_transmission": _look("no light comes through"),
    "KHR_materials_dispersion": _look("left out with transmission"),
    "KHR_materials_ior": _look("the index of refraction is 1.5"),
    "KHR_materials_iridescence": _look("the film is left out"),
    "KHR_materials_sheen": _look("the fibres are left out"),
    "KHR_materials_specular": _look("the reflectance is 4 %"),
    "KHR_materials_transmission": _look("opaque, in its base colour"),
    "KHR_materials_volume": _look("opaque, in its base colour"),
    "KHR_materials_volume_scatter": _look("opaque, in its base colour"),
    "KHR_animation_pointer": Extension("left out", "the pose that the file gives is read"),
    "KHR_lights_punctual": Extension("left out", "the light is the environment's"),
    "KHR_materials_variants": Extension("left out", "the default variant is read"),
    "KHR_node_hoverability": Extension("left out", "for interaction"),
    "KHR_node_selectability": Extension("left out", "for interaction"),
    "KHR_xmp_json_ld": Extension("left out", "metadata"),
}
"""By name. Extensions that a file only uses and that are not here are left out; one that it requires is refused."""

MESHOPT = ("KHR_meshopt_compression", "EXT_meshopt_compression")
TEXTURE_SOURCES = ("KHR_texture_basisu", "EXT_texture_avif", "EXT_texture_webp", "MSFT_texture_dds")
"""Extensions of a texture that name another picture, the one that a reader should take first."""
