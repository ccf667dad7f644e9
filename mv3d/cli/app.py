"""`mv3d app`: the whole way in the browser, and the HTTP interface."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from mv3d.app.app_config import AppConfig
from mv3d.cli.output import note, print_result


@dataclass(frozen=True)
class AppCommand:
    """Serve a page where a photo becomes a mesh, and the same as an HTTP interface, described at /openapi.json. One job runs at
    a time on each device, the others wait. Ctrl-C ends it; what ran or waited goes on when it is started again."""

    config: Annotated[AppConfig, tyro.conf.arg(name="")] = field(default_factory=AppConfig)


def app(command: AppCommand) -> int:
    """Run the command; the exit code."""
    from mv3d.app.serving import serve
    from mv3d.core.signals import Terminated

    def ready(address: str, token: str | None) -> None:
        print_result([address if token is None else f"{address}?token={token}"], {}, as_json=False)
        if token is not None:
            note(f"programs send the header Authorization: Bearer {token}")
        if not command.config.is_local:
            note(
                "warning: nothing is encrypted; put a proxy with TLS in front where others share the network"
            )
        note("Ctrl-C ends it")

    try:
        serve(command.config, ready)
    except Terminated:
        raise
    except KeyboardInterrupt:
        note("ended")
    return 0
