"""Adapters from training to generated views, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training_data import FRAMES, save_base, save_clip, save_latents, save_orbits
from PIL import Image

import mv3d
from mv3d.cli.main import main
from mv3d.models import SVD
from mv3d.models.loading import load_unet
from mv3d.models.lora import merge_loras, read_lora

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = (
    "--frames 4 --batch 4 --micro-batch 4 --warmup 1 --precision fp32 --no-gradient-checkpointing --device cpu "
    "--workers 0 --checkpoint-every 1000 --validate-every 0 --log-every 1"
).split()


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "block.png"
    image = Image.new("RGBA", (60, 40))
    image.paste((200, 60, 40, 255), (10, 12, 50, 30))
    image.save(path)
    return path


def views_of(photo: Path, model: Path, out: Path, *loras: str) -> tuple[np.ndarray, dict]:
    given = [word for lora in loras for word in ("--lora", lora)]
    command = ["generate", str(photo), "--model", str(model), "--device", "cpu", "--steps", "4"]
    assert main([*command, *given, "--out", str(out)]) == 0
    return mv3d.load_views(out).images, json.loads((out / "run.json").read_text())


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


def test_adapters_of_a_trained_model_are_loaded_and_mixed(photo, tmp_path):
    """Tiny from nothing, two adapters of it, views with each and with both."""
    orbits = save_orbits(tmp_path / "orbits")
    tiny = "--encoder-steps 5 --patch 4 --latent-channels 8 --channels 32 32 --steps 6 --preset tiny".split()
    assert main(["train", "--data", str(orbits), *tiny, *QUICK, "--out", str(tmp_path / "base")]) == 0
    model = tmp_path / "base" / "model"
    latents = save_latents(orbits, model, tmp_path / "latents")
    files = []
    for seed in (1, 2):
        run = tmp_path / f"lora{seed}"
        lora = f"--preset lora --rank 4 --steps 8 --lr 0.01 --seed {seed}".split()
        command = ["train", "--data", str(latents), "--base", str(model), *lora, *QUICK, "--out", str(run)]
        assert main(command) == 0
        files.append(run / "lora.safetensors")
    first, second = map(str, files)
    plain, _ = views_of(photo, model, tmp_path / "plain")
    one, record = views_of(photo, model, tmp_path / "one", first)
    mixed, both = views_of(photo, model, tmp_path / "mixed", f"{first}:0.5", f"{second}:-1.5")
    assert [entry["weight"] for entry in both["settings"]["lora"]] == [0.5, -1.5]
    assert record["settings"]["lora"][0]["file"] == "lora.safetensors"
    assert np.abs(one - plain)[:-1].max() > 1e-2 and np.abs(mixed - one)[:-1].max() > 1e-2
    # What the command mixed is what the two files say, added up by hand.
    unet = load_unet(model)
    start = {name: value.clone() for name, value in unet.state_dict().items()}
    a, b = read_lora(files[0]), read_lora(files[1])
    merge_loras(unet, [(a, 0.5), (b, -1.5)])
    changed = [name for name, value in unet.state_dict().items() if not torch.equal(value, start[name])]
    assert set(changed) <= {f"{name}.weight" for name in a.down} and len(changed) > 8
    for name in changed:
        module = name.removesuffix(".weight")
        expected = start[name] + 0.5 * a.delta(module) - 1.5 * b.delta(module)
        assert torch.allclose(unet.state_dict()[name], expected, atol=1e-6)
    # Weights that cancel leave the base.
    nothing, _ = views_of(photo, model, tmp_path / "nothing", f"{first}:0.7", f"{first}:-0.7")
    assert np.allclose(nothing, plain, atol=1e-3)


def test_camera_motion_from_clips_reaches_the_views(photo, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("a", "b"):
        save_clip(clips / f"{name}.mp4")
    model = save_base(tmp_path / "svd", SVD)
    # Step by step the noise is the same, so the losses of an adapter that stands still are those of the base.
    for name, rate in (("pan", "0.01"), ("still", "1e-12")):
        lora = f"--preset lora --rank 4 --steps 12 --lr {rate}".split()
        command = ["train", "--data", str(clips), "--base", str(model), *lora, *QUICK]
        assert main([*command, "--out", str(tmp_path / name)]) == 0
    pan, still = losses(tmp_path / "pan"), losses(tmp_path / "still")
    assert pan[0] == pytest.approx(still[0], rel=1e-5)
    assert all(ours < theirs for ours, theirs in zip(pan[-4:], still[-4:], strict=True))
    plain, _ = views_of(photo, model, tmp_path / "plain")
    panned, _ = views_of(photo, model, tmp_path / "panned", str(tmp_path / "pan" / "lora.safetensors"))
    assert panned.shape == plain.shape == (FRAMES, 32, 32, 4)
    assert np.abs(panned - plain)[1:].max() > 1e-2
