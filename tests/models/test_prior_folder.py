"""A prior in a model folder: what is written is read back, and one sentence for every broken file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.tiny_model import write_model
from safetensors.torch import load_file, save_file

from mv3d.cli.main import main
from mv3d.core.errors import InputError
from mv3d.models.convert import convert
from mv3d.models.describe import describe
from mv3d.models.folder import ModelInfo, components_of, model_sha256, write_info
from mv3d.models.network import SV3D_P
from mv3d.models.prior.folder import PriorSettings, load_prior, read_prior_settings, save_prior
from mv3d.models.prior.network import PriorNetwork

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = PriorSettings(width=16, side=64)


@pytest.fixture(scope="module")
def network() -> PriorNetwork:
    torch.manual_seed(0)
    made = PriorNetwork(TINY.width)
    torch.nn.init.normal_(made.head.weight, std=0.1)
    return made.eval()


@pytest.fixture
def folder(tmp_path: Path, network: PriorNetwork) -> Path:
    write_info(tmp_path, ModelInfo("prior", resolution=64))
    save_prior(tmp_path, network, TINY)
    return tmp_path


def write_info_of_a_prior(folder: Path) -> None:
    folder.mkdir()
    write_info(folder, ModelInfo("prior", resolution=64))


@pytest.mark.parametrize(("dtype", "close"), [(torch.float16, 1e-2), (torch.float32, 0.0)])
def test_a_prior_comes_back_in_float32(tmp_path, network, dtype, close):
    save_prior(tmp_path, network, TINY, dtype=dtype)
    stored = load_file(tmp_path / "prior" / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {dtype}
    again = load_prior(tmp_path)
    assert read_prior_settings(tmp_path) == TINY
    assert {value.dtype for value in again.state_dict().values()} == {torch.float32}
    rgba = torch.rand(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made, expected = again(rgba), network(rgba)
    torch.testing.assert_close(made.layers.enter, expected.layers.enter, rtol=0, atol=close)


def test_a_folder_with_a_prior_alone_is_a_model(folder, capsys):
    assert components_of(folder) == ("prior",)
    assert main(["models", "info", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("prior: 21 views of 64 × 64, takes a camera per view\nprior ")
    assert "sampling" not in out and describe(folder)["dtype"] == {"prior": "F16"}


def test_a_prior_beside_a_network_counts_in_the_hash(tmp_path, network):
    model = write_model(tmp_path / "model", SV3D_P)
    without = model_sha256(model)
    save_prior(model, network, TINY)
    assert components_of(model) == ("unet", "vae", "image_encoder", "prior")
    assert model_sha256(model) != without and set(describe(model)["parameters"]) == set(components_of(model))
    (model / "prior" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"expected prior/model\.safetensors in the model, found none"):
        model_sha256(model)


@pytest.mark.parametrize("beside", [False, True])
def test_a_prior_is_converted_with_its_model(tmp_path, network, beside):
    source = tmp_path / "source"
    if beside:
        write_model(source, SV3D_P)
    else:
        write_info_of_a_prior(source)
    save_prior(source, network, TINY)
    same, full = (
        convert(source, tmp_path / name, dtype=d) for name, d in (("a", None), ("b", torch.float32))
    )
    weights = Path("prior", "model.safetensors")
    assert (same / weights).read_bytes() == (source / weights).read_bytes()
    assert components_of(same) == components_of(full) == components_of(source)
    assert describe(same)["dtype"]["prior"] == "F16" and describe(full)["dtype"]["prior"] == "F32"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"width": 16}, "expected side, width, got width"),
        ({"width": 18, "side": 64}, "config.json: width: expected a multiple of 4"),
        ({"width": 16, "side": True}, "side: expected a multiple of 32 from 32 to 2048, got True"),
        ({"width": 32, "side": 64}, "not the weights of this prior: expected .* of shape"),
    ],
)
def test_a_foreign_config_is_refused(folder, config, message):
    (folder / "prior" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        load_prior(folder)


def test_broken_weights_are_refused(folder):
    path = folder / "prior" / "model.safetensors"
    whole, state = path.read_bytes(), load_file(path)
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_prior(folder)
    save_file({name: value for name, value in state.items() if name != "head.bias"}, path)
    with pytest.raises(InputError, match=r"1 missing \(head.bias\)"):
        load_prior(folder)
    path.unlink()
    with pytest.raises(InputError, match="expected a safetensors file, got nothing there"):
        load_prior(folder)


def test_what_cannot_be_stored_is_not_written(tmp_path):
    network = PriorNetwork(TINY.width)
    with pytest.raises(InputError, match="expected a network of width 32, got 16"):
        save_prior(tmp_path, network, PriorSettings(32, 64))
    with torch.no_grad():
        network.head.bias[0] = 1e6
    with pytest.raises(InputError, match=r"not finite as torch\.float16"):
        save_prior(tmp_path, network, TINY)
    assert not (tmp_path / "prior").exists()
