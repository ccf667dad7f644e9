"""What a training run survives: a batch whose gradient is no number, and a kill at any moment of a checkpoint."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedType
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from mv3d.core.errors import Mv3dError, Mv3dWarning, OutputError
from mv3d.training.checkpoint import Checkpoint, read_latest, write_checkpoint
from mv3d.training.config import TrainConfig
from mv3d.training.ema import Ema
from mv3d.training.health import WaitingWatch
from mv3d.training.loop import CHECKPOINTS, TrainState, train_loop
from mv3d.training.objective import Objective
from mv3d.training.saving import CheckpointWriter, RunState


class Numbers:
    """Samples that are numbers; those of `bad` become no number in the loss."""

    licences: dict[str, int] = {}  # noqa: RUF012 - as the protocol has it

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return 8

    def sample(self, index: int) -> dict:
        value = float("nan") if index in self.bad else float(index % 3)
        return {"index": index, "uid": f"object-{index}", "value": torch.tensor([value])}


def run(out: Path, bad: set[int] = frozenset(), **changes) -> TrainState:  # pyright: ignore[reportArgumentType]
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = nn.Linear(1, 1)

    def loss(module, raw, step):
        return (module(raw["value"]) - 2).square().mean(), {}

    usual = {"steps": 8, "batch": 2, "micro_batch": 1, "workers": 0, "log_every": 1, "checkpoint_every": 4}
    config = TrainConfig(**(usual | {"lr": 0.05, "warmup": 0, "ema": 0.0, "validate_every": 0} | changes))
    return train_loop(
        config, Objective(network, network, loss), Numbers(set(bad)), out, accelerator=Accelerator(cpu=True)
    )


def test_one_batch_without_a_number_is_left_out(tmp_path):
    with pytest.warns(Mv3dWarning, match=r"at step 3 \(object-4, object-5\); this batch is left out"):
        made = run(tmp_path / "a", {5})
    assert torch.isfinite(made.weights["weight"]).all() and made.last_loss < 4
    logged = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged] == [1, 2, 4, 5, 6, 7, 8]
    # The twin: the same run whose third batch moves nothing. Its fourth step meets the weights of the second.
    run(tmp_path / "twin", steps=2)
    twin = [json.loads(line) for line in (tmp_path / "twin" / "log.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in logged[:2]] == [line["loss"] for line in twin]


def test_a_second_one_ends_the_run_with_the_names(tmp_path):
    with pytest.warns(Mv3dWarning), pytest.raises(Mv3dError, match=r"step 7 \(object-12.*step 6 \(object-10"):
        run(tmp_path, {10, 12})
    latest = read_latest(tmp_path / CHECKPOINTS)
    assert latest is not None and latest.step == 4
    with pytest.warns(Mv3dWarning) as told:  # one before a checkpoint and one after it
        run(tmp_path / "apart", {2, 12})
    assert sum("left out" in str(warning.message) for warning in told) == 2


def state_of(step: int) -> Checkpoint:
    weights = {"w": torch.full((400, 500), float(step))}
    return Checkpoint(step, weights, None, {"state": {"step": torch.tensor(step)}})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_twenty_moments_the_last_whole_checkpoint_is_taken(tmp_path, one_thread):
    rng = np.random.default_rng(0)
    steps = []
    for _ in range(20):
        done, tell = os.pipe()
        child = os.fork()
        if not child:
            try:
                for step in range(steps[-1] + 1 if steps else 1, 10_000):
                    write_checkpoint(tmp_path, state_of(step), keep=2)
                    os.write(tell, b".")
            finally:
                os._exit(1)  # never on into the tests of the parent
        os.close(tell)
        assert os.read(done, 1) == b"."  # from here on it writes its second one
        time.sleep(rng.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(done)
        found = read_latest(tmp_path)
        if found is not None:
            assert torch.equal(found.weights["w"], state_of(found.step).weights["w"])
            assert int(found.optimizer["state"]["step"]) == found.step
            steps.append(found.step)
    assert len(steps) == 20 and steps == sorted(set(steps))
    write_checkpoint(tmp_path, state_of(10_000), keep=2)
    assert not list(tmp_path.glob(".*.part"))


def test_the_step_waits_for_the_copy_alone(tmp_path, monkeypatch):
    going_on = threading.Event()
    written = []

    def slow(root, checkpoint, *, keep):
        assert going_on.wait(10)
        written.append(checkpoint.weights["w"].clone())

    monkeypatch.setattr("mv3d.training.saving.write_checkpoint", slow)
    with CheckpointWriter(tmp_path, keep=2) as writer:
        writer.start(state_of(3))
        assert not written
        going_on.set()
    assert torch.equal(written[0], state_of(3).weights["w"])


def test_what_could_not_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="cannot be written"),
        CheckpointWriter(tmp_path / "file", keep=2) as w,
    ):
        w.start(state_of(1))
    with pytest.raises(ValueError, match="first") as caught, CheckpointWriter(tmp_path / "file", keep=2) as w:
        w.start(state_of(1))
        raise ValueError("first")
    assert "was not written" in caught.value.__notes__[0]


def test_a_checkpoint_holds_the_state_of_its_step(tmp_path):
    """Steps go on while it is written: what it holds must be copies."""
    run(tmp_path / "whole", steps=4)
    run(tmp_path / "more", steps=8)
    for name in ("whole", "more"):
        first = sorted((tmp_path / name / CHECKPOINTS).iterdir())[0]
        assert first.name == "00000004"
    a, b = (tmp_path / n / CHECKPOINTS / "00000004" / "weights.safetensors" for n in ("whole", "more"))
    assert a.read_bytes() == b.read_bytes()


def test_waiting_for_data_is_warned_of_once():
    watch = WaitingWatch(TrainConfig(workers=1))
    watch.see([(0.5, 1.0)] * 10)  # too short to say
    watch.see([(0.01, 1.0)] * 50)
    with pytest.warns(Mv3dWarning, match=r"50 % of the last 50 steps was waiting .* --workers 1"):
        watch.see([(0.5, 1.0)] * 50)
    watch.see([(0.5, 1.0)] * 50)


def sharded_run(*, kind: DistributedType, seed: int) -> tuple[RunState, torch.nn.Module, Ema]:
    """A small network in the midst of its training; spread over the processes where its kind says so."""
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
    if kind == DistributedType.FSDP:
        fully_shard(network, mesh=init_device_mesh("cpu", (1,)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    ema = Ema(list(network.parameters()), 0.5)
    for step in range(3):
        network(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(step)
    accelerator = SimpleNamespace(distributed_type=kind, is_main_process=True)
    return RunState(network, "", optimizer, ema, accelerator), network, ema


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def test_parts_of_several_processes_are_written_apart_and_read_by_any_number(tmp_path):
    """One process here; two of them in test_training_processes.py."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        state, network, ema = sharded_run(kind=DistributedType.FSDP, seed=0)
        expected = [whole(p.detach()).clone() for p in network.parameters()]
        averages = [whole(a).clone() for a in ema._averages]
        with state.writer(tmp_path / "c", keep=1) as writer:
            for step in (2, 3):
                state.save(step, writer)
            # What is written is a copy: the steps go on.
            with torch.no_grad():
                next(network.parameters()).mul_(2)
            state.finish(writer)
        assert [p.name for p in (tmp_path / "c").iterdir()] == ["00000003"]
        assert (tmp_path / "c" / "00000003" / ".metadata").is_file()
        others = [sharded_run(kind=DistributedType.FSDP, seed=1)]
        assert others[0][0].resume(tmp_path / "c") == 3
    finally:
        dist.destroy_process_group()
    others.append(sharded_run(kind=DistributedType.NO, seed=2))
    assert others[1][0].resume(tmp_path / "c") == 3
    for other, resumed, average in others:
        for got, value in zip(resumed.parameters(), expected, strict=True):
            assert torch.equal(whole(got.detach()), value)
        for got, value in zip(average._averages, averages, strict=True):
            assert torch.equal(whole(got), value)
        assert other._optimizer.param_groups[0]["lr"] == 0.1
        for moments in other._optimizer.state.values():
            assert float(moments["step"]) == 3 and float(whole(moments["exp_avg_sq"]).sum()) > 0
    # Cut off, it is as if it were not there.
    (part,) = (tmp_path / "c" / "00000003").glob("*.distcp")
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="cut off"):
        assert others[1][0].resume(tmp_path / "c") == 0


def test_a_part_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        state, _, _ = sharded_run(kind=DistributedType.FSDP, seed=0)
        with pytest.raises(OutputError, match="step 7 cannot be written"):
            with state.writer(tmp_path / "file", keep=1) as writer:
                state.save(7, writer)
    finally:
        dist.destroy_process_group()
