"""Where the results of a reconstruction go. Loads nothing heavy."""

from __future__ import annotations

from pathlib import Path

RECORD = "recon.json"


def default_out_dir(source: Path) -> Path:
    """A folder keeps its results; those of a file go to `<name>_recon` in the present folder."""
    if source.is_dir():
        return source
    if source.suffix.lower() == ".json":
        return source.parent
    return Path(f"{source.stem}_recon")
