"""One input: made of a valid one by the seed, the reader's name and the number alone, read, and judged."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import traceback
import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.damage import bent_file, pick
from fuzz.targets import TARGETS, mend

INPUT, BAIT = "input", "bait"
_FORBIDDEN = ("/etc/passwd", "/dev/zero")
_LINKS = "links"
"""A folder inside the input whose files are links to the bait."""
_LONGEST_MESSAGE = 1500


@dataclass(frozen=True)
class Outcome:
    """kind: `value` and `refused` (an Mv3dError of one line) are right; everything else is a finding."""

    reader: str
    number: int
    kind: str
    what: str = ""
    damage: str = ""
    trace: str = ""

    @property
    def finding(self) -> bool:
        return self.kind not in ("value", "refused")

    def document(self) -> dict[str, Any]:
        return asdict(self)


def write_seeds(corpus: Path, readers: Iterable[str]) -> None:
    """The valid inputs of these readers, a folder each, where they are not there yet; and the bait."""
    from helpers.gltf_files import png_bytes

    corpus.mkdir(exist_ok=True)
    aside = corpus / "unfinished"
    for name in readers:
        if (corpus / name).exists():
            continue
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        TARGETS[name].seeds(aside)
        aside.rename(corpus / name)
    bait = corpus / BAIT
    bait.mkdir(exist_ok=True)
    (bait / "secret.png").write_bytes(png_bytes())
    (bait / "secret.bin").write_bytes(bytes(4096))
    (bait / "secret.mtl").write_text("newmtl mv3d\nKd 1 1 1\n")


def write_input(corpus: Path, work: Path, reader: str, number: int, seed: int) -> str:
    """`work`/input and the bait beside it. What was damaged, in a few words."""
    rng = np.random.default_rng([seed, zlib.crc32(reader.encode()), number])
    valid = sorted(path for path in (corpus / reader).iterdir() if path.is_dir())
    chosen, other = pick(rng, valid), pick(rng, valid)
    shutil.copytree(corpus / BAIT, work / BAIT)
    target = work / INPUT
    shutil.copytree(chosen, target)
    words = [chosen.name]
    for _ in range(int(pick(rng, (1, 1, 1, 2)))):
        files = sorted(path for path in target.rglob("*") if path.is_file())
        if not files:
            break
        # By kind first: one JSON file beside twenty pictures is damaged as often as all of them.
        suffix = pick(rng, sorted({path.suffix for path in files}))
        file = pick(rng, [path for path in files if path.suffix == suffix])
        if rng.random() < 0.04:
            words.append(_replaced(file, rng))
            continue
        others = sorted(
            path for path in other.rglob(f"*{suffix}") if path.is_file() and path.suffix == suffix
        )
        words.append(bent_file(file, rng, pick(rng, others) if others else None))
    mend(reader, target, rng)
    (target / _LINKS).mkdir()
    for bait in (corpus / BAIT).iterdir():
        (target / _LINKS / bait.name).symlink_to(Path("..") / ".." / BAIT / bait.name)
    return ", ".join(words)


def _replaced(file: Path, rng: np.random.Generator) -> str:
    """Gone, empty, or a folder."""
    way = pick(rng, ("gone", "empty", "a folder"))
    file.unlink()
    if way == "empty":
        file.write_bytes(b"")
    elif way == "a folder":
        file.mkdir()
    return f"{file.name}: {way}"


class Watch:
    """Sees what the process opens and whom it calls. Hooks of this kind cannot be taken off again, so there is one for
    the life of a process."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._bait = ""
        sys.addaudithook(self._hear)

    @contextlib.contextmanager
    def over(self, work: Path) -> Iterator[list[str]]:
        self.seen, self._bait = [], str(work / BAIT)
        before, sys.unraisablehook = sys.unraisablehook, self._unraisable
        try:
            yield self.seen
        finally:
            self._bait = ""
            sys.unraisablehook = before

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._bait:
            return
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if path.startswith(self._bait) or path in _FORBIDDEN:
                self.seen.append(f"opened {path}")
        elif event in (
            "socket.connect",
            "socket.getaddrinfo",
            "subprocess.Popen",
            "os.system",
            "os.exec",
            "pickle.find_class",
        ):
            self.seen.append(f"{event} {str(arguments)[:200]}")

    def _unraisable(self, raised: Any) -> None:
        self.seen.append(f"unraisable {raised.exc_type.__name__}: {raised.exc_value}")


def judge(corpus: Path, work: Path, reader: str, number: int, seed: int, watch: Watch) -> Outcome:
    """Make the input in `work`, a folder of its own, read it there, and look around. On the main thread."""
    damage = write_input(corpus, work, reader, number, seed)
    before = _listing(work)
    here = os.getcwd()
    os.chdir(work)
    try:
        with watch.over(work) as seen:
            kind, what, trace = _tried(reader, work / INPUT)
    finally:
        os.chdir(here)
    after = _listing(work)
    if after != before and kind in ("value", "refused"):
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        kind, what = "files", ", ".join(changed)[:300]
    if seen and kind in ("value", "refused"):
        kind, what = "reached out", "; ".join(seen)[:300]
    return Outcome(reader, number, kind, what, damage, trace)


def _tried(reader: str, folder: Path) -> tuple[str, str, str]:
    """Kind, what, traceback."""
    from mv3d.core.errors import Mv3dError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            TARGETS[reader].read(folder)
    except Mv3dError as error:
        message = str(error)
        if not message or "\n" in message or len(message) > _LONGEST_MESSAGE:
            return (
                "message",
                f"{len(message)} characters, {message.count(chr(10))} line breaks: {message[:300]!r}",
                _trace(error),
            )
        return "refused", message, ""
    except BaseException as error:
        return f"{type(error).__name__}", " ".join(str(error).split())[:300], _trace(error)
    return "value", "", ""


def _trace(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    return text if len(text) < 8000 else f"{text[:4000]}\n…\n{text[-4000:]}"


def _listing(work: Path) -> dict[str, str]:
    """Every file below with a hash of its content, links with their target."""
    found: dict[str, str] = {}
    for path in sorted(work.rglob("*")):
        name = path.relative_to(work).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder"
    return found
