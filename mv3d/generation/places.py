"""Where the results of a photo go. Loads nothing heavy."""

from __future__ import annotations

from pathlib import Path

from mv3d.core.errors import UsageError
from mv3d.views.images import require_image

RECORD = "run.json"


def require_photo(image: Path) -> None:
    """Refuse what is no single photo. Raises UsageError for a folder, InputError for a file that is no image."""
    if image.is_dir():
        raise UsageError(f"{image}: expected one photo, got a folder; mv3d generate takes folders of photos")
    require_image(image)


def make_folder(image: Path, out: Path | None = None) -> Path:
    """Of the views and the mesh that `mv3d make` makes, by default `out/<name of the photo>`."""
    return Path("out", image.stem) if out is None else out


def lift_folder(image: Path, out: Path | None = None) -> Path:
    """Of the mesh that `mv3d lift` makes, by default `out/<name of the photo>-lift`."""
    return Path("out", f"{image.stem}-lift") if out is None else out
