"""The files of a reconstruction: where they go, which input they belong to, which of them are ours."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mv3d.core.files import sha256
from mv3d.core.outputs import unchanged
from mv3d.core.records import read_record
from mv3d.recon.places import RECORD

_OURS = (
    "mesh.",
    "mesh_texture.png",
    "mesh_normals.png",
    "splats.",
    "points.",
    "recon.json",
    "turntable.mp4",
    "novel",
)


def input_sha256(source: Path) -> str:
    """Hash of the input alone, without what earlier runs wrote into the same folder."""
    if source.suffix.lower() == ".json":
        source = source.parent
    if source.is_file():
        return sha256(source)
    parts = [p for p in sorted(source.iterdir()) if not p.name.startswith((*_OURS, RECORD, "."))]
    parts = [p for p in parts if p.suffix != ".html"]  # of `mv3d page`; no reader of views takes one
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.name}\0{sha256(part)}".encode())
    return digest.hexdigest()


def recon_products(folder: Path) -> list[str]:
    """What `mv3d recon` made of the views in this very folder and nobody changed since; its record first.

    They lose their meaning with the views. Empty where recon was not run, or on other views.
    """
    record = read_record(folder / RECORD)
    if record is None or record.command != "recon":
        return []
    source = Path(record.input or "").resolve()
    here = source in (folder.resolve(), folder.resolve() / "transforms.json")
    # Moved since, or called from elsewhere: then the content decides.
    if not here and str(record.input_sha256).partition(":")[0] != input_sha256(folder):
        return []
    return [RECORD, *unchanged(folder, record)]
