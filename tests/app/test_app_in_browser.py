"""`mv3d app` in Chromium, with its real process and the default model. Slow: a job takes a minute."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.browser import browser_page, needs_browser, screenshot
from helpers.validator import READY, issues_of
from PIL import Image

from mv3d.render.mesh_io import load_mesh

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

PHOTO = Path(__file__).parents[2] / "examples" / "chair.png"
DEMO = PHOTO.parent / "demo_views"
PICTURES = os.environ.get("MV3D_TEST_PICTURES")
"""A folder to keep the screenshots in."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("app") / "jobs"
    command = [sys.executable, "-m", "mv3d", "app", "--port", "0", "--out", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.wait(60)


def _get(address: str) -> dict:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return json.load(answer)


def test_a_program_gets_a_mesh_of_a_photo(address: str, tmp_path: Path):
    httpx = pytest.importorskip("httpx2")
    sent = httpx.post(
        f"{address}v1/jobs",
        files={"photo": PHOTO.read_bytes()},
        data={"settings": json.dumps({"quality": "draft", "views": 8, "format": "glb,stl"})},
        timeout=120,
    )
    job, stages, end = {"state": ""}, set(), time.monotonic() + 500
    while job["state"] not in ("done", "failed"):
        assert time.monotonic() < end, job
        job = _get(f"{address}v1/jobs/{sent.json()['id']}")
        stages.add(job["stage"])
        time.sleep(0.1)
    assert job["state"] == "done", job["error"]
    assert {
        "mesh.glb",
        "mesh.stl",
        "cutout.png",
        "images/000.png",
        "images/007.png",
        "run.json",
        "recon.json",
    } <= set(job["files"])
    assert len(stages) > 3
    content = httpx.get(address.rstrip("/") + job["files"]["mesh.glb"]).content
    (tmp_path / "mesh.glb").write_bytes(content)
    assert len(load_mesh(tmp_path / "mesh.glb").faces) > 500


def test_a_program_gets_a_mesh_of_views(address: str):
    httpx = pytest.importorskip("httpx2")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(DEMO.rglob("*")):
            archive.write(path, f"demo/{path.relative_to(DEMO)}")
    sent = httpx.post(
        f"{address}v1/jobs",
        files={"views": ("demo.zip", packed.getvalue())},
        data={"settings": json.dumps({"quality": "draft", "format": "glb,splat"})},
        timeout=120,
    )
    assert sent.status_code == 201, sent.text
    end = time.monotonic() + 500
    while (job := _get(f"{address}v1/jobs/{sent.json()['id']}"))["state"] not in ("done", "failed"):
        assert time.monotonic() < end, job
        time.sleep(0.1)
    assert job["state"] == "done", job["error"]
    assert {"mesh.glb", "splats.splat", "recon.json"} <= set(job["files"])


@pytest.fixture(scope="module")
def opened(address: str):
    with browser_page(height=1500) as (page, asked):
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        page.goto(address)
        page.locator("#formats input").first.wait_for()
        yield page, asked, problems


@needs_browser
def test_a_photo_becomes_a_glb_in_the_browser(opened, tmp_path: Path):
    page, _, problems = opened
    page.get_by_label("Drop a photo").set_input_files(str(PHOTO))
    page.get_by_label("Quality").select_option("instant")
    assert page.get_by_label("splat", exact=True).is_disabled()
    page.get_by_label("stl").check()
    seen: list[str] = []
    page.get_by_role("button", name="Make it").press("Enter")
    page.locator("#job").wait_for(timeout=60_000)
    end = time.monotonic() + 400
    while (text := page.locator("#state").inner_text()) not in ("done", "failed", "cancelled"):
        assert time.monotonic() < end, text
        seen += [text] if text not in seen[-1:] else []
        page.wait_for_timeout(50)
    assert text == "done", page.locator("#error").inner_text()
    assert any(each.startswith("running: ") for each in seen)
    page.wait_for_selector("#viewer[data-state=ready]", timeout=120_000)
    page.wait_for_timeout(1000)
    screenshot(page, (Path(PICTURES) if PICTURES else tmp_path) / "app.png")
    area = screenshot(page.locator("#viewer"))[4:-60, 4:-4].astype(int)
    assert 0.02 < (np.abs(area - area[0, 0]).max(-1) > 8).mean() < 0.7
    assert page.locator("#cutout").evaluate("image => image.naturalWidth") == 384
    assert page.get_by_role("link", name="mesh.stl").count() == 1
    with page.expect_download() as download:
        page.get_by_role("link", name="mesh.glb").click()
    download.value.save_as(tmp_path / "mesh.glb")
    assert len(load_mesh(tmp_path / "mesh.glb").faces) > 500
    if READY:
        (issues,) = issues_of([tmp_path / "mesh.glb"]).values()
        assert [issues[key] for key in ("numErrors", "numWarnings", "numInfos", "numHints")] == [0] * 4
    assert problems == []


@needs_browser
def test_views_are_seen_as_they_come(opened, tmp_path: Path):
    page, _, problems = opened
    page.get_by_label("Drop a photo").set_input_files(str(PHOTO))
    page.get_by_label("Quality").select_option("draft")
    page.get_by_role("button", name="Make it").press("Enter")
    seen: list[str] = []
    end = time.monotonic() + 500
    while (text := page.locator("#state").inner_text()) not in ("done", "failed", "cancelled") or not seen:
        assert time.monotonic() < end, text
        title = page.locator("#views-title").inner_text() if page.locator("#views-part").is_visible() else ""
        if title and title not in seen:
            seen.append(title)
            if len(seen) == 4:
                screenshot(page, (Path(PICTURES) if PICTURES else tmp_path) / "app-views-so-far.png")
                assert "not cut out yet" in str(page.locator("#views img").first.get_attribute("alt"))
        page.wait_for_timeout(50)
    assert text == "done", page.locator("#error").inner_text()
    assert len([each for each in seen if each.startswith("Views so far: ")]) >= 3 and seen[-1] == "Views"
    assert page.locator("#views img").count() == 21
    page.locator("#views img").last.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    whole = "images => images.every(image => image.naturalWidth > 0 && /view \\d+ of 21$/.test(image.alt))"
    assert page.locator("#views img").evaluate_all(whole)
    screenshot(page, (Path(PICTURES) if PICTURES else tmp_path) / "app-views.png")
    assert problems == []


@needs_browser
def test_a_job_is_cancelled_by_the_keyboard_and_earlier_ones_are_found_again(opened):
    page, _, problems = opened
    page.get_by_label("Quality").select_option("high")
    page.get_by_role("button", name="Make it").press("Enter")
    page.locator("#state[data-state=running]").wait_for(timeout=60_000)
    page.locator("#cancel").press("Enter")
    page.locator("#state[data-state=cancelled]").wait_for(timeout=60_000)
    page.reload()
    row = "#jobs tbody tr:nth-child({})"
    page.locator(row.format(2)).wait_for()
    states = page.locator("#jobs tbody tr td:nth-child(3)").all_inner_texts()
    assert states[:2] == ["cancelled", "done"]
    page.locator(row.format(2)).get_by_role("button").press("Enter")
    page.wait_for_selector("#viewer[data-state=ready]", timeout=120_000)
    assert page.evaluate("document.activeElement.id") == "job-title"
    assert problems == []


@needs_browser
def test_a_damaged_photo_is_told_in_the_servers_sentence(opened, tmp_path: Path):
    page, asked, _ = opened
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    page.get_by_label("Drop a photo").set_input_files(str(broken))
    page.get_by_role("button", name="Make it").click()
    page.get_by_text("photo: expected an image").wait_for(timeout=30_000)
    here = page.evaluate("location.origin")
    assert all(each.startswith((here, "data:", "blob:")) for each in asked)


@needs_browser
def test_the_page_can_be_used_without_seeing_it(opened):
    page, _, _ = opened
    assert page.locator("img:not([alt])").count() == 0
    unnamed = "[...document.querySelectorAll('input,select')].filter(i => !i.labels.length).length"
    assert page.evaluate(unnamed) == 0
    assert page.locator("#note[role=alert]").count() == page.locator("#state[role=status]").count() == 1


@needs_browser
def test_a_photo_is_dropped(opened):
    page, _, _ = opened
    page.evaluate(
        """bytes => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "chair.png", { type: "image/png" }));
            document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
        }""",
        list(PHOTO.read_bytes()),
    )
    page.wait_for_function("document.getElementById('chosen').naturalWidth > 0")
    assert page.evaluate("document.getElementById('photo').files[0].name") == "chair.png"
    assert page.evaluate("document.getElementById('chosen').naturalWidth") == Image.open(PHOTO).width
