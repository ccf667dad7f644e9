"""The HTTP server of `mv3d app`: routes over the store and the runner of jobs, and the page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, get_args

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message

from mv3d.app.guard import Guard
from mv3d.app.job import ENDED, Job, Kind
from mv3d.app.job_runner import EndedError, JobRunner, resolved_device
from mv3d.app.job_settings import checked_settings
from mv3d.app.job_store import NoSuchJobError
from mv3d.app.openapi import document
from mv3d.app.uploads import Upload, fill_photo, fill_views, title_of
from mv3d.core.errors import InputError, Mv3dError, OutputError, UsageError, shown
from mv3d.core.wording import in_keywords
from mv3d.generation.config import PhotoQuality
from mv3d.recon.splats.formats import SPLAT_FILES
from mv3d.render.writers import POINT_FILES, WRITERS
from mv3d.views.images import MAX_FRAMES

_SETTINGS_BYTES = 65_536
_LOOK_S = 0.15
_BEAT_S = 15.0
_WEB = {
    "app.js": "text/javascript",
    "page.css": "text/css",
    "app.css": "text/css",
    "viewer.bundle.js": "text/javascript",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILE_POLICY = "default-src 'none'; sandbox"
_TYPES = {".glb": "model/gltf-binary", ".obj": "text/plain", ".mtl": "text/plain", ".json": "application/json",
          ".png": "image/png", ".mp4": "video/mp4"}  # fmt: skip


@dataclass(frozen=True)
class Offer:
    """What a server takes. models: which jobs may ask for, the first is the usual one."""

    models: Sequence[str] = ("default",)
    max_upload_bytes: int = 64_000_000
    max_queued: int = 100


class TooMuchError(Mv3dError):
    """An upload, or a queue, is too long."""


def make_app(
    runner: JobRunner,
    offer: Offer | None = None,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    device_of: Callable[[str], str] = resolved_device,
) -> Starlette:
    """The application. It starts the runner with itself, and closes it at its end.

    host: the server listens at. token: what every request has to bring; None where only this machine can ask.
    device_of: the device that a job with this setting waits for.
    """
    server = _Server(runner, offer or Offer(), device_of, needs_token=token is not None)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        runner.start()
        try:
            yield
        finally:
            await run_in_threadpool(runner.close)

    one = "/v1/jobs/{id}"
    return Starlette(
        routes=[
            Route("/", server.page),
            Route("/web/{name}", server.web),
            Route("/openapi.json", server.openapi),
            Route("/v1/options", server.options),
            Route("/v1/jobs", server.create, methods=["POST"]),
            Route("/v1/jobs", server.history),
            Route(one, server.cancel, methods=["DELETE"]),
            Route(one, server.job),
            Route(f"{one}/events", server.events),
            Route(f"{one}/files/{{name:path}}", server.file),
        ],
        middleware=[Middleware(Guard, host=host, token=token)],
        exception_handlers={Mv3dError: _explained, HTTPException: _explained, Exception: _unexpected},
        lifespan=lifespan,
    )


class _Server:
    def __init__(
        self, runner: JobRunner, offer: Offer, device_of: Callable[[str], str], *, needs_token: bool
    ) -> None:
        self._runner, self._store, self._offer, self._device_of = runner, runner.store, offer, device_of
        self._adding = threading.Lock()
        self._document = document(offer.models, needs_token=needs_token)

    async def page(self, request: Request) -> Response:
        return Response(
            _read("app.html"), media_type="text/html", headers={"Content-Security-Policy": _POLICY}
        )

    async def web(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _WEB:
            raise HTTPException(404, "expected a file of the page, found none of that name")
        return Response(_read(name), media_type=_WEB[name], headers={"Cache-Control": "no-cache"})

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(self._document)

    async def options(self, request: Request) -> Response:
        return JSONResponse(
            {
                "models": list(self._offer.models),
                "qualities": get_args(PhotoQuality),
                "formats": [*WRITERS, *POINT_FILES],
                "splats": list(SPLAT_FILES),
                "max_upload_bytes": self._offer.max_upload_bytes,
            }
        )

    async def create(self, request: Request) -> Response:
        kind_of_body = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind_of_body != "multipart/form-data":
            raise HTTPException(415, f"expected multipart/form-data, got {shown(kind_of_body) or 'no type'}")
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._offer.max_upload_bytes:
            raise _too_large(self._offer.max_upload_bytes)
        limited = _limited(request, self._offer.max_upload_bytes)
        async with limited.form(max_files=MAX_FRAMES, max_fields=8, max_part_size=_SETTINGS_BYTES) as form:
            job = await run_in_threadpool(self._create, form)
        return JSONResponse({"id": job.id}, 201, headers={"Location": f"/v1/jobs/{job.id}"})

    def _create(self, form: FormData) -> Job:
        known: tuple[str, ...] = (*get_args(Kind), "settings")
        for name in form:
            if name not in known:
                raise UsageError(f"expected the parts {', '.join(known)}, got {shown(repr(name))}")
        uploads: dict[Kind, list[Upload]] = {}
        for kind in get_args(Kind):
            parts = form.getlist(kind)
            if any(not isinstance(part, UploadFile) for part in parts):
                raise UsageError(
                    f"{kind}: expected a file, got text; send it as a file of multipart/form-data"
                )
            found = [Upload(part.filename or "", part.file) for part in parts if isinstance(part, UploadFile)]
            if found:
                uploads[kind] = found
        if len(uploads) != 1:
            raise UsageError(f"expected a photo or views, got {'both' if uploads else 'neither'}")
        ((kind, files_of),) = uploads.items()
        if kind == "photo" and len(files_of) > 1:
            raise UsageError(f"photo: expected one file, got {len(files_of)}; send a job for each")
        settings = checked_settings(_settings(form.getlist("settings")), kind, self._offer.models)
        device = self._device_of(settings.get("device", "auto"))

        def fill(folder: Any) -> None:
            fill_photo(folder, files_of[0]) if kind == "photo" else fill_views(folder, files_of)

        with self._adding:  # so that the queue is never longer than it may be
            if self._store.queued() >= self._offer.max_queued:
                raise TooMuchError(
                    f"expected at most {self._offer.max_queued} waiting jobs, and so many wait; cancel some, or come later"
                )
            job = self._store.add(kind, settings, title_of(files_of), device, fill)
        self._runner.attend(device)
        return job

    async def history(self, request: Request) -> Response:
        return JSONResponse({"jobs": [job.document() for job in self._store.all()]})

    async def job(self, request: Request) -> Response:
        return JSONResponse(self._full(self._store.get(request.path_params["id"])))

    async def cancel(self, request: Request) -> Response:
        job = await run_in_threadpool(self._runner.cancel, request.path_params["id"])
        return JSONResponse(self._full(job))

    async def file(self, request: Request) -> Response:
        job_id, name = request.path_params["id"], request.path_params["name"]
        path = self._store.files(job_id).get(name)  # a name is looked up, never joined to a folder
        if path is None:
            raise HTTPException(404, "expected a file of the job, found none of that name")
        try:
            status = path.stat()
        except FileNotFoundError as error:
            raise HTTPException(404, "expected a file of the job, found one that is gone") from error
        kind = _TYPES.get(path.suffix, "application/octet-stream")
        shows = kind.startswith(("image/", "video/"))
        return FileResponse(
            path,
            media_type=kind,
            filename=path.name,
            stat_result=status,
            content_disposition_type="inline" if shows else "attachment",
            headers={"Content-Security-Policy": _FILE_POLICY, "Cache-Control": "no-cache"},
        )

    async def events(self, request: Request) -> Response:
        job_id = request.path_params["id"]
        self._store.get(job_id)

        async def stream() -> AsyncIterator[str]:
            told, beat = "", time.monotonic()
            while True:
                job = self._store.get(job_id)
                now = json.dumps(self._full(job))
                if now != told:
                    told, beat = now, time.monotonic()
                    yield f"event: job\ndata: {now}\n\n"
                elif time.monotonic() - beat > _BEAT_S:
                    beat = time.monotonic()
                    yield ": still here\n\n"
                if job.state in ENDED:
                    return
                await asyncio.sleep(_LOOK_S)

        return StreamingResponse(
            stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    def _full(self, job: Job) -> dict[str, Any]:
        names = self._store.files(job.id)
        return job.document() | {"files": {name: f"/v1/jobs/{job.id}/files/{name}" for name in names}}


def _settings(parts: Sequence[Any]) -> Any:
    """The JSON of the settings; {} where there are none. Raises UsageError."""
    if len(parts) > 1:
        raise UsageError(f"settings: expected one part, got {len(parts)}")
    if not parts:
        return {}
    text = parts[0]
    if isinstance(text, UploadFile):  # curl -F "settings=@settings.json"
        raw = text.file.read(_SETTINGS_BYTES + 1)
        if len(raw) > _SETTINGS_BYTES:
            raise UsageError(f"settings: expected at most {_SETTINGS_BYTES} bytes, got more")
        text = raw.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"settings: expected JSON, got {shown(repr(text), 40)}") from error


def _limited(request: Request, most: int) -> Request:
    """The request, whose body raises beyond so many bytes, whatever its headers promise."""
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise _too_large(most)
        return message

    return Request(request.scope, receive)


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"expected an upload of at most {most / 1e6:g} MB, got more; scale it down")


async def _explained(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        sentence = error.detail
        if error.status_code == 404 and sentence == "Not Found":
            sentence = "expected an address of this server, found none; see /openapi.json"
        return JSONResponse({"error": sentence}, error.status_code, headers=error.headers)
    codes: tuple[tuple[type[Mv3dError], int], ...] = (
        (NoSuchJobError, 404), (EndedError, 409), (TooMuchError, 429), (OutputError, 507),
        (InputError, 422), (UsageError, 422),
    )  # fmt: skip
    code = next((code for kind, code in codes if isinstance(error, kind)), 422)
    # The server is a command, but who asks it writes settings as JSON.
    fields = error.fields if isinstance(error, Mv3dError) else {}
    return JSONResponse({"error": in_keywords(str(error), fields)}, code)


async def _unexpected(request: Request, error: Exception) -> Response:
    """The traceback is in the log of the server: Starlette raises the error again."""
    return JSONResponse({"error": "the server failed; its log says why"}, 500)


def _read(name: str) -> str:
    return files("mv3d.app").joinpath("web", name).read_text(encoding="utf-8")
