"""From a list of objects to finished shards, in a way that can be killed anywhere and gives the same bytes.

Object i of the list belongs to shard i // shard_size. What an object became, a sample or a reject, is first put aside
in `.work/`, in a file of its own. A shard is assembled when all its objects are there, in the order of the list, and
the shards one after the other: so it does not matter who was done when, and what is a duplicate of an earlier object
depends on the list alone. Every file is written aside and renamed; the record of a shard comes after the shard.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mv3d.core.errors import InputError, UsageError
from mv3d.core.files import sha256
from mv3d.core.locking import folder_lock
from mv3d.core.progress import ObjectProgress
from mv3d.core.records import RunRecord, refuse_other_algorithm, write_record
from mv3d.core.version import __version__
from mv3d.orbits.attribution import MARKDOWN, TABLE, write_attribution
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig, identity, sha256_of_json
from mv3d.orbits.duplicates import DuplicateIndex, Fingerprint
from mv3d.orbits.index import INDEX, PIXELS, BuildResult, reject_lines, warning_lines
from mv3d.orbits.infrastructure.isolate import Limits, LocalPool, Pool, Work
from mv3d.orbits.jobs import render_object
from mv3d.orbits.sample import Outcome, Reject, Sample
from mv3d.orbits.shard_folder import ShardFolder
from mv3d.orbits.shards import shard_name, write_pieces, write_shard
from mv3d.render.renderer import get_renderer

REJECTS = "rejects.jsonl"
RUN = "run.json"


def build_shards(
    items: Sequence[CatalogueItem],
    out_dir: str | os.PathLike[str],
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
        build = _Build(out_dir, list(items), config)
        build.prepare(overwrite=overwrite)
        if (
            build.finished and (out_dir / RUN).is_file()
        ):  # its last file: without it, a run was cut off just before
            build.folder.close()
            return build.result(already_done=True)
        start = time.perf_counter()
        with _pool(work, config, workers, limits, ray_address) as pool:
            build.work_through(pool, progress)
        build.finish()
        index = build.folder.index()
        record = RunRecord.of(
            "orbits render",
            input_sha256=index["list_sha256"],
            settings=index["config"],
            details={
                "limits": asdict(limits),
                "workers": workers,
                "ray": ray_address,
                "seconds_of_the_last_run": round(time.perf_counter() - start, 3),
                "warnings": list(build.result().warnings),
            },
            outputs={INDEX: sha256(out_dir / INDEX)},
        )
        write_record(out_dir / RUN, record)
        return build.result()


def _pool(work: Work, config: OrbitConfig, workers: int, limits: Limits, ray_address: str | None) -> Pool:
    if ray_address is None:
        return LocalPool(work, config, workers=workers, limits=limits)
    from mv3d.orbits.infrastructure.ray_pool import RayPool  # noqa: PLC0415 - an optional part

    return RayPool(work, config, workers=workers, limits=limits, address=ray_address)


class _Build:
    """The state of one call: which shards are finished, and what came before the next one."""

    def __init__(self, out_dir: Path, items: list[CatalogueItem], config: OrbitConfig) -> None:
        self._items, self._size = items, config.shard_size
        count = -(-len(items) // self._size)
        self._names = [f"{shard_name(number)}.tar" for number in range(count)]
        self.folder = ShardFolder(out_dir, _identity(items, config), self._names)
        self._next = 0  # shards below this are finished and known
        self._seen = DuplicateIndex(config.variants)  # what finished shards hold
        self._kept: list[dict[str, Any]] = []  # records of finished shards

    @property
    def finished(self) -> bool:
        """All shards are there, and the index says so."""
        return self._next == len(self._names) and self.folder.index().get("finished") is True

    def prepare(self, *, overwrite: bool) -> None:
        """See `ShardFolder.prepare`; then take up what is finished."""
        if not overwrite:
            refuse_other_algorithm(self.folder.out_dir / RUN)
        self.folder.prepare(overwrite=overwrite, leftovers=(REJECTS, RUN, MARKDOWN, TABLE))
        for path in self._staged():  # a run that was killed between the record and this
            if self._shard_of(int(path.stem)) in self.folder.finished_shards:
                path.unlink()
        self._advance()

    def work_through(self, pool: Pool, progress: ObjectProgress | None) -> None:
        """Every object that is not done yet, and every shard that is complete then."""
        undone = self._undone()
        waiting = iter(undone)
        done = len(self._items) - len(undone)
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
                self.folder.stage(_object_name(position), outcome)
                done += 1
                rejected += isinstance(outcome, Reject)
                if progress:
                    progress(done, len(self._items), rejected)
            self._advance()

    def finish(self) -> None:
        """Write the files about the whole, the index last."""
        out = self.folder.out_dir
        lines = [json.dumps(reject) for record in self._kept for reject in record["rejects"]]
        rejects = "".join(f"{line}\n" for line in lines).encode()
        write_pieces(out / REJECTS, [rejects], scratch=self.folder.staging)
        uids = {sample["uid"] for record in self._kept for sample in record["samples"]}
        write_attribution(out, [item for item in self._items if item.uid in uids])
        self.folder.write_index(self._kept, finished=True)
        self.folder.close()

    def result(self, *, already_done: bool = False) -> BuildResult:
        """What the finished folder holds."""
        return BuildResult(
            self.folder.out_dir,
            self.folder.index(),
            already_done,
            warning_lines(self._kept),
            reject_lines(self._kept),
        )

    def _staged(self) -> list[Path]:
        return list(self.folder.staging.glob("*.object"))

    def _shard_of(self, position: int) -> str:
        return self._names[position // self._size]

    def _undone(self) -> list[int]:
        staged = {int(path.stem) for path in self._staged()}
        return [
            position
            for position in range(self._next * self._size, len(self._items))
            if self._shard_of(position) not in self.folder.finished_shards and position not in staged
        ]

    def _advance(self) -> None:
        """Shards that are complete now, strictly one after the other."""
        while self._next < len(self._names):
            record = self.folder.finished_shards.get(self._names[self._next])
            if record is not None:
                self._adopt(record)
                continue
            begin = self._next * self._size
            end = min(begin + self._size, len(self._items))
            objects = [_object_name(position) for position in range(begin, end)]
            if not all((self.folder.staging / name).exists() for name in objects):
                return
            self._assemble(objects)
            for name in objects:
                (self.folder.staging / name).unlink()

    def _assemble(self, objects: list[str]) -> None:
        """Write the next shard, then its record, then the index."""

        def outcomes() -> Iterator[Outcome]:
            for name in objects:
                outcome = self.folder.staged(name)
                yield _unless_seen(outcome, self._seen) if isinstance(outcome, Sample) else outcome

        tar = self.folder.out_dir / self._names[self._next]
        self._adopt(write_shard(tar, outcomes(), scratch=self.folder.staging))
        self.folder.write_index(self._kept, finished=False)

    def _adopt(self, record: dict[str, Any]) -> None:
        for sample in record["samples"]:
            _first_of(sample, self._seen)
        self._kept.append(record)
        self._next += 1


def _object_name(position: int) -> str:
    """The name of a staged outcome."""
    return f"{position:08d}.object"


def _identity(items: list[CatalogueItem], config: OrbitConfig) -> dict[str, Any]:
    """What decides the bytes of the shards. Places of files may change between runs, their names and rights may not."""
    rows = [
        {key: value for key, value in asdict(replace(item, path=None)).items() if key != "root"}
        for item in items
    ]
    return {
        "kind": PIXELS,
        "mv3d": __version__,
        "config": identity(config),
        "objects": len(rows),
        "list_sha256": sha256_of_json(rows),
    }


def _first_of(summary: Mapping[str, Any], seen: DuplicateIndex) -> str | None:
    if "geometry" not in summary:
        return None
    return seen.add(summary["uid"], Fingerprint(summary["geometry"], summary["texture"], ()))


def _unless_seen(sample: Sample, seen: DuplicateIndex) -> Outcome:
    first = _first_of(sample.summary, seen)
    if first is None:
        return sample
    return Reject(sample.summary["uid"], "duplicate", f"the same object as {first}")
