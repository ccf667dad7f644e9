"""A real browser for tests: Debian's Chromium, driven by Playwright, drawing WebGL on the CPU."""

from __future__ import annotations

import importlib.util
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="needs Chromium (Debian: apt-get install chromium) and: pip install playwright",
)
_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip


@contextmanager
def browser_page(
    *, offline: bool = False, width: int = 1000, height: int = 900
) -> Iterator[tuple[Any, list[str]]]:
    """A page in a fresh profile, and the list that every address it asks for is added to.

    offline: requests that would leave this machine fail.
    """
    from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=_FLAGS)
        context = browser.new_context(viewport={"width": width, "height": height}, offline=offline)
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        try:
            yield page, asked
        finally:
            browser.close()


def screenshot(target: Any, path: Any = None) -> np.ndarray:
    """(h, w, 3) uint8 of a page or an element of it; kept at `path`, too."""
    content = target.screenshot(timeout=120_000)
    if path is not None:
        path.write_bytes(content)
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
