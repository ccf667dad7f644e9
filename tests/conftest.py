"""Views of small objects, made once per session, and one thread for small networks."""

from __future__ import annotations

import pytest
from helpers.shapes import cube, orbit_of, sphere

from mv3d.core.wording import flags_spoken
from mv3d.views.views import Views


@pytest.fixture(autouse=True)
def messages_as_printed():
    """Messages as the command line prints them; tests/test_api_errors.py reads them as Python does."""
    with flags_spoken():
        yield


@pytest.fixture(scope="session")
def ball_views() -> Views:
    return orbit_of(sphere())


@pytest.fixture(scope="session")
def cube_views() -> Views:
    return orbit_of(cube())


@pytest.fixture
def one_thread():
    """Networks this small spend their time in waking threads, on a busy machine nearly all of it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
