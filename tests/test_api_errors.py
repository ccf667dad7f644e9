"""What the functions of the Python API say of settings: names as a caller of Python writes them, no flags."""

from __future__ import annotations

import pytest
from PIL import Image

import mv3d
from mv3d.core.errors import Mv3dError
from mv3d.core.settings import in_keywords


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda photo: mv3d.generate(photo, views=0), "views: expected"),
        (lambda photo: mv3d.generate(photo, trajectory="spiral"), "trajectory: expected one of"),
        (lambda photo: mv3d.lift(photo, elevation=120), "elevation: expected"),
        (lambda photo: mv3d.make(photo, views=0), "views: expected"),
        (lambda photo: mv3d.reconstruct("views", quality="best"), "quality: expected"),
    ],
)
def test_errors_name_settings_as_python_does(call, told):
    with pytest.raises(Mv3dError) as caught:
        call(Image.new("RGB", (8, 8)))
    assert str(caught.value).startswith(told) and "--" not in str(caught.value)


def test_flags_become_keywords_and_the_rest_stays():
    text = "--drop-render: expected none beside --no-prior; see a--b, out--x"
    assert in_keywords(text) == ("drop_render: expected none beside prior=False; see a--b, out--x")
