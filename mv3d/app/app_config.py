"""The settings of `mv3d app`. Each field is a flag. Loads nothing heavy."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import tyro

from mv3d.core.errors import MissingPartError, UsageError
from mv3d.core.installing import install_command

_PARTS = ("starlette", "uvicorn", "python_multipart")
APP_INSTALL = install_command("starlette", "uvicorn", "python-multipart")


@dataclass(frozen=True)
class AppConfig:
    """Where to listen, what to offer, and how much to take. Raises UsageError for values out of range."""

    host: str = "127.0.0.1"
    """The address to listen at. Any but this machine's own asks for a token, which is printed."""
    port: int = 7008
    """The port to listen at; 0 for any that is free."""
    out: Path = Path("out/app")
    """The folder of the jobs, a folder each: uploads, results, and what is needed to go on after a restart."""
    model: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME"), tyro.conf.UseAppendAction] = ()
    """A model that jobs may ask for: default, sv3d_u, sv3d_p, a hub id or a model folder. Several times for several.
    The first is the usual one. Default: default alone."""
    max_upload_mb: float = 64.0
    """Most megabytes of one upload."""
    max_queued: int = 100
    """Most jobs that wait; further ones are refused."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise UsageError(f"--port: expected 0 to 65535, got {self.port}")
        if not 0 < self.max_upload_mb <= 100_000:
            raise UsageError(
                f"--max-upload-mb: expected more than 0, at most 100000, got {self.max_upload_mb}"
            )
        if not 1 <= self.max_queued <= 100_000:
            raise UsageError(f"--max-queued: expected 1 to 100000, got {self.max_queued}")
        if not self.host:
            raise UsageError("--host: expected an address or a name, got none; 0.0.0.0 is every address")

    @property
    def models(self) -> tuple[str, ...]:
        return self.model or ("default",)

    @property
    def max_upload_bytes(self) -> int:
        return int(self.max_upload_mb * 1_000_000)

    @property
    def is_local(self) -> bool:
        """Whether nobody but this machine can ask."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_parts() -> None:
    """Raise MissingPartError where a package of the server is not installed."""
    missing = [name for name in _PARTS if find_spec(name) is None]
    if missing:
        names = ", ".join(missing).replace("_", "-")
        raise MissingPartError(f"mv3d app: needs {names}; install with: {APP_INSTALL}")
