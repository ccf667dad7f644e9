"""Specular-glossiness materials: the published conversion, in numbers and in pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.gltf_quads import UV, add_texture, quad, quarters, rendered, rendered_file

from mv3d.core.colors import LINEAR_OF_SRGB, linear_from_srgb
from mv3d.core.errors import InputError
from mv3d.render.loading import load_model
from mv3d.render.model import Material
from mv3d.render.specular_glossiness import SpecularGlossiness, convert, metallic_roughness_of

GLOSSY = "KHR_materials_pbrSpecularGlossiness"


def from_metallic(base: np.ndarray, metallic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The other direction, as published: diffuse and specular colours of a metallic-roughness material."""
    m = metallic[:, None]
    specular = 0.04 + (base - 0.04) * m
    diffuse = base * 0.96 * (1 - m) / np.maximum(1 - specular.max(1, keepdims=True), 1e-6)
    return diffuse, specular


def test_greys_come_back_exactly_and_colours_nearly():
    rng = np.random.default_rng(0)
    metallic = rng.uniform(0, 1, 500)
    grey = np.repeat(rng.uniform(0.05, 0.95, (500, 1)), 3, 1)
    base, found = convert(*from_metallic(grey, metallic))
    np.testing.assert_allclose(found, metallic, atol=1e-6)
    np.testing.assert_allclose(base, grey, atol=1e-5)
    colour = rng.uniform(0.1, 0.9, (500, 3))
    for value in (np.zeros(500), np.ones(500)):  # where the models agree in all channels
        base, found = convert(*from_metallic(colour, value))
        np.testing.assert_allclose(found, value, atol=0.02)
        np.testing.assert_allclose(base, colour, atol=0.02)


def test_metalness_solves_the_published_equation():
    """Both sides of it: the reflectance and the diffuse part have the brightness of the given ones."""
    rng = np.random.default_rng(1)
    diffuse, specular = rng.uniform(0, 1, (2, 200, 3))
    _, metallic = convert(diffuse, specular)
    d, s = (np.sqrt(c * c @ [0.299, 0.587, 0.114]) for c in (diffuse, specular))
    rest = 1 - specular.max(1)
    inside = (metallic > 0) & (metallic < 1)
    assert inside.sum() > 50
    left = 0.04 * metallic**2 + (d * rest / 0.96 + s - 0.08) * metallic + 0.04 - s
    np.testing.assert_allclose(left[inside], 0, atol=1e-9)


def test_a_texture_is_converted_texel_by_texel():
    rng = np.random.default_rng(2)
    diffuse, shine = rng.integers(0, 256, (2, 600, 3, 4), np.uint8)
    factors = {"diffuse": (0.9, 0.8, 0.7, 0.6), "specular": (0.5, 0.9, 0.8), "glossiness": 0.7}
    given = SpecularGlossiness(**factors, diffuse_texture=diffuse, specular_texture=shine)
    found = metallic_roughness_of(given)
    assert found.base_color == (1, 1, 1, 0.6) and (found.metallic, found.roughness) == (1, 1)
    assert found.base_color_texture is not None and found.metallic_roughness_texture is not None
    assert (found.base_color_texture[..., 3] == diffuse[..., 3]).all()
    for y, x in ((0, 0), (255, 2), (256, 0), (599, 1)):
        tint = LINEAR_OF_SRGB[diffuse[y, x, :3]] * factors["diffuse"][:3]
        gloss = LINEAR_OF_SRGB[shine[y, x, :3]] * factors["specular"]
        base, metallic = convert(tint[None], gloss[None])
        texel = linear_from_srgb(found.base_color_texture[y, x, :3] / 255)
        np.testing.assert_allclose(texel, base[0], atol=0.01)
        _, rough, metal = found.metallic_roughness_texture[y, x] / 255
        assert metal == pytest.approx(metallic[0], abs=0.003)
        assert rough == pytest.approx(1 - 0.7 * shine[y, x, 3] / 255, abs=0.003)


def test_what_is_the_same_everywhere_is_a_factor_and_sizes_meet():
    paint = np.full((4, 4, 4), (200, 40, 40, 255), np.uint8)
    found = metallic_roughness_of(SpecularGlossiness(specular=(0.0, 0.0, 0.0), diffuse_texture=paint))
    assert found.metallic_roughness_texture is None and (found.metallic, found.roughness) == (0, 0)
    shine = np.full((2, 8, 4), (255, 255, 255, 0), np.uint8)  # no gloss: alpha must not weigh the colours
    shine[:, 4:] = (0, 0, 0, 0)
    both = metallic_roughness_of(SpecularGlossiness(diffuse_texture=paint, specular_texture=shine))
    assert both.base_color_texture is not None and both.base_color_texture.shape == (4, 8, 4)
    assert (both.base_color_texture[:, 0, :3] > 250).all() and both.base_color_texture[0, 7, 1] < 45


def glossy(document: Any, **values: Any) -> Any:
    document.json["materials"] = [{"extensions": {GLOSSY: values}}]
    document.json["extensionsUsed"] = [GLOSSY]
    return document


def test_gold_without_textures(tmp_path):
    document = glossy(
        quad(), diffuseFactor=[0, 0, 0, 1], specularFactor=[1, 0.76, 0.33], glossinessFactor=0.6
    )
    model, seen = rendered_file(document, tmp_path / "a.glb")
    material = model.materials[0]
    assert (material.metallic, material.roughness) == pytest.approx((1, 0.4))
    np.testing.assert_allclose(material.base_color, [1, 0.76, 0.33, 1], atol=1e-6)
    gold = rendered(
        load_model(
            quad(
                pbrMetallicRoughness={
                    "baseColorFactor": [1, 0.76, 0.33, 1],
                    "metallicFactor": 1,
                    "roughnessFactor": 0.4,
                }
            ).write(tmp_path / "b.glb")
        )
    )
    np.testing.assert_allclose(seen, gold, atol=1e-3)
    assert seen[0, 0] > 0.95 and seen[0, 2] < 0.45


def test_coloured_metal_of_a_texture(tmp_path):
    """Four colours of metal; alpha is the gloss. Read as black glass where it is left out."""
    colours = [(230, 30, 30, 128), (30, 200, 40, 128), (30, 60, 230, 128), (240, 200, 30, 128)]
    document = quad()
    index = add_texture(document, quarters(*colours))
    glossy(document, diffuseFactor=[0, 0, 0, 1], specularGlossinessTexture={"index": index})
    model, seen = rendered_file(document, tmp_path / "a.glb")
    material = model.materials[0]
    assert material.metallic_roughness_texture is None  # metal and as rough all over
    assert material.roughness == pytest.approx(1 - 128 / 255, abs=0.003)
    assert material.metallic == pytest.approx(1, abs=0.02)
    expected = linear_from_srgb(np.array(colours)[:, :3] / 255)
    np.testing.assert_allclose(seen, expected, atol=0.06)
    assert model.warnings == ()


def test_paint_with_shine_on_a_set_of_its_own(tmp_path):
    """The same numbers in another set: too far apart to join texel by texel, so the mean is taken and named."""
    document = quad()
    document.attribute("TEXCOORD_1", UV, "VEC2")
    paint = add_texture(document, quarters((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)))
    shine = add_texture(document, np.full((2, 2, 4), (56, 56, 56, 77), np.uint8))
    glossy(
        document,
        diffuseTexture={"index": paint},
        specularGlossinessTexture={"index": shine, "texCoord": 1},
    )
    model, seen = rendered_file(document, tmp_path / "a.glb")
    assert [warning.name for warning in model.warnings] == ["approximated"] and model.more_uv == ()
    np.testing.assert_allclose(seen, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], atol=0.08)
    assert model.materials[0].roughness == pytest.approx(1 - 77 / 255, abs=0.003)


def test_a_lost_shine_is_that_of_paint(tmp_path):
    document = quad()
    glossy(document, diffuseFactor=[0.5, 0, 0, 1], specularGlossinessTexture={"index": 0})
    document.json["images"], document.json["textures"] = [{"uri": "gone.png"}], [{"source": 0}]
    model = load_model(document.write(tmp_path / "a.glb"))
    assert [warning.name for warning in model.warnings] == ["missing_detail"]
    material = model.materials[0]
    assert (material.metallic, material.roughness) == (0, 0.8)
    np.testing.assert_allclose(material.base_color, [0.5, 0, 0, 1], atol=0.01)
    assert isinstance(material, Material)


def test_bad_factors(tmp_path):
    with pytest.raises(InputError, match="finite factors"):
        load_model(glossy(quad(), glossinessFactor=float("nan")).write(tmp_path / "a.glb"))
    with pytest.raises(InputError, match="not a valid glTF"):
        load_model(glossy(quad(), specularFactor=[1, 1]).write(tmp_path / "b.glb"))
