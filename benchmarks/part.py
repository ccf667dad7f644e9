"""The result of one part of the benchmarks: a JSON, from which `make_page.py` draws the page without running again.

A part is a script that runs as a process of its own:

    python benchmarks/PART.py [--quick | --small] [--objects FOLDER] --out part.json

--quick shows within about half a minute that everything runs (its figures say little), --small gives figures worth
reading within some minutes of two cores, neither of them is the full size. Floats are finite; None where there is no figure.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from mv3d.core.errors import InputError
from mv3d.core.files import to_json, write_text
from mv3d.core.records import SCHEMA

Cell = str | float | int | bool | None
Scale = Literal["quick", "small", "full"]
OBJECTS = Path("../shared/assets/eval")
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Table:
    """caption: one line without a final stop. rows: each as long as columns."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise InputError(
                    f"table '{self.caption}': expected {len(self.columns)} cells in each row, got {len(row)}: {row}"
                )


@dataclass(frozen=True)
class Series:
    """One line of a chart. points: (x, y), by growing x."""

    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Chart:
    """name: of the picture's file, small letters, digits and hyphens. x, y: what the axes show, with units."""

    name: str
    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False

    def __post_init__(self) -> None:
        if not _SLUG.fullmatch(self.name):
            raise InputError(
                f"chart: expected a name of small letters, digits and hyphens, got '{self.name}'"
            )


@dataclass(frozen=True)
class Machine:
    """The machine behind the figures. memory_gb: memory of the whole machine, 0 if unknown."""

    cpu: str
    cores: int
    memory_gb: float
    python: str
    system: str


@dataclass(frozen=True)
class Part:
    """part: the script's name without .py. seconds: of the clock, of the whole part. text: paragraphs, what is compared
    and what is not fair about it. missing: which peer was not there and how to install it, a sentence each."""

    part: str
    title: str
    machine: Machine
    versions: dict[str, str]
    seconds: float
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    missing: tuple[str, ...] = ()


def write_part(part: Part, path: Path) -> Path:
    """Write a part as JSON, aside first.

    Raises InputError for a number that JSON does not have, OutputError where the file cannot be written.
    """
    try:
        text = to_json({"schema": SCHEMA} | asdict(part))
    except ValueError as error:
        raise InputError(
            f"part '{part.part}': expected finite numbers, got NaN or infinity; use None"
        ) from error
    write_text(path, text)
    return path


def read_part(path: Path) -> Part:
    """The part that `write_part` wrote. Raises InputError that names the file and what is wrong with it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected the JSON of a benchmark's part, got {error}") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise InputError(
            f"{path}: expected a benchmark's part of schema {SCHEMA}, got {found}; run the part again"
        )
    try:
        return _part_of(document)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: expected the form of a benchmark's part, got {type(error).__name__}: {error}"
        ) from error


def _part_of(document: dict[str, Any]) -> Part:
    return Part(
        part=str(document["part"]),
        title=str(document["title"]),
        machine=Machine(**document["machine"]),
        versions={str(k): str(v) for k, v in document["versions"].items()},
        seconds=float(document["seconds"]),
        text=tuple(document["text"]),
        tables=tuple(
            Table(t["caption"], tuple(t["columns"]), tuple(tuple(row) for row in t["rows"]))
            for t in document["tables"]
        ),
        charts=tuple(
            Chart(
                c["name"], c["title"], c["x"], c["y"],
                tuple(Series(s["label"], tuple((_number(x), _number(y)) for x, y in s["points"])) for s in c["series"]),
                bool(c.get("log_x", False)), bool(c.get("log_y", False)),
            )
            for c in document["charts"]
        ),
        missing=tuple(document["missing"]),
    )  # fmt: skip


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} in a chart")
    return number


def describe_machine() -> Machine:
    """This one. cores: those that this process may use."""
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = 0.0
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return Machine(
        cpu=names[0] if names else platform.machine(),
        cores=cores,
        memory_gb=round(memory, 1),
        python=platform.python_version(),
        system=platform.platform(),
    )


def versions_of(*packages: str) -> dict[str, str]:
    """Versions of those `packages` that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def part_parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that every part has; a part may add its own."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="half a minute: shows that everything runs")
    size.add_argument("--small", action="store_true", help="some minutes of two cores")
    parser.add_argument("--objects", type=Path, default=OBJECTS, help="folder of GLB objects")
    parser.add_argument("--out", type=Path, default=None, help="write the part as JSON")
    return parser


def scale_of(options: argparse.Namespace) -> Scale:
    return "quick" if options.quick else "small" if options.small else "full"


def rounded(value: float, digits: int = 3) -> float:
    """To so many significant digits, as the page shows them."""
    return float(f"{value:.{digits}g}")


def write_rows(path: Path, settings: dict[str, str], rows: list[dict]) -> None:
    """Write the rows of a benchmark so far; a run that is stopped meanwhile leaves those before. settings: what every row
    depends on."""
    write_text(path, json.dumps({"settings": settings, "rows": rows}, indent=1))


def kept_rows(path: Path, settings: dict[str, str]) -> list[dict]:
    """The rows of an earlier run, none where there is no such file. Exits where they have other settings."""
    if not path.exists():
        return []
    document = json.loads(path.read_text())
    if (before := document["settings"]) != settings:
        raise SystemExit(
            f"--out {path}: expected rows with {settings}, got some with {before}; name another file"
        )
    return document["rows"]
