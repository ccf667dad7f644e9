"""bf16 with a copy of the weights: the same training as in fp32, up to noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.ellipsoids import save_ellipsoids
from helpers.training_data import loop, quick, save_base, save_latents, save_orbits
from safetensors.torch import load_file

from mv3d.models.prior.network import PriorNetwork
from mv3d.training.config import PriorConfig, preset
from mv3d.training.metric_log import read_log
from mv3d.training.objective import Denoise, HalfWeights, Objective, keeps_half_copy
from mv3d.training.run import train

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*none of its .* objects is held out"),
]


def test_gradients_come_to_the_weights_in_single_precision():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.GroupNorm(2, 8), torch.nn.Conv2d(8, 1, 1)
    )
    network[2].requires_grad_(False)
    x = torch.randn(2, 3, 8, 8)
    network(x).square().mean().backward()
    exact = next(network.parameters()).grad.clone()  # type: ignore[union-attr]
    network.zero_grad()
    made = HalfWeights(network)(x.bfloat16())
    assert made.dtype == torch.bfloat16
    made.float().square().mean().backward()
    weight = next(network.parameters())
    assert weight.dtype == torch.float32 and weight.grad is not None and weight.grad.dtype == torch.float32
    assert network[2].weight.grad is None
    assert 0 < (weight.grad - exact).norm() < 0.03 * exact.norm()


def test_weights_keep_their_own_names():
    network = PriorNetwork(24)
    for module, prefix in ((network, ""), (HalfWeights(network), "module.")):
        assert Objective(network, module, lambda *_: (torch.zeros(()), {})).prefix == prefix
    unet = torch.nn.Linear(1, 1)
    wrapped = HalfWeights(Denoise(unet))  # type: ignore[arg-type]
    assert Objective(unet, wrapped, lambda *_: (torch.zeros(()), {})).prefix == "module.unet."


def test_only_new_networks_are_trained_so():
    assert keeps_half_copy(preset("tiny", precision="bf16"))
    assert keeps_half_copy(preset("prior", encoder="none"))
    assert not keeps_half_copy(preset("tiny"))
    assert not keeps_half_copy(preset("tiny", precision="bf16", gradient_checkpointing=True))
    assert not keeps_half_copy(preset("tiny", precision="bf16"), sharded=True)
    assert not keeps_half_copy(preset("svd_mv"))


def of_prior(root: Path, precision: str) -> Path:
    data = root / "ellipsoids"
    if not data.exists():
        save_ellipsoids(data, objects=4)
    config = preset(
        "prior", steps=8, batch=4, micro_batch=4, side=64, width=24, encoder="none", warmup=1, device="cpu",
        workers=0, log_every=1, checkpoint_every=8, validate_every=0, precision=precision, silhouette_after=2,
    )  # fmt: skip
    assert isinstance(config, PriorConfig)
    train(config, data, "", root / f"prior_{precision}")
    return root / f"prior_{precision}"


def of_tiny(root: Path, precision: str) -> Path:
    latents = root / "latents"
    if not latents.exists():
        save_latents(save_orbits(root / "orbits"), save_base(root / "base"), latents)
    out = root / f"tiny_{precision}"
    loop(quick("tiny", steps=8, precision=precision, checkpoint_every=8), latents, out)
    return out


@pytest.mark.parametrize("run", [of_prior, of_tiny])
def test_losses_stay_within_noise_of_single_precision(run, tmp_path):
    exact, half = (run(tmp_path, precision) for precision in ("fp32", "bf16"))
    losses = [torch.tensor([line["loss"] for line in read_log(out)]) for out in (exact, half)]
    assert ((losses[0] - losses[1]).abs() / losses[0]).max() < 0.03
    # It is not the same arithmetic, and the weights that are kept have all their bits.
    assert not torch.equal(losses[0], losses[1])
    kept = load_file(half / "checkpoints" / "00000008" / "weights.safetensors")
    assert all(value.dtype == torch.float32 for value in kept.values())
    assert any((value != value.bfloat16().float()).any() for value in kept.values())
