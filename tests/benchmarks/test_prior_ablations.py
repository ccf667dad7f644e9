"""benchmarks/prior_ablations.py, at its smallest: rows are kept, the same command goes on, the gate is left out."""

from __future__ import annotations

import json
import sys

import prior_ablations
import pytest
import torch
from helpers.ellipsoids import save_ellipsoids
from helpers.encoder_weights import published

from mv3d.models.prior.network import PriorNetwork
from mv3d.training.prior.samples import is_held_out


@pytest.mark.usefixtures("one_thread")
def test_rows_are_kept_and_the_same_command_goes_on(tmp_path, monkeypatch, capsys):
    encoder = tmp_path / "encoder.pth"
    torch.save(published(), encoder)
    count = next(index for index in range(500) if is_held_out(f"e{index}")) + 1
    shards = save_ellipsoids(tmp_path / "d", objects=count)
    whole, gateless = prior_ablations.VARIANTS[0], prior_ablations.VARIANTS[3]
    assert not gateless.gate
    monkeypatch.setattr(prior_ablations, "VARIANTS", (whole, gateless))
    monkeypatch.setattr(prior_ablations, "KINDS", ("other",))
    arguments = f"x --data {shards} --encoder {encoder} --out {tmp_path / 'out'} --steps 2 --batch 2".split()
    monkeypatch.setattr(sys, "argv", arguments)
    prior_ablations.main()
    kept = tmp_path / "out" / f"{whole.name}.json"
    row = json.loads(kept.read_text())
    assert 0 < row["iou"] < 1 and row["other"] == row["iou"] and row["objects"] == count - 1
    kept.write_text(json.dumps(row | {"iou": 0.123}))
    capsys.readouterr()
    prior_ablations.main()
    assert "| everything | " in (said := capsys.readouterr().out) and "| 0.123 |" in said


def test_without_the_gate_hidden_colours_are_the_networks_own():
    torch.manual_seed(0)
    with torch.no_grad():
        made = PriorNetwork(24)(torch.rand(1, 4, 32, 32))
    assert made.gates.max() > 0
    assert prior_ablations.without_gate(made).gates.max() == 0
