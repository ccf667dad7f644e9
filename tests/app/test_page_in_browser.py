"""A page in Chromium: offline, from a file. Slow: the browser draws WebGL on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.browser import browser_page, needs_browser, screenshot
from helpers.shapes import cube, orbit_of

from mv3d.app.page import write_page

pytestmark = [pytest.mark.slow, needs_browser]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("page") / "cube"
    orbit_of(cube(), size=64).save(folder)
    cube().export(folder / "mesh.glb")
    made = write_page(folder, folder.parent / "cube.html")
    with browser_page(offline=True) as (page, asked):
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        page.goto(made.path.as_uri())
        page.wait_for_selector("#viewer[data-state]", timeout=120_000)
        yield page, asked, problems


def _object_share(picture: np.ndarray) -> float:
    """Share of the pixels above the buttons that differ from the background."""
    area = picture[4:-60, 4:-4].astype(int)
    return float((np.abs(area - area[0, 0]).max(-1) > 8).mean())


def test_it_opens_offline_and_asks_for_nothing(opened):
    page, asked, problems = opened
    assert page.get_attribute("#viewer", "data-state") == "ready" and problems == []
    assert [address for address in asked if not address.startswith(("file:", "data:", "blob:"))] == []
    assert page.title() == "cube – mv3d"
    assert page.locator("img:not([alt])").count() == 0
    # All pictures and the video are decoded.
    page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    page.wait_for_function("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    page.wait_for_function("document.querySelector('video').readyState >= 1")


def test_webgl_draws_the_object_and_keys_change_its_look(opened, tmp_path: Path):
    page, _, _ = opened
    stage = page.locator("#viewer")
    seen = {}
    for key, mode in enumerate(("textured", "grey", "wireframe", "normals"), 1):
        page.keyboard.press(str(key))
        page.wait_for_function(f"document.querySelector('#viewer').dataset.mode === '{mode}'")
        page.wait_for_timeout(400)
        seen[mode] = screenshot(stage, tmp_path / f"{mode}.png")
        assert page.locator("[aria-pressed=true]").inner_text() == mode.capitalize()
        assert 0.05 < _object_share(seen[mode]) < 0.6
    flat = {mode: picture[4:-60, 4:-4].astype(int) for mode, picture in seen.items()}
    pairs = [(a, b) for a in flat for b in flat if a < b]
    assert all((np.abs(flat[a] - flat[b]).max(-1) > 8).mean() > 0.02 for a, b in pairs)
    grey = flat["grey"][np.abs(flat["grey"] - flat["grey"][0, 0]).max(-1) > 8]
    assert np.ptp(grey, axis=-1).mean() < 6


def test_it_can_be_turned_without_a_mouse(opened):
    page, _, _ = opened
    page.keyboard.press("1")
    page.keyboard.press("r")
    page.wait_for_timeout(300)
    before = screenshot(page.locator("#viewer")).astype(int)
    page.locator("#viewer canvas").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    turned = screenshot(page.locator("#viewer")).astype(int)
    assert (np.abs(before - turned).max(-1) > 8).mean() > 0.02
    page.keyboard.press("t")
    page.wait_for_timeout(1500)
    page.keyboard.press("t")
    page.wait_for_timeout(300)
    later = screenshot(page.locator("#viewer")).astype(int)
    assert (np.abs(later - turned).max(-1) > 8).mean() > 0.02
    page.locator("#viewer canvas").press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Textured"


def test_a_view_is_seen_from_its_camera(opened):
    """The silhouette that the browser draws is that of the view, which our renderer made."""
    page, _, _ = opened
    page.keyboard.press("1")
    page.locator(".views button").nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    picture = screenshot(page.locator("#viewer"))
    height, width = picture.shape[:2]
    middle = picture[:, (width - height) // 2 : (width + height) // 2].astype(int)
    drawn = np.abs(middle - picture[4, 4].astype(int)).max(-1) > 8
    size = 64
    places = ((np.arange(size) + 0.5) * height / size).astype(int)
    drawn = drawn[places][:, places]
    wanted = orbit_of(cube(), size=size).images[1, ..., 3] > 0.5
    rows = slice(0, size - 7)  # the buttons lie below
    drawn, wanted = drawn[rows], wanted[rows]
    assert (drawn & wanted).sum() / (drawn | wanted).sum() > 0.93
