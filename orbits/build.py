"""From a list of objects to finished shards, in a way that can be killed anywhere and gives the same bytes.

Object i of the list belongs to shard i // shard_size. What an object became, a sample or a reject, is first put aside
in `.work/`, in a file of its own. A shard is assembled when all its objects are there, in the order of the list, and
the shards one after the other: so it does not matter who was done when, and what is a duplicate of an earlier object
depends on the list alone. Every file is written aside and renamed; the record of a shard comes after the shard.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mv3d.core.errors import InputError, OutputError, UsageError, shown
from mv3d.core.files import sha256, to_json
from mv3d.core.locking import folder_lock
from mv3d.core.progress import ObjectProgress
from mv3d.core.records import SCHEMA, RunRecord, read_document, refuse_other_algorithm, write_record
from mv3d.core.version import __version__
from mv3d.orbits.attribution import MARKDOWN, TABLE, write_attribution
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig, identity, sha256_of_json
from mv3d.orbits.duplicates import DuplicateIndex, Fingerprint
from mv3d.orbits.infrastructure.isolate import Limits, LocalPool, Pool, Work
from mv3d.orbits.jobs import render_object
from mv3d.orbits.sample import Outcome, Reject, Sample
from mv3d.orbits.shards import (
    LEAST_SAMPLE,
    is_count,
    is_whole,
    read_shard_record,
    shard_name,
    write_pieces,
    write_shard,
)
from mv3d.render.renderer import get_renderer

INDEX = "index.json"
REJECTS = "rejects.jsonl"
RUN = "run.json"
PIXELS = "orbit pixels"
_WORK = ".work"


@dataclass(frozen=True)
class BuildResult:
    """index: the content of index.json. already_done: nothing was computed."""

    out_dir: Path
    index: dict[str, Any]
    already_done: bool = False


def build_shards(
    items: Sequence[CatalogueItem],
    out_dir: Path,
    config: OrbitConfig | None = None,
    *,
    workers: int = 1,
    limits: Limits | None = None,
    ray_address: str | None = None,
    overwrite: bool = False,
    progress: ObjectProgress | None = None,
    work: Work = render_object,
) -> BuildResult:
    """Render every object and write the shards, their records, index.json and rejects.jsonl into `out_dir`.

    The same call again goes on where the last one ended, or says that all is done. ray_address: of a Ray cluster, or
    "local" for one on this machine; None for child processes here. Raises OutputError where another run holds the
    folder, where it holds something else and `overwrite` is not set, or where it cannot be written; what was finished
    stays.
    """
    config = (config or OrbitConfig()).resolved()
    limits = limits or Limits()
    if not items:
        raise InputError("orbits render: expected at least one object, got an empty list")
    if workers < 1:
        raise UsageError(f"--workers: expected at least 1, got {workers}")
    get_renderer(config.backend)  # an unknown or absent backend is said before anything is written
    out_dir = Path(out_dir)
    with folder_lock(out_dir):
        store = _Store(out_dir, list(items), config)
        store.claim(overwrite=overwrite)
        if store.finished:
            return BuildResult(out_dir, store.index(), already_done=True)
        start = time.perf_counter()
        with _pool(work, config, workers, limits, ray_address) as pool:
            store.work_through(pool, progress)
        store.finish()
        index = store.index()
        record = RunRecord.of(
            "orbits render",
            input_sha256=index["list_sha256"],
            settings=index["config"],
            details={
                "limits": asdict(limits),
                "workers": workers,
                "ray": ray_address,
                "seconds_of_the_last_run": round(time.perf_counter() - start, 3),
            },
            outputs={INDEX: sha256(out_dir / INDEX)},
        )
        write_record(out_dir / RUN, record)
        return BuildResult(out_dir, index)


def _pool(
    work: Work, config: OrbitConfig, workers: int, limits: Limits, ray_address: str | None
) -> AbstractContextManager[Pool]:
    if ray_address is None:
        return LocalPool(work, config, workers=workers, limits=limits)
    from mv3d.orbits.infrastructure.ray_pool import RayPool  # noqa: PLC0415 - an optional part

    return RayPool(work, config, workers=workers, limits=limits, address=ray_address)


class _Store:
    """The folder of one data set. One process at a time uses it: see `folder_lock`."""

    def __init__(self, out_dir: Path, items: list[CatalogueItem], config: OrbitConfig) -> None:
        self._out, self._items, self._config = out_dir, items, config
        self._aside = out_dir / _WORK
        self._size = config.shard_size
        self.shards = -(-len(items) // self._size)
        self._next = 0  # shards below this are finished and known
        self._found: dict[int, dict[str, Any]] = {}  # records of an earlier run
        self._seen = DuplicateIndex(config.variants)  # what finished shards hold
        self._kept: list[dict[str, Any]] = []  # records of finished shards

    @property
    def finished(self) -> bool:
        """All shards are there, and the index says so."""
        return self._next == self.shards and (read_index(self._out) or {}).get("finished") is True

    def claim(self, *, overwrite: bool) -> None:
        """Refuse another data set, tidy up after a killed run, and find what is finished."""
        index = None if overwrite else read_index(self._out)
        mine = self._identity
        if overwrite:
            self._remove_all()
        elif index is not None and index.get("identity_sha256") != sha256_of_json(mine):
            raise OutputError(
                f"{self._out}: holds another data set ({_difference(index, mine)}); "
                "choose another --out, or use --overwrite to replace it"
            )
        elif index is None and any(self._out.glob("*.tar")):
            raise OutputError(f"{self._out}: holds tar files of something else; choose another --out")
        else:
            refuse_other_algorithm(self._out / RUN)
        self._aside.mkdir(exist_ok=True)
        for part in [*self._aside.glob("*.part"), *self._out.glob(".*.part")]:
            part.unlink()
        for number in range(self.shards):
            record = read_shard_record(self._record_path(number))
            if record is not None and is_whole(self._tar_path(number), record):
                self._found[number] = record
        for path in self._aside.glob("*.object"):  # a run that was killed between the record and this
            if int(path.stem) // self._size in self._found:
                path.unlink()
        self._advance()
        if index is None or overwrite:
            self._write_index(finished=False)

    def work_through(self, pool: Pool, progress: ObjectProgress | None) -> None:
        """Every object that is not done yet, and every shard that is complete then."""
        waiting = iter(self._undone())
        done = len(self._items) - len(self._undone())
        rejected = sum(len(record["rejects"]) for record in self._kept)
        flying, more = 0, True
        while more or flying:
            while more and pool.capacity() > 0:
                position = next(waiting, None)
                if position is None:
                    more = False
                    break
                pool.submit(position, self._items[position])
                flying += 1
            for position, outcome in pool.results() if flying else ():
                flying -= 1
                self._put(position, outcome)
                done += 1
                rejected += isinstance(outcome, Reject)
                if progress:
                    progress(done, len(self._items), rejected)
            self._advance()

    def finish(self) -> None:
        """The files about the whole, the index last."""
        lines = [json.dumps(reject) for record in self._kept for reject in record["rejects"]]
        write_pieces(
            self._out / REJECTS, ["".join(f"{line}\n" for line in lines).encode()], scratch=self._aside
        )
        uids = {sample["uid"] for record in self._kept for sample in record["samples"]}
        write_attribution(self._out, [item for item in self._items if item.uid in uids])
        self._write_index(finished=True)
        shutil.rmtree(self._aside)

    def index(self) -> dict[str, Any]:
        return read_index(self._out) or {}

    def _undone(self) -> list[int]:
        there = {int(path.stem) for path in self._aside.glob("*.object")}
        return [
            position
            for position in range(self._next * self._size, len(self._items))
            if position // self._size not in self._found and position not in there
        ]

    def _put(self, position: int, outcome: Outcome) -> None:
        """A line of JSON, and after it the fragment of a sample."""
        if isinstance(outcome, Sample):
            header, blob = {"sample": dict(outcome.summary)}, outcome.fragment
        else:
            header, blob = {"reject": asdict(outcome)}, b""
        content = json.dumps(header).encode() + b"\n" + blob
        write_pieces(self._object_path(position), [content])

    def _get(self, position: int) -> Outcome:
        content = self._object_path(position).read_bytes()
        head, _, blob = content.partition(b"\n")
        header = json.loads(head)
        return Sample(blob, header["sample"]) if "sample" in header else Reject(**header["reject"])

    def _advance(self) -> None:
        """Shards that are complete now, strictly one after the other."""
        while self._next < self.shards:
            if self._next in self._found:
                self._adopt(self._found[self._next])
                continue
            begin = self._next * self._size
            positions = range(begin, min(begin + self._size, len(self._items)))
            if not all(self._object_path(position).exists() for position in positions):
                return
            self._assemble(self._next, positions)
            for position in positions:
                self._object_path(position).unlink()

    def _assemble(self, number: int, positions: range) -> None:
        """The shard, then its record, then the index."""

        def outcomes() -> Iterator[Outcome]:
            for position in positions:
                outcome = self._get(position)
                yield _unless_seen(outcome, self._seen) if isinstance(outcome, Sample) else outcome

        record = write_shard(self._tar_path(number), outcomes(), scratch=self._aside)
        self._adopt(record)
        self._write_index(finished=False)

    def _adopt(self, record: dict[str, Any]) -> None:
        for sample in record["samples"]:
            _first_of(sample, self._seen)
        self._kept.append(record)
        self._next += 1

    @cached_property
    def _identity(self) -> dict[str, Any]:
        # Places of files may change between runs, their names and rights may not.
        items = [{**asdict(replace(item, path=None)), "path": None} for item in self._items]
        return {
            "kind": PIXELS,
            "mv3d": __version__,
            "config": identity(self._config),
            "objects": len(items),
            "list_sha256": sha256_of_json(items),
        }

    def _write_index(self, *, finished: bool) -> None:
        write_index(self._out, self._identity, self._kept, finished=finished, scratch=self._aside)

    def _remove_all(self) -> None:
        (self._out / INDEX).unlink(missing_ok=True)
        for pattern in ("shard-*.tar", "shard-*.json", REJECTS, RUN, MARKDOWN, TABLE):
            for path in self._out.glob(pattern):
                path.unlink()
        shutil.rmtree(self._aside, ignore_errors=True)

    def _tar_path(self, number: int) -> Path:
        return self._out / f"{shard_name(number)}.tar"

    def _record_path(self, number: int) -> Path:
        return self._out / f"{shard_name(number)}.json"

    def _object_path(self, position: int) -> Path:
        return self._aside / f"{position:08d}.object"


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


def _first_of(summary: Mapping[str, Any], seen: DuplicateIndex) -> str | None:
    if "geometry" not in summary:
        return None
    return seen.add(summary["uid"], Fingerprint(summary["geometry"], summary["texture"], ()))


def _unless_seen(sample: Sample, seen: DuplicateIndex) -> Outcome:
    first = _first_of(sample.summary, seen)
    if first is None:
        return sample
    return Reject(sample.summary["uid"], "duplicate", f"the same object as {first}")


def _difference(index: dict[str, Any], mine: dict[str, Any]) -> str:
    for key in ("kind", "mv3d", "objects"):
        if index.get(key) != mine[key]:
            return f"{key}: there {index.get(key)}, asked for {mine[key]}"
    there = index.get("config", {})
    for key, value in mine["config"].items():
        if there.get(key) != value:
            return f"{key}: there {there.get(key)}, asked for {value}"
    return "another list of objects"
