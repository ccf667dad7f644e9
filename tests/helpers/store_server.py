"""A small HTTP server on loopback that imitates the store of Objaverse, faults included."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from helpers.shapes import cube
from mv3d.orbits.objaverse import DATASET
from mv3d.render.mesh_io import glb_bytes


class Store:
    """What the server has, and how it misbehaves.

    files: path → bytes. faults: path → faults of its next answers, one an answer, then it behaves.
    requests: every request as (path, headers). ranges, etags: what the server supports.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.ranges = self.etags = True
        self.url = ""
        self.gone = threading.Event()

    def put(self, path: str, data: bytes) -> str:
        """Store a file below the data set; its address."""
        path = f"/{DATASET}/resolve/main/{path}"
        self.files[path] = data
        return self.url + path

    def seen(self, part: str) -> list[dict[str, str]]:
        """Headers of the requests whose path contains `part`."""
        return [headers for path, headers in self.requests if part in path]


@contextmanager
def running_store() -> Iterator[Store]:
    store = Store()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            store.requests.append((self.path, dict(self.headers)))
            self.close_connection = True
            fault = store.faults[self.path].pop(0) if store.faults[self.path] else ""
            data = store.files.get(self.path)
            kind, _, value = fault.partition(" ")
            if kind == "status":
                code, _, wait = value.partition(" ")
                self.answer(int(code), b"no", {"Retry-After": wait} if wait else {})
            elif kind == "redirect":
                self.answer(302, b"", {"Location": value})
            elif kind == "linked":  # as a hub does for large files: hash and address of the storage host
                target, _, digest = value.partition(" ")
                self.answer(302, b"", {"Location": target, "X-Linked-Etag": f'"{digest}"'})
            elif data is None:
                self.answer(404, b"no such file", {})
            else:
                self.send(data, kind, value)

        def answer(self, code: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(code)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def send(self, data: bytes, kind: str, value: str) -> None:
            etag = f'"{hashlib.md5(data).hexdigest()}"'
            asked = self.headers.get("Range") if store.ranges else None
            condition = self.headers.get("If-Range")
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            if condition not in (None, etag):
                start, asked = 0, None
            if asked and start >= len(data):
                self.answer(416, b"", {})
                return
            body = data[start:]
            self.send_response(206 if asked else 200)
            if store.etags:
                self.send_header("ETag", etag)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            length = len(body) + {"longer": 10, "shorter": -10}.get(kind, 0)
            if kind != "unsized":
                self.send_header("Content-Length", str(length))
            self.end_headers()
            if kind == "trickle":
                for k in range(len(body)):
                    self.wfile.write(body[k : k + 1])
                    self.wfile.flush()
                    time.sleep(0.02)
                return
            cut = len(body) // 2 if kind in ("cut", "stall") else len(body)
            self.wfile.write(body[:cut])
            self.wfile.flush()
            if kind == "stall":
                store.gone.wait(2)

    class Server(ThreadingHTTPServer):
        daemon_threads, block_on_close = True, False

        def handle_error(self, request, client_address) -> None:
            pass  # clients that give up are what the tests are about

    server = Server(("127.0.0.1", 0), Handler)
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        store.gone.set()
        server.shutdown()
        server.server_close()


def glb(side: float = 0.6) -> bytes:
    """A cube of that size, so that objects differ."""
    return glb_bytes(cube(side))


def annotation(uid: str, **changes: object) -> dict[str, object]:
    """As Objaverse has them, less what nobody reads."""
    return {
        "uri": f"https://api.sketchfab.com/v3/models/{uid}",
        "uid": uid,
        "name": f"Thing {uid}",
        "animationCount": 0,
        "viewerUrl": f"https://sketchfab.com/3d-models/{uid}",
        "tags": [{"name": "Chair", "slug": "chair"}],
        "categories": [],
        "user": {"username": "someone", "displayName": "Some One"},
        "faceCount": 1200,
        "isAgeRestricted": False,
        "archives": {"glb": {"textureCount": 2, "size": 5000, "faceCount": 1000, "vertexCount": 900}},
        "license": "by",
        **changes,
    }


def packed(document: object) -> bytes:
    return gzip.compress(json.dumps(document).encode())


def publish_objaverse(
    store: Store, parts: dict[str, list[dict[str, object]]], lvis: dict[str, list[str]] | None = None
) -> None:
    """Metadata files, paths, LVIS categories and one cube for each object."""
    paths = {}
    for part, entries in parts.items():
        store.put(f"metadata/{part}.json.gz", packed({str(a["uid"]): a for a in entries}))
        for number, entry in enumerate(entries):
            paths[str(entry["uid"])] = f"glbs/{part}/{entry['uid']}.glb"
            store.put(paths[str(entry["uid"])], glb(0.5 + 0.01 * number))
    store.put("object-paths.json.gz", packed(paths))
    store.put("lvis-annotations.json.gz", packed(lvis or {}))
