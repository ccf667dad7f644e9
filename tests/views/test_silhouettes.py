"""Distances to a silhouette."""

from __future__ import annotations

import numpy as np

from mv3d.views.silhouettes import silhouette_distance


def test_silhouette_distance_of_a_disc():
    yy, xx = np.mgrid[:80, :80] + 0.5
    ring = np.hypot(xx - 40, yy - 40)
    distance = silhouette_distance(np.clip(25.5 - ring, 0, 1).astype(np.float32))
    assert np.abs(distance - (25 - ring)).max() < 0.8
