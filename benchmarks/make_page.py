"""Makes docs/benchmarks.md anew: runs the parts, each in a process of its own, and draws the page from what they hand on.

    python benchmarks/make_page.py --objects ../shared/assets/eval [--quick | --small] [--only PART ...]
    python benchmarks/make_page.py --from out/benchmarks          the page again, without running

Each part leaves PART.json (see part.py) and PART.log in --out; run.json says when, at which commit and how large each was
run. A part that fails is named on the page with its last words, the others go on. With --only the other parts keep what
an earlier run left in --out.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from part import OBJECTS, Cell, Chart, Machine, Part, Scale, Table, read_part, scale_of

from mv3d.core.errors import InputError, Mv3dError
from mv3d.core.files import to_json, write_files, write_text
from mv3d.core.plots import Line, chart_png, line_chart
from mv3d.core.records import SCHEMA

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PARTS = ("rendering", "shards", "training", "generation", "recon_peers", "growth")
LIMITS_S: dict[Scale, float] = {"quick": 240, "small": 2400, "full": 6 * 3600}
"""A part that takes longer is stopped and counts as failed; --limit-s for a machine that is slow or busy."""
SCALES: dict[Scale, str] = {
    "quick": "The sizes are those of `--quick`: they show that everything runs, and the figures say little.",
    "small": "The sizes are those of `--small`: small enough for two cores and about an hour.",
    "full": "The sizes are the full ones.",
}


@dataclass(frozen=True)
class Outcome:
    """The outcome of running a part. date: UTC, ISO 8601. commit: short, with + where files differed from it. seconds: of its
    process. error: its last words where it failed, else empty."""

    part: str
    scale: Scale
    date: str
    commit: str
    seconds: float
    error: str = ""


# -- running


def run_part(
    name: str, scale: Scale, objects: Path, out: Path, *, limit_s: float | None = None, folder: Path = HERE
) -> Outcome:
    """Run the script of a part; its JSON lies in `out` only if it ended well.

    limit_s: by default that of the scale. folder: of the scripts.
    """
    limit_s = limit_s or LIMITS_S[scale]
    date, commit, started = datetime.now(UTC).strftime("%Y-%m-%d %H:%M"), commit_of(ROOT), time.perf_counter()
    script, result = folder / f"{name}.py", out / f"{name}.json"
    result.unlink(missing_ok=True)
    flags = [] if scale == "full" else [f"--{scale}"]
    command = [sys.executable, str(script), *flags, "--objects", str(objects), "--out", str(result)]
    log = out / f"{name}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=os.name == "posix",
        )
        try:
            code = process.wait(limit_s)
            error = "" if code == 0 else last_words(log, code)
        except subprocess.TimeoutExpired:
            error = f"stopped after {limit_s:g} s"
        finally:
            end(process)
    if not error:
        try:
            read_part(result)
        except InputError as problem:
            error = str(problem)
    if error:
        result.unlink(missing_ok=True)
    return Outcome(name, scale, date, commit, round(time.perf_counter() - started, 1), error)


def end(process: subprocess.Popen[bytes]) -> None:
    """With all that it started: peers run in processes of their own."""
    if process.poll() is None:
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def last_words(log: Path, code: int) -> str:
    """The last line that says something, for the page."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    words = next((line for line in reversed(lines) if line), "it said nothing")
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{how}: {words[:300]}"


def commit_of(root: Path) -> str:
    """Short, with + where tracked files differ from it; unknown outside a checkout or without git."""
    try:
        name = _git(root, "rev-parse", "--short", "HEAD")
        return name + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(root: Path, *arguments: str) -> str:
    result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return result.stdout.strip()


# -- what lies in --out


def read_outcomes(folder: Path) -> dict[str, Outcome]:
    """By part; empty where nothing was run. Raises InputError for a run.json that is not ours."""
    path = folder / "run.json"
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']}")
        return {name: Outcome(**fields) for name, fields in document["parts"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: expected the record of a run of the benchmarks, got {error}") from error


def write_outcomes(outcomes: dict[str, Outcome], folder: Path) -> None:
    document = {"schema": SCHEMA, "parts": {name: asdict(one) for name, one in outcomes.items()}}
    write_text(folder / "run.json", to_json(document))


def read_results(folder: Path, outcomes: dict[str, Outcome]) -> dict[str, Part]:
    """The results of the parts that ended well. Raises InputError if one is missing or damaged."""
    return {name: read_part(folder / f"{name}.json") for name, one in outcomes.items() if not one.error}


# -- the page


def page(outcomes: dict[str, Outcome], parts: dict[str, Part], *, pictures: str = "benchmarks") -> str:
    """The Markdown. pictures: the folder of the charts, from the page. Raises InputError where nothing was run."""
    if not outcomes:
        raise InputError("benchmarks: expected at least one part that was run, got none")
    names = sorted(outcomes, key=order)
    blocks = [
        "# Benchmarks",
        "Made by `python benchmarks/make_page.py`; do not edit. Each part runs mv3d and its peers in one run on one "
        "machine and says what is compared and what is not fair about it; peers that were not there are named with how "
        "to install them.",
        *head(outcomes, parts),
    ]
    for name in names:
        blocks += section(outcomes[name], parts.get(name), pictures)
    return "\n\n".join(blocks) + "\n"


def order(name: str) -> tuple[int, str]:
    """The sort key of a part on the page; parts that are not ours come last."""
    return (PARTS.index(name) if name in PARTS else len(PARTS), name)


def head(outcomes: dict[str, Outcome], parts: dict[str, Part]) -> list[str]:
    """Machine, versions, and when each part was run."""
    used = {one.scale for one in outcomes.values()}
    blocks = [words for scale, words in SCALES.items() if scale in used]
    machines = dict.fromkeys(part.machine for part in parts.values())
    blocks.append("\n".join(f"- {machine_text(machine)}" for machine in machines) or "- no part ended well")
    versions: dict[str, str] = {}
    for part in parts.values():
        versions |= part.versions
    if versions:
        blocks.append(
            "Versions: "
            + ", ".join(f"{name} {versions[name]}" for name in sorted(versions, key=str.lower))
            + "."
        )
    rows = []
    for name in sorted(outcomes, key=order):
        one = outcomes[name]
        title = parts[name].title if name in parts else name
        state = "**failed**" if one.error else f"[{title}](#{anchor(title)})"
        rows.append((f"`{name}`", state, one.scale, f"{one.seconds:.0f} s", one.date, one.commit))
    columns = ("part", "", "size", "took", "date, UTC", "commit")
    return [*blocks, table_text(Table("", columns, tuple(rows)), escape=False)]


def machine_text(machine: Machine) -> str:
    memory = f", {machine.memory_gb:g} GB of memory" if machine.memory_gb else ""
    return f"{machine.cpu}, {machine.cores} cores{memory}; Python {machine.python}; {machine.system}"


def anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def section(outcome: Outcome, part: Part | None, pictures: str) -> list[str]:
    if part is None:
        return [f"## {outcome.part}", f"This part failed: `{outcome.error.replace('`', chr(39))}`"]
    blocks = [f"## {part.title}", *part.text]
    for table in part.tables:
        blocks += [f"**{table.caption}**" if table.caption else "", table_text(table)]
    for chart in part.charts:
        blocks.append(
            f"![{chart.title}: {chart.y} against {chart.x}]({pictures}/{picture_name(part, chart)})"
        )
    if part.missing:
        blocks.append("Not measured:\n\n" + "\n".join(f"- {sentence}" for sentence in part.missing))
    return [block for block in blocks if block]


def table_text(table: Table, *, escape: bool = True) -> str:
    def line(cells: tuple[Cell, ...]) -> str:
        texts = [cell_text(cell) for cell in cells]
        return "| " + " | ".join(text.replace("|", "\\|") if escape else text for text in texts) + " |"

    rule = "|" + "---|" * len(table.columns)
    return "\n".join([line(table.columns), rule, *map(line, table.rows)])


def cell_text(value: Cell) -> str:
    """Three significant digits, thousands apart; a dash where there is no figure."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:,.0f}" if isinstance(value, (int, float)) else " ".join(value.split())


def picture_name(part: Part, chart: Chart) -> str:
    return f"{part.part}-{chart.name}.png".replace("_", "-")


def charts_of(part: Part) -> dict[str, bytes]:
    """PNGs by the names of their files."""
    return {
        picture_name(part, chart): chart_png(
            line_chart(
                [Line(series.label, series.points) for series in chart.series],
                title=chart.title,
                x=chart.x,
                y=chart.y,
                log_x=chart.log_x,
                log_y=chart.log_y,
            )
        )
        for chart in part.charts
        if any(series.points for series in chart.series)
    }


def write_page(folder: Path, docs: Path) -> Path:
    """docs/benchmarks.md and docs/benchmarks/*.png of what lies in `folder`; charts of earlier pages go."""
    outcomes = read_outcomes(folder)
    parts = read_results(folder, outcomes)
    text = page(outcomes, parts)
    charts: dict[str, bytes] = {}
    for part in parts.values():
        charts |= charts_of(part)
    pictures = docs / "benchmarks"
    pictures.mkdir(parents=True, exist_ok=True)
    write_files({pictures / name: data for name, data in charts.items()})
    for path in pictures.glob("*.png"):
        if path.name not in charts:
            path.unlink()
    write_text(docs / "benchmarks.md", text)
    return docs / "benchmarks.md"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="about 4 minutes of two cores")
    size.add_argument("--small", action="store_true", help="about an hour of two cores")
    parser.add_argument("--objects", type=Path, default=OBJECTS, help="folder of GLB objects")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument("--limit-s", type=float, default=None, help="seconds after which a part is stopped")
    parser.add_argument(
        "--from", type=Path, default=None, dest="source", help="a folder that --out left; runs nothing"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/benchmarks"), help="for the parts' JSONs and logs"
    )
    parser.add_argument(
        "--docs", type=Path, default=ROOT / "docs", help="where benchmarks.md and benchmarks/ go"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """0 where all parts of the page ended well, else 1."""
    options = parse(arguments)
    try:
        if options.source is None:
            options.out.mkdir(parents=True, exist_ok=True)
            outcomes = read_outcomes(options.out)
            for name in options.only:
                print(f"{name} ...", end=" ", flush=True, file=sys.stderr)
                outcomes[name] = run_part(
                    name, scale_of(options), options.objects, options.out, limit_s=options.limit_s
                )
                print(outcomes[name].error or f"{outcomes[name].seconds:.0f} s", flush=True, file=sys.stderr)
                write_outcomes(outcomes, options.out)
        folder = options.source or options.out
        written = write_page(folder, options.docs)
    except Mv3dError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(written)
    return 1 if any(one.error for one in read_outcomes(folder).values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
