"""The numbers of an asset as lines of a table: what its mesh, run.json and recon.json say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mv3d.app.asset import Asset
from mv3d.core.errors import shown

_MOST_WARNINGS = 10


def figure_rows(asset: Asset) -> list[tuple[str, str]]:
    """(what, value) of the whole object. Values that a record lacks, or has of another type, have no row."""
    rows: list[tuple[str, str]] = []
    recon, made = asset.records.get("recon.json", {}), asset.records.get("run.json", {})
    if asset.mesh is not None:
        rows.append(("Triangles", f"{len(asset.mesh.faces):,}"))
        if asset.mesh.texture is not None:
            height, width = asset.mesh.texture.shape[:2]
            rows.append(("Texture", f"{width} × {height}"))
    quality = {**made, **recon}  # lift's run.json has what recon.json has
    if isinstance(quality.get("watertight"), bool):
        rows.append(("Watertight", "yes" if quality["watertight"] else "no"))
    rows += _number(quality, "shells", "Shells", "{:.0f}")
    rows += _number(quality, "iou_mean", "Silhouette IoU, mean of the views", "{:.3f}")
    rows += _number(quality, "iou_least", "Silhouette IoU, least view", "{:.3f}")
    rows += _number(quality, "psnr_mean_db", "PSNR against the views, mean", "{:.1f} dB")
    rows += _number(quality, "coverage", "Surface that a view saw", "{:.0%}")
    if asset.views is not None:
        rows.append(("Views", f"{len(asset.views)}"))
        rows.append(("Size of a view", f"{asset.views.cameras.width} × {asset.views.cameras.height}"))
    rows += _number(made, "elevation_deg", "Elevation of the photo's camera", "{:.1f}°")
    model = made.get("model")
    if isinstance(model, Mapping):
        # A folder's name without where it lies on the disk: pages go to other people.
        name = model.get("name")
        rows += (
            [("Model", shown(Path(name).name if Path(name).is_absolute() else name))]
            if isinstance(name, str)
            else []
        )
    rows += _number(made, "seed", "Seed", "{:.0f}")
    for name, document in (("run.json", made), ("recon.json", recon)):
        seconds = document.get("seconds")
        if isinstance(seconds, Mapping):
            command = shown(document.get("command", name), 30)
            rows += _number(seconds, "total", f"Time of mv3d {command}", "{:.1f} s")
    versions = quality.get("versions")
    if isinstance(versions, Mapping) and isinstance(versions.get("mv3d"), str):
        rows.append(("Version of mv3d", shown(versions["mv3d"], 30)))
    return [*rows, *(("Warning", text) for text in _warnings(made) + _warnings(recon))]


def view_figures(asset: Asset, view: int) -> list[str]:
    """What is known of one view: its angles, and how the mesh fits it."""
    found: list[str] = []
    if asset.views is not None and (orbit := asset.views.orbit) is not None:
        found += [
            f"azimuth {orbit.azimuths_deg[view] % 360:.0f}°",
            f"elevation {orbit.elevations_deg[view]:.0f}°",
        ]
    recon = asset.records.get("recon.json", {})
    for key, text in (("iou", "IoU {:.3f}"), ("psnr_db", "{:.1f} dB")):
        values = recon.get(key)
        if asset.views is not None and isinstance(values, list) and len(values) == len(asset.views):
            found += [value for _, value in _number({key: values[view]}, key, "", text)]
    return found


def _number(document: Mapping[str, Any], key: str, label: str, text: str) -> list[tuple[str, str]]:
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return []
    return [(label, text.format(value))]


def _warnings(document: Mapping[str, Any]) -> list[str]:
    given = document.get("warnings")
    return [shown(text, 300) for text in given[:_MOST_WARNINGS]] if isinstance(given, list) else []
