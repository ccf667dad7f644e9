"""`mv3d app`: the server on its address, with its folder held."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable

from mv3d.app.app_config import AppConfig, check_parts
from mv3d.core.errors import UsageError
from mv3d.core.locking import folder_lock

TOKEN_VARIABLE = "MV3D_APP_TOKEN"
_LEAST_TOKEN = 16


def chosen_token(config: AppConfig) -> str | None:
    """What requests have to bring: None where only this machine can ask and nothing is set, else that of the environment
    variable MV3D_APP_TOKEN, or a new random one. Raises UsageError for a short one."""
    given = os.environ.get(TOKEN_VARIABLE, "")
    plain = given.isascii() and given.replace("-", "").replace("_", "").isalnum()
    if given and not (plain and len(given) >= _LEAST_TOKEN):
        raise UsageError(
            f"{TOKEN_VARIABLE}: expected at least {_LEAST_TOKEN} letters, digits, - or _, got something else; unset it for "
            "a random one"
        )
    return given or (None if config.is_local else secrets.token_urlsafe(24))


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UsageError where that cannot be."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        raise UsageError(
            f"--host {host} --port {port}: cannot listen there ({error.strerror}); choose another --port or --host"
        ) from error


def serve(config: AppConfig, on_ready: Callable[[str, str | None], None]) -> None:
    """Serve until Ctrl-C or SIGTERM, which are raised again when everything is closed.

    on_ready: is called with the page's address and the token, when the server can be asked.
    Raises MissingPartError, UsageError for an address that is taken, OutputError where another server holds the folder.
    """
    check_parts()
    import uvicorn  # noqa: PLC0415 - an optional part

    from mv3d.app.job_runner import JobRunner  # noqa: PLC0415 - starlette is an optional part
    from mv3d.app.job_store import JobStore  # noqa: PLC0415
    from mv3d.app.server import Offer, make_app  # noqa: PLC0415

    token = chosen_token(config)
    with folder_lock(config.out), listening(config.host, config.port) as listener:
        store = JobStore(config.out)
        store.load()
        offer = Offer(config.models, config.max_upload_bytes, config.max_queued)
        app = make_app(JobRunner(store), offer, host=config.host, token=token)
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, server_header=False
            )
        )
        port = listener.getsockname()[1]
        name = f"[{config.host}]" if ":" in config.host else config.host
        on_ready(f"http://{name}:{port}/", token)
        server.run(sockets=[listener])
