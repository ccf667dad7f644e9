"""The folder of a data set while it is written: what is finished, what is staged, and whose it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mv3d.core.errors import InputError, OutputError
from mv3d.core.files import discard
from mv3d.core.outputs import refuse_named
from mv3d.orbits.config import sha256_of_json
from mv3d.orbits.index import INDEX, read_index, write_index
from mv3d.orbits.sample import Outcome, Reject, Sample
from mv3d.orbits.shards import is_whole, read_shard_record, write_pieces

_STAGING = ".work"


class ShardFolder:
    """Shards and their index in `out_dir`. One process at a time writes it: hold `folder_lock`.

    identity: what decides the bytes of the shards, as JSON values. names: file names of all shards, in order.
    """

    def __init__(self, out_dir: Path, identity: Mapping[str, Any], names: Sequence[str]) -> None:
        self.out_dir, self.identity, self.names = out_dir, identity, names
        self.staging = out_dir / _STAGING
        self.finished_shards: dict[str, dict[str, Any]] = {}
        """Records of an earlier run's shards that are whole, by name."""

    def prepare(self, *, overwrite: bool, leftovers: Sequence[str] = ()) -> None:
        """Refuse the folder of another data set, tidy up after a killed run, and find finished shards.

        leftovers: names of further files that `overwrite` removes. Raises OutputError for other data and foreign files.
        """
        earlier = self._earlier_files(leftovers)
        index = None if overwrite else read_index(self.out_dir)  # a damaged one can be overwritten
        if overwrite:
            discard(self.out_dir, [*(path.name for path in earlier), _STAGING])
        elif index is not None and index["identity_sha256"] != sha256_of_json(self.identity):
            raise OutputError(
                f"{self.out_dir}: holds another data set ({_difference(index, self.identity)}); "
                "choose another --out, or use --overwrite to replace it"
            )
        self.staging.mkdir(exist_ok=True)
        for part in [*self.staging.glob("*.part"), *self.out_dir.glob(".*.part")]:
            part.unlink()
        for name in self.names:
            record = read_shard_record((self.out_dir / name).with_suffix(".json"))
            if record is not None and is_whole(self.out_dir / name, record):
                self.finished_shards[name] = record
        if index is None:
            self.write_index([], finished=False)

    def _earlier_files(self, leftovers: Sequence[str]) -> list[Path]:
        """The files of the data set here, the index last. Raises OutputError for others of such names, and other tars."""
        try:
            index = read_index(self.out_dir)
        except InputError:  # damaged, but ours; each shard has a record of its own
            index = {}
        listed = {shard["name"] for shard in (index or {}).get("shards", ())}
        shards = sorted({*self.out_dir.glob("*.tar"), *self.out_dir.glob("shard-*.json")})
        rest = [path for name in (*leftovers, INDEX) if (path := self.out_dir / name).exists()]
        foreign = [*shards, *rest, *(path for path in self.staging.glob("*") if path.suffix != ".part")]
        if index is not None:
            foreign = [path for path in shards if path.with_suffix(".tar").name not in listed]
            foreign = [path for path in foreign if read_shard_record(path.with_suffix(".json")) is None]
            if index and not index["finished"] and len(foreign) == 1:
                foreign = []  # a run was killed between a shard and its record
        refuse_named(self.out_dir, [path.name for path in foreign])
        return [*shards, *rest]

    def index(self) -> dict[str, Any]:
        """The content of index.json."""
        return read_index(self.out_dir) or {}

    def write_index(self, records: Sequence[Mapping[str, Any]], *, finished: bool) -> None:
        """Write index.json of the shards with these records."""
        write_index(self.out_dir, self.identity, records, finished=finished, scratch=self.staging)

    def stage(self, name: str, outcome: Outcome) -> None:
        """Keep an outcome until its shard is complete: a line of JSON, and after it the fragment of a sample."""
        if isinstance(outcome, Sample):
            header, blob = {"sample": dict(outcome.summary)}, outcome.fragment
        else:
            header, blob = {"reject": asdict(outcome)}, b""
        write_pieces(self.staging / name, [json.dumps(header).encode() + b"\n", blob])

    def staged(self, name: str) -> Outcome:
        """The outcome that was staged under this name."""
        head, _, blob = (self.staging / name).read_bytes().partition(b"\n")
        header = json.loads(head)
        return Sample(blob, header["sample"]) if "sample" in header else Reject(**header["reject"])

    def close(self) -> None:
        """Remove the staging folder: all is finished."""
        shutil.rmtree(self.staging)


def _difference(there: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """The first value in which two identities differ, for people."""
    flat_there, flat_mine = (
        {**document, **document.get("config", {}), "config": None} for document in (there, mine)
    )
    key = next(key for key, value in flat_mine.items() if flat_there.get(key) != value)
    if key.endswith("sha256"):
        return "another list of objects" if key == "list_sha256" else f"another {key}"
    return f"{key}: there {flat_there.get(key)}, asked for {flat_mine[key]}"
