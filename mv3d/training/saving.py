"""The state of a run: gathered from its processes, written aside while the next steps are computed, and set again."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from accelerate import Accelerator
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

_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
_LOAD = StateDictOptions(full_state_dict=True, ignore_frozen_params=True, strict=False)


class CheckpointWriter:
    """Writes checkpoints one after the other in a thread of its own, so that a step waits for a copy of the state alone.

    As a context it waits for the last one. A checkpoint appears under its name when it is whole and on the disk.
    """

    def __init__(self, root: Path, *, keep: int) -> None:
        self._root, self._keep = root, keep
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._last: Future[Path] | None = None

    def start(self, checkpoint: Checkpoint) -> None:
        """Begin to write. Its tensors must be copies that nobody changes. Raises what the one before raised."""
        self.wait()
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

    def weights(self) -> dict[str, Tensor]:
        """The trained weights under the network's own names, whole, on the CPU; empty on other processes than the main one.

        Copies: on a CPU the state of a network is the network itself, which the next step is about to change.
        """
        state = get_model_state_dict(self._model, options=_FULL)
        return {name.removeprefix(self._prefix): _copy(value) for name, value in state.items()}

    def averages(self) -> dict[str, Tensor] | None:
        """The averages of the weights, as `weights` gives these; None where none are kept."""
        if self._ema is None:
            return None
        with self._ema.in_place():
            return self.weights()

    def save(self, step: int, writer: CheckpointWriter) -> float:
        """Copy the state and let the main process begin to write it; the seconds that this took.

        Gathering is the work of all processes, writing that of one. Raises in all of them what the checkpoint before
        raised.
        """
        begun = time.perf_counter()
        weights, averages = self.weights(), self.averages()
        optimizer = _copies(get_optimizer_state_dict(self._model, self._optimizer, options=_FULL))
        failure: list[Mv3dError | None] = [None]
        if self._accelerator.is_main_process:
            try:
                writer.start(Checkpoint(step, weights, averages, optimizer))
            except Mv3dError as error:
                failure = [error]
        self._raise_everywhere(failure)
        return time.perf_counter() - begun

    def finish(self, writer: CheckpointWriter) -> None:
        """Wait until the last checkpoint is written. Raises in all processes where it could not be."""
        failure: list[Mv3dError | None] = [None]
        try:
            writer.wait()
        except Mv3dError as error:
            failure = [error]
        self._raise_everywhere(failure)

    def resume(self, root: Path) -> int:
        """Set everything as it was at the last whole checkpoint in `root`; the number of steps done.

        Raises InputError for a checkpoint with an average where none is kept, or the other way round.
        """
        checkpoint = read_latest(root)
        if checkpoint is None:
            return 0
        if (checkpoint.ema is None) != (self._ema is None):
            raise InputError(f"{root}: a checkpoint with another --ema; choose another --out")
        set_optimizer_state_dict(self._model, self._optimizer, checkpoint.optimizer, options=_LOAD)
        if self._ema is not None and checkpoint.ema is not None:
            with self._ema.in_place():
                self._set_weights(checkpoint.ema)
        self._set_weights(checkpoint.weights)
        return checkpoint.step

    def _set_weights(self, weights: dict[str, Tensor]) -> None:
        named: dict[str, Any] = {self._prefix + name: value for name, value in weights.items()}
        set_model_state_dict(self._model, named, options=_LOAD)

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
