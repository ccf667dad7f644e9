"""`mv3d models`: the models that have names, conversion into our folder form, and what a folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from mv3d.cli.groups import Command, run_group
from mv3d.cli.output import note, print_result
from mv3d.core.caches import cache_dir


@dataclass(frozen=True)
class ListCommand:
    """The models that --model takes by name, and those that lie converted in the cache."""

    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class ConvertCommand:
    """An original checkpoint or a diffusers folder -> a model folder of mv3d."""

    source: tyro.conf.Positional[Path]
    """sv3d_u.safetensors, sv3d_p.safetensors, or a folder of SVD or SVD-XT in diffusers' form."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """The folder to write."""
    dtype: Literal["keep", "fp32", "fp16", "bf16"] = "keep"
    """Type of the written weights. keep: as they are."""
    overwrite: bool = False
    """Replace an earlier conversion. Files that its record does not list stay, and stop it."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class InfoCommand:
    """What a model is: its conditioning, size, licence and source."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A model folder, a name of `mv3d models list`, or a hub id."""
    json: bool = False
    """Print one JSON object."""


def list_models(command: ListCommand) -> int:
    """Run `mv3d models list`; the exit code."""
    from mv3d.models.folder import INFO_FILE
    from mv3d.models.names import ALIASES, DEFAULT_FOLDER

    there = (DEFAULT_FOLDER / INFO_FILE).exists()
    default = "a small model that comes with mv3d" if there else "not in this installation"
    lines = [f"{'default':10} {default}"]
    for name, alias in ALIASES.items():
        lines.append(f"{name:10} {alias.takes:31} {alias.repo} (licence: {alias.licence})")
    cache = cache_dir("models")
    cached = sorted(path.parent for path in cache.glob(f"*/{INFO_FILE}"))
    lines += [f"converted  {path}" for path in cached]
    document = {
        "default": there,
        "names": {
            name: {"repo": a.repo, "file": a.file, "takes": a.takes, "licence": a.licence}
            for name, a in ALIASES.items()
        },
        "converted": [str(path) for path in cached],
    }
    print_result(lines, document, as_json=command.json)
    return 0


def convert_model(command: ConvertCommand) -> int:
    """Run `mv3d models convert`; the exit code."""
    import torch  # loads here, not for --help

    from mv3d.models.convert import convert
    from mv3d.models.folder import read_info

    types = {"keep": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    out = convert(command.source, command.out, dtype=types[command.dtype], overwrite=command.overwrite)
    info = read_info(out)
    if info.licence_url:
        note(f"{info.kind}: the weights' licence is {info.licence}, {info.licence_url}")
    else:
        note(
            f"{info.kind}: the weights' licence is {info.licence or 'unknown'}; ask their makers before you pass them on"
        )
    print_result(
        [str(out)], {"folder": str(out), "kind": info.kind, "licence": info.licence}, as_json=command.json
    )
    return 0


def model_info(command: InfoCommand) -> int:
    """Run `mv3d models info`; the exit code."""
    from mv3d.models.locate import resolve

    found = resolve(command.model)
    from mv3d.models.describe import describe  # torch loads here, not for a wrong name

    document = describe(found.folder)
    document["revision"] = found.revision or document["revision"]
    sampled = "unet" in document["parameters"]
    lines = [
        f"{document['kind']}: {document['frames']} views of {document['size']}, takes {document['takes']}",
        *([f"vector per view   {', '.join(document['vector'])}"] if sampled else []),
        *(
            f"{name:17} {count:,} parameters, {document['dtype'][name]}"
            for name, count in document["parameters"].items()
        ),
        *([_sampling(document["sampler"])] if sampled else []),
        f"base              {document['base'] or 'none'}"
        + (f" @ {document['revision']}" if document["revision"] else ""),
        f"licence           {document['licence'] or 'not recorded'} {document['licence_url']}".rstrip(),
        f"folder            {found.folder}",
    ]
    print_result(lines, document | {"folder": str(found.folder)}, as_json=command.json)
    return 0


def _sampling(sampler: dict[str, Any]) -> str:
    guidance = f"guidance {sampler['guidance_min']:g} to {sampler['guidance_max']:g}"
    return f"sampling          {sampler['steps']} steps of {sampler['sampler']}, {guidance}"


COMMANDS: dict[str, Command] = {
    "list": (ListCommand, list_models, "the models that have names"),
    "convert": (ConvertCommand, convert_model, "an original checkpoint -> a model folder"),
    "info": (InfoCommand, model_info, "what a model is"),
}


def models(arguments: list[str]) -> int:
    """Run one of the commands above; the exit code."""
    return run_group("models", "The generator's weights.", COMMANDS, arguments)
