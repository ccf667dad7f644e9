"""The state of a run: gathered from its processes, written aside while the next steps are computed, and set again."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
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

from mv3d.core.errors import InputError, Mv3dError
from mv3d.training.checkpoint import Checkpoint, read_latest, write_checkpoint
from mv3d.training.ema import Ema
from mv3d.training.sharded import read_sharded, write_sharded

_PARTS = StateDictOptions(cpu_offload=True, ignore_frozen_params=True)
_LOAD_PARTS = StateDictOptions(ignore_frozen_params=True, strict=False)
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
_LOAD = StateDictOptions(full_state_dict=True, ignore_frozen_params=True, strict=False)


class CheckpointWriter:
    """Writes checkpoints one after the other in a thread of its own, so that a step waits for a copy of the state alone.

    As a context it waits for the last one. A checkpoint appears under its name when it is whole and on the disk.
    sharded: of a network that is spread over processes; then each writes its part, and all make the same calls.
    """

    def __init__(self, root: Path, *, keep: int, sharded: bool = False) -> None:
        self._root, self._keep = root, keep
        # Its own: the messages of the training go through the other one meanwhile.
        self._group: Any = dist.new_group(backend="gloo") if sharded else None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._last: Future[Any] | None = None

    def start(self, checkpoint: Checkpoint) -> None:
        """Begin to write. Its tensors must be copies that nobody changes. Raises what the one before raised."""
        self.wait()
        if self._group is not None:
            self._last = self._pool.submit(
                write_sharded, self._root, checkpoint, keep=self._keep, group=self._group
            )
        else:
            self._last = self._pool.submit(write_checkpoint, self._root, checkpoint, keep=self._keep)

    def wait(self) -> None:
        """Wait for what is being written. Raises OutputError where it could not be."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Mv3dError as failed:
            if error is None:
                raise
            error.add_note(f"The last checkpoint was not written: {failed}")
        finally:
            self._pool.shutdown()


class RunState:
    """What a checkpoint holds of a run on all its processes. prefix: before the network's names in those of `model`."""

    def __init__(
        self,
        model: nn.Module,
        prefix: str,
        optimizer: torch.optim.Optimizer,
        ema: Ema | None,
        accelerator: Accelerator,
    ) -> None:
        self._model, self._prefix, self._optimizer, self._ema = model, prefix, optimizer, ema
        self._accelerator = accelerator
        self._sharded = accelerator.distributed_type == DistributedType.FSDP

    def weights(self, options: StateDictOptions = _FULL) -> dict[str, Tensor]:
        """The trained weights under the network's own names, on the CPU: whole, and empty on other processes than the main
        one; or as `options` say.

        Copies: on a CPU the state of a network is the network itself, which the next step is about to change.
        """
        state = get_model_state_dict(self._model, options=options)
        return {name.removeprefix(self._prefix): _copy(value) for name, value in state.items()}

    def averages(self, options: StateDictOptions = _FULL) -> dict[str, Tensor] | None:
        """The averages of the weights, as `weights` gives these; None where none are kept."""
        if self._ema is None:
            return None
        with self._ema.in_place():
            return self.weights(options)

    def result(self) -> dict[str, Tensor]:
        """The averages where they are kept, else the weights, as `weights` gives these; gathered once by all processes."""
        averages = self.averages()
        return self.weights() if averages is None else averages

    def writer(self, root: Path, *, keep: int) -> CheckpointWriter:
        """What writes the checkpoints of this run."""
        return CheckpointWriter(root, keep=keep, sharded=self._sharded)

    def save(self, step: int, writer: CheckpointWriter) -> float:
        """Copy the state and begin to write it; the seconds that this took.

        Where each process holds a part of the network, each copies and writes its part; else the state is the work of
        all, and writing that of the main one. Raises in all of them what the checkpoint before raised.
        """
        begun = time.perf_counter()
        self.finish(writer)
        checkpoint = self._copied(step, sharded=self._sharded)
        if self._sharded or self._accelerator.is_main_process:
            writer.start(checkpoint)
        return time.perf_counter() - begun

    def _copied(self, step: int, *, sharded: bool) -> Checkpoint:
        """The state, or this process's parts of it."""
        options = _PARTS if sharded else _FULL
        optimizer = get_optimizer_state_dict(self._model, self._optimizer, options=options)
        return Checkpoint(step, self.weights(options), self.averages(options), _copies(optimizer), sharded)

    def _read_parts(self, folder: Path, step: int) -> Checkpoint:
        checkpoint = self._copied(step, sharded=True)
        read_sharded(folder, checkpoint)
        return checkpoint

    def finish(self, writer: CheckpointWriter) -> None:
        """Wait until the last checkpoint is written. Raises in all processes where it could not be."""
        failure: list[Mv3dError | None] = [None]
        try:
            writer.wait()
        except Mv3dError as error:
            failure = [error]
        if self._sharded:  # in step with the others from here on
            dist.barrier()
        self._raise_everywhere(failure)

    def resume(self, root: Path) -> int:
        """Set everything as it was at the last whole checkpoint in `root`; the number of steps done.

        Raises InputError for a checkpoint with an average where none is kept, or the other way round.
        """
        checkpoint = read_latest(root, self._read_parts)
        if checkpoint is None:
            return 0
        if (checkpoint.ema is None) != (self._ema is None):
            raise InputError(f"{root}: a checkpoint with another --ema; choose another --out")
        options = _LOAD_PARTS if checkpoint.sharded else _LOAD
        set_optimizer_state_dict(self._model, self._optimizer, checkpoint.optimizer, options=options)
        if self._ema is not None and checkpoint.ema is not None:
            with self._ema.in_place():
                self._set_weights(checkpoint.ema, options)
        self._set_weights(checkpoint.weights, options)
        return checkpoint.step

    def _set_weights(self, weights: dict[str, Tensor], options: StateDictOptions) -> None:
        named: dict[str, Any] = {self._prefix + name: value for name, value in weights.items()}
        set_model_state_dict(self._model, named, options=options)

    def _raise_everywhere(self, failure: list[Mv3dError | None]) -> None:
        broadcast_object_list(failure)
        if failure[0] is not None:
            raise failure[0]


def _copy(value: Any) -> Tensor:
    """On the CPU, apart from what it was."""
    return value.detach().to("cpu", copy=True)


def _copies(state: Any) -> Any:
    """A state of an optimiser with copies of its tensors."""
    if isinstance(state, Tensor):
        return _copy(state)
    if isinstance(state, dict):
        return {key: _copies(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_copies(value) for value in state]
    return state
