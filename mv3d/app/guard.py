"""Who may ask the server: the page's own origin under a known name, and from elsewhere only with the token."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mv3d.app.app_config import is_loopback

COOKIE = "mv3d_token"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_SAFE = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Passes a request on, or refuses it with one sentence.

    host: the server listens at. A page of a foreign name that resolves to this machine (DNS rebinding) has that name in
    its Host header, and is refused; addresses cannot be rebound. token: None where only this machine can ask.
    """

    def __init__(self, app: ASGIApp, *, host: str, token: str | None) -> None:
        self._app, self._host, self._token = app, host.lower(), token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope)
        await (self._app if answer is None else answer)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._is_ours(_name_of(host)):
            return _refused(
                403, "Host: expected the address of this server, got another name; ask by the printed address"
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
            return _refused(403, "Origin: expected this server's own page, got another site's")
        foreign = headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")
        visits = headers.get("sec-fetch-mode") == "navigate" and scope["method"] in _SAFE
        if foreign and not visits:
            return _refused(403, "Sec-Fetch-Site: expected a request of this server's own page")
        return None if self._token is None else self._asked_for(scope, headers)

    def _asked_for(self, scope: Scope, headers: Headers) -> Response | None:
        """The refusal of a request without the token, or the cookie for the page that was opened with it."""
        assert self._token is not None, "asked only where there is one"
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if scope["path"] == "/" and scope["method"] == "GET" and self._matches(query.pop("token", [""])[0]):
            # The token does not stay in the address, where histories and pictures of the screen keep it.
            answer = RedirectResponse("/" + ("?" + urlencode(query, doseq=True) if query else ""), 303)
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            return answer
        bearer = headers.get("authorization", "")
        given = bearer[7:].strip() if bearer[:7].lower() == "bearer " else _cookie(headers.get("cookie", ""))
        if self._matches(given):
            return None
        answer = _refused(
            401, "token: expected the one that mv3d app printed, as Authorization: Bearer TOKEN"
        )
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    def _matches(self, given: str) -> bool:
        assert self._token, "asked only where there is one"
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())

    def _is_ours(self, name: str) -> bool:
        if is_loopback(name) or name == self._host:
            return True
        if is_loopback(self._host):
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name == socket.gethostname().lower()
        return True


def _refused(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)


def _name_of(host: str) -> str:
    """The Host header without its port; an address of IPv6 without its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value
