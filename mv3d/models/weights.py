"""Weights in files: safetensors alone, tensor by tensor, and one sentence for every broken file."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mv3d.core.errors import InputError, shown

_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_SHOWN = 3
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class WeightsFile:
    """An open safetensors file: names and shapes at once, tensors when asked for."""

    def __init__(self, path: Path, handle: Any) -> None:
        self.path = path
        self._handle = handle
        self.keys: tuple[str, ...] = tuple(handle.keys())
        self.metadata: dict[str, str] = dict(handle.metadata() or {})

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._handle.get_slice(key).get_shape())

    def dtype(self, key: str) -> str:
        """safetensors' name of it: F16, BF16, F32, ..."""
        return self._handle.get_slice(key).get_dtype()

    def tensor(self, key: str) -> Tensor:
        """Raises InputError where a value is NaN or infinite, or of a type that no model here is stored in."""
        if self.dtype(key) not in _DTYPES:
            raise InputError(
                f"{self.path}: {shown(key)}: expected one of {', '.join(_DTYPES)}, got {self.dtype(key)}; convert it"
            )
        value = self._handle.get_tensor(key)
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise InputError(
                f"{self.path}: {bad} of {value.numel()} values of {shown(key)} are NaN or infinite; the file is damaged or comes "
                "from a training that diverged: take an earlier checkpoint"
            )
        return value


@contextlib.contextmanager
def open_weights(path: str | os.PathLike[str]) -> Iterator[WeightsFile]:
    """Open a safetensors file. Raises InputError for a missing, cut-off or foreign file; a pickle is never loaded."""
    path = Path(path)
    refuse_what_is_not_safetensors(path)
    try:
        handle: Any = safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a whole safetensors file ({shown(error, 200)}); it is cut off or damaged: fetch it again"
        ) from error
    with handle as opened:
        yield WeightsFile(path, opened)


def refuse_what_is_not_safetensors(path: Path) -> None:
    """Raises InputError where the file is absent, empty, a folder or a pickle."""
    if not path.exists():
        raise InputError(f"{path}: expected a safetensors file, got nothing there")
    if path.is_dir():
        raise InputError(f"{path}: expected a safetensors file, got a folder")
    try:
        with path.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if len(start) < 8:
        raise InputError(f"{path}: expected a safetensors file, got {len(start)} bytes; fetch it again")
    if start.startswith(_PICKLE_STARTS):
        raise InputError(
            f"{path}: expected safetensors, got a pickle, which can run any code when it is loaded; take the .safetensors "
            "file of the same model, or convert it where you trust it"
        )


def check_keys(
    path: Path, expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], *, what: str
) -> None:
    """Raises InputError that names the keys where the two differ in names or shapes."""
    missing = [key for key in expected if key not in found]
    unknown = [key for key in found if key not in expected]
    if missing or unknown:
        parts = [f"{len(missing)} missing ({_some(missing)})"] if missing else []
        parts += [f"{len(unknown)} unknown ({_some(unknown)})"] if unknown else []
        raise InputError(f"{path}: not the weights of {what}: {'; '.join(parts)}")
    for key, shape in expected.items():
        if found[key] != shape:
            raise InputError(
                f"{path}: not the weights of {what}: expected {key} of shape {shape}, got {found[key]}"
            )


def _some(keys: list[str]) -> str:
    rest = len(keys) - _SHOWN
    return ", ".join(map(shown, keys[:_SHOWN])) + (f" and {rest} more" if rest > 0 else "")


def write_weights(
    path: Path,
    shapes: dict[str, tuple[int, ...]],
    dtypes: dict[str, str],
    read: Callable[[str], Tensor],
    metadata: dict[str, str] | None = None,
) -> None:
    """Write a safetensors file one tensor at a time: the memory of the largest tensor, not of the model.

    dtypes: safetensors' names. read: the tensor of a name, called in order. Raises InputError where it has another
    shape or type than announced.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"} | (metadata or {})}
    offset = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * _DTYPES[dtypes[name]].itemsize
        header[name] = {"dtype": dtypes[name], "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            value = read(name).contiguous()
            if tuple(value.shape) != shape or value.dtype != _DTYPES[dtypes[name]]:
                raise InputError(
                    f"{name}: expected {dtypes[name]} {shape}, got {value.dtype} {tuple(value.shape)}"
                )
            stream.write(value.reshape(-1).view(torch.uint8).numpy().data)


def dtype_name(dtype: torch.dtype) -> str:
    """safetensors' name of a torch type."""
    return next(name for name, value in _DTYPES.items() if value == dtype)


def load_state(module: torch.nn.Module, path: Path, *, what: str, dtype: torch.dtype | None = None) -> None:
    """Give a module, usually one on the meta device, the weights of a file; every key and shape has to fit.

    dtype: convert floating-point weights to it, one by one; by default as stored.
    """
    state = dict(module.state_dict())
    with open_weights(path) as weights:
        expected = {key: tuple(value.shape) for key, value in state.items()}
        check_keys(path, expected, {key: weights.shape(key) for key in weights.keys}, what=what)
        for key in expected:
            value = weights.tensor(key)
            if value.is_floating_point() != state[key].is_floating_point():
                raise InputError(
                    f"{path}: not the weights of {what}: {key} is stored as {weights.dtype(key)}"
                )
            state[key] = value.to(dtype) if dtype is not None and value.is_floating_point() else value
    module.load_state_dict(state, assign=True)
