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
import torch.distributed as dist
from accelerate import Accelerator, DistributedType
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from mv3d.core.errors import MissingPartError, Mv3dError, UsageError
from mv3d.core.installing import install_command
from mv3d.core.machine import is_out_of_memory
from mv3d.orbits.dataset import Samples, sample_loader
from mv3d.training.config import TrainConfig
from mv3d.training.data import Schedule
from mv3d.training.ema import Ema
from mv3d.training.health import FiniteGuard, WaitingWatch, sample_names, wait_share
from mv3d.training.heartbeat import DATA, GRADIENTS, SAVING, VALIDATION, WEIGHTS, Heartbeat
from mv3d.training.metric_log import MetricLogger, summary_writer
from mv3d.training.objective import MicroLoss, Objective
from mv3d.training.saving import RunState

CHECKPOINTS = "checkpoints"
Validate = Callable[[nn.Module, int], None]


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
    checkpoint_stall_seconds: float
    """Mean time that a step waits for a checkpoint: for a copy, not for the disk."""


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
    _meet_anew("gloo" if on_cpu else "cuda:nccl,cpu:gloo")
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


def _meet_anew(backend: str) -> None:
    """Let processes that a launcher has started again find each other under names of their own.

    With `rdzv_backend: static` the launcher's store outlives its processes (torch 2.13): one that is quicker than the
    others would find the addresses of the dead ones there, and wait for them or fail.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0" or int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    store, rank, count = next(rendezvous("env://"))
    named = PrefixStore(f"attempt {attempt}", store)
    dist.init_process_group(backend, store=named, rank=rank, world_size=count)


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

    progress: called with the batch and the number of objects before the first step, then with each line of the log.
    validate: called with the network (average in place) and the step. stop_after: leave after so many steps of the run
    without saving, as a power cut would. interrupt: asked after each step (`interrupts_held`); what it gives is raised
    once a checkpoint of that step is written.
    """
    model, optimizer, ema = _prepared(config, objective, accelerator)
    trained = _trained(model)
    state = RunState(model, objective.prefix, optimizer.optimizer, ema, accelerator)
    start = state.resume(out / CHECKPOINTS)
    metrics = MetricLogger(out, after=start, main=accelerator.is_main_process, tensorboard=config.tensorboard)
    schedule = Schedule(config, start, accelerator.process_index, accelerator.num_processes)
    feed = iter(
        sample_loader(samples, schedule, workers=config.workers, pin_memory=accelerator.device.type == "cuda")
    )
    guard, watch = FiniteGuard(accelerator), WaitingWatch(config)
    waits, stalls, begun, loss_value = [], [], time.perf_counter(), metrics.last_loss
    told = progress if progress and accelerator.is_main_process else lambda done, total, line: None
    with (
        state.writer(out / CHECKPOINTS, keep=config.keep_checkpoints) as writer,
        Heartbeat(out, accelerator.process_index, accelerator.num_processes, config.hang_after_s) as heart,
    ):

        def save(step: int) -> None:
            heart.stands(step, SAVING)
            stalls.append(state.save(step, writer))
            guard.saved()

        told(start, config.steps, {"batch": config.batch, "objects": len(samples)})
        for step in range(start, config.steps):
            step_begun = time.perf_counter()
            _set_rates(optimizer, config.learning_rate(step))
            with _memory_advice():
                with _saving_if_readers_ended(interrupt, save, step, accelerator.num_processes == 1):
                    found = _gradients(config, model, objective.loss, feed, step, accelerator, heart)
                norm = float(_whole(accelerator.clip_grad_norm_(trained, config.grad_clip)))
                taken = guard.takes(norm, float(found.loss), found.names, step + 1)
                heart.stands(step, WEIGHTS)
                _take(taken, optimizer, ema, step)
            waits.append((found.waited, time.perf_counter() - step_begun))
            done, asked = step + 1, _agreed(interrupt(), accelerator)
            saving = done % config.checkpoint_every == 0 or done == config.steps or asked is not None
            if taken and (saving or done % config.log_every == 0):
                # Before every checkpoint, too: one whose loss is no number is not worth keeping.
                line = _line(config, done, found, norm, waits[-config.log_every :], accelerator)
                metrics.write(line)
                loss_value = line["loss"]
                if accelerator.is_main_process:
                    watch.see(waits[1:][-config.log_every :])
                    told(done, config.steps, line)
            if saving:
                save(done)
            if asked is not None:
                state.finish(writer)
                raise asked(_kept(done))
            if validate and config.validate_every and done % config.validate_every == 0:
                heart.stands(step, VALIDATION)
                with ema.in_place() if ema else nullcontext(), _evaluating(model):
                    validate(model, done)
            if stop_after is not None and done >= stop_after:
                break
        state.finish(writer)
    metrics.close()
    _heed(interrupt, accelerator, config.steps)  # what came since the last step
    return TrainState(
        weights=state.result(),
        steps=config.steps,
        resumed_from=start,
        last_loss=loss_value,
        data_wait_share=wait_share(waits[1:]),  # the first step waits for the readers to start
        seconds_per_step=(time.perf_counter() - begun) / max(len(waits), 1),
        checkpoint_stall_seconds=sum(stalls) / max(len(stalls), 1),
    )


def _prepared(
    config: TrainConfig, objective: Objective, accelerator: Accelerator
) -> tuple[nn.Module, AcceleratedOptimizer, Ema | None]:
    """The module and its optimiser as the processes share them, and the average of the weights."""
    module = objective.module.train()
    if config.compile:
        objective.network.compile()
    model, optimizer = accelerator.prepare(module, make_optimizer(config, objective.groups()))
    return model, optimizer, Ema(_trained(model), config.ema) if config.ema else None


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _take(taken: bool, optimizer: AcceleratedOptimizer, ema: Ema | None, step: int) -> None:
    """Change the weights and their average by the gradient, or leave it out."""
    if taken:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if ema is not None and taken:
        ema.update(step)


def _set_rates(optimizer: AcceleratedOptimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    model.eval()
    with torch.no_grad():
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


def _heed(
    interrupt: Callable[[], type[KeyboardInterrupt] | None], accelerator: Accelerator, step: int
) -> None:
    """Raise the interrupt that came, if one did. A checkpoint of this step is there."""
    if (asked := _agreed(interrupt(), accelerator)) is not None:
        raise asked(_kept(step))


@dataclass(frozen=True, eq=False)
class _Found:
    """Of one step in this process: its loss, what the loss names, seconds of waiting for data, its samples."""

    loss: Tensor
    terms: dict[str, Tensor]
    waited: float
    names: list[str]


def _gradients(
    config: TrainConfig,
    model: nn.Module,
    micro_loss: MicroLoss,
    feed: Iterator[dict[str, Any]],
    step: int,
    accelerator: Accelerator,
    heart: Heartbeat,
) -> _Found:
    """Add up the gradients of one step."""
    accumulation, waited = config.accumulation(accelerator.num_processes), 0.0
    total = torch.zeros((), device=accelerator.device)
    totals: dict[str, Tensor] = {}
    names: list[str] = []
    for micro in range(accumulation):
        heart.stands(step, DATA)
        before = time.perf_counter()
        raw = next(feed)
        waited += time.perf_counter() - before
        names += sample_names(raw)
        heart.stands(step, GRADIENTS)
        last = micro == accumulation - 1
        # Gradients cross between processes once a step, not once a micro-batch.
        with nullcontext() if last else accelerator.no_sync(model):
            found, terms = micro_loss(model, raw, step)
            loss = found / accumulation
            accelerator.backward(loss)
        total += loss.detach()
        for name, value in terms.items():
            totals[name] = totals.get(name, torch.zeros_like(total)) + value.detach() / accumulation
    return _Found(total, totals, waited, names)


def _line(
    config: TrainConfig,
    done: int,
    found: _Found,
    norm: float,
    waits: list[tuple[float, float]],
    accelerator: Accelerator,
) -> dict[str, Any]:
    """The line of the log after `done` steps. waits: (seconds of waiting for data, seconds) of the last steps.

    Raises Mv3dError where the loss is no number.
    """
    loss = float(accelerator.reduce(found.loss, reduction="mean"))  # pyright: ignore[reportArgumentType]
    _refuse_nan(loss, done)
    return {
        "step": done,
        "images": done * config.batch * config.frames,
        "orbits": done * config.batch,
        "loss": loss,
        "lr": config.learning_rate(done - 1),
        "grad_norm": norm,
        "seconds_per_step": sum(seconds for _, seconds in waits) / len(waits),
        "data_wait_share": wait_share(waits),
        "memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
    } | _means(found.terms, accelerator)


def _means(terms: dict[str, Tensor], accelerator: Accelerator) -> dict[str, float]:
    """Over the processes."""
    means = {name: accelerator.reduce(terms[name], reduction="mean") for name in sorted(terms)}
    return {name: float(value) for name, value in means.items()}  # pyright: ignore[reportArgumentType]


def make_optimizer(
    config: TrainConfig, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]]
) -> torch.optim.Optimizer:
    """AdamW, or its 8-bit form. parameters: or groups of them. Raises MissingPartError with the command that installs it."""
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
            "--optimizer adamw8bit: bitsandbytes is not installed; run: " + install_command("bitsandbytes")
        ) from error
    return AdamW8bit


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


def _whole(norm: Any) -> Any:
    """The norm of the gradient; that of a sharded network is sharded, too."""
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm
