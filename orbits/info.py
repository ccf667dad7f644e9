"""What is in a folder of shards: counts, licences, sizes, whether it is whole, and pictures of random samples."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mv3d.core.errors import InputError, shown
from mv3d.core.files import sha256
from mv3d.orbits.index import INDEX, PIXELS, read_index
from mv3d.orbits.jobs import decode_frame
from mv3d.orbits.reading import sample_document
from mv3d.orbits.shards import Shard, places_of, read_shard_record

_CELL = 144
_LABEL = 14


@dataclass(frozen=True)
class ShardsInfo:
    """document: everything as JSON values. problems: one line for each file that is missing or changed."""

    document: dict[str, Any]
    problems: tuple[str, ...]


def inspect_shards(folder: str | os.PathLike[str], *, verify: bool = False) -> ShardsInfo:
    """Counts of a folder of shards, pixels or latents. verify: read every shard and compare its sha256.

    Raises InputError where there is no such folder.
    """
    folder = Path(folder)
    index = read_index(folder)
    if index is None:
        raise InputError(f"{folder}: expected a folder of shards with {INDEX}, found none; check the path")
    problems: list[str] = []
    sizes: list[int] = []
    faces: list[int] = []
    for shard in index["shards"]:
        tar = folder / shard["name"]
        record = read_shard_record(tar.with_suffix(".json"))
        if not tar.is_file() or record is None:
            problems.append(f"{tar.name}: missing, or without its record")
            continue
        if tar.stat().st_size != shard["bytes"]:
            problems.append(f"{tar.name}: expected {shard['bytes']} bytes, got {tar.stat().st_size}")
        elif verify and sha256(tar) != shard["sha256"]:
            problems.append(f"{tar.name}: changed since it was written (sha256)")
        sizes += [place.bytes for place in places_of(record)]
        faces += [int(s["faces"]) for s in record["samples"] if "faces" in s]
    if not index["finished"]:
        problems.append("not finished: run the same command again")
    document = {
        "folder": str(folder),
        **{key: index[key] for key in ("kind", "finished", "objects", "samples", "rejected", "licences")},
        "shards": len(index["shards"]),
        "bytes": sum(shard["bytes"] for shard in index["shards"]),
        "bytes_per_sample": _quartiles(sizes),
        "faces_per_object": _quartiles(faces),
        "config": index["config"],
        "problems": problems,
    }
    return ShardsInfo(document, tuple(problems))


def info_lines(info: ShardsInfo) -> list[str]:
    """The same for people."""
    d = info.document
    lines = [
        f"{d['samples']} samples ({d['kind']}) of {d['objects']} objects in {d['shards']} shards, "
        f"{d['bytes'] / 1e6:.1f} MB"
    ]
    if d["bytes_per_sample"]:
        least, middle, most = (value / 1e3 for value in d["bytes_per_sample"])
        lines.append(f"a sample: {least:.0f} to {most:.0f} KB, half of them below {middle:.0f} KB")
    if d["faces_per_object"]:
        least, middle, most = d["faces_per_object"]
        lines.append(f"an object: {least} to {most} triangles, half of them below {middle}")
    lines += [
        f"{count:>8} licence {_plain(licence)}" for licence, count in Counter(d["licences"]).most_common()
    ]
    if d["rejected"]:
        lines.append(f"{sum(d['rejected'].values())} rejected:")
        lines += [f"{count:>8} {reason}" for reason, count in Counter(d["rejected"]).most_common()]
    return [*lines, *(f"problem: {problem}" for problem in info.problems)]


def contact_sheets(
    folder: str | os.PathLike[str], *, samples: int = 24, frames: int = 7, per_sheet: int = 12, seed: int = 0
) -> list[Image.Image]:
    """Sheets of random samples, a row each: frames evenly around the orbit, on a middle grey so that white and black
    rims both show, labelled with uid, licence and light.

    Raises InputError where the folder holds no finished pixels.
    """
    folder = Path(folder)
    index = read_index(folder)
    if index is None or index["kind"] != PIXELS:
        raise InputError(f"{folder}: expected shards of pixels, found {index and index['kind']}")
    places = [(s["name"], n) for s in index["shards"] for n in range(s["samples"])]
    if not places:
        raise InputError(f"{folder}: expected at least one sample, found none")
    rng = np.random.default_rng(seed)
    chosen = [places[i] for i in sorted(rng.permutation(len(places))[:samples])]
    rows = [_row(folder / name, number, frames) for name, number in chosen]
    sheets = []
    for begin in range(0, len(rows), per_sheet):
        part = rows[begin : begin + per_sheet]
        sheet = Image.new("RGB", (frames * _CELL, len(part) * (_CELL + _LABEL)), "white")
        for place, row in enumerate(part):
            sheet.paste(row, (0, place * (_CELL + _LABEL)))
        sheets.append(sheet)
    return sheets


def _plain(licence: str) -> str:
    """An SPDX expression as people say it; `LicenseRef-` marks what SPDX does not know."""
    return licence.removeprefix("LicenseRef-")


def _row(shard: Path, number: int, frames: int) -> Image.Image:
    members = Shard(shard).members(number)
    document = sample_document(members)
    names = sorted(name for name in members if name.endswith(".webp"))
    picked = [names[round(i * len(names) / frames) % len(names)] for i in range(min(frames, len(names)))]
    row = Image.new("RGB", (frames * _CELL, _CELL + _LABEL), "white")
    draw = ImageDraw.Draw(row)
    try:
        elevations = document["cameras"]["elevations_deg"]
        label = (
            f"{document['uid']}  licence {_plain(document['licence'])}  light {document['environment']['name']}  "
            f"elevation {min(elevations):.0f} to {max(elevations):.0f} deg  "
            f"camera at {document['cameras']['radius']:.2f} x the object's largest side"
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{shard}: sample {number}: expected uid, licence, light and cameras in its JSON ({shown(error)})"
        ) from error
    draw.text((3, 1), shown(label, 300), fill="black")
    for place, name in enumerate(picked):
        frame = Image.fromarray(decode_frame(members[name])).resize((_CELL, _CELL), Image.Resampling.LANCZOS)
        cell = Image.new("RGBA", (_CELL, _CELL), (128, 128, 128, 255))
        cell.alpha_composite(frame)
        row.paste(cell.convert("RGB"), (place * _CELL, _LABEL))
    return row


def _quartiles(values: list[int]) -> list[int]:
    """Least, median, largest; nothing of nothing."""
    return [int(v) for v in np.quantile(values, [0, 0.5, 1])] if values else []
