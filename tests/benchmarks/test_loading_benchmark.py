"""benchmarks/loading.py: a loader that keeps up, and one that cannot."""

from __future__ import annotations

import time

from latents import latent_shards
from loading import kept_up

from mv3d.orbits.dataset import OrbitSet


def test_a_slow_reader_is_seen(tmp_path, monkeypatch):
    folder = latent_shards(tmp_path / "latents", orbits=4, frames=21, side=8)
    settings = {"workers": 0, "batch": 1, "step_s": 0.02, "steps": 10, "left_out": 1}
    share, rate = kept_up(folder, **settings)
    assert 0.5 < share < 1 and rate < 50
    read = OrbitSet.sample

    def slow(self, index):
        time.sleep(0.06)
        return read(self, index)

    monkeypatch.setattr(OrbitSet, "sample", slow)
    share, rate = kept_up(folder, **settings)
    assert share < 0.3 and rate < 13
