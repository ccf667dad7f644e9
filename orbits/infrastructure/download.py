"""Files over HTTP that arrive whole or not at all: retries, time limits, resume, checksums, a size limit.

`download` knows nothing of catalogues. It writes beside the target (`.NAME.part`) and renames at the end; a
later call goes on where the connection broke, if the server proves that it is still the same file.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, Literal, get_args
from urllib.parse import urlsplit

import numpy as np

from mv3d.core.errors import Mv3dError, OutputError, UsageError
from mv3d.core.files import replace

FetchReason = Literal[
    "no_url",  # the catalogue does not say where the file is
    "refused_url",  # not http(s), or a redirect away from it
    "not_found",  # 404, 410
    "forbidden",  # 401, 403: a token is missing or not enough
    "http_error",  # any other answer that is not the file
    "unreachable",  # no connection, or it broke
    "timeout",  # nothing came for `timeout_s`, or all of it took longer than `total_timeout_s`
    "cut_off",  # fewer bytes than announced
    "too_large",  # more than `max_bytes`
    "checksum",  # not the bytes that the catalogue, the store or an earlier fetch says
    "interrupted",  # the run was stopped
    "in_the_way",  # another file is at its place, which no earlier fetch wrote
    "needs_objaverse",  # of Objaverse-XL, which the objaverse package brings; it is not installed
    "bad_content",  # the bytes are not of the format that the name says
]
FETCH_REASONS: tuple[FetchReason, ...] = get_args(FetchReason)

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_SCHEMES = ("http", "https")
_CHUNK = 1 << 16


class DownloadError(Mv3dError):
    """One file that did not arrive: `reason` is one of FETCH_REASONS, `detail` says what happened."""

    def __init__(self, reason: FetchReason, detail: str, *, again: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: FetchReason = reason
        self.detail = detail
        self.again = again  # worth another try
        self.wait_s = wait_s  # that the server asked for


@dataclass(frozen=True)
class Transport:
    """How patient a download is, and what it allows."""

    timeout_s: float = 30.0
    """Longest silence of the server, seconds."""
    total_timeout_s: float = 1800.0
    """Longest time for one try of one file, seconds."""
    retries: int = 5
    """Tries after the first one, with growing waits between them."""
    backoff_s: float = 1.0
    """Mean wait before the second try; doubles with every further one, with jitter of ±50 %."""
    max_backoff_s: float = 60.0
    """Longest wait, also where the server asks for more (Retry-After)."""
    max_bytes: int = 512_000_000
    """Largest file, bytes."""
    token: str | None = None
    """Sent as a bearer token, and only to `token_host`: lists come from strangers, and redirects lead anywhere."""
    token_host: str = ""
    """Host, with its port where it has one, that the token is for."""

    def __post_init__(self) -> None:
        for name, value in (("timeout", self.timeout_s), ("total timeout", self.total_timeout_s)):
            if not value > 0:
                raise UsageError(f"{name}: expected seconds above 0, got {value}")
        if self.retries < 0 or self.backoff_s < 0 or self.max_backoff_s < 0:
            raise UsageError("retries and waits: expected 0 or more")
        if self.max_bytes < 1:
            raise UsageError(f"max bytes: expected 1 or more, got {self.max_bytes}")


@dataclass(frozen=True)
class Downloaded:
    """A file that arrived. resumed_from: bytes that an earlier try had brought."""

    bytes: int
    sha256: str
    tries: int
    resumed_from: int = 0


def download(
    url: str,
    target: Path,
    transport: Transport,
    *,
    sha256: str | None = None,
    check: Callable[[Path], str | None] | None = None,
    rng: np.random.Generator,
    stop: threading.Event | None = None,
) -> Downloaded:
    """Fetch one file to `target`.

    sha256: what the file must have. check: of the finished file, a sentence where its content is wrong.
    rng: of the jitter. stop: set by another thread, it ends the download, which a later one goes on with.
    Raises DownloadError where the file cannot be had, OutputError where it cannot be written.
    """
    stop = threading.Event() if stop is None else stop
    part, tag = target.with_name(f".{target.name}.part"), target.with_name(f".{target.name}.etag")
    resumed_from = 0
    for attempt in range(transport.retries + 1):
        try:
            resumed_from, known = _one_try(url, part, tag, transport, sha256, stop)
            size, digest = _finish(part, target, known, check)
            tag.unlink(missing_ok=True)
            return Downloaded(size, digest, attempt + 1, resumed_from)
        except DownloadError as error:
            if error.reason in ("checksum", "bad_content", "too_large"):
                part.unlink(missing_ok=True)
                tag.unlink(missing_ok=True)
            if not error.again or attempt == transport.retries or stop.is_set():
                tries = f" (after {attempt + 1} tries)" if attempt else ""
                raise DownloadError(error.reason, f"{error.detail}{tries}") from error
            jittered = transport.backoff_s * 2**attempt * (0.5 + rng.random())
            stop.wait(min(max(jittered, error.wait_s), transport.max_backoff_s))
    raise AssertionError("unreachable: the last try returns or raises")


def _one_try(
    url: str, part: Path, tag: Path, transport: Transport, sha256: str | None, stop: threading.Event
) -> tuple[int, str | None]:
    """Bring `part` to its full length; the bytes it had before, and the sha256 that it must have."""
    _judge_address(url)
    had = part.stat().st_size if part.exists() else 0
    proof = tag.read_text(encoding="utf-8") if tag.exists() else ""
    if had and not (proof or sha256):  # nothing would tell whether the file behind the address changed
        had = 0
    request = urllib.request.Request(url, headers={"User-Agent": "mv3d", "Accept-Encoding": "identity"})
    if had:
        request.add_header("Range", f"bytes={had}-")
        if proof:
            request.add_header("If-Range", proof)
    deadline = time.monotonic() + transport.total_timeout_s
    try:
        with _open(request, transport) as response:
            known = sha256 or response.linked_sha256
            start = _start(response, had)
            announced = response.headers.get("Content-Length", "")
            length = int(announced) if announced.isdigit() else None
            _judge_size(start + (length or 0), transport)
            with _writing(part):
                tag.unlink(missing_ok=True)
                if validator := _validator(response):
                    tag.write_text(validator, encoding="utf-8")
                stream = part.open("r+b" if start else "wb")
            with stream:
                _receive(response, stream, start, length, deadline, transport, stop)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and had:  # what is there is not a beginning of that file
            part.unlink(missing_ok=True)
            raise DownloadError(
                "cut_off", "the server has no bytes after the first ones", again=True
            ) from error
        raise _of_status(error.code, error.headers) from error
    except (OSError, http.client.HTTPException) as error:
        raise _of_failure(error) from error
    return start, known


def _judge_address(url: str) -> None:
    try:
        address = urlsplit(url)
        usable = address.scheme in _SCHEMES and bool(address.hostname) and (address.port or 1) > 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        usable = False
    if not usable:
        raise DownloadError(
            "refused_url", f"expected an address that starts with http(s)://, got {url[:120]!r}"
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows http(s) only, never back from https to http; the token goes to its own host alone."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.linked_sha256: str | None = None

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        # Hubs answer for large files with the hash of the content and an address of a storage host.
        linked = re.fullmatch(r'"?([0-9a-f]{64})"?', headers.get("X-Linked-Etag", ""))
        if linked and self.linked_sha256 is None:
            self.linked_sha256 = linked[1]
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in _SCHEMES or (old.scheme == "https" and new.scheme == "http"):
            raise DownloadError("refused_url", f"redirect from {old.scheme} to {new.scheme}: refused")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None:
            _authorize(request, self._transport)
        return request

    def http_error_302(self, req, fp, code, msg, headers):
        # The parent refuses other schemes with an HTTPError that reads like an answer of the server.
        address = headers.get("location") or headers.get("uri") or ""
        scheme = urlsplit(address).scheme
        if scheme and scheme not in _SCHEMES:
            fp.close()
            raise DownloadError(
                "refused_url", f"redirect to {scheme}: refused; only http and https are followed"
            )
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _authorize(request: urllib.request.Request, transport: Transport) -> None:
    if transport.token and urlsplit(request.full_url).netloc == transport.token_host:
        # Unredirected: the parent class would copy a plain header to wherever a redirect leads.
        request.add_unredirected_header("Authorization", f"Bearer {transport.token}")


def _open(request: urllib.request.Request, transport: Transport) -> Any:
    """The answer, with `linked_sha256`: the hash that a redirect announced, or None."""
    redirects = _Redirects(transport)
    _authorize(request, transport)
    try:
        # It knows other schemes, too: the address and every redirect were judged before.
        response = urllib.request.build_opener(redirects).open(request, timeout=transport.timeout_s)
    except ValueError as error:  # an address without a host, a port that is no number
        raise DownloadError("refused_url", f"no usable address ({error})") from error
    response.linked_sha256 = redirects.linked_sha256
    return response


def _start(response: Any, had: int) -> int:
    """Where the answer's bytes belong. A server without ranges sends everything again from 0."""
    if response.status == 200:
        return 0
    if response.status != 206:
        raise DownloadError("http_error", f"status {response.status}", again=response.status in _AGAIN)
    given = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if not had or not given or int(given[1]) != had:
        raise DownloadError("http_error", "the server sent another range than asked for")
    return had


def _validator(response: Any) -> str:
    """A strong ETag, or the date: what If-Range takes (RFC 9110, 13.1.5)."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _judge_size(size: int, transport: Transport) -> None:
    if size > transport.max_bytes:
        raise DownloadError("too_large", f"expected at most {transport.max_bytes} bytes, got {size}")


def _receive(
    response: Any,
    stream: IO[bytes],
    start: int,
    length: int | None,
    deadline: float,
    transport: Transport,
    stop: threading.Event,
) -> None:
    with _writing(Path(stream.name)):
        stream.seek(start)
        stream.truncate()
    got = 0
    # read1 returns after one packet; read would wait for a full buffer and let a trickle pass the deadline.
    while chunk := response.read1(_CHUNK):
        got += len(chunk)
        _judge_size(start + got, transport)
        with _writing(Path(stream.name)):
            stream.write(chunk)
        if time.monotonic() > deadline:
            raise DownloadError("timeout", f"took longer than {transport.total_timeout_s:g} s", again=True)
        if stop.is_set():
            raise DownloadError("interrupted", "stopped in the middle; the next run goes on from here")
    with _writing(Path(stream.name)):
        stream.flush()
    if length is not None and got != length:
        raise DownloadError("cut_off", f"expected {start + length} bytes, got {start + got}", again=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Errors of the disk end everything: the next file would fail as well. Those of the network do not."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path.parent}: cannot be written ({error.strerror}); free some space or choose another --out"
        ) from error


def _finish(
    part: Path, target: Path, sha256: str | None, check: Callable[[Path], str | None] | None
) -> tuple[int, str]:
    with part.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256 and digest != sha256:
        raise DownloadError("checksum", f"expected sha256 {sha256[:16]}…, got {digest[:16]}…", again=True)
    if check is not None and (complaint := check(part)):
        raise DownloadError("bad_content", complaint, again=True)
    size = part.stat().st_size
    with _writing(part):
        replace(part, target)
    return size, digest


def _of_status(code: int, headers: Message) -> DownloadError:
    if code in (404, 410):
        return DownloadError("not_found", f"status {code}")
    if code in (401, 403):
        return DownloadError("forbidden", f"status {code}; set HF_TOKEN to a token that may read it")
    again = code in _AGAIN
    return DownloadError("http_error", f"status {code}", again=again, wait_s=_wait(headers) if again else 0.0)


def _wait(headers: Message) -> float:
    """Seconds that Retry-After asks for: a number or a date (RFC 9110, 10.2.3)."""
    text = (headers.get("Retry-After") or "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def _of_failure(error: OSError | http.client.HTTPException) -> DownloadError:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return DownloadError("timeout", "the server went silent", again=True)
    if isinstance(error, http.client.IncompleteRead):
        return DownloadError("cut_off", "the connection closed in the middle of the file", again=True)
    return DownloadError("unreachable", f"{type(cause).__name__}: {cause}", again=True)
