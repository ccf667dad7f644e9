"""Records of runs, and results that appear whole or not at all.

A leaf module: it imports only `mv3d.core.errors`, so every room may use it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from mv3d.core.errors import OutputError

SCHEMA = 1
_LIBRARIES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "numpy",
    "scipy",
    "trimesh",
    "embreex",
    "xatlas",
    "scikit-image",
    "fast-simplification",
    "manifold3d",
)


def sha256(path: Path) -> str:
    """Of a file, or of a folder's files below it with their names, in order."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        if file != path:
            digest.update(str(file.relative_to(path)).encode() + b"\0")
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Of Python and of what a result depends on."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    return versions


def peak_memory_bytes() -> int:
    """Peak resident memory of this process so far."""
    if sys.platform == "win32":
        return 0
    import resource  # noqa: PLC0415 - POSIX only

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of this machine or of a device: torch says the former in a plain RuntimeError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("allocate memory" in text or "not enough memory" in text)


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of an earlier run, or None where there is none that can be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and document.get("schema") == SCHEMA else None


def is_done(path: Path, *, settings: dict[str, Any], input_sha256: str) -> bool:
    """Whether the record at `path` is of the same settings and input, and all its outputs are there unchanged."""
    record = read_record(path)
    if record is None or record.get("input_sha256") != input_sha256:
        return False
    if record.get("settings") != json.loads(json.dumps(settings)):
        return False
    outputs = record.get("outputs", {})
    return bool(outputs) and all(
        (path.parent / name).exists() and sha256(path.parent / name) == value
        for name, value in outputs.items()
    )


def write_text(path: Path, text: str) -> None:
    """Write aside, then rename."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from error
    finally:
        part.unlink(missing_ok=True)


def to_json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=False, allow_nan=False) + "\n"


@contextmanager
def staging(out_dir: Path) -> Iterator[Path]:
    """A folder beside the results to write into; removed at the end whatever happens.

    Raises OutputError at once where `out_dir` cannot be written, not after a minute of work.
    """
    made = not out_dir.exists()
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".mv3d-", dir=out_dir))
        (folder / "probe").write_bytes(b"\0" * 65536)
        (folder / "probe").unlink()
    except OSError as error:
        raise OutputError(f"{out_dir}: cannot be written ({error.strerror}); choose another --out") from error
    try:
        yield folder
    except OSError as error:
        if error.errno is None:
            raise
        raise OutputError(
            f"{out_dir}: cannot be written ({error.strerror}); free some space or choose another --out"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if made and out_dir.is_dir() and not any(out_dir.iterdir()):
            out_dir.rmdir()


def publish(folder: Path, out_dir: Path, *, last: str) -> None:
    """Move everything in a staging folder to its place, the record (`last`) at the end.

    The old record goes first: between the two moments nothing claims to be finished.
    """
    (out_dir / last).unlink(missing_ok=True)
    names = sorted((p.name for p in folder.iterdir()), key=lambda name: name == last)
    for name in names:
        source, target = folder / name, out_dir / name
        if target.is_dir() and not target.is_symlink():
            old = folder / f".old-{name}"
            os.replace(target, old)
        os.replace(source, target)
