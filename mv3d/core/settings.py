"""Settings given by name, checked against the fields of configs."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from numbers import Integral, Real
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from mv3d.core.errors import UsageError, shown

Config = TypeVar("Config")


def with_settings(config: Config, settings: Mapping[str, Any], caller: str) -> Config:
    """The dataclass with these fields replaced. Raises UsageError for an unknown name, with the nearest known ones, and for a value of another type."""
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
    for config, names in zip(configs, own, strict=True):
        given = [name for name in settings if name in names]
        hints = get_type_hints(type(config)) if given else {}
        for name in given:
            _refuse_other_type(caller, name, settings[name], hints[name])
    return tuple(
        replace(config, **{name: value for name, value in settings.items() if name in names})
        for config, names in zip(configs, own, strict=True)
    )


_SIMPLE: dict[Any, tuple[tuple[type, ...], str]] = {
    int: ((Integral,), "a whole number"),
    float: ((Real,), "a number"),
    str: ((str, os.PathLike), "text"),
    type(None): ((type(None),), "None"),
}


def _refuse_other_type(caller: str, name: str, value: Any, hint: Any) -> None:
    """Raise UsageError for text where a number is expected, and the like; other types are the business of each config."""
    hints = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if not all(each in _SIMPLE or each is bool for each in hints):
        return
    if isinstance(value, bool | np.bool_):
        fits = bool in hints
    else:
        fits = any(isinstance(value, _SIMPLE[each][0]) for each in hints if each is not bool)
    if not fits:
        said = " or ".join("True or False" if each is bool else _SIMPLE[each][1] for each in hints)
        raise UsageError(f"{caller}: {name}: expected {said}, got {shown(repr(value))}")
