"""The files of a list, brought to this machine: in parallel, checked, and again only what is missing.

The folder afterwards:
    objects/2f/UID.glb …   the files, each written aside and renamed
    fetched.jsonl          the ledger: uid, file, bytes, sha256, url of everything that ever arrived whole
    rejects.jsonl          uid, reason, detail of what did not arrive in the latest run
    objects.jsonl          the list of what is there (paths, sha256), for `mv3d orbits render`

Files are fetched one to an object, so formats that spread over several files (.gltf, .obj with its materials)
come without their companions.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import threading
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import numpy as np

from mv3d.core.errors import InputError, OutputError, UsageError
from mv3d.core.files import atomic_path, sha256, staging, write_text
from mv3d.core.flags import SAID
from mv3d.core.locking import folder_lock
from mv3d.core.outputs import refuse_named
from mv3d.core.progress import Progress
from mv3d.orbits.catalogue import SUFFIXES, CatalogueItem, write_list
from mv3d.orbits.infrastructure.download import DownloadError, Transport, download
from mv3d.orbits.objaverse_package import Brought, downloaded, fetch_xl, has_package, package_cache, xl_source
from mv3d.orbits.sample import Reject

LEDGER, REJECTS, OBJECTS = "fetched.jsonl", "rejects.jsonl", "objects.jsonl"


@dataclass(frozen=True)
class FetchConfig:
    """How to fetch."""

    transport: Transport = field(default_factory=Transport)
    """Patience and limits of one file."""
    parallel: int = 8
    """Files at a time."""
    verify: Literal["sha256", "size"] = "sha256"
    """How files of earlier runs are checked: by content, or by size (fast, for large sets)."""
    seed: int = 0
    """Seed of the waits between tries."""
    objaverse: Annotated[Path | None, SAID] = None
    """Folder of the objaverse package: what it has of Objaverse is copied, not fetched again.
    Default: ~/.objaverse/hf-objaverse-v1."""

    def __post_init__(self) -> None:
        if not 1 <= self.parallel <= 64:
            raise UsageError(f"--parallel: expected 1 to 64, got {self.parallel}")
        if self.verify not in ("sha256", "size"):
            raise UsageError(f"--verify: expected sha256 or size, got {self.verify}")


@dataclass(frozen=True)
class FetchResult:
    """items: what is there now, with paths and hashes, in the order of the list. fetched: of them, in this run.
    kept: of them, from earlier runs, local from the start, or copied from the folder of the objaverse package. bytes: that arrived in this run."""

    items: tuple[CatalogueItem, ...]
    rejects: tuple[Reject, ...]
    fetched: int
    kept: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class _Outcome:
    item: CatalogueItem
    bytes: int = 0
    is_new: bool = False


def fetch(
    items: Sequence[CatalogueItem],
    out: str | os.PathLike[str],
    config: FetchConfig,
    progress: Progress | None = None,
) -> FetchResult:
    """Fetch the files of a list into a folder; the same call goes on where an earlier one ended.

    One object that cannot be had costs one line in rejects.jsonl and no more. progress: called with "fetch"
    and the share that is done. Raises InputError for an empty list, OutputError where the folder cannot be
    written (what arrived stays, and the next call knows it) or where another run writes into it.
    """
    if not items:
        raise InputError("list: expected at least one object, got none")
    if len({item.uid for item in items}) < len(items):
        raise InputError("list: a uid comes twice; every object needs its own")
    out = Path(out)
    began = time.monotonic()
    with folder_lock(out):
        ledger = _read_ledger(out / LEDGER)
        if not (out / LEDGER).exists():  # it is older than all else that is ours
            refuse_named(out, [name for name in (OBJECTS, REJECTS) if (out / name).exists()])
            (out / LEDGER).touch()
        outcomes: dict[str, _Outcome] = {}
        rejects: dict[str, Reject] = {}
        try:
            _fetch_all(items, out, config, ledger, outcomes, rejects, progress)
        finally:
            there = tuple(outcomes[item.uid].item for item in items if item.uid in outcomes)
            failed = tuple(rejects[item.uid] for item in items if item.uid in rejects)
            write_list(out / OBJECTS, there)
            write_text(out / REJECTS, "".join(json.dumps(asdict(reject)) + "\n" for reject in failed))
    new = [outcome for outcome in outcomes.values() if outcome.is_new]
    return FetchResult(
        there,
        failed,
        fetched=len(new),
        kept=len(there) - len(new),
        bytes=sum(outcome.bytes for outcome in new),
        seconds=time.monotonic() - began,
    )


def _fetch_all(
    items: Sequence[CatalogueItem],
    out: Path,
    config: FetchConfig,
    ledger: dict[str, dict[str, Any]],
    outcomes: dict[str, _Outcome],
    rejects: dict[str, Reject],
    progress: Progress | None,
) -> None:
    """Fill `outcomes` and `rejects`; both are complete for what is done, whatever ends this."""
    stop, lock = threading.Event(), threading.Lock()
    of_xl = [item for item in items if xl_source(item.url) and not (out / _place(item)).is_file()]
    with staging(out) as staged, ThreadPoolExecutor(config.parallel, thread_name_prefix="fetch") as pool:
        brought = fetch_xl(of_xl, staged, config.parallel) if of_xl and has_package() else Brought({})
        work = partial(_one, out=out, config=config, ledger=ledger, lock=lock, stop=stop, brought=brought)
        futures: dict[Future[_Outcome], CatalogueItem] = {pool.submit(work, item): item for item in items}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                item = futures[future]
                try:
                    outcomes[item.uid] = future.result()
                except DownloadError as error:
                    rejects[item.uid] = Reject(item.uid, error.reason, error.detail)
                if progress:
                    progress("fetch", done / len(items))
        except BaseException:  # an interrupt, or a full disk: let the running ones end soon
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one(
    item: CatalogueItem,
    *,
    out: Path,
    config: FetchConfig,
    ledger: dict[str, dict[str, Any]],
    lock: threading.Lock,
    stop: threading.Event,
    brought: Brought,
) -> _Outcome:
    """brought: of Objaverse-XL, in a folder of the same disk."""
    if not item.url:
        if item.path is not None and item.path.is_file():
            return _Outcome(item)
        raise DownloadError("no_url", "the list names neither an address nor a file that is there")
    target = out / _place(item)
    entry = ledger.get(item.uid)
    expected = item.sha256 or (entry["sha256"] if entry else None)
    if target.is_file():
        digest = _verified(target, entry, expected, config)
        if digest is not None:
            if entry is None:  # stopped between the rename and the line in the ledger
                _record(out / LEDGER, item, target, digest, lock)
            return _Outcome(replace(item, path=target, sha256=digest))
        if entry is None:
            raise DownloadError(
                "in_the_way",
                f"{target} is there, has another sha256 than the list says, and is not in {LEDGER}; move it",
            )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
    if xl_source(item.url):
        digest = _taken(brought, item.uid, target, expected)
        _record(out / LEDGER, item, target, digest, lock)
        return _Outcome(replace(item, path=target, sha256=digest), target.stat().st_size, is_new=True)
    if (file := downloaded(item.url, config.objaverse or package_cache())) and complaint_about(
        file, target.suffix
    ) is None:
        digest = sha256(file)
        if expected in (None, digest):
            with atomic_path(target, hint="free some space") as part:
                shutil.copyfile(file, part)
            _record(out / LEDGER, item, target, digest, lock)
            return _Outcome(replace(item, path=target, sha256=digest))
    rng = np.random.default_rng([config.seed, zlib.crc32(item.uid.encode())])
    try:
        done = download(
            item.url,
            target,
            config.transport,
            sha256=expected,
            check=partial(complaint_about, suffix=target.suffix),
            rng=rng,
            stop=stop,
        )
    except DownloadError as error:
        if error.reason == "checksum" and entry and not item.sha256:
            raise DownloadError(
                "checksum", f"{error.detail}; the store has other bytes than at the first fetch ({LEDGER})"
            ) from error
        raise
    _record(out / LEDGER, item, target, done.sha256, lock)
    return _Outcome(replace(item, path=target, sha256=done.sha256), done.bytes, is_new=True)


def _taken(brought: Brought, uid: str, target: Path, expected: str | None) -> str:
    """Move what the objaverse package brought to its place; its sha256. Raises DownloadError."""
    if not has_package():
        raise DownloadError(
            "needs_objaverse", "it is brought by the objaverse package: python -m pip install objaverse"
        )
    file = brought.files.get(uid)
    if file is None:
        raise DownloadError("not_found", f"the objaverse package could not bring it{brought.trouble}")
    digest = sha256(file)
    if expected not in (None, digest):
        raise DownloadError("checksum", f"expected sha256 {expected}, got {digest}")
    if complaint := complaint_about(file, target.suffix):
        raise DownloadError("bad_content", complaint)
    os.replace(file, target)
    return digest


def _place(item: CatalogueItem) -> str:
    """Where the file goes: only from the uid, whose letters are safe; 256 folders keep listings short."""
    suffix = PurePosixPath(unquote(urlsplit(item.url).path)).suffix.lower()
    usual = ".stl" if xl_source(item.url) == "thingiverse" else ".glb"
    suffix = suffix if suffix in SUFFIXES else usual
    return f"objects/{zlib.crc32(item.uid.encode()) % 256:02x}/{item.uid}{suffix}"


def _verified(
    target: Path, entry: dict[str, Any] | None, expected: str | None, config: FetchConfig
) -> str | None:
    """The sha256 of a file of an earlier run, or None where it has to be fetched again."""
    if entry is not None and target.stat().st_size != entry["bytes"]:
        return None
    if config.verify == "size" and entry is not None and expected == entry["sha256"]:
        return entry["sha256"]
    digest = sha256(target)
    return digest if expected in (None, digest) else None


def complaint_about(path: Path, suffix: str) -> str | None:
    """What is wrong with the first bytes of a file of that format, or None.

    A GLB names its own length (glTF 2.0, 4.4.2), so one that was cut off on the server is found as well.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.lstrip()[:1] == b"<":
        return "expected a 3D file, got a web page"
    if suffix == ".glb":
        if len(head) < 20 or head[:4] != b"glTF":
            return f"expected a GLB file, got {head[:4]!r} and {size} bytes"
        _, length = struct.unpack_from("<II", head, 4)
        if length != size:
            return f"expected the {length} bytes that the GLB header names, got {size}"
    if suffix == ".ply" and head[:3] != b"ply":
        return f"expected a PLY file, got {head[:4]!r}"
    return None if size else "the file is empty"


def _record(path: Path, item: CatalogueItem, target: Path, digest: str, lock: threading.Lock) -> None:
    line = {
        "uid": item.uid,
        "file": target.relative_to(path.parent).as_posix(),
        "bytes": target.stat().st_size,
        "sha256": digest,
        "url": item.url,
    }
    data = json.dumps(line).encode() + b"\n"
    try:
        with lock, path.open("ab", buffering=0) as stream:
            start = stream.tell()
            if stream.write(data) != len(data):  # a disk that is full takes what fits: no torn line stays
                stream.truncate(start)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); free some space") from error


def _read_ledger(path: Path) -> dict[str, dict[str, Any]]:
    """uid → its latest entry. The last line may be torn where a run was killed; it is mended here."""
    if not path.exists():
        return {}
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        data = data[: data.rfind(b"\n") + 1]
        write_text(path, data.decode("utf-8"))
    entries: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            entry = json.loads(line)
            entries[entry["uid"]] = {"bytes": int(entry["bytes"]), "sha256": str(entry["sha256"])}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: line {number} is not an entry of the ledger ({error}); remove that line"
            ) from error
    return entries
