"""The HTTP interface of `mv3d app`, asked with the standard library alone."""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

ADDRESS_VARIABLE, TOKEN_VARIABLE = "MV3D_APP", "MV3D_APP_TOKEN"
ADDRESS = "http://127.0.0.1:7008"
_ENDED = ("done", "failed", "cancelled")
_TIMEOUT_S = 60.0
_LOOK_S = 0.25


class AppError(RuntimeError):
    """A refusal of the server or a job that failed, in one sentence."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Never goes to another address: the token is for one server."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class App:
    """One server. Address and token are those of the environment (MV3D_APP, MV3D_APP_TOKEN) and never part of a workflow:
    a workflow of somebody else must not choose where photos are sent."""

    def __init__(self, address: str | None = None, token: str | None = None) -> None:
        self._address = (address or os.environ.get(ADDRESS_VARIABLE) or ADDRESS).rstrip("/")
        self._token = token or os.environ.get(TOKEN_VARIABLE) or ""
        name = urllib.parse.urlsplit(self._address).hostname or ""
        near = name in ("localhost", "::1") or name.startswith("127.")
        proxies = [urllib.request.ProxyHandler({})] if near else []
        self._opener = urllib.request.build_opener(_Stay, *proxies)

    def start(self, kind: str, name: str, content: bytes, settings: dict[str, Any]) -> str:
        """Send a `photo` or `views` (a zip); the id of the job."""
        boundary = uuid.uuid4().hex
        plain = "".join(letter for letter in name if letter.isalnum() or letter in "._- ") or "upload"
        parts = [
            ('name="settings"', json.dumps(settings).encode()),
            (f'name="{kind}"; filename="{plain}"', content),
        ]
        body = b"".join(
            f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + part + b"\r\n"
            for head, part in parts
        )
        body += f"--{boundary}--\r\n".encode()
        answer = self._ask("/v1/jobs", "POST", body, f"multipart/form-data; boundary={boundary}")
        return json.loads(answer)["id"]

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as it stands."""
        return json.loads(self._ask(f"/v1/jobs/{job_id}"))

    def file(self, job: dict[str, Any], name: str) -> bytes:
        """The content of one of a job's files."""
        return self._ask(job["files"][name])

    def finished(self, job_id: str, on_look: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Wait until a job is done. on_look: gets the job again and again; where it raises, the job is cancelled.

        Raises AppError with the job's sentence where it failed.
        """
        try:
            while (job := self.job(job_id))["state"] not in _ENDED:
                on_look(job)
                time.sleep(_LOOK_S)
        except BaseException:
            with contextlib.suppress(AppError):  # it has ended, or the server is gone: why we stop says more
                self._ask(f"/v1/jobs/{job_id}", "DELETE")
            raise
        if job["state"] != "done":
            raise AppError(job["error"] or f"the job was {job['state']}")
        return job

    def _ask(self, path: str, method: str = "GET", body: bytes | None = None, kind: str = "") -> bytes:
        headers = {"Content-Type": kind} if kind else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(self._address + path, body, headers, method=method)
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise AppError(_sentence(error)) from error
        except OSError as error:  # URLError is one
            raise AppError(
                f"{self._address}: expected the server of mv3d, got none ({error}); start it with mv3d app, or set "
                f"{ADDRESS_VARIABLE} for ComfyUI"
            ) from error


def _sentence(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {error.code}"
