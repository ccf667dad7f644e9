from __future__ import annotations

import pytest

from mv3d.app.job_settings import checked_settings, offered_fields, photo_configs, views_configs
from mv3d.core.errors import UsageError
from mv3d.generation.config import GenerateConfig, LiftConfig
from mv3d.recon.config import ReconConfig


def test_settings_become_the_configurations_of_make():
    settings = checked_settings(
        {"quality": "draft", "format": "GLB, stl", "views": 8, "elevation": 5, "seed": 3},
        "photo",
        ["default"],
    )
    assert settings["formats"] == ["glb", "stl"]
    assert photo_configs(settings) == (
        GenerateConfig(views=8, elevation=5, seed=3),
        ReconConfig(quality="draft", formats=("glb", "stl"), seed=3),
    )


def test_instant_is_the_configuration_of_lift():
    settings = checked_settings({"quality": "instant", "formats": ["obj"]}, "photo", ["default"])
    assert photo_configs(settings) == LiftConfig(formats=("obj",))


def test_views_take_what_recon_takes():
    settings = checked_settings({"quality": "high", "azimuth_sign": -1, "fov_deg": 40}, "views", ["default"])
    for_mesh, reading = views_configs(settings)
    assert (for_mesh.quality, reading.azimuth_sign, reading.fov_deg) == ("high", -1, 40)


def test_the_first_model_that_is_offered_is_the_usual_one():
    assert checked_settings({}, "photo", ["sv3d_u"]) == {"model": "sv3d_u"}
    assert checked_settings({}, "photo", ["default", "sv3d_u"]) == {}


@pytest.fixture(autouse=True)
def messages_as_printed():
    """Read as the server answers: in the names of JSON."""


@pytest.mark.parametrize("name", ["lora", "revision", "method"])
def test_paths_and_downloads_are_not_offered(name: str):
    assert name not in offered_fields("photo") and name not in offered_fields("views")


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        ("photo", [], "expected a JSON object, got list"),
        ("photo", None, "expected a JSON object"),
        ("photo", {"qualty": "draft"}, "got 'qualty'"),
        ("photo", {"quality": "best"}, "expected one of instant, draft, standard, high, got 'best'"),
        ("photo", {"quality": 3}, "quality: expected one of"),
        ("photo", {"model": "/etc/passwd"}, "expected one of default"),
        ("photo", {"model": "../../secret"}, "expected one of default"),
        ("photo", {"model": None}, "model: expected text"),
        ("photo", {"trajectory": "/etc/passwd"}, "trajectory: expected one of static"),
        ("photo", {"lora": ["/etc/passwd"]}, "'lora'"),
        ("photo", {"views": "8"}, "views: expected a whole number or null, got '8'"),
        ("photo", {"views": 8.5}, "views: expected a whole number"),
        ("photo", {"views": True}, "views: expected a whole number"),
        ("photo", {"views": 10**30}, "views: expected 1 to 1000"),
        ("photo", {"elevation": 10**400}, "elevation: expected"),
        ("photo", {"elevation": float("nan")}, "elevation: expected"),
        ("photo", {"elevation": 90}, "elevation: expected less than 89"),
        ("photo", {"seed": -1}, "seed: expected 0 to"),
        ("photo", {"format": "exe"}, "formats: expected some of glb"),
        ("photo", {"format": ["glb", 3]}, "formats: expected a list"),
        ("photo", {"format": "glb", "formats": ["glb"]}, "got both"),
        ("photo", {"quality": "instant", "views": 8}, "expected no views: no views are made"),
        ("photo", {"texture_size": 1000}, "texture_size: expected a power of two"),
        ("photo", {"fov_deg": 30}, "'fov_deg'"),
        ("views", {"views": 8}, "'views'"),
        ("views", {"azimuth_sign": 2}, "azimuth_sign: expected"),
        ("views", {"trajectory": "static"}, "'trajectory'"),
    ],
)  # fmt: skip
def test_a_bad_setting_is_one_sentence(kind, given, says):
    with pytest.raises(UsageError) as caught:
        checked_settings(given, kind, ["default"])
    assert says in str(caught.value) and "--" not in str(caught.value).replace("mv3d app --model", "")
