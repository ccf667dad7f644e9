"""Checkpoints that are whole or not there.

checkpoints/00001000/
  weights.safetensors   the trained weights
  ema.safetensors       their average, where one is kept
  optimizer.pt          tensors and numbers alone: read with weights_only
  checkpoint.json       step, and size and hash of the others; written last

Those of a network that is spread over processes hold other files: `sharded.py`.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mv3d.core.errors import InputError, shown
from mv3d.core.files import atomic_path, remove, replace, sha256, to_json

SCHEMA = 1
SHARDED = "torch.distributed.checkpoint"
"""What the record of a checkpoint of several processes names as its format."""
_RECORD = "checkpoint.json"
_FILES = ("weights.safetensors", "ema.safetensors", "optimizer.pt")
_NO_RECORD = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
# What safetensors, zipfile and torch's reader of plain tensors raise for a file whose record fits and whose content
# does not.
_UNREADABLE = (*_NO_RECORD, SafetensorError, pickle.UnpicklingError, EOFError, AssertionError, RuntimeError)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `step` steps."""

    step: int
    weights: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    optimizer: dict[str, Any]
    sharded: bool = False
    """Whether its tensors are this process's parts of them."""


ReadSharded = Callable[[Path, int], Checkpoint]
"""(folder, step) → what this process needs of a checkpoint of several."""


def write_checkpoint(root: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint atomically and remove all but the last `keep`. Raises OutputError where it cannot be written."""
    target = root / f"{checkpoint.step:08d}"
    clear_unfinished(root)
    with atomic_path(target, hint="free some space and give the same command again") as part:
        part.mkdir(parents=True)
        save_file(_plain(checkpoint.weights), part / "weights.safetensors")
        if checkpoint.ema is not None:
            save_file(_plain(checkpoint.ema), part / "ema.safetensors")
        # Of a path torch does not tell why it cannot write it.
        with (part / "optimizer.pt").open("wb") as file:
            torch.save(checkpoint.optimizer, file)
        _record(part, checkpoint.step)
    _settle(root, keep)
    return target


def clear_unfinished(root: Path) -> None:
    """Remove what a run that was killed had begun to write."""
    for left in root.glob(".*.part"):
        remove(left)


def publish_sharded(root: Path, part: Path, step: int, *, keep: int) -> None:
    """Give a folder in which all processes have written their parts its name, and remove all but the last `keep`."""
    _record(part, step, format=SHARDED)
    replace(part, root / f"{step:08d}")
    _settle(root, keep)


def _record(part: Path, step: int, **more: str) -> None:
    """Write down what is in a folder, and wait until all of it is on the disk."""
    files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in sorted(part.iterdir())}
    record = {"schema": SCHEMA, "step": step, **more, "files": files}
    (part / _RECORD).write_text(to_json(record), encoding="utf-8")
    for path in (*part.iterdir(), part):  # on the disk before it has its name
        _sync(path)


def _settle(root: Path, keep: int) -> None:
    _sync(root)
    for old in _folders(root)[:-keep]:
        shutil.rmtree(old)


def _sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk. Windows cannot wait for a folder."""
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_latest(root: Path, sharded: ReadSharded | None = None) -> Checkpoint | None:
    """The last whole checkpoint, or None. One that is cut off or damaged is warned of and the one before it taken.

    sharded: reads what several processes have written; without it, such a one is as good as damaged.
    """
    for folder in reversed(_folders(root)):
        try:
            return _read(folder, sharded)
        except InputError as error:
            warnings.warn(f"{error}; the checkpoint before it is used", stacklevel=2)
    return None


def _read(folder: Path, sharded: ReadSharded | None) -> Checkpoint:
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        step = int(record["step"])
        files = {name: (known["bytes"], known["sha256"]) for name, known in record["files"].items()}
    except _NO_RECORD as error:
        raise InputError(f"{folder}: not a whole checkpoint ({shown(error)})") from error
    if record.get("schema") != SCHEMA:
        raise InputError(
            f"{folder}: expected a checkpoint of schema {SCHEMA}, got {shown(record.get('schema'))}"
        )
    spread = record.get("format") == SHARDED
    for name, (expected, digest) in files.items():
        if not (_of_a_part(name) if spread else name in _FILES):
            raise InputError(f"{folder}: expected {', '.join(_FILES)}, got {shown(name)}")
        path = folder / name
        size = path.stat().st_size if path.is_file() else 0
        if size != expected:
            raise InputError(f"{path}: cut off: expected {shown(expected)} bytes, got {size}")
        if sha256(path) != digest:
            raise InputError(f"{path}: damaged: its content is not what was written")
    if spread:
        if sharded is None or step < 0:
            raise InputError(f"{folder}: a checkpoint of several processes, which cannot be read here")
        return sharded(folder, step)
    if not {"weights.safetensors", "optimizer.pt"} <= files.keys():
        raise InputError(f"{folder}: not a whole checkpoint: weights or optimiser are missing")
    try:
        weights = load_file(folder / "weights.safetensors")
        ema = load_file(folder / "ema.safetensors") if "ema.safetensors" in files else None
        optimizer = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise InputError(f"{folder}: its tensors cannot be read ({shown(error)})") from error
    if step < 0 or not isinstance(optimizer, dict):
        raise InputError(f"{folder}: expected a step and the state of an optimiser, got others")
    return Checkpoint(step, weights, ema, optimizer)


def _of_a_part(name: object) -> bool:
    """Whether `torch.distributed.checkpoint` names its files so."""
    return isinstance(name, str) and re.fullmatch(r"\.metadata|__\d+_\d+\.distcp", name) is not None


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.glob("[0-9]*") if p.is_dir()) if root.is_dir() else []


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}
