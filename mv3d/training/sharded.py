"""Checkpoints of a network that is spread over processes: each writes what it holds, and nothing is gathered.

checkpoints/00001000/
  .metadata, __0_0.distcp, …   weights, average and optimiser, as `torch.distributed.checkpoint` writes them
  checkpoint.json              step, and size and hash of the others; written last, by the main process

All processes need to see the folder. A run may go on with another number of them. torch reads this format with pickle: go
on from checkpoints of your own runs alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from mv3d.core.errors import InputError, OutputError, shown
from mv3d.core.files import remove
from mv3d.training.checkpoint import Checkpoint, clear_unfinished, publish_sharded

_UNFIT = (CheckpointException, ValueError, LookupError, RuntimeError)


def write_sharded(root: Path, checkpoint: Checkpoint, *, keep: int, group: dist.ProcessGroup) -> None:
    """Write a checkpoint in all processes of a group at once; the first of them gives it its name when it is whole.

    The part of `torch.distributed.checkpoint.async_save` that comes after the copy: run it in a thread, and let the group
    be one that nothing else uses. Raises OutputError where it cannot be written.
    """
    part, main = root / f".{checkpoint.step:08d}.part", dist.get_rank(group) == 0
    try:
        if main:
            clear_unfinished(root)
            part.mkdir(parents=True)
        dist.barrier(group)
        save(_state(checkpoint), storage_writer=FileSystemWriter(part), process_group=group)
        if main:
            publish_sharded(root, part, checkpoint.step, keep=keep)
    except (OSError, CheckpointException) as error:
        raise OutputError(
            f"{root}: the checkpoint of step {checkpoint.step} cannot be written ({shown(error)}); free some space and "
            "give the same command again"
        ) from error
    finally:
        if main and part.exists():
            remove(part)


def read_sharded(folder: Path, checkpoint: Checkpoint) -> None:
    """Fill the tensors of a state with what was written under their names; in all processes at once.

    Raises InputError for other names or shapes.
    """
    alone = not (dist.is_available() and dist.is_initialized())
    try:
        load(_state(checkpoint), storage_reader=FileSystemReader(folder), no_dist=alone)
    except _UNFIT as error:
        raise InputError(f"{folder}: does not fit the network ({shown(error)})") from error


def _state(checkpoint: Checkpoint) -> dict[str, Any]:
    """What is written, by its names in the files."""
    state: dict[str, Any] = {"weights": checkpoint.weights, "optimizer": checkpoint.optimizer}
    return state if checkpoint.ema is None else state | {"ema": checkpoint.ema}
