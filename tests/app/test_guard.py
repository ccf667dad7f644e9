from __future__ import annotations

import pytest

pytest.importorskip("starlette")
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from mv3d.app.guard import COOKIE, Guard

TOKEN = "a-token-of-24-characters"


def _client(host: str, token: str | None, base: str = "http://127.0.0.1:7008") -> TestClient:
    def home(request):
        return PlainTextResponse("ok")

    routes = [Route("/", home), Route("/x", home, methods=["GET", "POST"])]
    app = Starlette(routes=routes, middleware=[Middleware(Guard, host=host, token=token)])
    return TestClient(app, base_url=base, follow_redirects=False)


@pytest.mark.parametrize("host", ["127.0.0.1:7008", "localhost:7008", "[::1]:7008", "LOCALHOST", "127.0.0.2"])
def test_this_machine_asks_freely(host: str):
    assert _client("127.0.0.1", None).get("/x", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7008", "127.0.0.1.evil.example", "192.168.1.5:7008", "", "[::1", "0.0.0.0"]
)  # fmt: skip
def test_another_name_is_refused(host: str):
    answer = _client("127.0.0.1", None).get("/x", headers={"host": host})
    assert answer.status_code == (200 if host == "[::1" else 403)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:7008"}, 200),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
    ],
)
def test_another_sites_page_cannot_send(headers: dict[str, str], status: int):
    assert _client("127.0.0.1", None).post("/x", headers=headers).status_code == status


def test_a_link_elsewhere_may_lead_here_and_no_page_may_read_or_frame_it():
    client = _client("127.0.0.1", None)
    answer = client.get("/x", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"})
    assert answer.status_code == 200
    assert (
        answer.headers["x-frame-options"] == "DENY" and answer.headers["x-content-type-options"] == "nosniff"
    )
    assert not any(name.startswith("access-control") for name in answer.headers)
    assert (
        client.get("/x", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}).status_code
        == 403
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": f"Bearer {TOKEN}"}, 200),
        ({"authorization": f"bearer {TOKEN}"}, 200),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
        ({"authorization": "Bearer \xff".encode("latin-1")}, 401),
        ({"cookie": f"{COOKIE}={TOKEN}"}, 200),
        ({"cookie": f"{COOKIE}=other"}, 401),
        ({"cookie": "{;;="}, 401),
    ],
)
def test_elsewhere_the_token_is_asked_for(headers, status: int):
    answer = _client("0.0.0.0", TOKEN, "http://192.168.1.5:7008").get("/x", headers=headers)
    assert answer.status_code == status
    assert status == 200 or "expected the one that mv3d app printed" in answer.json()["error"]


def test_the_printed_address_sets_a_cookie_and_forgets_the_token():
    client = _client("0.0.0.0", TOKEN, "http://192.168.1.5:7008")
    answer = client.get(f"/?token={TOKEN}&job=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?job=1")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert client.get("/").status_code == 200
    fresh = _client("0.0.0.0", TOKEN, "http://192.168.1.5:7008")
    assert fresh.get("/?token=wrong").status_code == 401
    assert fresh.get(f"/x?token={TOKEN}").status_code == 401


def test_a_name_that_was_asked_for_is_known_and_others_are_not():
    client = _client("box.lan", TOKEN, "http://box.lan:7008")
    good = {"authorization": f"Bearer {TOKEN}"}
    assert client.get("/x", headers=good).status_code == 200
    assert client.get("/x", headers=good | {"host": "evil.example"}).status_code == 403
