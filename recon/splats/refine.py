"""Splats fitted to views, each within reach of the place on the surface where it began."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mv3d.recon.splats.cloud import Splats, matrix_from_quaternion
from mv3d.recon.splats.colors import fitted_colors
from mv3d.recon.splats.rasterise import Gaussians, Window, project, rasterise, windows
from mv3d.render.cameras import Cameras
from mv3d.render.mesh import Mesh
from mv3d.render.raycast import RayScene
from mv3d.views.views import Views

Rasteriser = Callable[[Gaussians, Cameras, int, Window], Tensor]
"""As `rasterise`: a window of one view, premultiplied sRGB and alpha."""
_EXTENT = torch.log(torch.tensor(1.5)).item()
_INWARD = -0.5  # the unknown of the place along the normal at first
_ALPHA_WEIGHT = 3.0  # of a colour channel: what shines through a gap may be far from its surroundings


@dataclass(frozen=True)
class RefineConfig:
    """How long to fit, and how far a Gaussian may go.

    passes: over all views. reach: of a mean along the surface, in its first standard deviations there; outward in that
    along the normal, which is a tenth to four tenths of them. sink: of a mean into the solid, in the former. Standard deviations change by
    a factor of 1.5 at most. color_rounds: of conjugate gradients at the end, which fit the colours alone. color, opacity, place, scale: step sizes of Adam
    (Kingma and Ba 2015), in sRGB, logits, shares of the reach, and shares of the logarithm of that factor.
    """

    passes: int = 2
    color_rounds: int = 6
    reach: float = 0.7
    sink: float = 1.5
    color: float = 0.03
    opacity: float = 0.1
    place: float = 0.05
    scale: float = 0.1


def refined(
    splats: Splats,
    views: Views,
    config: RefineConfig,
    *,
    room: Float[np.ndarray, " n"] | None = None,
    device: torch.device,
    draw: Rasteriser = rasterise,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Splats:
    """The splats of a mesh after a few passes over windows of its views: least squares of premultiplied colour and alpha.

    No Gaussian is made or copied, and none leaves the surface: its mean stays within `reach` standard deviations of
    where it began, whatever the views show, and goes inward rather than outward. It has to: many Gaussians behind each
    other at an outline are as one wide one. The number of steps is fixed by the views' size and `passes`.

    room: how far each may go inward at most, world lengths, as `room_inside` finds it for the thin walls of a mesh.
    """
    start = Gaussians.of(splats, device)
    inward = config.sink * splats.scales[:, :2].min(1)
    if room is not None:
        inward = np.minimum(inward, room)
    fit = _Fit(start, config, torch.tensor(inward, dtype=torch.float32, device=device))
    targets = views.images.copy()
    targets[..., :3] *= targets[..., 3:]
    boxes = [
        (view, box)
        for view in range(len(views))
        for box in windows(views.cameras.width, views.cameras.height)
    ]
    touched = [(view, box) for view, box in boxes if _crop(targets[view], box)[..., 3].any()]
    rng, done = np.random.default_rng(seed), 0

    def target(number: int) -> tuple[int, Window, Tensor]:
        view, box = touched[number]
        return view, box, torch.tensor(np.ascontiguousarray(_crop(targets[view], box)), device=device)

    for _ in range(config.passes):
        for number in rng.permutation(len(touched)):
            # Full steps first, small ones at the end: what windows do not agree upon is averaged.
            fit.step(views.cameras, *target(number), draw, 1 - 0.9 * done / (config.passes * len(touched)))
            done += 1
            on_progress(done / (config.passes + 1) / len(touched))
    if config.color_rounds:
        fit.settle(
            views.cameras,
            (target(number) for number in range(len(touched))),
            pixels=int((targets[..., 3] > 0).sum()),
            rounds=config.color_rounds,
            seed=seed,
        )
    on_progress(1.0)
    return fit.result(splats)


def room_inside(splats: Splats, mesh: Mesh) -> Float[np.ndarray, " n"]:
    """World lengths from each splat of a mesh to the middle of the wall below it, infinite where there is none. The
    third axis of a splat's rotation is its outward normal."""
    normal = matrix_from_quaternion(splats.rotations)[:, :, 2]
    # From a little inside, or the surface itself would be hit.
    start = 0.5 * splats.scales[:, 2:]
    hits = RayScene(mesh.vertices, mesh.faces).first_hits(splats.means - start * normal, -normal)
    return np.where(hits.face >= 0, 0.45 * (hits.distance + start[:, 0]), np.inf)


class _Fit:
    """The unknowns and their steps. Each Gaussian has its own count of steps: most windows show few of them."""

    def __init__(self, start: Gaussians, config: RefineConfig, inward: Float[Tensor, " n"]) -> None:
        self._start, self._config, self._inward = start, config, inward
        self._device = start.means.device
        logit = torch.logit(start.opacities.clamp(0.02, 0.98))
        self._values = [
            start.colors.clone(),
            logit[:, None],
            torch.zeros_like(start.means),
            torch.zeros_like(start.means),
        ]
        self._first = [torch.zeros_like(v) for v in self._values]
        self._second = [torch.zeros_like(v) for v in self._values]
        self._weights = torch.tensor([1.0, 1, 1, _ALPHA_WEIGHT], device=self._device)
        self._count = torch.zeros(len(logit), 1, device=self._device)

    def gaussians(self, index: Tensor, values: list[Tensor]) -> Gaussians:
        """The Gaussians `index` of unknowns: colours, logits, and places and scales within their bounds (tanh)."""
        start = self._start[index]
        color, logit, place, scale = values
        outward = self._config.reach * start.scales
        depth = torch.where(place[:, 2] > 0, outward[:, 2], self._inward[index])
        local = torch.tanh(place) * torch.cat([outward[:, :2], depth[:, None]], 1)
        means = start.means + (start.rotations @ local[..., None])[..., 0]
        scales = start.scales * torch.exp(_EXTENT * torch.tanh(scale))
        return Gaussians(means, scales, start.rotations, torch.sigmoid(logit[:, 0]), color)

    def step(
        self, cameras: Cameras, view: int, box: Window, target: Tensor, draw: Rasteriser, rate: float
    ) -> None:
        """One step of Adam on the Gaussians that have a gradient in the window."""
        index = self._touching(cameras, view, box)
        values = [v[index].requires_grad_() for v in self._values]
        image = draw(self.gaussians(index, values), cameras, view, box)
        (torch.square(image - target) * self._weights).sum().backward()
        grads = [v.grad if v.grad is not None else torch.zeros_like(v) for v in values]
        moved = torch.cat(grads, 1).abs().amax(1).nonzero()[:, 0]
        at = index[moved]
        self._count[at] += 1
        count = self._count[at]
        config = self._config
        sizes = (config.color, config.opacity, config.place, config.scale)
        for value, first, second, grad, size in zip(
            self._values, self._first, self._second, grads, sizes, strict=True
        ):
            g = grad[moved]
            first[at] = 0.8 * first[at] + 0.2 * g
            second[at] = 0.95 * second[at] + 0.05 * g * g
            mean, square = first[at] / (1 - 0.8**count), second[at] / (1 - 0.95**count)
            value[at] -= size * rate * mean / (square.sqrt() + 1e-8)
        self._values[0].clamp_(0, 1)

    def settle(
        self,
        cameras: Cameras,
        targets: Iterable[tuple[int, Window, Tensor]],
        *,
        pixels: int,
        rounds: int,
        seed: int,
    ) -> None:
        """Give the colours their best values, the rest being as it is: `fitted_colors`."""
        with torch.no_grad():
            found = self.gaussians(torch.arange(len(self._count), device=self._device), self._values)
        self._values[0] = fitted_colors(found, cameras, targets, pixels=pixels, rounds=rounds, seed=seed)

    @torch.no_grad()
    def _touching(self, cameras: Cameras, view: int, box: Window) -> Tensor:
        """Which Gaussians may touch the window, wherever they have gone within their bounds."""
        seen = project(self._start, cameras, view)
        spread = self._start.scales.amax(1) * float(cameras.fl_x[view]) / seen.depth.clamp(min=1e-3)
        reach = ((max(self._config.reach, self._config.sink) + 4 * 1.5) * spread + 2)[:, None]
        low, high = (
            torch.tensor(corner, dtype=torch.float32, device=self._device) for corner in (box[:2], box[2:])
        )
        return ((seen.xy > low - reach) & (seen.xy < high + reach)).all(1).nonzero()[:, 0]

    @torch.no_grad()
    def result(self, splats: Splats) -> Splats:
        found = self.gaussians(torch.arange(len(splats), device=self._device), self._values)
        values: dict[str, np.ndarray] = {
            name: getattr(found, name).cpu().numpy() for name in ("means", "scales", "opacities", "colors")
        }
        return replace(splats, **values)


def _crop(image: Float[np.ndarray, "h w c"], box: Window) -> Float[np.ndarray, "y x c"]:
    left, top, right, bottom = box
    return image[top:bottom, left:right]
