"""`mv3d orbits select`, `fetch` and `guard`: which objects, their files, and those never to train on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import tyro

from mv3d.cli.orbits_flags import FetchFlags, MetadataTransportFlags, SelectFlags, TransportFlags
from mv3d.cli.output import StageBars, note, print_result
from mv3d.core import files
from mv3d.core.caches import cache_dir
from mv3d.core.errors import InputError, OutputError, UsageError
from mv3d.core.flags import SAID
from mv3d.core.outputs import refuse_inputs

OBJAVERSE = "objaverse"


@dataclass(frozen=True)
class SelectCommand:
    """Choose objects of a catalogue by licence, size and flags; the count after each filter is printed."""

    source: tyro.conf.Positional[str] = OBJAVERSE
    """objaverse, or a folder of 3D files, or a list (.jsonl, .json, .csv)."""
    out: Path = Path("objects.jsonl")
    """The list to write, .jsonl or .csv."""
    config: Annotated[SelectFlags, tyro.conf.arg(name="")] = field(default_factory=SelectFlags)
    uids: Path | None = None
    """Only the uids in this file: one a line, or a list."""
    exclude: Path | None = None
    """None of the uids in this file."""
    endpoint: Annotated[str | None, SAID] = None
    """Address of the hub. Default: HF_ENDPOINT, or https://huggingface.co."""
    cache: Annotated[Path | None, SAID] = None
    """Folder for the metadata of Objaverse. Default: MV3D_CACHE or the user's cache folder."""
    transport: Annotated[MetadataTransportFlags, tyro.conf.arg(name="")] = field(
        default_factory=MetadataTransportFlags
    )
    overwrite: bool = False
    """Replace an existing list."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class FetchCommand:
    """Fetch the files of a list. The same command again goes on with what is missing."""

    list: tyro.conf.Positional[Path]
    """A list of `mv3d orbits select`."""
    out: Path = Path("objects")
    """Folder for the files, the ledger, rejects.jsonl and objects.jsonl."""
    config: Annotated[FetchFlags, tyro.conf.arg(name="")] = field(default_factory=FetchFlags)
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class GuardCommand:
    """Write the evaluation list of a folder: hashes by which its objects are kept out of training."""

    source: tyro.conf.Positional[Path]
    """A folder of 3D files, or a list of local ones."""
    out: Path = Path("evaluation.json")
    """The evaluation list to write, .json or .csv."""
    overwrite: bool = False
    """Replace an existing list."""
    json: bool = False
    """Print one JSON object."""


def select_objects(command: SelectCommand) -> int:
    """Run `mv3d orbits select`; the exit code. An empty selection is no list: 1."""
    from mv3d.orbits.catalogue import read_list, read_uids, write_list
    from mv3d.orbits.objaverse import (
        ObjaverseStore,
        check_categories,
        default_endpoint,
        objaverse_items,
    )
    from mv3d.orbits.select import SelectConfig, select

    uids = read_uids(command.uids) if command.uids else None
    excluded = read_uids(command.exclude) if command.exclude else ()
    config = SelectConfig(**vars(command.config) | {"uids": uids, "exclude_uids": excluded})
    _check_out(command.out, (".jsonl", ".csv"), (command.source, command.uids, command.exclude))
    bars = StageBars()
    try:
        if command.source == OBJAVERSE:
            endpoint = command.endpoint or default_endpoint()
            store = ObjaverseStore(
                command.cache or cache_dir("objaverse"),
                endpoint,
                transport=_with_token(command.transport, endpoint),
                seed=config.seed,
            )
            check_categories(store, (*config.categories, *config.exclude_categories))
            with_lvis = bool(config.categories or config.exclude_categories or config.with_category)
            items = objaverse_items(store, uids=config.uids, lvis=with_lvis, progress=bars)
        else:
            items = read_list(command.source)
        selection = select(items, config)
    finally:
        bars.close()
    for name, count in selection.funnel:
        note(f"{name:>22} {count:>9,}")
    if selection.unknown_uids:
        note(f"{len(selection.unknown_uids)} uids are not in the catalogue, e.g. {selection.unknown_uids[0]}")
    if not selection.items:
        raise InputError(f"no object passes all filters; {_why_none(Path(command.source), selection.funnel)}")
    _publish(command.out, lambda path: write_list(path, selection.items), overwrite=command.overwrite)
    document = {
        "list": str(command.out),
        "objects": len(selection.items),
        "funnel": dict(selection.funnel),
        "unknown_uids": list(selection.unknown_uids),
        "settings": {
            key: value for key, value in asdict(config).items() if key not in ("uids", "exclude_uids")
        },
    }
    print_result([str(command.out)], document, as_json=command.json)
    return 0


def _why_none(source: Path, funnel: Sequence[tuple[str, int]]) -> str:
    from mv3d.orbits.catalogue import SOURCES

    if source.is_dir() and not (source / SOURCES).is_file() and dict(funnel).get("licence") == 0:
        return (
            f"{source} has no {SOURCES}, so no licence is known: write one with columns file and licence, or take unknown "
            "licences with --non-commercial"
        )
    return "the counts above show where they went"


def fetch_objects(command: FetchCommand) -> int:
    """Run `mv3d orbits fetch`; the exit code: 0 also where some objects could not be had, 1 where none could."""
    from mv3d.orbits.catalogue import read_list
    from mv3d.orbits.fetch import LEDGER, OBJECTS, REJECTS, fetch
    from mv3d.orbits.gate import count_reasons
    from mv3d.orbits.objaverse import default_endpoint

    config = replace(command.config, transport=_with_token(command.config.transport, default_endpoint()))
    refuse_inputs(command.out, (OBJECTS, REJECTS, LEDGER), (command.list,))
    items = read_list(command.list)
    bars = StageBars()
    try:
        result = fetch(items, command.out, config, progress=bars)
    finally:
        bars.close()
    reasons = count_reasons(reject.reason for reject in result.rejects)
    note(
        f"{result.fetched} fetched ({result.bytes / 1e6:.1f} MB in {result.seconds:.0f} s), "
        f"{result.kept} there already, {len(result.rejects)} rejected"
    )
    for reason, count in reasons.items():
        note(f"{reason:>22} {count:>9,}")
    document = {
        "list": str(command.out / OBJECTS),
        "objects": len(result.items),
        "fetched": result.fetched,
        "kept": result.kept,
        "rejected": reasons,
        "rejects": str(command.out / REJECTS),
        "bytes": result.bytes,
        "seconds": round(result.seconds, 3),
    }
    print_result([str(command.out / OBJECTS)], document, as_json=command.json)
    return 0 if result.items else 1


def _with_token(transport: TransportFlags, endpoint: str) -> TransportFlags:
    """The hub's token goes to the hub alone."""
    return replace(transport, token=os.environ.get("HF_TOKEN"), token_host=urlsplit(endpoint).netloc)


def guard_list(command: GuardCommand) -> int:
    """Run `mv3d orbits guard`; the exit code."""
    from mv3d.orbits.decontamination import evaluation_entries, write_evaluation_list

    _check_out(command.out, (".json", ".csv"), (command.source,))
    bars = StageBars()
    try:
        objects = evaluation_entries(command.source, progress=bars)
    finally:
        bars.close()
    _publish(command.out, lambda path: write_evaluation_list(path, objects), overwrite=command.overwrite)
    note(f"{len(objects)} objects are kept out of training by --evaluation-list {command.out}")
    print_result(
        [str(command.out)], {"list": str(command.out), "objects": len(objects)}, as_json=command.json
    )
    return 0


def _check_out(path: Path, suffixes: tuple[str, ...], inputs: Iterable[str | Path | None]) -> None:
    """Before the work, not after it."""
    refuse_inputs(path.parent, (path.name,), [Path(name) for name in inputs if name])
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"--out: expected a file ending in {' or '.join(suffixes)}, got {path}")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: expected an existing folder, found none; create it first")


def _publish(path: Path, write: Callable[[Path], None], *, overwrite: bool) -> None:
    """Write a list, unless there is another one already; the same one again is no error."""
    with files.staging(path.parent) as folder:
        new = folder / path.name
        write(new)
        if path.exists() and path.read_bytes() == new.read_bytes():
            note(f"done already: {path} is the same; nothing was changed")
        elif path.exists() and not overwrite:
            raise OutputError(
                f"{path}: another list is there; use --overwrite to replace it, or another --out"
            )
        else:
            files.replace(new, path)
