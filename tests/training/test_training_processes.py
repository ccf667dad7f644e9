"""Training in several processes, started with the shipped configurations of accelerate as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.places import REPOSITORY, TESTS
from helpers.training_data import quick, save_base, save_latents, save_orbits, without_times
from safetensors.torch import load_file

from mv3d.cli.main import main
from mv3d.core.errors import UsageError
from mv3d.training.heartbeat import HUNG_CODE
from mv3d.training.loop import make_accelerator
from mv3d.training.metric_log import read_log

FLAGS = (
    "--frames 4 --batch 4 --micro-batch 2 --lr 1e-3 --warmup 1 --precision fp32 --no-gradient-checkpointing --device cpu "
    "--workers 0 --log-every 1 --checkpoint-every 2 --validate-every 0 --ema 0.9 --static-steps 0"
).split()
WHOLE = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> list[str]:
    """What all runs have in common: a base, cached latents, flags."""
    root = tmp_path_factory.mktemp("given")
    base = save_base(root / "base")
    latents = save_latents(save_orbits(root / "orbits"), base, root / "latents")
    return ["train", "--data", str(latents), "--base", str(base), *FLAGS]


def launch(config: str, script: list[str], arguments: list[str], *, restarts: int = 0, code: int = 0) -> str:
    """Its messages."""
    path = REPOSITORY / "mv3d" / "training" / f"{config}.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path)]
    done = subprocess.run(
        [
            *command,
            "--num_processes",
            "2",
            "--main_process_port",
            "0",
            "--max_restarts",
            str(restarts),
            *script,
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert (done.returncode == 0) == (code == 0), done.stderr[-3000:]
    assert code == 0 or f"exitcode  : {code} " in done.stderr, done.stderr[-3000:]
    return done.stderr


def losses(out: Path) -> list[dict]:
    return [without_times(line) for line in read_log(out)]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the configurations would take the GPUs")
@pytest.mark.parametrize(
    ("config", "preset", "result"),
    [
        ("ddp", "sv3d_p", f"model/{WHOLE}"),
        ("fsdp", "sv3d_p", f"model/{WHOLE}"),
        ("fsdp", "lora", "lora.safetensors"),
    ],
)
def test_two_processes_give_the_losses_and_weights_of_one(config, preset, result, given, tmp_path):
    """Cut after two steps and resumed, at that."""
    one, two = tmp_path / "one", tmp_path / "two"
    arguments = [*given, "--preset", preset]
    assert main([*arguments, "--steps", "4", "--out", str(one)]) == 0
    script = ["-m", "mv3d"] if config == "ddp" else [str(TESTS / "helpers" / "sharding_on_cpu.py")]
    for steps in ("2", "4"):
        launch(config, script, [*arguments, "--steps", steps, "--out", str(two)])
    report = json.loads((two / "run.json").read_text())["report"]
    assert (report["processes"], report["resumed_from"]) == (2, 2)
    assert len(losses(two)) == 4
    for got, expected in zip(losses(two), losses(one), strict=True):
        assert got == pytest.approx(expected, rel=1e-5)
    got, expected = load_file(two / result), load_file(one / result)
    assert got.keys() == expected.keys()
    differences = torch.cat([(got[name] - value).abs().flatten() for name, value in expected.items()])
    assert (differences < 5e-5).float().mean() > 0.99
    # A bias in front of a normalisation has a gradient of zero, whose rounding Adam turns into steps of up to the whole rate (1e-3).
    assert differences.max() <= 1e-3


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the configuration would take the GPUs")
def test_after_a_killed_process_a_restarted_run_goes_on_as_if_nothing_had_happened(given, tmp_path):
    """Two processes, one of which is killed at its third step: the launcher starts both anew."""
    one, two = tmp_path / "one", tmp_path / "two"
    arguments = [*given, "--preset", "sv3d_p", "--steps", "4"]
    assert main([*arguments, "--out", str(one)]) == 0
    script = [str(TESTS / "helpers" / "troubled_training.py"), "kill", str(tmp_path / "killed")]
    launch("ddp", script, [*arguments, "--out", str(two)], restarts=1)
    assert (tmp_path / "killed").exists()
    report = json.loads((two / "run.json").read_text())["report"]
    assert (report["processes"], report["resumed_from"]) == (2, 2)
    for got, expected in zip(losses(two), losses(one), strict=True):
        assert got == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the configuration would take the GPUs")
def test_a_process_that_hangs_is_named_and_the_same_command_goes_on(given, tmp_path):
    arguments = [
        *given,
        "--preset",
        "sv3d_p",
        "--steps",
        "4",
        "--hang-after-s",
        "8",
        "--out",
        str(tmp_path / "run"),
    ]
    script = [str(TESTS / "helpers" / "troubled_training.py"), "hang", str(tmp_path / "hung")]
    told = launch("ddp", script, arguments, code=HUNG_CODE)
    (line,) = [line for line in told.splitlines() if line.startswith("mv3d: nothing has moved")]
    assert "rank 1 (" in line and "rank 0" not in line and "at step 2, saving a checkpoint" in line
    launch("ddp", ["-m", "mv3d"], arguments)
    report = json.loads((tmp_path / "run" / "run.json").read_text())["report"]
    assert (report["resumed_from"], len(losses(tmp_path / "run"))) == (2, 4)


def test_fsdp_is_never_left_out_silently(monkeypatch):
    """Without devices to spread over, accelerate would train on as if nothing had been asked for."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UsageError, match=r"FSDP: expected several processes.*--print-config ddp"):
        make_accelerator(quick())
