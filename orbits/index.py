"""index.json: the manifest of a folder of shards. A folder without one is no data set."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mv3d.core.errors import InputError, shown
from mv3d.core.files import to_json
from mv3d.core.locking import mend
from mv3d.core.records import SCHEMA, read_document
from mv3d.orbits.config import sha256_of_json
from mv3d.orbits.shards import LEAST_SAMPLE, is_count, write_pieces
from mv3d.render.load_warnings import named_counts, warning_texts

INDEX = "index.json"
PIXELS, LATENTS = "orbit pixels", "orbit latents"
"""The kinds of data sets: rendered frames, and what `mv3d orbits encode` makes of them."""


@dataclass(frozen=True)
class BuildResult:
    """index: the content of index.json. already_done: nothing was computed. warnings, rejects: the first of them, a
    line each with the object's uid."""

    out_dir: Path
    index: dict[str, Any]
    already_done: bool = False
    warnings: tuple[str, ...] = ()
    rejects: tuple[str, ...] = ()


def warning_lines(records: Iterable[Mapping[str, Any]], most: int = 100) -> tuple[str, ...]:
    """The first warnings of the samples, a line each."""
    lines = (
        shown(f"{uid}: {text}", 300)
        for uid, warning in _warnings(records)
        for text in warning_texts([warning])
    )
    return tuple(itertools.islice(lines, most))


def reject_lines(records: Iterable[Mapping[str, Any]], most: int = 100) -> tuple[str, ...]:
    """The first rejects, a line each."""
    rejects = (reject for record in records for reject in record["rejects"])
    lines = (shown(f"{reject['uid']}: {reject['reason']}: {reject['detail']}", 300) for reject in rejects)
    return tuple(itertools.islice(lines, most))


def _warnings(records: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for record in records:
        for sample in record["samples"]:
            # Records of earlier versions have none.
            yield from ((sample["uid"], warning) for warning in sample.get("warnings", ()))


def write_index(
    out_dir: Path,
    identity_: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    *,
    finished: bool,
    scratch: Path,
) -> None:
    """Write index.json of the shards whose records these are."""
    samples = [sample for record in records for sample in record["samples"]]
    rejects = [reject for record in records for reject in record["rejects"]]
    document = {
        "schema": SCHEMA,
        **identity_,
        "identity_sha256": sha256_of_json(identity_),
        "finished": finished,
        "samples": len(samples),
        "rejected": dict(sorted(Counter(reject["reason"] for reject in rejects).items())),
        "licences": dict(sorted(Counter(sample["licence"] for sample in samples).items())),
        "warnings": named_counts(warning["name"] for _, warning in _warnings(records)),
        "shards": [
            {
                "name": record["shard"],
                "samples": len(record["samples"]),
                "bytes": record["bytes"],
                "sha256": record["sha256"],
            }
            for record in records
            if record["samples"]
        ],
    }
    write_pieces(out_dir / INDEX, [to_json(document).encode()], scratch=scratch)


def read_index(folder: Path) -> dict[str, Any] | None:
    """The index of a folder of shards, or None where there is none that can be read.

    Raises InputError where it is one, but damaged: counts that are none, shards that lie elsewhere.
    """
    mend(folder)
    document = read_document(folder / INDEX)
    if document is None:
        return None
    wrong = _wrong_in_index(document)
    if wrong:
        raise InputError(
            f"{folder / INDEX}: damaged: expected {wrong}; make the shards again, or restore the file"
        )
    return document


def _wrong_in_index(document: dict[str, Any]) -> str | None:
    """What readers rely on and the document does not keep."""
    for name in ("objects", "samples"):
        if not is_count(document.get(name)):
            return f"a whole number in {name}"
    kinds = {"kind": str, "identity_sha256": str, "finished": bool}
    if not all(isinstance(document.get(name), kind) for name, kind in kinds.items()):
        return "texts in kind and identity_sha256, true or false in finished"
    for name in ("licences", "rejected"):
        counts = document.get(name)
        if not isinstance(counts, dict) or not all(is_count(value) for value in counts.values()):
            return f"counts by name in {name}"
    config = document.get("config")
    if not isinstance(config, dict) or not (config.get("views") is None or is_count(config["views"])):
        return "settings in config, views a whole number"
    shards = document.get("shards")
    if not isinstance(shards, list):
        return "a list of shards"
    return next(filter(None, map(_wrong_in_shard, shards)), None)


def _wrong_in_shard(shard: Any) -> str | None:
    """The same of one entry of the shards."""
    if not isinstance(shard, dict) or not is_count(shard.get("samples")) or not is_count(shard.get("bytes")):
        return "name, samples and bytes of every shard"
    name = shard.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+\.tar", name):
        return f"shards in the folder itself, called NAME.tar, got {shown(name)}"
    if not isinstance(shard.get("sha256"), str):
        return f"the sha256 of {name}"
    if shard["samples"] * LEAST_SAMPLE > shard["bytes"]:
        return f"samples of at least {LEAST_SAMPLE} bytes in {name}"
    return None
