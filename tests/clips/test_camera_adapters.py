"""What `benchmarks/camera_adapters.py` relies on: motions that can be told apart at its size, and weight 0 as the base."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from camera_adapters import MOTIONS, measured, nearest, scene
from helpers.training_data import small_network

from mv3d.models.lora import Lora, merge_loras, temporal_attention_modules


@pytest.fixture(scope="module")
def rooms():
    return [scene(np.random.default_rng(seed)) for seed in range(3)]


@pytest.mark.parametrize("name", MOTIONS)
def test_small_clips_show_their_motion(name, rooms):
    assert [measured(clips[name]).kind for clips in rooms] == [name] * len(rooms)
    assert [nearest(clips[name], clips) for clips in rooms] == [name] * len(rooms)


def test_a_photo_does_not_say_which_motion_follows(rooms):
    for clips in rooms:
        assert len({clip[0].tobytes() for clip in clips.values()}) == 1
        assert len({clip[1].tobytes() for clip in clips.values()}) == len(MOTIONS)


def test_weight_0_is_the_base_bit_by_bit_and_weights_add_up():
    network = small_network()

    def adapter(seed: int) -> Lora:
        generator = torch.Generator().manual_seed(seed)
        down, up = {}, {}
        for name in temporal_attention_modules(network):
            out, wide = network.get_parameter(f"{name}.weight").shape
            down[name] = torch.randn(2, wide, generator=generator)
            up[name] = torch.randn(out, 2, generator=generator)
        return Lora(down, up, alpha=2.0)

    base, (a, b) = network.state_dict(), (adapter(1), adapter(2))
    nothing, both = small_network(), small_network()
    merge_loras(nothing, [(a, 0.0), (b, 0.0)])
    assert all(torch.equal(value, base[name]) for name, value in nothing.state_dict().items())
    merge_loras(both, [(a, 0.5), (b, -0.25)])
    merged = both.state_dict()
    for name in a.down:
        change = merged[f"{name}.weight"] - base[f"{name}.weight"]
        assert torch.allclose(change, 0.5 * a.delta(name) - 0.25 * b.delta(name), atol=1e-5)
