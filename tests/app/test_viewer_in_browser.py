"""`mv3d view` in Chromium. Slow: the browser draws WebGL on the CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from helpers.browser import CHROMIUM, browser_page, needs_browser, screenshot
from helpers.shapes import cube, orbit_of
from helpers.splat_files import splat_file
from PIL import Image

from mv3d.app.exhibits import open_collection
from mv3d.app.viewer import Viewer
from mv3d.cli.main import main

pytest.importorskip("viser")
pytestmark = [pytest.mark.slow, needs_browser]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("view") / "cube"
    orbit_of(cube(), size=64).save(folder)
    cube().export(folder / "mesh.glb")
    rows = np.zeros((1, 14))
    rows[0, 6], rows[0, 7:11] = 9, [np.log(0.2)] * 3 + [1]
    splat_file(folder / "splats.ply", rows)
    return folder


@pytest.fixture(scope="module")
def opened(folder: Path):
    viewer = Viewer(open_collection(folder), port=7207)
    with browser_page(width=1400) as (page, asked):
        page.goto(viewer.address)
        page.get_by_text("Look through").first.wait_for(timeout=120_000)
        page.wait_for_timeout(3000)
        yield viewer, page, asked
    viewer.close()


def _scene(page) -> np.ndarray:
    page.wait_for_timeout(1500)
    return screenshot(page)[:, 320:980].astype(int)


def test_it_draws_the_object_and_asks_nobody_else(opened):
    _, page, asked = opened
    scene = _scene(page)
    assert 0.02 < (np.abs(scene - 255).max(-1) > 20).mean() < 0.7
    assert {
        urlsplit(address).hostname for address in asked if not address.startswith(("data:", "blob:"))
    } == {"127.0.0.1"}


def test_every_look_is_another_picture(opened):
    viewer, page, _ = opened
    seen = {}
    for mode in ("textured", "grey", "wireframe", "normals", "splats", "nothing"):
        viewer.choose(mode)
        seen[mode] = _scene(page)
    viewer.choose("textured")
    pairs = [(a, b) for a in seen for b in seen if a < b]
    assert all((np.abs(seen[a] - seen[b]).max(-1) > 20).mean() > 0.003 for a, b in pairs)


def test_a_click_looks_through_the_camera_of_a_view(opened):
    """The silhouette that the browser draws is that of the view, which our renderer made."""
    viewer, page, _ = opened
    page.get_by_role("button", name="1", exact=True).click()
    page.get_by_text("view 1 · azimuth 60°").wait_for(timeout=30_000)
    page.wait_for_timeout(1500)
    (client,) = viewer.clients
    viewer.show_cameras(False)
    page.wait_for_timeout(1000)
    picture = client.get_render(256, 256, transport_format="png", timeout=60)
    viewer.show_cameras(True)
    drawn = picture[2::4, 2::4, 3] > 127
    wanted = orbit_of(cube(), size=64).images[1, ..., 3] > 0.5
    assert (drawn & wanted).sum() / (drawn | wanted).sum() > 0.95


def test_a_shot_is_the_page(folder: Path, tmp_path: Path, capsys):
    assert main(["view", str(folder), "--shot", str(tmp_path / "a.png"), "--port", "7217"]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "a.png") and f"drawn by {CHROMIUM}" in said.err
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    assert picture.shape[1] == 1400
    assert 0.02 < (np.abs(picture[:, 320:980] - 255).max(-1) > 20).mean() < 0.7


def test_it_listens_at_home_alone_and_ctrl_c_ends_it(folder: Path):
    command = [sys.executable, "-m", "mv3d", "view", str(folder), "--port", "7227"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        port = urlsplit(address).port
        listening = [
            line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if " 0A " in line
        ]
        assert address.startswith("http://127.0.0.1:") and f"0100007F:{port:04X}" in listening
        assert f"00000000:{port:04X}" not in listening
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0 and out == "" and "Traceback" not in err
    finally:
        process.kill()
