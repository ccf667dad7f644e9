"""Adapters: what was trained beside the network is what merging puts into it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from mv3d.core.errors import InputError, UsageError
from mv3d.models import SV3D_P, NetworkConfig
from mv3d.models.locate import parse_lora_argument
from mv3d.models.lora import (
    METADATA_KEY,
    Lora,
    LoraLinear,
    camera_modules,
    inject_lora,
    merge_loras,
    read_lora,
    save_lora,
    temporal_attention_modules,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def network(channels=32):
    torch.manual_seed(0)
    return NetworkConfig(
        micro=SV3D_P,
        block_out_channels=(channels, channels),
        attention=(True, False),
        heads=(2, 2),
        layers_per_block=1,
        transformer_depth=(1, 1),
        context_dim=24,
    ).build()


def inputs():
    g = torch.Generator().manual_seed(1)
    return (
        torch.randn(1, 3, 8, 8, 8, generator=g),
        torch.tensor([0.3]),
        torch.randn(1, 1, 24, generator=g),
        torch.rand(1, 3, 3, generator=g),
    )


def trained(seed: int) -> tuple[Lora, torch.Tensor]:
    """An adapter that did learn something, and the output of the network with it."""
    unet = network()
    names = temporal_attention_modules(unet) + camera_modules(unet)
    parameters = inject_lora(unet, names, rank=4, alpha=8.0, generator=torch.Generator().manual_seed(seed))
    optimiser = torch.optim.SGD(parameters, lr=20.0)
    for _ in range(2):
        optimiser.zero_grad()
        unet(*inputs()).sample.square().mean().backward()
        optimiser.step()
    with torch.no_grad():
        adapters = {name: module for name, module in unet.named_modules() if isinstance(module, LoraLinear)}
        down = {name: adapter.lora_A.detach() for name, adapter in adapters.items()}
        up = {name: adapter.lora_B.detach() for name, adapter in adapters.items()}
        return Lora(down, up, alpha=8.0, metadata={"seed": seed}), unet(*inputs()).sample


def run(unet) -> torch.Tensor:
    with torch.no_grad():
        return unet(*inputs()).sample


def test_places_of_the_adapters():
    unet = network()
    temporal = temporal_attention_modules(unet)
    # One transformer down, two up, one in the middle; two attentions of four projections each.
    assert len(temporal) == 4 * 2 * 4
    assert camera_modules(unet) == ["add_embedding.linear_1", "add_embedding.linear_2"]


def test_a_fresh_adapter_changes_nothing_and_alone_learns():
    unet = network()
    before = run(unet)
    parameters = inject_lora(
        unet, temporal_attention_modules(unet), rank=2, alpha=2.0, generator=torch.Generator().manual_seed(0)
    )
    assert torch.allclose(run(unet), before, atol=1e-6)
    unet(*inputs()).sample.square().mean().backward()
    assert [p for p in unet.parameters() if p.requires_grad] == parameters
    assert all(p.grad is not None for p in parameters)
    # Every adapter but those behind a single key, over which attention is constant, gets signal.
    live = {n for n, m in unet.named_modules() if hasattr(m, "lora_B") and m.lora_B.grad.abs().max() > 0}
    silent = set(temporal_attention_modules(unet)) - live
    assert all(".attn2.to_q" in n or ".attn2.to_k" in n for n in silent) and len(live) >= 4 * 6


def test_file_merged_equals_injected(tmp_path):
    lora, expected = trained(0)
    save_lora(tmp_path / "l.safetensors", lora)
    back = read_lora(tmp_path / "l.safetensors")
    assert back.rank == 4 and back.alpha == 8.0 and back.metadata["seed"] == 0
    unet = network()
    before = run(unet)
    merge_loras(unet, [(back, 1.0)])
    assert (run(unet) - before).abs().max() > 1e-3
    assert torch.allclose(run(unet), expected, atol=1e-5)
    assert (tmp_path / "l.safetensors").stat().st_size < 200_000


def test_several_mix_with_weights():
    (a, _), (b, _) = trained(0), trained(1)
    unet = network()
    start = {k: v.clone() for k, v in unet.state_dict().items()}
    merge_loras(unet, [(a, 0.5), (b, -2.0)])
    for name in a.down:
        expected = start[f"{name}.weight"] + 0.5 * a.delta(name) - 2.0 * b.delta(name)
        assert torch.allclose(unet.get_submodule(name).weight, expected, atol=1e-6)
    merge_loras(unet, [(a, -0.5), (b, 2.0)])
    assert all(torch.allclose(v, start[k], atol=1e-6) for k, v in unet.state_dict().items())


def test_names_of_peft_and_full_differences(tmp_path):
    lora, _ = trained(0)
    save_lora(tmp_path / "l.safetensors", lora)
    peft = {f"base_model.model.{k}": v for k, v in load_file(tmp_path / "l.safetensors").items()}
    peft["conv_in.bias.diff"] = torch.ones(32)
    save_file(peft, tmp_path / "p.safetensors")
    back = read_lora(tmp_path / "p.safetensors")
    assert back.down.keys() == lora.down.keys() and back.alpha == back.rank
    unet = network()
    before = unet.conv_in.bias.clone()
    merge_loras(unet, [(back, 0.5)])
    assert torch.allclose(unet.conv_in.bias, before + 0.5)


def test_bad_adapters_are_named_and_change_nothing(tmp_path):
    lora, _ = trained(0)
    other = network(64)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(InputError, match=r"of another network: expected .*weight of shape"):
        merge_loras(other, [(lora, 1.0)])
    stranger = Lora({"wings": torch.ones(1, 2)}, {"wings": torch.ones(3, 1)}, 1.0)
    with pytest.raises(InputError, match=r"changes wings\.weight"):
        merge_loras(other, [(stranger, 1.0)])
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())
    with pytest.raises(UsageError, match="finite weight"):
        merge_loras(network(), [(lora, float("nan"))])
    path = tmp_path / "w.safetensors"
    for tensors, message in (
        ({"conv.weight": torch.ones(1)}, "unknown key conv.weight"),
        ({"a.lora_A.weight": torch.ones(1, 2)}, "one of lora_A and lora_B alone"),
        ({"a.lora_A.weight": torch.full((1, 2), float("nan"))}, "NaN"),
    ):
        save_file(tensors, path)
        with pytest.raises(InputError, match=message):
            read_lora(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match="cut off"):
        read_lora(path)
    pair = {"a.lora_A.weight": torch.ones(1, 2), "a.lora_B.weight": torch.ones(3, 1)}
    for tensors, record, message in (
        ({**pair, "a.lora_B.weight": torch.ones(3, 2)}, "{}", r"expected lora_A \(rank, in\)"),
        ({**pair, "a.lora_A.weight": torch.tensor(1.0)}, "{}", r"expected lora_A \(rank, in\)"),
        ({**pair, "a.lora_A.weight": torch.ones(1, 2).to(torch.float8_e4m3fn)}, "{}", "got F8_E4M3"),
        (pair, "[]", "whose alpha is a number"),
        (pair, '{"alpha": "much"}', "whose alpha is a number"),
        (pair, '{"alpha": NaN}', "whose alpha is a number"),
        (pair, "[" * 100_000, "not JSON"),
    ):
        save_file(tensors, path, metadata={METADATA_KEY: record})
        with pytest.raises(InputError, match=message):
            read_lora(path)
    with pytest.raises(InputError, match="no layer wings"):
        inject_lora(network(), ["wings"], rank=1, alpha=1.0, generator=torch.Generator())


def test_argument_of_the_command_line(tmp_path):
    assert parse_lora_argument("zoom.safetensors:0.5") == (tmp_path.__class__("zoom.safetensors"), 0.5)
    assert parse_lora_argument("zoom.safetensors")[1] == 1.0
    assert parse_lora_argument("C:zoom.safetensors") == (tmp_path.__class__("C:zoom.safetensors"), 1.0)
