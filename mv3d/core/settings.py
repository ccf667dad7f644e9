"""Settings given by name, checked against the fields of a config."""

from __future__ import annotations

import difflib
from dataclasses import fields, replace
from typing import Any, TypeVar

from mv3d.core.errors import UsageError

Config = TypeVar("Config")


def with_settings(config: Config, settings: dict[str, Any], caller: str) -> Config:
    """The dataclass with these fields replaced. Raises UsageError for an unknown name, with the nearest known ones."""
    known = [f.name for f in fields(config)]  # pyright: ignore[reportArgumentType]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2)
            hint = (
                f"; did you mean {' or '.join(near)}?" if near else f": expected some of {', '.join(known)}"
            )
            raise UsageError(f"{caller}: unknown setting {name}{hint}")
    return replace(config, **settings)  # pyright: ignore[reportType, reportArgumentType]
