from __future__ import annotations

import io
import json
import os
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.job_stub_command import STUB
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("python_multipart")
from starlette.testclient import TestClient

from mv3d.app.job_runner import JobRunner
from mv3d.app.job_store import JobStore
from mv3d.app.server import Offer, make_app

HERE = "http://127.0.0.1:7008"
OFFER = Offer(max_upload_bytes=300_000, max_queued=300)


def _png(width: int = 16, height: int = 16, seed: int = 0) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def _huge_png() -> bytes:
    """The header of a picture of 10^10 pixels."""
    import struct
    import zlib

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 6, 0, 0, 0)
    chunk = b"IHDR" + head
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(head)) + chunk + struct.pack(">I", zlib.crc32(chunk))


def _zip(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


PNG = _png()


@pytest.fixture
def client(tmp_path: Path):
    store = JobStore(tmp_path / "jobs")
    store.load()
    app = make_app(JobRunner(store, STUB, grace_s=0.3), OFFER, device_of=lambda name: "cpu")
    with TestClient(app, base_url=HERE) as client:
        yield client


def _send(client: TestClient, title: str = "done.png", settings: object = None):
    data = {} if settings is None else {"settings": json.dumps(settings)}
    return client.post("/v1/jobs", files={"photo": (title, PNG)}, data=data)


def _until(client: TestClient, job_id: str, *states: str, seconds: float = 30) -> dict:
    end = time.monotonic() + seconds
    while (job := client.get(f"/v1/jobs/{job_id}").json())["state"] not in states:
        assert time.monotonic() < end, f"hung: {job}"
        time.sleep(0.02)
    return job


def test_a_photo_becomes_files(client: TestClient):
    answer = _send(client, "done.png", {"quality": "draft", "format": "glb,stl"})
    assert answer.status_code == 201
    job = _until(client, answer.json()["id"], "done", "failed")
    assert (job["state"], job["error"], job["progress"], job["title"]) == ("done", None, 1.0, "done.png")
    assert job["settings"] == {"quality": "draft", "formats": ["glb", "stl"]}
    assert set(job["files"]) == {"cutout.png", "mesh.glb", "images/000.png"}
    mesh = client.get(job["files"]["mesh.glb"])
    assert mesh.content == b"glTF of " + PNG[:4]
    assert mesh.headers["content-type"] == "model/gltf-binary"
    assert mesh.headers["content-disposition"] == 'attachment; filename="mesh.glb"'
    assert client.get(job["files"]["images/000.png"]).headers["content-type"] == "image/png"
    assert [each["id"] for each in client.get("/v1/jobs").json()["jobs"]] == [job["id"]]


def test_events_tell_each_change_until_the_end(client: TestClient):
    job_id = _send(client).json()["id"]
    answer = client.get(f"/v1/jobs/{job_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [
        json.loads(block.partition("data: ")[2]) for block in answer.text.split("\n\n") if "data: " in block
    ]
    assert events[-1]["state"] == "done" and all(event["id"] == job_id for event in events)
    assert client.get(f"/v1/jobs/{'0' * 32}/events").status_code == 404


def test_views_are_shown_as_they_come_and_go_when_they_are_done(client: TestClient, tmp_path: Path):
    job_id = _send(client, "views.png").json()["id"]
    end = time.monotonic() + 30
    while len(files := client.get(f"/v1/jobs/{job_id}").json()["files"]) < 2:
        assert time.monotonic() < end, "no previews"
        time.sleep(0.02)
    assert set(files) == {"previews/000.png", "previews/001.png"}
    picture = client.get(files["previews/001.png"])
    assert (picture.content, picture.headers["content-type"]) == (PNG, "image/png")
    assert picture.headers["content-disposition"].startswith("inline")
    threading.Timer(0.5, (tmp_path / "jobs" / "go").touch).start()
    events = client.get(f"/v1/jobs/{job_id}/events").text
    assert "previews/001.png" in events.split("\n\n")[0]
    assert set(_until(client, job_id, "done")["files"]) == {"cutout.png", "mesh.glb", "images/000.png"}
    assert client.get(files["previews/001.png"]).status_code == 404


def test_delete_cancels(client: TestClient):
    running, waiting = (_send(client, name).json()["id"] for name in ("hang.png", "done.png"))
    _until(client, running, "running")
    assert client.delete(f"/v1/jobs/{waiting}").json()["state"] == "cancelled"
    assert client.delete(f"/v1/jobs/{running}").status_code == 200
    assert _until(client, running, "cancelled", "failed", "done")["state"] == "cancelled"
    done = _send(client).json()["id"]
    _until(client, done, "done")
    answer = client.delete(f"/v1/jobs/{done}")
    assert answer.status_code == 409 and "got one that is done" in answer.json()["error"]


def test_a_failed_job_has_the_sentence_of_the_command_line(client: TestClient):
    job = _until(client, _send(client, "fail.png").json()["id"], "failed")
    assert job["error"] == "photo: expected an object, got none; give another photo"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_killed_worker_loses_nothing(client: TestClient):
    ids = [_send(client, name).json()["id"] for name in ("done.png", "kill.png", "done.png")]
    states = [_until(client, job_id, "done", "failed")["state"] for job_id in ids]
    assert states == ["done", "failed", "done"]


def _form(*parts: tuple[str, str | None, bytes]) -> tuple[bytes, str]:
    body = b""
    for name, filename, content in parts:
        body += b'--XX\r\nContent-Disposition: form-data; name="' + name.encode() + b'"'
        body += b"" if filename is None else b'; filename="' + filename.encode() + b'"'
        body += b"\r\n\r\n" + content + b"\r\n"
    return body + b"--XX--\r\n", "multipart/form-data; boundary=XX"


BAD = {
    "no parts": (_form(), 422, "got neither"),
    "text for a photo": (_form(("photo", None, b"x")), 422, "expected a file, got text"),
    "an empty photo": (_form(("photo", "a.png", b"")), 422, "expected an image"),
    "no image": (_form(("photo", "a.png", b"hello" * 20)), 422, "photo: expected an image"),
    "too many pixels": (_form(("photo", "a.png", _huge_png())), 422, "photo: expected"),
    "too many bytes": (_form(("photo", "a.png", b"x" * 300_001)), 413, "at most 0.3 MB"),
    "two photos": (_form(("photo", "a.png", PNG), ("photo", "b.png", PNG)), 422, "expected one file, got 2"),
    "both kinds": (_form(("photo", "a.png", PNG), ("views", "b.png", PNG)), 422, "got both"),
    "an unknown part": (_form(("photo", "a.png", PNG), ("x", None, b"1")), 422, "got 'x'"),
    "settings that are no JSON": (_form(("photo", "a", PNG), ("settings", None, b"{")), 422, "expected JSON"),
    "nested settings": (_form(("photo", "a", PNG), ("settings", None, b"[" * 60_000)), 422, "expected JSON"),
    "settings twice": (_form(("photo", "a", PNG), *[("settings", None, b"{}")] * 2), 422, "got 2"),
    "a list of settings": (_form(("photo", "a", PNG), ("settings", None, b"[]")), 422, "a JSON object"),
    "NaN": (_form(("photo", "a", PNG), ("settings", None, b'{"elevation": NaN}')), 422, "elevation: expected"),
    "long settings": (_form(("photo", "a", PNG), ("settings", None, b" " * 70_000)), 400, ""),
    "long settings as a file": (_form(("photo", "a", PNG), ("settings", "s", b" " * 70_000)), 422, "at most"),
    "a model by path": (_form(("photo", "a", PNG), ("settings", None, b'{"model":"../x"}')), 422, "got ../x"),
    "a view that is no video": (_form(("views", "a.txt", b"x")), 422, "expected a zip, several pictures"),
    "views without pictures": (_form(("views", "a.zip", _zip({"a.txt": b"x"}))), 422, "got none"),
    "a damaged zip": (_form(("views", "a.zip", _zip({"a.png": PNG})[:-30])), 422, "expected a zip"),
    "a zip that climbs": (_form(("views", "a.zip", _zip({"../../a.png": PNG}))), 422, "plain names"),
    "an absolute zip": (_form(("views", "a.zip", _zip({"/a.png": PNG}))), 422, "plain names"),
    "a zip of Windows": (_form(("views", "a.zip", _zip({"C:/a.png": PNG}))), 422, "plain names"),
    "a file as a folder": (_form(("views", "a.zip", _zip({"a.png": PNG, "a.png/b.png": PNG}))), 422, "name twice"),
    "a zip of a huge picture": (_form(("views", "a.zip", _zip({"a.png": _huge_png()}))), 422, "expected"),
    "a zip of many": (_form(("views", "a.zip", _zip({f"{n}.png": b"" for n in range(2001)}))), 422, "2001"),
    "views of two kinds": (_form(("views", "a.png", PNG), ("views", "b.exe", PNG)), 422, "got .exe"),
    "another body": ((b"{}", "application/json"), 415, "got application/json"),
    "no boundary": ((b"{}", "multipart/form-data"), 400, ""),
    "a body cut short": ((_form(("photo", "a.png", PNG))[0][:60], "multipart/form-data; boundary=XX"), 422, "neither"),
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):
    store = JobStore(tmp_path_factory.mktemp("server"))
    store.load()
    app = make_app(JobRunner(store, STUB), OFFER, device_of=lambda name: "cpu")
    with TestClient(app, base_url=HERE, raise_server_exceptions=False) as client:
        yield client, store


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_one_sentence_and_leaves_nothing(shared, name: str):
    client, store = shared
    (body, kind), status, says = BAD[name]
    answer = client.post("/v1/jobs", content=body, headers={"content-type": kind})
    assert (answer.status_code, set(answer.json())) == (status, {"error"}), answer.text
    sentence = answer.json()["error"]
    assert says in sentence and "\n" not in sentence and str(store.folder) not in sentence
    assert store.all() == [] and list(store.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/jobs/../../etc/passwd", 404),
        ("GET", "/v1/jobs/%2e%2e%2f%2e%2e", 404),
        ("GET", f"/v1/jobs/{'0' * 32}", 404),
        ("DELETE", f"/v1/jobs/{'0' * 32}", 404),
        ("GET", f"/v1/jobs/{'0' * 32}/files/mesh.glb", 404),
        ("GET", "/web/..%2fapp.py", 404),
        ("GET", "/web/three-LICENSE", 404),
        ("PUT", "/v1/jobs", 405),
        ("POST", "/", 405),
    ],
)
def test_an_address_that_is_none_is_one_sentence(shared, method, path, status):
    answer = shared[0].request(method, path)
    assert (answer.status_code, set(answer.json())) == (status, {"error"})


def test_a_name_of_a_file_never_becomes_a_path(client: TestClient):
    job_id = _send(client, "done/../../../x.png").json()["id"]
    job = _until(client, job_id, "done", "failed")
    assert job["title"] == "x.png"
    for name in ("../job.json", "..%2fjob.json", "job.json", "photo", "log.txt", "%2fetc%2fpasswd", "images"):
        assert client.get(f"/v1/jobs/{job_id}/files/{name}").status_code == 404


def test_views_come_as_pictures_as_a_zip_and_as_a_video(client: TestClient, tmp_path: Path):
    def sent(files: list[tuple[str, bytes]]) -> list[str]:
        answer = client.post("/v1/jobs", files=[("views", each) for each in files])
        assert answer.status_code == 201, answer.text
        folder = tmp_path / "jobs" / answer.json()["id"]
        return sorted(
            p.relative_to(folder).as_posix() for p in folder.rglob("views*/*") if p.is_file()
        ) + sorted(p.name for p in folder.glob("views.*"))

    assert sent([("b.PNG", PNG), ("../a.png", PNG)]) == ["views/000.png", "views/001.png"]
    members = {
        "chair/transforms.json": b"{}",
        "chair/images/000.png": PNG,
        "chair/mesh.glb": b"x",
        "__MACOSX/a.png": b"",
    }
    found = sent([("a.zip", _zip(members))])
    assert found == ["views/transforms.json"]
    assert sent([("orbit.mp4", b"x")]) == ["views.mp4"]


def test_a_full_queue_refuses(tmp_path: Path):
    store = JobStore(tmp_path)
    store.load()
    offer = Offer(max_queued=2)
    with TestClient(
        make_app(JobRunner(store, STUB), offer, device_of=lambda name: "cpu"), base_url=HERE
    ) as client:
        running = _send(client, "hang").json()["id"]
        _until(client, running, "running")
        assert [_send(client).status_code for _ in range(3)] == [201, 201, 429]


def test_a_hundred_damaged_uploads_lose_nothing_and_hang_nothing(client: TestClient, tmp_path: Path):
    draw = np.random.default_rng(7)
    kept = _send(client).json()["id"]
    taken = []
    for _ in range(100):
        damaged = bytearray(PNG)
        for place in draw.integers(0, len(damaged), 12):
            damaged[place] = draw.integers(0, 256)
        damaged = damaged[: draw.integers(1, len(damaged) + 1)]
        answer = client.post("/v1/jobs", files={"photo": ("fail.png", bytes(damaged))})
        assert answer.status_code in (201, 422), answer.text
        assert answer.json().keys() == ({"id"} if answer.status_code == 201 else {"error"})
        taken += [answer.json()["id"]] if answer.status_code == 201 else []
    for job_id in taken:  # their headers are whole: the process of the job would find the rest
        client.delete(f"/v1/jobs/{job_id}")
    assert all(_until(client, each, "cancelled", "failed")["state"] for each in taken)
    assert _until(client, kept, "done")["state"] == "done"
    folders = {p.name for p in (tmp_path / "jobs").iterdir() if p.is_dir()}
    assert folders == {kept, *taken} and len(taken) < 100


def test_fifty_requests_at_once_lose_nothing(client: TestClient):
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda n: _send(client, f"hang {n}"), range(50)))
    ids = [answer.json()["id"] for answer in answers]
    assert [answer.status_code for answer in answers] == [201] * 50 and len(set(ids)) == 50
    jobs = client.get("/v1/jobs").json()["jobs"]
    assert {job["id"] for job in jobs} == set(ids)
    assert sum(job["state"] == "running" for job in jobs) <= 1
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda job_id: client.delete(f"/v1/jobs/{job_id}"), reversed(ids)))
    assert {_until(client, job_id, "cancelled")["state"] for job_id in ids} == {"cancelled"}


def test_the_description_names_every_route_and_setting(client: TestClient):
    described = client.get("/openapi.json").json()
    assert described["openapi"] == "3.1.0"
    assert set(described["paths"]) == {
        "/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/files/{name}", "/v1/jobs/{id}/events",
    }  # fmt: skip
    body = described["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    photo = body["properties"]["settings"]["anyOf"][0]["properties"]
    assert photo["quality"] == {"enum": ["instant", "draft", "standard", "high"]}
    assert photo["views"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    job = _until(client, _send(client).json()["id"], "done")
    assert set(described["components"]["schemas"]["Job"]["properties"]) == set(job)
