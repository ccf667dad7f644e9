"""`mv3d page`: one HTML file that shows an asset without a network, from a disk or out of a mail."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import warnings
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from mv3d.app.asset import Asset, read_asset
from mv3d.app.figures import figure_rows, view_figures
from mv3d.app.pictures import data_uri, self_contained_glb, thumbnails, turntable_video, views_video
from mv3d.core.errors import InputError, Mv3dWarning, OutputError, UsageError
from mv3d.core.files import write_files
from mv3d.core.version import __version__
from mv3d.render.cameras import gltf_from_world
from mv3d.render.turntable import turntable

LIMIT_BYTES = 1_500_000
"""Most that a page holds beside the asset, which is base64 in it."""
_VIEWS_BYTES = 300_000
_MOST_VIEWS = 84
_MAIL_BYTES = 20_000_000
# Nothing is loaded from anywhere: not by the file, and not by what somebody wrote into a name.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:; "
    "media-src data:; connect-src data: blob:; base-uri 'none'; form-action 'none'"
)
_SEAL = re.compile(rb"<!-- mv3d page; sha256 of what stands above: ([0-9a-f]{64}) -->\n\Z")


@dataclass(frozen=True)
class PageResult:
    """bytes: of the file. bytes_beside_asset: without the base64 of the GLB. already_done: it was there, the same."""

    path: Path
    bytes: int
    bytes_beside_asset: int
    already_done: bool = False


def write_page(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    title: str | None = None,
    overwrite: bool = False,
) -> PageResult:
    """What `mv3d page` does: the mesh of a views folder, views alone, or a mesh alone, as one HTML file.

    out: by default NAME.html in the present folder. title: by default the name of the folder or the file.
    Raises InputError where there is neither, UsageError for another suffix than .html, OutputError where another file, or
    without `overwrite` another page, is in the way.
    """
    source = Path(source)
    target = Path(f"{source.resolve().stem}.html") if out is None else Path(out)
    if target.suffix.lower() not in (".html", ".htm"):
        raise UsageError(
            f"--out {target}: expected a name that ends in .html, got {target.suffix or 'no suffix'}"
        )
    _refuse_strangers(target)
    asset = read_asset(source)
    if asset.mesh is None and asset.views is None:
        raise InputError(
            f"{source}: expected a mesh or views, found splats alone; look at them with: mv3d view {source}"
        )
    glb = b"" if asset.mesh is None else self_contained_glb(asset.mesh, asset.mesh_file)
    page = sealed(page_html(asset, glb, title=title or asset.name))
    result = PageResult(target, len(page), len(page) - len(base64.b64encode(glb)))
    if target.exists():
        if target.read_bytes() == page:
            return PageResult(target, result.bytes, result.bytes_beside_asset, already_done=True)
        if not overwrite:
            raise OutputError(
                f"{target}: is a page of something else, or of another version; use --overwrite to replace it, or "
                "choose another --out"
            )
    if len(page) > _MAIL_BYTES:
        warnings.warn(
            f"{target.name}: {len(page) / 1e6:.0f} MB, more than most mails carry; mv3d recon --profile web makes a mesh of "
            "3 MB at most",
            Mv3dWarning,
            stacklevel=2,
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror}); choose another --out") from error
    write_files({target: page})
    return result


def page_html(asset: Asset, glb: bytes, *, title: str) -> str:
    """The page of an asset. glb: what the viewer shows, as `self_contained_glb` makes it; without a mesh there is none."""
    heading = escape(title)
    if asset.mesh is not None:
        video = turntable_video(asset.mesh, asset.turntable)
    else:
        assert asset.views is not None, "a page shows a mesh or views"
        video = views_video(asset.views)
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="mv3d {__version__}">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{heading} – mv3d</title><style>{_web('page.css')}</style></head><body>",
        f"<header><h1>{heading}</h1></header><main>",
        *_object_section(asset, heading),
        '<section><h2>Turntable</h2><div class="pair"><video controls loop muted playsinline preload="metadata" '
        f'aria-label="{heading}, one turn" src="{data_uri(video, "video/mp4")}"></video></div></section>',
        *_views_section(asset, heading),
        "<section><h2>Numbers</h2><table><tbody>",
        *(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in figure_rows(asset)),
        "</tbody></table></section></main>",
        f'<footer class="quiet"><p>Made by mv3d {__version__}.{" The viewer is three.js (MIT)." if glb else ""}</p></footer>',
        *_viewer_scripts(glb),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _object_section(asset: Asset, heading: str) -> list[str]:
    if asset.mesh is None:
        return []
    poster = (turntable(asset.mesh, frames=1, size=384)[0] / 255).astype(np.float32)
    (still,) = thumbnails(np.dstack([poster, np.ones(poster.shape[:2], np.float32)])[None], 40_000)
    return [
        '<section aria-label="The object">',
        f'<div id="viewer" data-label="{heading}: a 3D object. Arrow keys turn it, plus and minus zoom.">',
        f'<img src="{data_uri(still, "image/webp")}" alt="{heading}, seen from its front"></div>',
        '<p id="viewer-note" class="quiet" role="status">Drag to turn, scroll to zoom. Keys: <kbd>1</kbd> textured, '
        "<kbd>2</kbd> grey, <kbd>3</kbd> wireframe, <kbd>4</kbd> normals, <kbd>T</kbd> turn, <kbd>R</kbd> reset; "
        "<kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd> <kbd>+</kbd> <kbd>−</kbd> while the picture is focused.</p>",
        "<noscript><p>Without JavaScript the object stays a still picture.</p></noscript></section>",
    ]


def _viewer_scripts(glb: bytes) -> list[str]:
    if not glb:
        return []
    return [
        f'<script type="application/octet-stream" id="asset">{base64.b64encode(glb).decode()}</script>',
        f'<script type="module">{_web("viewer.bundle.js")}</script>',
        f'<script type="module">{_web("page.js")}</script>',
    ]


def sealed(page: str) -> bytes:
    """The page as bytes, with its own hash in the last line: so it is known to be ours, and unchanged."""
    content = page.encode()
    digest = hashlib.sha256(content).hexdigest()
    return content + f"<!-- mv3d page; sha256 of what stands above: {digest} -->\n".encode()


def is_sealed(content: bytes) -> bool:
    """Whether `sealed` made it and nobody changed it."""
    found = _SEAL.search(content)
    return found is not None and hashlib.sha256(content[: found.start()]).hexdigest() == found[1].decode()


def _refuse_strangers(target: Path) -> None:
    """Raise OutputError for a folder, a link, and a file that is no page of ours as we wrote it."""
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_file() or not is_sealed(target.read_bytes()):
        raise OutputError(
            f"{target}: is no page of mv3d, or was changed since it was written; choose another --out, or move it"
        )


def _views_section(asset: Asset, heading: str) -> list[str]:
    views = asset.views
    if views is None:
        return []
    count = len(views)
    chosen = [
        round(i * (count - 1) / max(min(count, _MOST_VIEWS) - 1, 1)) for i in range(min(count, _MOST_VIEWS))
    ]
    pictures = thumbnails(views.images[chosen], _VIEWS_BYTES)
    cameras = views.cameras
    positions = gltf_from_world(cameras.centers)
    forwards = gltf_from_world(-cameras.c2w[:, :3, 2])
    hint = " Choose one to see the object from its camera." if asset.mesh is not None else ""
    lines = [
        f'<section><h2>Views</h2><p class=quiet>{len(chosen)} of {count} views.{hint}</p><ul class="views">'
    ]
    for view, picture in zip(chosen, pictures, strict=True):
        camera: dict[str, Any] = {
            "position": positions[view].round(5).tolist(),
            "forward": forwards[view].round(5).tolist(),
            "fov_deg": round(float(np.degrees(2 * np.arctan(cameras.height / 2 / cameras.fl_y[view]))), 3),
        }
        number = f"view {view}" + (", the photo" if view == views.input_view else "")
        known = [number, *view_figures(asset, view)]
        shown = f'<img loading="lazy" src="{data_uri(picture, "image/webp")}" alt="{heading}, {escape(", ".join(known[:3]))}">'
        if asset.mesh is not None:
            shown = f"<button type=button data-camera='{json.dumps(camera)}'>{shown}</button>"
        lines.append(f"<li><figure>{shown}<figcaption>{escape(' · '.join(known))}</figcaption></figure></li>")
    return [*lines, "</ul></section>"]


def _web(name: str) -> str:
    """A file of the page, safe inside its element."""
    text = files("mv3d.app").joinpath("web", name).read_text(encoding="utf-8")
    if re.search(r"</(script|style)|<!--", text, re.IGNORECASE):
        raise ValueError(f"{name}: holds what would end its element; make the bundle anew")
    return text
