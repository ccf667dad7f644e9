"""The settings of `mv3d orbits` as flags: how the values of the dataclasses below it are written on a command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from mv3d.core.errors import UsageError
from mv3d.core.flags import SAID
from mv3d.orbits.config import OrbitConfig
from mv3d.orbits.fetch import FetchConfig
from mv3d.orbits.gate import ANYTHING, GateConfig
from mv3d.orbits.infrastructure.download import Transport
from mv3d.orbits.infrastructure.isolate import Limits
from mv3d.orbits.select import SelectConfig


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _range(text: str) -> tuple[float, float]:
    try:
        values = [float(part) for part in text.split(":")]
        low, high = values * 2 if len(values) == 1 else values
    except ValueError as error:
        raise UsageError(f"--elevation: expected LOW:HIGH or one number of degrees, got {text}") from error
    return low, high


Words = Annotated[
    tuple[str, ...],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="A,B,…",
        instance_from_str=lambda given: _words(given[0]),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(value)],
    ),
]
"""Words with commas between them."""
Range = Annotated[
    tuple[float, float],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="LOW:HIGH",
        instance_from_str=lambda given: _range(given[0]),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [f"{value[0]:g}:{value[1]:g}"],
    ),
]
"""Two numbers with a colon between them, or one for both."""
Megabytes = Annotated[
    int,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT",
        instance_from_str=lambda given: int(float(given[0]) * 1e6),
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [f"{value / 1e6:g}"],
    ),
]
"""Bytes, written in 10⁶ bytes."""
Hidden = (tyro.conf.Fixed, tyro.conf.Suppress)


@dataclass(frozen=True)
class OrbitFlags(OrbitConfig):
    """`OrbitConfig` as flags."""

    elevation_deg: Annotated[Range, tyro.conf.arg(name="elevation")] = OrbitConfig.elevation_deg
    fov_deg: Annotated[float, tyro.conf.arg(name="fov", metavar="DEG")] = OrbitConfig.fov_deg
    environments: Annotated[Words, tyro.conf.arg(metavar="builtin,FILE,…")] = OrbitConfig.environments
    evaluation: Annotated[Words, tyro.conf.arg(name="evaluation-list", metavar="FILE,…")] = ()


@dataclass(frozen=True)
class ViewsFlags(OrbitFlags):
    """`OrbitConfig` as flags for one object that is rendered to be looked at."""

    views: int = 21
    """Views of the orbit."""
    elevation_deg: Annotated[Range, tyro.conf.arg(name="elevation")] = (10.0, 10.0)
    """The (mean) elevation in degrees, or LOW:HIGH to draw it from."""
    shard_size: Annotated[int, *Hidden] = OrbitConfig.shard_size
    variants: Annotated[str, *Hidden] = OrbitConfig.variants  # type: ignore[assignment]
    evaluation: Annotated[tuple[str, ...], *Hidden] = ()
    gate: Annotated[GateConfig, *Hidden] = ANYTHING
    geometry: Annotated[bool, *Hidden] = False
    depth_size: Annotated[int | None, *Hidden] = None
    solid_cells: Annotated[int, *Hidden] = OrbitConfig.solid_cells
    solid_colors: Annotated[bool, *Hidden] = False
    normals: Annotated[bool, *Hidden] = False
    albedo: Annotated[bool, *Hidden] = False


@dataclass(frozen=True)
class LimitFlags(Limits):
    """`Limits` as flags."""

    recycle_after: Annotated[int, *Hidden] = Limits.recycle_after


@dataclass(frozen=True)
class SelectFlags(SelectConfig):
    """`SelectConfig` as flags; its uids come from files."""

    licences: Annotated[Words, tyro.conf.arg(metavar="cc0,by,…"), SAID] = ()
    non_commercial: tyro.conf.FlagCreatePairsOff[bool] = False
    no_derivatives: tyro.conf.FlagCreatePairsOff[bool] = False
    age_restricted: tyro.conf.FlagCreatePairsOff[bool] = False
    categories: Annotated[Words, tyro.conf.arg(metavar="chair,mug,…")] = ()
    exclude_categories: Annotated[Words, tyro.conf.arg(metavar="gun,…")] = ()
    with_category: Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(name="lvis")] = False
    exclude_tags: Words = SelectConfig.exclude_tags
    uids: Annotated[tuple[str, ...] | None, *Hidden] = None
    exclude_uids: Annotated[tuple[str, ...], *Hidden] = ()


@dataclass(frozen=True)
class TransportFlags(Transport):
    """`Transport` as flags; the token comes from the environment."""

    timeout_s: Annotated[float, tyro.conf.arg(name="timeout")] = Transport.timeout_s
    total_timeout_s: Annotated[float, tyro.conf.arg(name="total-timeout")] = Transport.total_timeout_s
    backoff_s: Annotated[float, *Hidden] = Transport.backoff_s
    max_backoff_s: Annotated[float, *Hidden] = Transport.max_backoff_s
    max_bytes: Annotated[Megabytes, tyro.conf.arg(name="max-megabytes")] = Transport.max_bytes
    """Largest file, 10⁶ bytes."""
    token: Annotated[str | None, *Hidden] = None
    token_host: Annotated[str, *Hidden] = ""


@dataclass(frozen=True)
class MetadataTransportFlags(TransportFlags):
    """`Transport` as flags where a few small files are read."""

    total_timeout_s: Annotated[float, *Hidden] = Transport.total_timeout_s
    max_bytes: Annotated[int, *Hidden] = Transport.max_bytes


@dataclass(frozen=True)
class FetchFlags(FetchConfig):
    """`FetchConfig` as flags."""

    transport: Annotated[TransportFlags, tyro.conf.arg(name="")] = field(default_factory=TransportFlags)
