"""`mv3d view`: results in the browser."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from mv3d.cli.output import note, print_result
from mv3d.core.flags import SAID

if TYPE_CHECKING:
    from mv3d.app.exhibits import Collection


@dataclass(frozen=True)
class ViewCommand:
    """Look at a result in the browser: the mesh from all sides, its cameras and views, what differs, and the numbers. Ctrl-C
    ends it."""

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PATH")]
    """A views folder, a 3D file, a file of splats (.ply, .splat, .spz), training shards (a folder or one .tar), or the folder of mv3d eval run: truth beside model."""
    host: str = "127.0.0.1"
    """The address to listen at. With 0.0.0.0 everybody in the network can look."""
    port: int = 7007
    """The port to listen at, or the next free one."""
    shot: Annotated[Path | None, SAID] = None
    """Save what is shown to this PNG and end: by an installed Chromium without a window, else by mv3d's own renderer."""


def view(command: ViewCommand) -> int:
    """Run the command; the exit code."""
    from mv3d.app.exhibits import open_collection
    from mv3d.app.shot import check_shot
    from mv3d.core.errors import UsageError
    from mv3d.core.signals import Terminated

    if not 0 < command.port < 65536:
        raise UsageError(f"--port: expected 1 to 65535, got {command.port}")
    if command.shot is not None:
        check_shot(command.shot)
        return _save(open_collection(command.path), command.shot, command.port)
    from mv3d.app.viewer import Viewer, import_viser

    import_viser()  # what is missing is said before anything is read
    viewer = Viewer(open_collection(command.path), host=command.host, port=command.port)
    try:
        print_result([viewer.address], {}, as_json=False)
        note("Ctrl-C ends it")
        threading.Event().wait()
    except Terminated:
        raise
    except KeyboardInterrupt:
        note("ended")
    finally:
        viewer.close()
    return 0


def _save(collection: Collection, path: Path, port: int) -> int:
    from mv3d.app.shot import BrowserFailed, find_browser, own_shot, save_shot, viewer_shot
    from mv3d.app.viewer import Viewer
    from mv3d.core.errors import MissingPartError

    browser, why, picture = find_browser(), "no Chromium is installed", None
    if browser is not None:
        try:
            viewer = Viewer(collection, port=port)
            try:
                picture = viewer_shot(viewer, browser)
            finally:
                viewer.close()
        except MissingPartError:
            why = "viser is not installed"
        except BrowserFailed as error:
            why = f"{browser} failed: {error}"
    if picture is not None:
        note(f"drawn by {browser}")
    else:
        note(f"drawn by mv3d's own renderer: {why}")
        picture = own_shot(collection.read(collection.names[0]))
    save_shot(picture, path)
    print_result([str(path)], {}, as_json=False)
    return 0
