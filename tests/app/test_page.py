"""`mv3d page`: what the file holds, how large it is, and what it never replaces. No browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers.places import REPOSITORY
from helpers.shapes import cube, orbit_of
from helpers.splat_files import splat_file

import mv3d.app
from mv3d.app.asset import Asset, read_asset
from mv3d.app.figures import figure_rows
from mv3d.app.page import LIMIT_BYTES, is_sealed, sealed, write_page
from mv3d.app.pictures import self_contained_glb, thumbnails
from mv3d.cli.main import main
from mv3d.core.errors import InputError, OutputError, UsageError
from mv3d.core.files import to_json
from mv3d.recon.products import input_sha256
from mv3d.render.mesh import Mesh

WEB = Path(mv3d.app.__file__).parent / "web"
RECON = {
    "schema": 1, "command": "recon", "watertight": True, "shells": 1, "iou_mean": 0.91234, "psnr_mean_db": 31.26,
    "iou": [0.9] * 12, "psnr_db": [30.0 + n for n in range(12)], "coverage": 0.777, "seconds": {"total": 12.34},
    "warnings": ["thin <parts> are lost"], "versions": {"mv3d": "0.1.0"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def quick_video(monkeypatch: pytest.MonkeyPatch):
    """A video costs two seconds; the pages of `folder` and one other have real ones."""
    monkeypatch.setattr("mv3d.app.page.turntable_video", lambda mesh, made: b"video")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A views folder with a mesh and the record of a reconstruction."""
    folder = tmp_path_factory.mktemp("page") / "cube"
    orbit_of(cube(), size=64).save(folder)
    cube().export(folder / "mesh.glb")
    (folder / "recon.json").write_text(json.dumps(RECON))
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    made = write_page(folder, folder.parent / "cube.html")
    assert (made.bytes, made.already_done) == (made.path.stat().st_size, False)
    return made.path.read_text(encoding="utf-8")


class _Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_a_page_has_all_its_parts_and_loads_nothing(page: str, folder: Path):
    elements = _Elements(page)
    assert "<title>cube – mv3d</title>" in page and '<html lang="en">' in page
    pictures = elements.of("img")
    assert len(pictures) == 12 + 1 and all(each["alt"] for each in pictures)
    assert "cube, view 11, the photo, azimuth 0°, elevation 10°" in [each["alt"] for each in pictures]
    (video,) = elements.of("video")
    assert (
        video["aria-label"] == "cube, one turn"
        and base64.b64decode(video["src"].split(",")[1])[4:8] == b"ftyp"
    )
    addresses = [
        a[key] for _, a in elements.found for key in ("src", "href", "poster", "srcset", "action") if key in a
    ]
    assert addresses and all(address.startswith("data:") for address in addresses)
    assert not elements.of("link")
    (policy,) = (
        a["content"] for a in elements.of("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None and "default-src 'none'" in policy and "http" not in policy
    rows = dict(re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td></tr>', page))
    assert rows["Silhouette IoU, mean of the views"] == "0.912" and rows["Watertight"] == "yes"
    assert rows["Triangles"] == f"{len(cube().faces):,}" and rows["Warning"] == "thin &lt;parts&gt; are lost"
    assert "view 3 · azimuth 120° · elevation 10° · IoU 0.900 · 33.0 dB" in page


def test_views_alone_are_a_page_without_a_viewer(tmp_path: Path):
    orbit_of(cube(), count=4, size=33).save(tmp_path / "photos")
    made = write_page(tmp_path / "photos", tmp_path / "photos.html")
    text = made.path.read_text(encoding="utf-8")
    elements = _Elements(text)
    assert made.bytes == made.bytes_beside_asset < 100_000 and is_sealed(made.path.read_bytes())
    assert not elements.of("script") and not elements.of("button") and "three.js" not in text
    pictures = elements.of("img")
    assert len(pictures) == 4 and all("photos, view" in str(each["alt"]) for each in pictures)
    (video,) = elements.of("video")
    assert base64.b64decode(video["src"].split(",")[1])[4:8] == b"ftyp"
    assert "<title>photos – mv3d</title>" in text and "4 of 4 views.</p>" in text
    rows = dict(re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td></tr>', text))
    assert rows["Views"] == "4" and "Triangles" not in rows
    assert write_page(tmp_path / "photos", tmp_path / "photos.html").already_done


def test_the_glb_in_a_page_is_the_file_itself(page: str, folder: Path):
    found = re.search(r'id="asset">([^<]*)<', page)
    assert base64.b64decode(found[1]) == (folder / "mesh.glb").read_bytes()


def test_cameras_of_a_page_stand_where_the_views_were_seen_from(page: str):
    cameras = [json.loads(text) for text in re.findall(r"data-camera='([^']*)'", page)]
    photo = cameras[-1]
    elevation = np.radians(10)
    assert np.allclose(
        photo["position"], [0, 2 * np.sin(elevation), 2 * np.cos(elevation)], atol=1e-4
    )  # front: +Z
    assert np.allclose(photo["forward"], -np.array(photo["position"]) / 2, atol=1e-4)
    assert photo["fov_deg"] == pytest.approx(33.8, abs=1e-3)


def test_a_page_stays_within_its_limit_however_many_and_fine_its_views_are():
    noise = np.random.default_rng(0).random((30, 100, 100, 4), np.float32)
    noise[..., 3] = 1
    pictures = thumbnails(noise, 50_000)
    assert len(pictures) == 30 and sum(map(len, pictures)) <= 50_000
    code = sum((WEB / name).stat().st_size for name in ("viewer.bundle.js", "page.css", "page.js"))
    # Pictures, the still one and the video are base64; 200,000 are left for 84 views' captions and the table.
    assert code + (300_000 + 40_000 + 180_000) * 4 / 3 + 100_000 < LIMIT_BYTES


def test_the_demo_views_as_a_page_are_small(tmp_path: Path):
    source = Path(__file__).parents[2] / "examples" / "demo_views"
    shutil.copytree(source, tmp_path / "demo")
    cube().export(tmp_path / "demo" / "mesh.glb")
    made = write_page(tmp_path / "demo", tmp_path / "demo.html")
    assert made.bytes_beside_asset < LIMIT_BYTES
    assert made.bytes - made.bytes_beside_asset == len(
        base64.b64encode((tmp_path / "demo" / "mesh.glb").read_bytes())
    )


def test_names_and_records_from_elsewhere_stay_text(tmp_path: Path):
    evil = "</script><img src=x onerror=alert(1)>"
    folder = tmp_path / "x"
    folder.mkdir()
    cube().export(folder / "mesh.glb")
    record = {
        "schema": 1,
        "warnings": [evil, {"a": evil}],
        "model": {"name": evil},
        "seed": evil,
        "iou_mean": True,
    }
    record |= {"versions": {"mv3d": evil}, "seconds": [evil], "coverage": None}
    (folder / "run.json").write_text(json.dumps(record))
    made = write_page(folder, tmp_path / "x.html", title=evil)
    elements = _Elements(made.path.read_text(encoding="utf-8"))
    assert not [a for _, a in elements.found if "onerror" in a]
    assert len(elements.of("img")) == 1


def test_other_formats_and_files_in_parts_become_a_glb(tmp_path: Path):
    cube().export(tmp_path / "cube.ply")
    made = write_page(tmp_path / "cube.ply", tmp_path / "ply.html")
    found = re.search(r'id="asset">([^<]*)<', made.path.read_text(encoding="utf-8"))
    (tmp_path / "back.glb").write_bytes(base64.b64decode(found[1]))
    assert np.allclose(
        np.sort(Mesh.load(tmp_path / "back.glb").vertices, 0), np.sort(cube().vertices, 0), atol=1e-6
    )
    cube().export(tmp_path / "a.glb")
    content = (tmp_path / "a.glb").read_bytes()
    assert self_contained_glb(cube(), tmp_path / "a.glb") == content
    foreign = content.replace(b'"asset":', b'"extensionsUsed":["KHR_draco_mesh_compression"],"asset":')
    grown = (len(foreign) - len(content)) % 4
    start = 20 + int.from_bytes(content[12:16], "little") + len(foreign) - len(content)
    foreign = foreign[:start] + b" " * (-grown % 4) + foreign[start:]
    length = (start + (-grown % 4) - 20).to_bytes(4, "little")
    (tmp_path / "b.glb").write_bytes(foreign[:12] + length + foreign[16:])
    assert b"draco" not in self_contained_glb(cube(), tmp_path / "b.glb")


def test_a_page_replaces_nothing_of_others(tmp_path: Path, folder: Path):
    mesh = tmp_path / "cube.glb"
    cube().export(mesh)
    out = tmp_path / "page.html"
    write_page(mesh, out)
    before = out.read_bytes()
    assert write_page(mesh, out).already_done and out.read_bytes() == before
    with pytest.raises(OutputError, match="--overwrite"):
        write_page(mesh, out, title="another")
    assert out.read_bytes() == before
    write_page(mesh, out, title="another", overwrite=True)
    changed = out.read_bytes().replace(b"another", b"mine!!!")
    for content in (b"<html>mine</html>", changed, b""):
        out.write_bytes(content)
        with pytest.raises(OutputError, match="no page of mv3d"):
            write_page(mesh, out, overwrite=True)
        assert out.read_bytes() == content
    out.unlink()
    out.symlink_to(mesh)
    with pytest.raises(OutputError, match="no page of mv3d"):
        write_page(mesh, out, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cube.glb", "page.html"]


def test_seals_know_their_own_page():
    content = sealed("<p>a</p>\n")
    assert is_sealed(content) and not is_sealed(content + b"\n") and not is_sealed(b"x" + content)


@pytest.mark.parametrize(
    ("name", "out", "error", "told"),
    [
        ("nothing", "a.html", InputError, "found nothing there"),
        ("splats", "a.html", InputError, "mv3d view"),
        ("empty", "a.html", InputError, "found neither"),
        ("cube.glb", "a.pdf", UsageError, "ends in .html"),
        ("cube.glb", "a", UsageError, "no suffix"),
        ("note.txt", "a.html", InputError, ".glb"),
        ("broken.glb", "a.html", InputError, "broken.glb"),
    ],
)
def test_what_cannot_be_a_page_costs_one_sentence(name, out, error, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cube().export(tmp_path / "cube.glb")
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / "broken.glb").write_bytes(b"glTF" + bytes(50))
    (tmp_path / "empty").mkdir()
    (tmp_path / "splats").mkdir()
    splat_file(tmp_path / "splats" / "splats.ply", np.eye(3, 14))
    with pytest.raises(error, match=re.escape(told)):
        write_page(name, out)
    assert main(["page", name, "--out", out]) == error.exit_code
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.glob("a*"))


def test_the_command_prints_the_file(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cube().export(tmp_path / "cube.glb")
    assert main(["page", "cube.glb"]) == 0
    assert capsys.readouterr().out.strip() == "cube.html"
    assert main(["page", "cube.glb", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["already_done"] is True


def test_a_page_in_a_views_folder_leaves_its_reconstruction_current(tmp_path: Path):
    orbit_of(cube(), count=4, size=32).save(tmp_path / "views")
    before = input_sha256(tmp_path / "views")
    (tmp_path / "views" / "page.html").write_text("x")
    assert input_sha256(tmp_path / "views") == before


def test_the_video_of_a_mesh_is_the_recorded_one_while_the_mesh_is(tmp_path: Path):
    cube().export(tmp_path / "mesh.glb")
    (tmp_path / "turntable.mp4").write_bytes(b"video")
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.iterdir()}
    (tmp_path / "recon.json").write_text(to_json({"schema": 1, "command": "recon", "outputs": digests}))
    assert read_asset(tmp_path).turntable == tmp_path / "turntable.mp4"
    replace(cube(), vertices=cube().vertices * 2).export(tmp_path / "mesh.glb")
    assert read_asset(tmp_path).turntable is None


def test_paths_of_this_disk_do_not_travel():
    asset = Asset("a", records={"run.json": {"model": {"name": "/home/somebody/models/tiny"}}})
    assert ("Model", "tiny") in figure_rows(asset)


def test_the_bundle_is_made_of_the_source_beside_it_and_carries_its_licence():
    web = REPOSITORY / "mv3d" / "app" / "web"  # an installed package holds no source
    bundle = (web / "viewer.bundle.js").read_text(encoding="utf-8")
    source = (web / "source" / "viewer.mjs").read_bytes()
    again = "run mv3d/app/web/source/make_bundle.sh"
    assert f"sha256 {hashlib.sha256(source).hexdigest()}" in bundle[:300], again
    assert (web / "three-LICENSE").read_text(encoding="utf-8").strip() in bundle
    note = (web / "source" / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(bundle.encode()).hexdigest() in note, (
        f"{again}, and write its sha256 into README.md"
    )
    locked = json.loads((web / "source" / "package-lock.json").read_text())["packages"]["node_modules/three"]
    assert f"three.js {locked['version']}" in bundle[:300]
    assert locked["version"] in note and locked["integrity"] in note
