"""`mv3d clips info`: how the scores of clips are spread, what each threshold would drop, and pictures of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mv3d.clips.config import FILTERS, SHARES, SelectConfig
from mv3d.clips.select import Selection, read_scores, select, threshold_at, values_of
from mv3d.clips.video import frames_of
from mv3d.core.errors import InputError

QUANTILES = (0.0, 0.125, 0.25, 0.5, 0.75, 0.875, 1.0)
_BINS = 16
_BARS = " ▁▂▃▄▅▆▇█"
_CELL, _LABEL, _FRAMES, _ROWS = 112, 14, 3, 8


@dataclass(frozen=True)
class ClipsInfo:
    """document: everything as JSON values. selection: what `select` would keep."""

    document: dict[str, Any]
    selection: Selection


def inspect_clips(folder: str | os.PathLike[str], config: SelectConfig | None = None) -> ClipsInfo:
    """Counts of a folder of scored clips. Raises InputError without scores."""
    scores = read_scores(Path(folder))
    readable = {clip: entry for clip, entry in scores.items() if "reject" not in entry}
    selection = select(scores, config or SelectConfig())
    filters = {}
    for name, kind in FILTERS.items():
        values = values_of(readable, name)
        if not values:
            continue
        numbers = np.array(list(values.values()))
        # Of equal numbers, numpy would begin below them.
        low, high = float(min(numbers)), float(max(numbers))
        counts, edges = np.histogram(numbers, _BINS, (low, high if high > low else low + 1.0))
        filters[name] = {
            "about": kind.about,
            "clips": len(values),
            "quantiles": {f"{q:g}": round(float(np.quantile(numbers, q)), 6) for q in QUANTILES},
            "histogram": {"counts": counts.tolist(), "edges": [round(float(e), 6) for e in edges]},
            "drops": [_drop(values, share, least=kind.least) for share in SHARES],
        }
    document = {
        "folder": str(folder),
        "clips": len(scores),
        "seconds": round(sum(float(entry["seconds"]) for entry in readable.values()), 3),
        "rejected": dict(Counter(str(entry["reject"]) for entry in scores.values() if "reject" in entry)),
        "kinds": dict(Counter(str(entry["kind"]) for entry in readable.values())),
        "filters": filters,
        "thresholds": dict(selection.thresholds),
        "funnel": [list(row) for row in selection.funnel],
        "dropped": dict(Counter(line.filter for line in selection.dropped)),
        "kept": len(selection.kept),
    }
    return ClipsInfo(document, selection)


def info_lines(info: ClipsInfo) -> list[str]:
    """The same for people."""
    d = info.document
    lines = [f"{d['clips']} clips, {d['seconds'] / 60:.1f} min; {sum(d['rejected'].values())} cannot be read"]
    lines += [f"{count:>8} {reason}" for reason, count in d["rejected"].items()]
    lines += [f"{count:>8} {kind}" for kind, count in sorted(d["kinds"].items(), key=lambda row: -row[1])]
    for name, row in d["filters"].items():
        counts = row["histogram"]["counts"]
        bars = "".join(_BARS[-(-count * (len(_BARS) - 1) // max(counts))] for count in counts)
        edges, quantiles = row["histogram"]["edges"], row["quantiles"]
        lines.append(f"{name}: {row['about']}")
        lines.append(f"    {edges[0]:.4g} {bars} {edges[-1]:.4g}")
        lines.append("    " + "  ".join(f"{float(q):.3g}: {value:.4g}" for q, value in quantiles.items()))
        lines += [
            f"    {drop['share']:>6.1%} dropped: {'below' if FILTERS[name].least else 'above'} {drop['threshold']:.4g}, "
            f"{drop['dropped']} clips"
            for drop in row["drops"]
        ]
    lines += [f"{count:>8} after {name}" for name, count in d["funnel"]]
    return lines


def sheets(folder: str | os.PathLike[str], info: ClipsInfo) -> dict[str, Image.Image]:
    """Contact sheets by name: for each filter what the step from one of the paper's shares to the next drops
    (`motion-12.5`: the worst eighth, `motion-25`: from there to a quarter, …), and for each reason what this selection drops.

    A row is a clip: its first, middle and last frame, with its name and value; at most eight evenly chosen rows a sheet.
    """
    folder = Path(folder)
    scores = {c: e for c, e in read_scores(folder).items() if "reject" not in e}
    made: dict[str, Image.Image] = {}
    for name, kind in FILTERS.items():
        values = values_of(scores, name)
        gone: set[str] = set()
        for share in SHARES if values else ():
            limit = threshold_at(values, share, least=kind.least)
            now = {c for c, value in values.items() if (value < limit if kind.least else value > limit)}
            labels = {
                c: f"{name} {values[c]:.4g}"
                for c in sorted(now - gone, key=lambda c: values[c], reverse=not kind.least)
            }
            gone |= now
            if labels:
                made[f"{name}-{share:.1%}".replace(".0%", "").replace("%", "")] = _sheet(folder, labels)
    reasons: dict[str, dict[str, str]] = {}
    for line in info.selection.dropped:
        if line.clip in scores:
            value = f"{line.value:.4g}" if isinstance(line.value, float) else str(line.value)
            reasons.setdefault(line.filter, {})[line.clip] = f"{line.filter} {value}"
    for reason, labels in reasons.items():
        made[f"dropped-{reason}"] = _sheet(folder, labels)
    return made


def _drop(values: Mapping[str, float], share: float, *, least: bool) -> dict[str, float]:
    limit = threshold_at(values, share, least=least)
    dropped = sum(value < limit if least else value > limit for value in values.values())
    return {"share": share, "threshold": round(limit, 6), "dropped": dropped}


def _sheet(folder: Path, labels: Mapping[str, str]) -> Image.Image:
    names = list(labels)
    if len(names) > _ROWS:
        names = [names[i] for i in np.linspace(0, len(names) - 1, _ROWS).round().astype(int)]
    sheet = Image.new("RGB", (_FRAMES * _CELL, len(names) * (_CELL + _LABEL)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(names):
        top = row * (_CELL + _LABEL)
        draw.text((2, top), f"{labels[name]}  {name}"[:60], fill="black")
        for column, frame in enumerate(_three_frames(folder / name)):
            frame.thumbnail((_CELL, _CELL))
            sheet.paste(frame, (column * _CELL, top + _LABEL))
    return sheet


def _three_frames(path: Path) -> list[Image.Image]:
    try:
        count = sum(1 for _ in frames_of(path))
        wanted = (0, count // 2, count - 1)
        return [f.to_image() for number, f in enumerate(frames_of(path)) if number in wanted]
    except InputError:  # it was scored, and has been damaged since
        return []
