"""A picture of what `mv3d view` shows: by a headless browser, or by our own renderer where there is none."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mv3d.app.exhibits import Exhibit, difference
from mv3d.core.errors import OutputError, UsageError
from mv3d.core.files import atomic_path
from mv3d.render.turntable import turntable
from mv3d.views.folder import to_uint8
from mv3d.views.views import composite

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--remote-debugging-port=0", "--hide-scrollbars",
)  # fmt: skip
_SIDE, _CELL = 640, 160


class BrowserFailed(Exception):
    """The browser did not show the page in time."""


def check_shot(path: Path) -> None:
    """Raise UsageError for another suffix than .png, OutputError where a file is there or the folder is not."""
    if path.suffix.lower() != ".png":
        raise UsageError(
            f"--shot {path}: expected a name that ends in .png, got {path.suffix or 'no suffix'}"
        )
    if os.path.lexists(path):
        raise OutputError(f"{path}: is there already; choose another name, or move it")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: expected a folder, found none; make it first")


def find_browser() -> str | None:
    """The program of an installed Chromium or Chrome."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


def save_shot(picture: bytes, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with atomic_path(path, hint="choose another name") as part:
        part.write_bytes(picture)


def browser_shot(
    browser: str,
    address: str,
    ready: Callable[[], bool],
    *,
    size: tuple[int, int] = (1400, 900),
    patience_s: float = 120.0,
) -> bytes:
    """A PNG of a page in a browser of a fresh profile, once `ready` says yes. Raises BrowserFailed."""
    from websockets.sync.client import connect  # noqa: PLC0415 - comes with viser  # pyright: ignore[reportMissingImports]

    with tempfile.TemporaryDirectory(prefix="mv3d-browser-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [browser, *_FLAGS, f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + patience_s
        try:
            port_file = Path(profile) / "DevToolsActivePort"
            _wait(lambda: port_file.is_file() and "\n" in port_file.read_text(), end, process)
            port = port_file.read_text().split()[0]
            _wait(ready, end, process)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
                pages = [page for page in json.load(answer) if page["type"] == "page"]
            with connect(pages[0]["webSocketDebuggerUrl"], max_size=None, open_timeout=30) as channel:
                # Notices of the viewer, of drawing in software for one, are no part of the picture.
                hidden = "document.querySelectorAll('.mantine-Notifications-root').forEach(e => e.remove())"
                for number, method, params in (
                    (0, "Runtime.evaluate", {"expression": hidden}),
                    (1, "Page.captureScreenshot", {"format": "png"}),
                ):
                    channel.send(json.dumps({"id": number, "method": method, "params": params}))
                while True:
                    message = json.loads(channel.recv(timeout=max(end - time.monotonic(), 1)))
                    if message.get("id") == 1:
                        return base64.b64decode(message["result"]["data"])
        except (OSError, KeyError, IndexError, ValueError, TimeoutError) as error:
            raise BrowserFailed(f"{type(error).__name__}: {error}") from error
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def viewer_shot(viewer: Any, browser: str) -> bytes:
    """A PNG of the page of a `Viewer` with all of its scene drawn. Raises BrowserFailed."""
    seen: list[float] = []

    def ready() -> bool:
        if not viewer.clients:
            return False
        if not seen:
            try:  # it answers when it has drawn what it was sent
                viewer.clients[0].get_render(64, 64, timeout=60)
            except (TimeoutError, RuntimeError) as error:
                raise BrowserFailed(str(error)) from error
            seen.append(time.monotonic())
        return time.monotonic() - seen[0] > 3  # pictures of the panel are decoded after they came

    return browser_shot(browser, viewer.address, ready)


def own_shot(exhibit: Exhibit) -> bytes:
    """A PNG without a browser: the mesh, textured and shaded, and six views beside what they are compared with."""
    columns: list[np.ndarray] = []
    if exhibit.mesh is not None:
        columns.append(turntable(exhibit.mesh, frames=1, size=_SIDE)[0])
    if exhibit.views is not None:
        count = len(exhibit.views)
        chosen = [round(i * (count - 1) / 5) for i in range(6)] if count > 6 else list(range(count))
        rows = []
        for view in chosen:
            picture, other = exhibit.views.images[view], exhibit.other(view)
            cells = [composite(picture)]
            if other is not None:
                cells += [composite(other), difference(picture, other)[0]]
            rows.append(np.concatenate([_cell(cell) for cell in cells], 1))
        columns.append(np.concatenate(rows, 0))
    height = max(column.shape[0] for column in columns)
    padded = [np.pad(c, ((0, height - len(c)), (0, 8), (0, 0)), constant_values=255) for c in columns]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(padded, 1)).save(buffer, "PNG")
    return buffer.getvalue()


def _cell(picture: np.ndarray) -> np.ndarray:
    image = ImageOps.contain(Image.fromarray(to_uint8(picture)), (_CELL, _CELL), Image.Resampling.LANCZOS)
    cell = Image.new("RGB", (_CELL, _CELL), "white")
    cell.paste(image, ((_CELL - image.width) // 2, (_CELL - image.height) // 2))
    return np.asarray(cell)


def _wait(done: Callable[[], bool], end: float, process: subprocess.Popen[bytes]) -> None:
    while not done():
        if process.poll() is not None:
            raise BrowserFailed(f"it ended with {process.returncode}")
        if time.monotonic() > end:
            raise BrowserFailed("the page did not come in time")
        time.sleep(0.2)
