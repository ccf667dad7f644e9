"""`mv3d orbits`: from a catalogue of objects to training shards."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from mv3d.cli.groups import Command, run_group
from mv3d.cli.orbits_catalogue import (
    FetchCommand,
    GuardCommand,
    SelectCommand,
    fetch_objects,
    guard_list,
    select_objects,
)
from mv3d.cli.orbits_flags import LimitFlags, OrbitFlags, ViewsFlags
from mv3d.cli.orbits_paint import PaintCommand, paint
from mv3d.cli.orbits_procedural import ProceduralCommand, procedural
from mv3d.cli.output import FEW, ObjectsBar, note, note_warnings, print_result
from mv3d.core.errors import UsageError
from mv3d.core.flags import SAID
from mv3d.core.outputs import refuse_inputs
from mv3d.training.encode_shards import EncodeConfig


@dataclass(frozen=True)
class RenderCommand:
    """Render every object of a list along an orbit and pack the orbits into WebDataset shards."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="LIST|FOLDER|FILE")]
    """A list (.jsonl, .json, .csv), a folder of .glb, .gltf, .obj, .ply and .stl files, or one such file."""
    out: Path
    """Folder for the shards. The same command again goes on where the last one ended."""
    config: Annotated[OrbitFlags, tyro.conf.arg(name="")] = field(default_factory=OrbitFlags)
    workers: Annotated[int | None, SAID] = None
    """Objects at a time. Default: as many as there are processors."""
    ray: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS|local")] = None
    """Spread the objects over a Ray cluster."""
    limits: Annotated[LimitFlags, tyro.conf.arg(name="")] = field(default_factory=LimitFlags)
    overwrite: bool = False
    """Replace another data set in the folder."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class EncodeCommand:
    """Cache VAE latents and image embeddings of rendered shards in shards beside them."""

    shards: tyro.conf.Positional[Path]
    """A folder of `mv3d orbits render`."""
    vae: Path
    """Folder of an AutoencoderKL or AutoencoderKLTemporalDecoder (diffusers)."""
    image_encoder: Path
    """Folder of a CLIPVisionModelWithProjection (transformers)."""
    out: Annotated[Path | None, SAID] = None
    """Folder for the latents. Default: the folder of the shards with -latents at its end."""
    config: Annotated[EncodeConfig, tyro.conf.arg(name="")] = field(default_factory=EncodeConfig)
    overwrite: bool = False
    """Replace other latents in the folder."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class InfoCommand:
    """Print counts, licences, sizes and rejects of a folder of shards; write contact sheets of random samples."""

    shards: tyro.conf.Positional[Path]
    """A folder of `mv3d orbits render` or `mv3d orbits encode`."""
    sheets: Path | None = None
    """Folder for contact sheets."""
    samples: Annotated[int, tyro.conf.arg(name="sheet-samples", aliases=("--samples",))] = 24
    """Samples of the data set on the sheets."""
    seed: int = 0
    """Seed of the choice of samples."""
    verify: bool = False
    """Read all shards and compare their sha256."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class ViewsCommand:
    """Write one object, rendered as `mv3d orbits render` does, or one sample of its shards as a views folder with true
    cameras: for mv3d recon, mv3d eval and whatever reads nerfstudio's transforms.json."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE|SHARDS")]
    """A .glb, .gltf, .obj, .ply or .stl file, or a folder of `mv3d orbits render`."""
    out: Path
    """Where to write."""
    uid: str | None = None
    """The sample of SHARDS."""
    config: Annotated[ViewsFlags, tyro.conf.arg(name="")] = field(default_factory=ViewsFlags)
    overwrite: bool = False
    """Replace other views."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class JoinCommand:
    """Several finished data sets of one kind and size as one, without another copy of their shards where the disk allows."""

    shards: Annotated[tyro.conf.Positional[tuple[Path, ...]], SAID]
    """Two folders or more of `mv3d orbits render`, or of `mv3d orbits encode`."""
    out: Path
    """The folder to write, a new or an empty one."""
    json: bool = False
    """Print one JSON object."""


def join(command: JoinCommand) -> int:
    """Run `mv3d orbits join`; the exit code."""
    from mv3d.orbits.join import join_shards

    result = join_shards(command.shards, command.out)
    document = {"out": str(result.out_dir), **result.index}
    print_result([str(result.out_dir)], document, as_json=command.json)
    return 0


def render(command: RenderCommand) -> int:
    """Run `mv3d orbits render`; the exit code: 0 also where objects were rejected, 1 where all were."""
    from mv3d.orbits.attribution import MARKDOWN, TABLE
    from mv3d.orbits.build import REJECTS, RUN, build_shards
    from mv3d.orbits.catalogue import read_list
    from mv3d.orbits.config import OrbitConfig
    from mv3d.orbits.gate import LET_IN
    from mv3d.orbits.index import INDEX
    from mv3d.orbits.infrastructure.isolate import Limits

    refuse_inputs(command.out, (INDEX, REJECTS, RUN, MARKDOWN, TABLE), (Path(command.source),))
    with closing(ObjectsBar()) as bar:
        result = build_shards(
            read_list(command.source),
            command.out,
            OrbitConfig(**vars(command.config)),
            workers=command.workers if command.workers is not None else (os.cpu_count() or 1),
            limits=Limits(**vars(command.limits)),
            ray_address=command.ray,
            overwrite=command.overwrite,
            progress=bar,
        )
    index = result.index
    if result.already_done:
        note("done already: the same list and settings; use --overwrite to make it again")
    note(
        f"{index['samples']} of {index['objects']} objects in {len(index['shards'])} shards; "
        f"{sum(index['rejected'].values())} rejected"
        + (f", see {command.out / REJECTS}" if index["rejected"] else "")
    )
    for reason, count in index["rejected"].items():
        way = LET_IN.get(reason)
        note(f"{count:>8} {reason}" + (f" (let in by {way})" if way else ""))
    if len(result.rejects) <= FEW:
        for line in result.rejects:
            note(f"rejected: {line}")
    note_warnings(result.warnings, sum(index.get("warnings", {}).values()), f"the records in {command.out}")
    paths = [str(command.out / shard["name"]) for shard in index["shards"]]
    print_result(
        paths,
        {"out": str(command.out), "already_done": result.already_done, **index},
        as_json=command.json,
    )
    return 0 if index["samples"] else 1


def encode(command: EncodeCommand) -> int:
    """Run `mv3d orbits encode`; the exit code."""
    from mv3d.training.encode_shards import encode_shards

    with closing(ObjectsBar()) as bar:
        result = encode_shards(
            command.shards,
            command.vae,
            command.image_encoder,
            command.out,
            command.config,
            overwrite=command.overwrite,
            progress=bar,
        )
    if result.already_done:
        note("done already: the same shards, networks and settings; use --overwrite to make it again")
    paths = [str(result.out_dir / shard["name"]) for shard in result.index["shards"]]
    document = {"out": str(result.out_dir), "already_done": result.already_done, **result.index}
    print_result(paths, document, as_json=command.json)
    return 0


def info(command: InfoCommand) -> int:
    """Run `mv3d orbits info`; the exit code: 1 where a shard is missing or changed."""
    from mv3d.orbits.info import contact_sheets, info_lines, inspect_shards

    found = inspect_shards(command.shards, verify=command.verify)
    sheets: list[str] = []
    if command.sheets is not None:
        drawn = contact_sheets(command.shards, samples=command.samples, seed=command.seed)
        command.sheets.mkdir(parents=True, exist_ok=True)
        for number, sheet in enumerate(drawn):
            path = command.sheets / f"sheet-{number:02d}.png"
            sheet.save(path)
            sheets.append(str(path))
    lines = [*info_lines(found), *sheets]
    print_result(lines, {**found.document, "sheets": sheets}, as_json=command.json)
    return 1 if found.problems else 0


def views(command: ViewsCommand) -> int:
    """Run `mv3d orbits views`; the exit code."""
    from mv3d.orbits.as_views import write_orbit_views
    from mv3d.orbits.config import OrbitConfig
    from mv3d.render.load_warnings import warning_texts

    if command.source.is_dir() and command.config != ViewsFlags():
        raise UsageError(
            f"{command.source}: expected no settings of the rendering beside shards, whose samples are rendered already"
        )
    config = OrbitConfig(**vars(command.config))
    result = write_orbit_views(
        command.source, command.out, config, uid=command.uid, overwrite=command.overwrite
    )
    if result.already_done:
        note("done already: the same input and settings; use --overwrite to make it again")
    note_warnings(warning_texts(result.record.get("warnings", ())))
    document = {"out": str(result.out_dir), "already_done": result.already_done, "record": result.record}
    print_result([str(result.out_dir)], document, as_json=command.json)
    return 0


COMMANDS: dict[str, Command] = {
    "select": (SelectCommand, select_objects, "a catalogue -> a list of objects, by licence and size"),
    "fetch": (FetchCommand, fetch_objects, "a list -> files, with retries and checksums"),
    "guard": (GuardCommand, guard_list, "objects kept for evaluation -> hashes that keep them out"),
    "procedural": (ProceduralCommand, procedural, "objects made of formulas, without any download"),
    "paint": (PaintCommand, paint, "shapes without colours -> GLB files with materials"),
    "render": (RenderCommand, render, "a list or a folder -> shards of rendered orbits"),
    "encode": (EncodeCommand, encode, "shards -> latents and embeddings beside them"),
    "views": (ViewsCommand, views, "one object, or one sample -> a views folder with true cameras"),
    "join": (JoinCommand, join, "several data sets as one"),
    "info": (InfoCommand, info, "counts, licences, sizes, contact sheets"),
}


def orbits(arguments: list[str]) -> int:
    """Run one of the commands above; the exit code."""
    return run_group("orbits", "Training data: from objects to shards.", COMMANDS, _joined(arguments))


def _joined(arguments: list[str]) -> list[str]:
    """`--elevation -5:30` as `--elevation=-5:30`: a value with a minus in front looks like a flag."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--elevation":
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined
