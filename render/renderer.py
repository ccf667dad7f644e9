"""The renderer seam: model + cameras + environment → pictures, and the backends behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import UsageError
from mv3d.render.cameras import Cameras
from mv3d.render.environment import Environment
from mv3d.render.model import Model

Output = Literal["rgba", "depth", "normals", "albedo"]
OUTPUTS: tuple[Output, ...] = ("rgba", "depth", "normals", "albedo")


@dataclass(frozen=True)
class RenderSettings:
    """How to render, whatever the backend.

    samples: camera samples a pixel (anti-aliasing), 1 to 256.
    outputs: what to compute besides `rgba`, which is always there.
    light_samples: shadow rays a shading point, for backends that trace them; more is smoother.
    diffuse_only: metallic is taken as 0 and nothing shines: for comparisons between backends.
    bounces: light reflected between surfaces, on (1 and more) or off (0).
    backfaces: "shade" shows both sides of every face, turned towards the viewer (as Cycles does, and as
        most files need, whose faces are wound anyhow); "cull" hides the backs of single-sided materials (as
        glTF says, for files that are known to be right).
    seed: of all sampling; the same seed gives the same bytes.
    """

    samples: int = 4
    outputs: tuple[Output, ...] = ("rgba",)
    light_samples: int = 128
    diffuse_only: bool = False
    bounces: int = 2
    backfaces: Literal["shade", "cull"] = "shade"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= 256:
            raise UsageError(f"samples: expected 1..256, got {self.samples}")
        if not 1 <= self.light_samples <= 65536:
            raise UsageError(f"light_samples: expected 1..65536, got {self.light_samples}")
        if self.bounces < 0:
            raise UsageError(f"bounces: expected 0 or more, got {self.bounces}")
        unknown = sorted(set(self.outputs) - set(OUTPUTS))
        if unknown:
            raise UsageError(f"outputs: expected some of {', '.join(OUTPUTS)}, got {', '.join(unknown)}")


@dataclass(frozen=True, eq=False)
class Rendered:
    """Pictures of n views.

    rgba: (n, h, w, 4) float32 in [0, 1], sRGB, straight alpha; colour is 0 where alpha is 0.
    depth: (n, h, w) float32 along the optical axis, inf where nothing is, through pixel centres, or None.
    normals: (n, h, w, 3) float32, world, unit, turned towards the viewer, 0 where nothing is, or None.
    albedo: (n, h, w, 3) float32 in [0, 1], sRGB base colour, 0 where nothing is, or None.
    """

    rgba: Float[np.ndarray, "n h w 4"]
    depth: Float[np.ndarray, "n h w"] | None = None
    normals: Float[np.ndarray, "n h w 3"] | None = None
    albedo: Float[np.ndarray, "n h w 3"] | None = None


class Renderer(Protocol):
    """A way to render. Stateless between calls; raises MissingPartError where its engine is absent."""

    def render(
        self, model: Model, cameras: Cameras, environment: Environment, settings: RenderSettings
    ) -> Rendered: ...


@runtime_checkable
class FrameByFrame(Protocol):
    """A renderer that can also give its views one by one, so that no more than one is in memory."""

    def frames(
        self, model: Model, cameras: Cameras, environment: Environment, settings: RenderSettings
    ) -> Iterator[Any]: ...


def _embree() -> Renderer:
    from mv3d.render.embree import EmbreeRenderer  # noqa: PLC0415 - only where it is chosen

    return EmbreeRenderer()  # pyright: ignore[reportReturnType]


def _pytorch3d() -> Renderer:
    from mv3d.render.backend_pytorch3d import Pytorch3dRenderer  # noqa: PLC0415

    return Pytorch3dRenderer()  # pyright: ignore[reportReturnType]


def _blender() -> Renderer:
    from mv3d.render.backend_blender import BlenderRenderer  # noqa: PLC0415

    return BlenderRenderer()  # pyright: ignore[reportReturnType]


BACKENDS: dict[str, Callable[[], Renderer]] = {
    "embree": _embree,
    "pytorch3d": _pytorch3d,
    "blender": _blender,
}


def get_renderer(name: str = "embree") -> Renderer:
    """The backend of that name. Raises UsageError for an unknown one, MissingPartError for an absent one."""
    if name not in BACKENDS:
        raise UsageError(f"renderer: expected one of {', '.join(BACKENDS)}, got {name!r}")
    return BACKENDS[name]()
