"""Views of small objects, made once per session."""

from __future__ import annotations

import pytest
from shapes import cube, orbit_of, sphere

from mv3d.recon.views import Views


@pytest.fixture(scope="session")
def ball_views() -> Views:
    return orbit_of(sphere())


@pytest.fixture(scope="session")
def cube_views() -> Views:
    return orbit_of(cube())
