"""The prior in a model folder: `prior/config.json` and `prior/model.safetensors`, alone or beside a multi-view network."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import save_file

from mv3d.core.errors import InputError, shown
from mv3d.core.files import to_json, write_text
from mv3d.models.folder import PRIOR, WEIGHTS, read_config, weights_path
from mv3d.models.prior.lift import SIDE
from mv3d.models.prior.network import PriorNetwork
from mv3d.models.weights import load_state


@dataclass(frozen=True)
class PriorSettings:
    """The content of `prior/config.json`. width: of `PriorNetwork`. side: pixels of the network's input."""

    width: int = 192
    side: int = SIDE

    def __post_init__(self) -> None:
        """Raises InputError for values that no network can have."""
        for name, step, most in (("width", 4, 4096), ("side", 32, 2048)):
            value = getattr(self, name)
            if type(value) is not int or value % step or not step <= value <= most:
                raise InputError(
                    f"{name}: expected a multiple of {step} from {step} to {most}, got {shown(repr(value))}"
                )


def save_prior(
    folder: str | os.PathLike[str],
    network: PriorNetwork,
    settings: PriorSettings,
    *,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a network into `folder/prior`; `mv3d.json` is not written.

    dtype: of the weights on disk. Raises InputError for weights that are not finite in it, and for settings of another
    network.
    """
    state = {
        name: value.detach().to("cpu", dtype).contiguous() for name, value in network.state_dict().items()
    }
    bad = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise InputError(f"prior: {len(bad)} weights are not finite as {dtype} ({bad[0]})")
    if network.top.out_channels != settings.width:
        raise InputError(
            f"prior: expected a network of width {settings.width}, got {network.top.out_channels}"
        )
    place = Path(folder) / PRIOR
    place.mkdir(parents=True, exist_ok=True)
    write_text(place / "config.json", to_json(asdict(settings)))
    save_file(state, place / WEIGHTS[PRIOR], metadata={"format": "pt"})


def read_prior_settings(folder: str | os.PathLike[str]) -> PriorSettings:
    """The settings of the prior in a model folder. Raises InputError where there is none, or a broken one."""
    path = Path(folder) / PRIOR
    document = read_config(path)
    names = {field.name for field in fields(PriorSettings)}
    if document.keys() != names:
        raise InputError(
            f"{path}/config.json: expected {', '.join(sorted(names))}, got {shown(', '.join(document) or 'nothing')}"
        )
    try:
        return PriorSettings(**document)
    except InputError as error:
        raise InputError(f"{path}/config.json: {error}") from error


def load_prior(folder: str | os.PathLike[str]) -> PriorNetwork:
    """The prior of a model folder on the CPU, float32, for inference.

    Raises InputError where there is none, and for broken files and weights of another network.
    """
    settings = read_prior_settings(folder)
    with torch.device("meta"):
        network = PriorNetwork(settings.width)
    load_state(network, weights_path(Path(folder), PRIOR), what="this prior", dtype=torch.float32)
    return network.eval().requires_grad_(False)
