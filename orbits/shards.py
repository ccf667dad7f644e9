"""WebDataset shards: tar files of samples, one orbit a sample, always the same bytes for the same content.

Beside each `shard-000000.tar` lies `shard-000000.json`, its record: size, sha256, where every sample starts, and what
was left out. A shard is finished when its record is there. Readers of WebDataset need the tar alone.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mv3d.core.errors import InputError, shown
from mv3d.core.files import atomic_path
from mv3d.orbits.sample import Outcome, Reject

_BLOCK = 512
LEAST_SAMPLE = 2 * _BLOCK
"""Bytes: one file, its header and its content."""
END_OF_TAR = bytes(2 * _BLOCK)
"""What ends a tar file; after any number of fragments."""


def tar_fragment(key: str, members: Iterable[tuple[str, bytes]]) -> bytes:
    """One sample as the part of a tar file: `key.name` for every (name, content), in this order.

    Owner, time and mode are fixed, so the bytes depend on the content alone.
    """
    parts: list[bytes] = []
    for name, content in members:
        info = tarfile.TarInfo(f"{key}.{name}")
        info.size, info.mode = len(content), 0o644
        parts += [info.tobuf(tarfile.PAX_FORMAT), content, bytes(-len(content) % _BLOCK)]
    return b"".join(parts)


def shard_name(number: int) -> str:
    return f"shard-{number:06d}"


@dataclass(frozen=True)
class SamplePlace:
    """Where a sample lies in its shard. summary: what the record says about it (uid, licence, …)."""

    key: str
    offset: int
    bytes: int
    summary: Mapping[str, Any]


def write_pieces(path: Path, pieces: Iterable[bytes], *, scratch: Path | None = None) -> None:
    """Write a file atomically, through to the disk. scratch: a folder of the same disk for the unfinished file.

    On a failure nothing of it is left, and the OutputError says that what was finished is kept.
    """
    hint = "what is finished is kept: free some space and run the same command again, it goes on from here"
    with atomic_path(path, scratch=scratch, hint=hint) as part, part.open("wb") as stream:
        for piece in pieces:
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())


def write_shard(tar: Path, outcomes: Iterable[Outcome], *, scratch: Path) -> dict[str, Any]:
    """The tar file of the samples, then the record beside it, which is returned."""
    samples: list[dict[str, Any]] = []
    rejects: list[dict[str, str]] = []
    digest, offset = hashlib.sha256(), 0

    def pieces() -> Iterator[bytes]:
        nonlocal offset
        for outcome in outcomes:
            if isinstance(outcome, Reject):
                rejects.append(asdict(outcome))
                continue
            place = {"key": outcome.summary["uid"], "offset": offset, "bytes": len(outcome.fragment)}
            samples.append({**place, **outcome.summary})
            offset += len(outcome.fragment)
            digest.update(outcome.fragment)
            yield outcome.fragment
        offset += len(END_OF_TAR)
        digest.update(END_OF_TAR)
        yield END_OF_TAR

    write_pieces(tar, pieces(), scratch=scratch)
    if not samples:  # readers stumble over a tar file without files
        tar.unlink()
    record = {
        "shard": tar.name,
        "bytes": offset if samples else 0,
        "sha256": digest.hexdigest() if samples else None,
        "samples": samples,
        "rejects": rejects,
    }
    write_pieces(tar.with_suffix(".json"), [json.dumps(record).encode() + b"\n"], scratch=scratch)
    return record


def is_whole(tar: Path, record: Mapping[str, Any]) -> bool:
    """Whether the shard of a record is there in its full size."""
    return not record["samples"] or (tar.is_file() and tar.stat().st_size == record["bytes"])


class Shard:
    """A tar file in memory-mapped form: samples are found by number and nothing else of the file is read.

    Raises InputError where the file is missing, cut off, or no tar file of samples.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as stream:
                self._view = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from error
        record = read_shard_record(path.with_suffix(".json"))
        if record is None:
            try:
                self.places = _scan(path, self._view)
            except (ValueError, tarfile.TarError) as error:
                raise InputError(f"{path}: no tar file that can be read ({error})") from error
        elif record["bytes"] != len(self._view):
            raise InputError(
                f"{path}: expected {record['bytes']} bytes, got {len(self._view)}; it is cut off"
            )
        else:
            self.places = places_of(record)
            for place in self.places:
                if place.offset + place.bytes > len(self._view):
                    raise InputError(
                        f"{path.with_suffix('.json')}: sample {shown(place.key)}: expected it within the "
                        f"{len(self._view)} bytes of {path.name}; remove this record, the samples are found without it"
                    )

    def __len__(self) -> int:
        return len(self.places)

    def members(self, number: int) -> dict[str, memoryview]:
        """The files of a sample by what follows the key (`json`, `000.webp`, …), without a copy.

        Raises InputError for a sample that is broken, or that the shard does not have.
        """
        if not 0 <= number < len(self.places):
            raise InputError(
                f"{self.path}: expected sample {number} as the index says, found {len(self.places)} samples; the index is "
                "of another shard"
            )
        place = self.places[number]
        try:
            return self._members(place)
        except (ValueError, tarfile.TarError) as error:
            raise InputError(f"{self.path}: sample {shown(place.key)} is broken ({shown(error)})") from error

    def _members(self, place: SamplePlace) -> dict[str, memoryview]:
        found: dict[str, memoryview] = {}
        for name, begin, size in _headers(self.path, self._view, place.offset, place.offset + place.bytes):
            key, _, suffix = name.partition(".")
            if key != place.key:
                raise InputError(
                    f"{self.path}: sample {shown(place.key)}: expected its own files, found {shown(name)}"
                )
            found[suffix] = self._view[begin : begin + size]
        return found


def read_shard_record(path: Path) -> dict[str, Any] | None:
    """The record of a finished shard, or None where there is none that can be read, or a damaged one."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not {"bytes", "samples", "rejects"} <= record.keys():
        return None
    samples, rejects = record["samples"], record["rejects"]
    good = is_count(record["bytes"]) and isinstance(samples, list) and isinstance(rejects, list)
    return record if good and all(map(_is_sample, samples)) and all(map(_is_reject, rejects)) else None


def is_count(value: Any) -> bool:
    """Whether a value of a JSON file is a whole number from 0 on, of 63 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_sample(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("key"), str)
        and is_count(value.get("offset"))
        and is_count(value.get("bytes"))
        and is_count(value.get("faces", 0))
        and isinstance(value.get("warnings", []), list)
        and all(map(_is_warning, value.get("warnings", [])))
    )


def _is_warning(value: Any) -> bool:
    texts = ("name", "sentence")
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(k), str) for k in texts)
        and is_count(value.get("count"))
    )


def _is_reject(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(k), str) for k in ("uid", "reason", "detail"))


def places_of(record: Mapping[str, Any]) -> tuple[SamplePlace, ...]:
    return tuple(SamplePlace(s["key"], s["offset"], s["bytes"], s) for s in record["samples"])


def _headers(path: Path, view: memoryview, begin: int, end: int) -> Iterable[tuple[str, int, int]]:
    """(name, start of the content, size) of the files in a part of a tar file."""
    long_name: str | None = None
    while begin + _BLOCK <= end:
        header = bytes(view[begin : begin + _BLOCK])
        if header.count(0) == _BLOCK:
            return
        digits = header[124:136].strip(b"\0 ") or b"0"
        if not re.fullmatch(rb"[0-7]+", digits):  # a size below zero would lead back for ever
            raise InputError(f"{path}: no tar header at byte {begin}; the file is broken")
        size = int(digits, 8)
        content = begin + _BLOCK
        begin = content + size + (-size % _BLOCK)
        if content + size > end:
            raise InputError(f"{path}: a file ends at byte {content + size} of {end}; the shard is cut off")
        kind = header[156:157]
        if kind == b"x":  # the long name of the next file
            info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
            long_name = _pax_path(bytes(view[content : content + info.size])) or long_name
        elif kind in (b"0", b"\0"):
            name = long_name or header[:100].rstrip(b"\0").decode("utf-8", "replace")
            long_name = None
            yield name.rsplit("/", 1)[-1], content, size


def _pax_path(text: bytes) -> str | None:
    """Raises ValueError for records that are none."""
    while text:
        digits, _, record = text.partition(b" ")
        length = int(digits)
        if not len(digits) < length <= len(text):
            raise ValueError(f"an extended header of {length} bytes in {len(text)}")
        key, _, value = record[: length - len(digits) - 1].rstrip(b"\n").partition(b"=")
        if key == b"path":
            return value.decode("utf-8")
        text = text[length:]
    return None


def _scan(path: Path, view: memoryview) -> tuple[SamplePlace, ...]:
    """Samples of a tar file without a record: neighbours with the same key."""
    starts: list[tuple[str, int]] = []
    end = begin = 0
    for name, content, size in _headers(path, view, 0, len(view)):
        key = name.partition(".")[0]
        # A long name puts two more blocks in front; the sample starts where the last file ended.
        if not starts or starts[-1][0] != key:
            starts.append((key, begin))
        begin = end = content + size + (-size % _BLOCK)
    if not starts:
        raise InputError(f"{path}: expected a tar file of samples, found none in it")
    stops = [start for _, start in starts[1:]] + [end]
    return tuple(
        SamplePlace(key, start, stop - start, {"key": key})
        for (key, start), stop in zip(starts, stops, strict=True)
    )
