"""Settings given by name, checked against the fields of configs."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ParamSpec, TypeVar

from mv3d.core.errors import Mv3dError, UsageError

Config = TypeVar("Config")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
_FLAG = re.compile(r"(?<![\w-])--(no-)?([a-z][a-z0-9]*(?:-[a-z0-9]+)*)")


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


def in_keywords(text: str) -> str:
    """A sentence for the command line as one for Python: `--drop-render` is `drop_render`, `--no-prior` `prior=False`."""
    return _FLAG.sub(lambda flag: flag[2].replace("-", "_") + ("=False" if flag[1] else ""), text)


def errors_in_keywords(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let the errors of a function of the Python API name settings as its caller writes them."""

    @functools.wraps(function)
    def called(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except Mv3dError as error:
            error.args = (in_keywords(str(error)), *error.args[1:])
            raise

    return called
