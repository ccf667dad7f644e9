"""`mv3d page`: an asset as one HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mv3d.cli.output import note, print_result
from mv3d.core.flags import SAID


@dataclass(frozen=True)
class PageCommand:
    """Put a mesh, the views it was made of and its numbers into one HTML file. It opens in any browser from a disk or out of
    a mail, without a network."""

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PATH")]
    """A views folder, with a mesh or without, or a 3D file: glb, gltf, obj, ply, stl, off."""
    out: Annotated[Path | None, SAID] = None
    """The file to write. Default: NAME.html in the present folder."""
    title: Annotated[str | None, SAID] = None
    """What stands at the top. Default: the name of the folder or the file."""
    overwrite: bool = False
    """Replace an earlier page that nobody changed, no other file."""
    json: bool = False
    """Print one JSON object."""


def page(command: PageCommand) -> int:
    """Run the command; the exit code."""
    from mv3d.app.page import write_page

    made = write_page(command.path, command.out, title=command.title, overwrite=command.overwrite)
    if made.already_done:
        note("done already: the same page is there")
    else:
        note(f"{made.bytes / 1e6:.1f} MB, {made.bytes_beside_asset / 1e6:.2f} MB of them beside the mesh")
    document = {
        "path": str(made.path),
        "bytes": made.bytes,
        "bytes_beside_asset": made.bytes_beside_asset,
        "already_done": made.already_done,
    }
    print_result([str(made.path)], document, as_json=command.json)
    return 0
