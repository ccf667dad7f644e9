"""What `benchmarks/camera_adapters.py` relies on: motions that can be told apart at its size, and weight 0 as the base."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from camera_adapters import MOTIONS, measured
from helpers.training_data import small_network

from mv3d.models.lora import Lora, merge_loras, temporal_attention_modules


@pytest.mark.parametrize("name", MOTIONS)
def test_small_clips_show_their_motion(name):
    found = [measured(MOTIONS[name](np.random.default_rng(seed))) for seed in range(3)]
    assert [motion.kind for motion in found] == [name] * 3


def test_weight_0_is_the_base_bit_by_bit_and_weights_add_up():
    def adapter(seed: int) -> Lora:
        generator = torch.Generator().manual_seed(seed)
        down, up = {}, {}
        for name in temporal_attention_modules(small_network()):
            out, wide = small_network().get_parameter(f"{name}.weight").shape
            down[name] = torch.randn(2, wide, generator=generator)
            up[name] = torch.randn(out, 2, generator=generator)
        return Lora(down, up, alpha=2.0)

    base, (a, b) = small_network().state_dict(), (adapter(1), adapter(2))
    nothing, both = small_network(), small_network()
    merge_loras(nothing, [(a, 0.0), (b, 0.0)])
    assert all(torch.equal(value, base[name]) for name, value in nothing.state_dict().items())
    merge_loras(both, [(a, 0.5), (b, -0.25)])
    for name in a.down:
        change = both.state_dict()[f"{name}.weight"] - base[f"{name}.weight"]
        assert torch.allclose(change, 0.5 * a.delta(name) - 0.25 * b.delta(name), atol=1e-5)
