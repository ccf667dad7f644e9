"""The training loop, from the first step to the last, on accelerate.

One process or several, the losses are the same: sample numbers decide data and noise (`loss.py`, `data.py`), and
gradients are averages over the whole batch.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from mv3d.core.errors import InputError, MissingPartError, Mv3dError, UsageError
from mv3d.core.machine import is_out_of_memory
from mv3d.orbits.dataset import Samples, sample_loader
from mv3d.training.checkpoint import Checkpoint, read_latest, write_checkpoint
from mv3d.training.config import TrainConfig
from mv3d.training.data import Schedule
from mv3d.training.ema import Ema
from mv3d.training.metric_log import MetricLogger, summary_writer
from mv3d.training.objective import MicroLoss, Objective

CHECKPOINTS = "checkpoints"
Validate = Callable[[nn.Module, int], None]
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
_LOAD = StateDictOptions(full_state_dict=True, ignore_frozen_params=True, strict=False)


@dataclass(frozen=True)
class TrainState:
    """What the loop leaves behind."""

    weights: dict[str, Tensor]
    """The trained weights, averaged where an average is kept; of the main process alone, empty on others."""
    steps: int
    resumed_from: int
    last_loss: float
    data_wait_share: float
    seconds_per_step: float


def make_accelerator(config: TrainConfig) -> Accelerator:
    """The accelerator on the device that is asked for; nothing falls back unasked.

    Raises UsageError where the device is absent, and where FSDP is asked for but accelerate would not shard.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "--device cuda: no CUDA device is there; use --device cpu, or install a CUDA build of torch"
        )
    # Without CUDA, name the CPU: accelerate would look for other accelerators.
    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    # Precision is ours to choose per run: accelerate's is one for the life of the process.
    accelerator = Accelerator(mixed_precision="no", cpu=on_cpu)
    sharded = accelerator.distributed_type == DistributedType.FSDP
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and not sharded:
        raise UsageError(
            "FSDP: expected several processes with a CUDA device each, got "
            f"{accelerator.num_processes} on {accelerator.device.type}, where every one would keep the whole network; use "
            "the configuration of mv3d train --print-config ddp"
        )
    return accelerator


def train_loop(
    config: TrainConfig,
    objective: Objective,
    samples: Samples,
    out: Path,
    *,
    accelerator: Accelerator,
    validate: Validate | None = None,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
    stop_after: int | None = None,
    interrupt: Callable[[], type[KeyboardInterrupt] | None] = lambda: None,
) -> TrainState:
    """Train the objective's network where it takes gradients; go on from the last whole checkpoint in `out`, if there is one.

    validate: called with the network (average in place) and the step. stop_after: leave after so many steps of the run
    without saving, as a power cut would. interrupt: asked after each step (`interrupts_held`); what it gives is raised
    once a checkpoint of that step is written.
    """
    module, prefix = objective.module.train(), objective.prefix
    if config.compile:
        objective.network.compile()
    optimizer = make_optimizer(config, [p for p in module.parameters() if p.requires_grad])
    model, optimizer = accelerator.prepare(module, optimizer)
    trained = [p for p in model.parameters() if p.requires_grad]
    ema = Ema(trained, config.ema) if config.ema else None
    start = _resume(out / CHECKPOINTS, model, prefix, optimizer.optimizer, ema)
    metrics = MetricLogger(out, after=start, main=accelerator.is_main_process, tensorboard=config.tensorboard)
    schedule = Schedule(config, start, accelerator.process_index, accelerator.num_processes)
    pinned = accelerator.device.type == "cuda"
    feed = iter(sample_loader(samples, schedule, workers=config.workers, pin_memory=pinned))

    def save(step: int) -> None:
        _save(out / CHECKPOINTS, step, model, prefix, optimizer.optimizer, ema, config, accelerator)

    waits, begun, loss_value = [], time.perf_counter(), metrics.last_loss
    for step in range(start, config.steps):
        step_begun = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate(step)
        with _memory_advice():
            with _saving_if_readers_ended(interrupt, save, step, accelerator.num_processes == 1):
                loss, terms, waited = _gradients(config, model, objective.loss, feed, step, accelerator)
            norm = accelerator.clip_grad_norm_(trained, config.grad_clip)
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if ema is not None:
            ema.update(step)
        waits.append((waited, time.perf_counter() - step_begun))
        done, asked = step + 1, _agreed(interrupt(), accelerator)
        saving = done % config.checkpoint_every == 0 or done == config.steps or asked is not None
        if saving or done % config.log_every == 0:
            # Before every checkpoint, too: one whose loss is no number is not worth keeping.
            loss_value = float(accelerator.reduce(loss, reduction="mean"))  # pyright: ignore[reportArgumentType]
            _refuse_nan(loss_value, done)
            line = _line(config, done, loss_value, float(_whole(norm)), waits[-config.log_every :])
            metrics.write(line := line | _means(terms, accelerator))
            if progress and accelerator.is_main_process:
                progress(done, config.steps, line)
        if saving:
            save(done)
        if asked is not None:
            raise asked(_kept(done))
        if validate and config.validate_every and done % config.validate_every == 0:
            with torch.no_grad(), ema.in_place() if ema else nullcontext(), _evaluating(model):
                validate(model, done)
        if stop_after is not None and done >= stop_after:
            break
    metrics.close()
    with ema.in_place() if ema else nullcontext():
        weights = _weights(model, prefix)
    steps = max(len(waits), 1)
    elapsed = (time.perf_counter() - begun) / steps
    # The first step waits for the readers to start.
    return TrainState(weights, config.steps, start, loss_value, _share(waits[1:]), elapsed)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    model.eval()
    yield
    model.train()


@contextmanager
def _saving_if_readers_ended(
    interrupt: Callable[[], type[KeyboardInterrupt] | None],
    save: Callable[[int], None],
    step: int,
    alone: bool,
) -> Iterator[None]:
    """A signal to all processes ends the readers, too: then this step cannot be done, and the last one is saved."""
    try:
        yield
    except RuntimeError:
        asked = interrupt()
        if asked is None or not alone:
            raise
        save(step)
        raise asked(_kept(step)) from None


def _kept(step: int) -> str:
    return f"interrupted; the checkpoint of step {step} is kept, and the same command goes on from it"


def _agreed(
    asked: type[KeyboardInterrupt] | None, accelerator: Accelerator
) -> type[KeyboardInterrupt] | None:
    """The interrupt of this process or of any other: they save together."""
    if accelerator.num_processes == 1:
        return asked
    count = accelerator.reduce(torch.tensor(float(asked is not None), device=accelerator.device), "sum")
    return asked or (KeyboardInterrupt if float(count) else None)  # pyright: ignore[reportArgumentType]


def _gradients(
    config: TrainConfig,
    model: nn.Module,
    micro_loss: MicroLoss,
    feed: Iterator[dict[str, Any]],
    step: int,
    accelerator: Accelerator,
) -> tuple[Tensor, dict[str, Tensor], float]:
    """Add up the gradients of one step; (its loss in this process, what the loss names, seconds of waiting for data)."""
    accumulation, waited = config.accumulation(accelerator.num_processes), 0.0
    total = torch.zeros((), device=accelerator.device)
    totals: dict[str, Tensor] = {}
    for micro in range(accumulation):
        before = time.perf_counter()
        raw = next(feed)
        waited += time.perf_counter() - before
        last = micro == accumulation - 1
        # Gradients cross between processes once a step, not once a micro-batch.
        with nullcontext() if last else accelerator.no_sync(model):
            found, terms = micro_loss(model, raw, step)
            loss = found / accumulation
            accelerator.backward(loss)
        total += loss.detach()
        for name, value in terms.items():
            totals[name] = totals.get(name, torch.zeros_like(total)) + value.detach() / accumulation
    return total, totals, waited


def _line(
    config: TrainConfig, done: int, loss: float, norm: float, waits: list[tuple[float, float]]
) -> dict[str, Any]:
    """The line of the log after `done` steps. waits: (seconds of waiting for data, seconds) of the last steps."""
    return {
        "step": done,
        "images": done * config.batch * config.frames,
        "orbits": done * config.batch,
        "loss": loss,
        "lr": config.learning_rate(done - 1),
        "grad_norm": norm,
        "seconds_per_step": sum(seconds for _, seconds in waits) / len(waits),
        "data_wait_share": _share(waits),
        "memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
    }


def _means(terms: dict[str, Tensor], accelerator: Accelerator) -> dict[str, float]:
    """Over the processes."""
    means = {name: accelerator.reduce(terms[name], reduction="mean") for name in sorted(terms)}
    return {name: float(value) for name, value in means.items()}  # pyright: ignore[reportArgumentType]


def make_optimizer(config: TrainConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW, or its 8-bit form. Raises MissingPartError with the command that installs it."""
    settings: dict[str, Any] = {"lr": config.lr, "betas": config.betas, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw8bit":
        return _adamw_8_bit()(parameters, **settings)
    return torch.optim.AdamW(parameters, **settings)


def require_parts(config: TrainConfig, device: torch.device) -> None:
    """Before anything is written: raise MissingPartError or UsageError where a setting needs what is not here."""
    if config.optimizer == "adamw8bit":
        if device.type != "cuda":
            raise UsageError(
                f"--optimizer adamw8bit: expected a CUDA device, got {device.type}; use --optimizer adamw"
            )
        _adamw_8_bit()
    if config.tensorboard:
        summary_writer()


def _adamw_8_bit() -> Any:
    try:
        from bitsandbytes.optim import AdamW8bit  # noqa: PLC0415 # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPartError(
            "--optimizer adamw8bit: bitsandbytes is not installed; run: pip install bitsandbytes"
        ) from error
    return AdamW8bit


def _weights(model: nn.Module, prefix: str) -> dict[str, Tensor]:
    """The trained weights under the network's own names, whole, on the CPU; empty on other processes than the main one.

    Copies: on a CPU the state of a network is the network itself, which averages are about to leave.
    """
    state = get_model_state_dict(model, options=_FULL)
    return {name.removeprefix(prefix): value.detach().clone() for name, value in state.items()}  # pyright: ignore[reportAttributeAccessIssue]


def _save(
    root: Path,
    step: int,
    model: nn.Module,
    prefix: str,
    optimizer: torch.optim.Optimizer,
    ema: Ema | None,
    config: TrainConfig,
    accelerator: Accelerator,
) -> None:
    # Gathering is the work of all processes, writing that of one.
    weights = _weights(model, prefix)
    averages = None
    if ema is not None:
        with ema.in_place():
            averages = _weights(model, prefix)
    state = get_optimizer_state_dict(model, optimizer, options=_FULL)
    failure: list[Mv3dError | None] = [None]
    if accelerator.is_main_process:
        try:
            write_checkpoint(root, Checkpoint(step, weights, averages, state), keep=config.keep_checkpoints)
        except Mv3dError as error:
            failure = [error]
    broadcast_object_list(failure)
    if failure[0] is not None:
        raise failure[0]


def _resume(
    root: Path, model: nn.Module, prefix: str, optimizer: torch.optim.Optimizer, ema: Ema | None
) -> int:
    """Set everything as it was; the number of steps done."""
    checkpoint = read_latest(root)
    if checkpoint is None:
        return 0
    if (checkpoint.ema is None) != (ema is None):
        raise InputError(f"{root}: a checkpoint with another --ema; choose another --out")
    set_optimizer_state_dict(model, optimizer, checkpoint.optimizer, options=_LOAD)
    if ema is not None and checkpoint.ema is not None:
        with ema.in_place():
            _set_weights(model, prefix, checkpoint.ema)
    _set_weights(model, prefix, checkpoint.weights)
    return checkpoint.step


def _set_weights(model: nn.Module, prefix: str, weights: dict[str, Tensor]) -> None:
    set_model_state_dict(model, {prefix + name: value for name, value in weights.items()}, options=_LOAD)


class _memory_advice(nullcontext):
    """Out of memory becomes a sentence that says which flags need less."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, Exception) and is_out_of_memory(error):
            raise Mv3dError(
                "out of memory: try --micro-batch 1, --gradient-checkpointing, --precision bf16, "
                "--optimizer adamw8bit, --trained temporal or --preset lora, or FSDP over several devices"
            ) from error


def _refuse_nan(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise Mv3dError(
            f"the loss is {loss} at step {step}: try a lower --lr or --precision fp32; the last checkpoint is kept"
        )


def _share(waits: list[tuple[float, float]]) -> float:
    total = sum(seconds for _, seconds in waits)
    return sum(waited for waited, _ in waits) / total if total else 0.0


def _whole(norm: Any) -> Any:
    """The norm of the gradient; that of a sharded network is sharded, too."""
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm
