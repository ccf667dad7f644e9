"""Settings given by name, checked against the fields of configs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from mv3d.core.errors import UsageError

Config = TypeVar("Config")


def with_settings(config: Config, settings: Mapping[str, Any], caller: str) -> Config:
    """The dataclass with these fields replaced. Raises UsageError for an unknown name, with the nearest known ones."""
    return with_shared_settings((config,), settings, caller)[0]


def with_shared_settings(configs: Sequence[Any], settings: Mapping[str, Any], caller: str) -> tuple[Any, ...]:
    """The dataclasses, each with those of its fields replaced that are given. Raises UsageError as `with_settings`."""
    own = [{field.name for field in fields(config)} for config in configs]
    known = list(dict.fromkeys(field.name for config in configs for field in fields(config)))
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2)
            hint = (
                f"; did you mean {' or '.join(near)}?" if near else f": expected some of {', '.join(known)}"
            )
            raise UsageError(f"{caller}: unknown setting {name}{hint}")
    return tuple(
        replace(config, **{name: value for name, value in settings.items() if name in names})
        for config, names in zip(configs, own, strict=True)
    )
