"""What mv3d says of settings to who calls it from Python: names as Python writes them, no flags."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

import mv3d
from mv3d.core.errors import Mv3dError, Mv3dWarning, UsageError
from mv3d.core.wording import flags_spoken, in_keywords


@pytest.fixture(autouse=True)
def messages_as_printed():
    """Nothing is said about flags here, as in a program of somebody's own."""


PHOTO = Image.new("RGB", (8, 8))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: mv3d.generate(PHOTO, views=0), "views: expected"),
        (lambda: mv3d.generate(PHOTO, trajectory="spiral"), "trajectory: expected one of"),
        (lambda: mv3d.lift(PHOTO, elevation=120), "elevation: expected"),
        (lambda: mv3d.make(PHOTO, views=0), "views: expected"),
        (lambda: mv3d.reconstruct("views", quality="best"), "quality: expected"),
        (lambda: mv3d.load_views("orbit.mp4", elevation_deg=100), "elevation_deg: expected"),
        (lambda: mv3d.load_views("orbit.mp4", fov_deg=0), "fov_deg: expected"),
        (lambda: mv3d.build_shards([object()], "shards", workers=0), "workers: expected"),
        (lambda: mv3d.train(mv3d.TrainConfig(), "shards", "", "run"), "data shards: expected"),
        # Values of another type, and images of another kind.
        (
            lambda: mv3d.generate(PHOTO, views="8"),
            "generate: views: expected a whole number or None, got '8'",
        ),
        (lambda: mv3d.lift(PHOTO, faces=1.5), "lift: faces: expected a whole number or None, got 1.5"),
        (lambda: mv3d.lift(PHOTO, model="sv3d_p"), "model sv3d_p: expected a model with a 3D prior"),
        (lambda: mv3d.make(PHOTO, seed=True), "make: seed: expected a whole number, got True"),
        (lambda: mv3d.make(PHOTO, quality="best"), "quality: expected one of instant, draft"),
        (lambda: mv3d.OrbitSet("shards", frame=3), "OrbitSet: unknown setting frame; did you mean frames"),
        (lambda: mv3d.generate(np.zeros((8, 8, 3))), "image: expected a path or a PIL image, got ndarray"),
        # Configurations made by hand.
        (lambda: mv3d.GenerateConfig(foreground_ratio=3.0), "foreground_ratio: expected"),
        (lambda: mv3d.ReconConfig(formats=("dwg",)), "formats: expected"),
        (lambda: mv3d.ReconConfig(print_size_mm=40.0), "print_size_mm: expected only with profile print"),
        (lambda: mv3d.OrbitConfig(elevation_deg=(40.0, 10.0)), "elevation_deg: expected"),
        (lambda: mv3d.OrbitConfig(fov_deg=0.0), "fov_deg: expected"),
        (lambda: mv3d.TrainConfig(batch=3, micro_batch=2), "batch: expected a multiple of micro_batch"),
    ],
)
def test_errors_name_settings_as_python_does(call, told):
    with pytest.raises(Mv3dError) as caught:
        call()
    assert str(caught.value).startswith(told) and "--" not in str(caught.value)


def test_warnings_name_settings_as_python_does():
    with pytest.warns(Mv3dWarning) as caught:
        warnings.warn("the orbit may be mirrored; use --azimuth-sign -1", Mv3dWarning, stacklevel=1)
    assert str(caught[0].message) == "the orbit may be mirrored; use azimuth_sign -1"


def test_flags_become_keywords_and_the_rest_stays():
    text = "--drop-render: expected none beside --no-prior; see a--b, out--x"
    assert in_keywords(text) == "drop_render: expected none beside prior=False; see a--b, out--x"


@pytest.mark.parametrize(
    "text",
    [
        "lpips: its layers are not on this machine; run: pip install --no-deps lpips",
        "expected geometry; give shards of: mv3d orbits render --geometry --trajectory random",
        "a mesh of 9 MB; mv3d recon --profile web makes a smaller one",
        "get it with `hf download --revision main`",
    ],
)
def test_commands_stay_as_they_are_typed(text):
    assert in_keywords(text) == text


def test_one_error_speaks_to_the_command_line_and_to_python():
    error = UsageError("--fov: expected 1 to 150, got 0; see --elevation", fields={"fov": "fov_deg"})
    assert str(error) == "fov_deg: expected 1 to 150, got 0; see elevation"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    with flags_spoken():
        assert str(error) == "--fov: expected 1 to 150, got 0; see --elevation"
    assert str(error).startswith("fov_deg")


def test_the_command_line_names_flags():
    done = subprocess.run(
        [sys.executable, "-m", "mv3d", "generate", "chair.png", "--foreground-ratio", "3"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.split(":")[:2]) == (2, ["mv3d", " --foreground-ratio"])
