"""What a request may set: fields of the configurations of `mv3d make` and `mv3d recon`, as JSON values."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mv3d.app.job import Kind
from mv3d.core.errors import UsageError, shown
from mv3d.core.settings import with_shared_settings
from mv3d.generation.config import GenerateConfig, LiftConfig, PhotoQuality, instant_settings
from mv3d.recon.config import ReconConfig
from mv3d.views.reading import OrbitReading

# A path of this machine, or a download: who runs the server decides on those, not who sends a job.
_NOT_OFFERED = ("lora", "revision", "method")
TRAJECTORIES = ("static", "dynamic", "sine", "dynamic-release")
_CALLER = "settings"
_LARGEST = 1e18


def offered_fields(kind: Kind) -> dict[str, Any]:
    """Type by name of every setting of a kind of job. `format` is another name of `formats`; `mesh: false` asks for the
    views of a photo alone."""
    configs = (GenerateConfig, ReconConfig) if kind == "photo" else (ReconConfig, OrbitReading)
    found: dict[str, Any] = {}
    for config in configs:
        hints = get_type_hints(config)
        for each in fields(config):
            if each.name not in _NOT_OFFERED and (kind == "photo" or each.name != "trajectory"):
                found.setdefault(each.name, hints[each.name])
    if kind == "photo":
        found["quality"] = PhotoQuality
        found["mesh"] = bool
    return found


def checked_settings(given: Any, kind: Kind, models: Sequence[str]) -> dict[str, Any]:
    """The settings of a request as JSON values, by the names of fields. models: which a request may name.

    Raises UsageError for what is no object, an unknown name, a value of another type or out of range, and a model that
    is not offered.
    """
    if not isinstance(given, Mapping):
        raise UsageError(f"{_CALLER}: expected a JSON object, got {type(given).__name__}")
    settings = dict(given)
    if "format" in settings:
        if "formats" in settings:
            raise UsageError(f"{_CALLER}: expected one of format and formats, got both")
        settings["formats"] = settings.pop("format")
    if isinstance(settings.get("formats"), str):
        settings["formats"] = [
            name.strip().lower() for name in settings["formats"].split(",") if name.strip()
        ]
    offered = offered_fields(kind)
    for name in settings:
        if name not in offered:
            raise UsageError(
                f"{_CALLER}: expected some of {', '.join(sorted(offered))}, got {shown(repr(name))}"
            )
    for name, value in settings.items():
        if not _fits(value, offered[name]):
            raise UsageError(f"{name}: expected {_said(offered[name])}, got {shown(repr(value))}")
    if "model" in settings and settings["model"] not in models:
        raise UsageError(
            f"model: expected one of {', '.join(models)}, got {shown(settings['model'])}; mv3d app --model offers others"
        )
    if settings.get("trajectory", "static") not in TRAJECTORIES:
        raise UsageError(
            f"trajectory: expected one of {', '.join(TRAJECTORIES)}, got {shown(settings['trajectory'])}"
        )
    if kind == "photo" and "model" not in settings and "default" not in models:
        settings["model"] = models[0]
    photo_configs(settings) if kind == "photo" else views_configs(settings)
    return settings


def photo_configs(settings: Mapping[str, Any]) -> tuple[GenerateConfig, ReconConfig | None] | LiftConfig:
    """The configurations of a job from a photo: of views and mesh, with `mesh: false` of the views alone, or for quality
    instant of the prior's mesh alone.

    Raises UsageError for values out of range, and for settings that would be ignored.
    """
    values = _python(settings)
    with_mesh = values.pop("mesh", True)
    if values.get("quality") == "instant":
        if not with_mesh:
            raise UsageError("mesh: expected true with quality instant, which makes nothing else")
        return LiftConfig(**instant_settings(values, "quality instant"))
    for_views = GenerateConfig(trajectory=values.pop("trajectory", GenerateConfig.trajectory))
    if not with_mesh:
        return with_shared_settings((for_views,), values, f"{_CALLER} without a mesh")[0], None
    for_views, for_mesh = with_shared_settings((for_views, ReconConfig()), values, _CALLER)
    return for_views, for_mesh


def views_configs(settings: Mapping[str, Any]) -> tuple[ReconConfig, OrbitReading]:
    """The configurations of a job from views. Raises UsageError for values out of range."""
    for_mesh, reading = with_shared_settings((ReconConfig(), OrbitReading()), _python(settings), _CALLER)
    return for_mesh, reading


def _python(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value is of the type of a field."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if origin is Literal:
        return type(value) in (str, int) and value in get_args(hint)
    if origin is tuple:
        element = get_args(hint)[0]
        return isinstance(value, list) and len(value) <= 1000 and all(_fits(each, element) for each in value)
    if hint in (None, type(None)):
        return value is None
    if hint is float:
        return type(value) in (int, float) and abs(value) <= _LARGEST  # neither infinity nor NaN
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _said(hint: Any) -> str:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_said(each) for each in get_args(hint))
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if origin is tuple:
        return f"a list, each {_said(get_args(hint)[0])}"
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(hint, "null")
