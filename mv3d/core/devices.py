"""Which device to compute on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mv3d.core.errors import UsageError

if TYPE_CHECKING:
    import torch


def pick_device(name: str) -> torch.device:
    """The device of a name: auto (CUDA where there is one), cpu, cuda or cuda:N.

    Raises UsageError for another name, and for a device that this machine lacks.
    """
    import torch  # noqa: PLC0415 - what reads the name alone need not load it

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device: expected auto, cpu, cuda or cuda:N, got {name}") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device: expected auto, cpu, cuda or cuda:N, got {name}")
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()
    ):
        raise UsageError(f"--device {name}: no such CUDA device here; use --device cpu")
    return device


def device_name(device: torch.device) -> str:
    """The product name of a GPU, or "cpu"."""
    import torch  # noqa: PLC0415 - as above

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
