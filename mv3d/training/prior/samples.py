"""Training samples of the prior: a photo as the network gets it, and everything that it is compared with.

Sample g is a function of the seed and of g alone. What depends on the data alone is computed here, in the processes that
read; the loss only looks the network's answer up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mv3d.core.errors import InputError
from mv3d.models.prior.halves import half_of, shape_of
from mv3d.models.prior.network import HIDDEN_SURFACES
from mv3d.orbits.dataset import SampleFormat
from mv3d.render.cameras import FOREGROUND_RATIO
from mv3d.training.prior.frames import Frame, View
from mv3d.training.prior.layer_store import LayerStore, ObjectViews, dequantized

VIEWS_WITH_GEOMETRY = SampleFormat("objects with geometry", latents=False, alpha=True, input_frame=0)
HELD_OUT_OF = 50
"""One object of so many is held out."""
DEEPEST = 2.2
"""Largest depth that counts, in units of the network: of a stick that is seen end-on and fills the frame."""
RAYS, RAY_SAMPLES = 28, 36
"""Rays along a side of the bundle through another view, and samples along each."""
COLOR_STEP = 2
"""Pixels of the network's output between two whose hidden colours are compared."""
_REACH = 0.32  # of a ray's samples from the object's centre, in distances
_NEAR = 0.025  # distances from a view's surface within which it sees a point


@dataclass(frozen=True, eq=False)
class Draw:
    """What chance decides of a sample. view: the photo. looking: the view whose silhouette is compared. fill: share of
    the frame that the object takes. shift: of the frame, in shares of it. gain (3,), gamma, saturation: of the colours.
    noise: largest deviation. rng: for all that comes after."""

    view: int
    looking: int
    fill: float
    shift: tuple[float, float]
    mirrored: bool
    gain: Float[np.ndarray, " 3"]
    gamma: float
    saturation: float
    noise: float
    blurred: bool
    rng: np.random.Generator


def plain_draw(views: int, rng: np.random.Generator) -> Draw:
    """The first view as it is, framed as `lift_photo` frames it."""
    return Draw(
        0, 1 % views, FOREGROUND_RATIO, (0.0, 0.0), False, np.ones(3, np.float32), 1.0, 1.0, 0.0, False, rng
    )


def random_draw(views: int, rng: np.random.Generator, *, mirror: bool) -> Draw:
    """A random view with the framing, light, noise and blur of somebody's photo."""
    view = int(rng.integers(views))
    return Draw(
        view=view,
        looking=int((view + 1 + rng.integers(views - 1)) % views),
        fill=float(rng.uniform(0.82, 0.97)),
        shift=(float(rng.normal(0, 0.012)), float(rng.normal(0, 0.012))),
        mirrored=mirror and bool(rng.random() < 0.5),
        gain=np.exp(rng.normal(0, 0.18) + rng.normal(0, 0.06, 3)).astype(np.float32),
        gamma=float(np.exp(rng.normal(0, 0.15))),
        saturation=float(rng.uniform(0.6, 1.25)),
        noise=float(rng.random() * 0.03),
        blurred=bool(rng.random() < 0.25),
        rng=rng,
    )


class PriorSamples:
    """Samples by number. held_out: of the objects that training does not see, plainly drawn; else of the others, or of
    their `half` (`mv3d.models.prior.halves`)."""

    def __init__(
        self,
        store: LayerStore,
        *,
        side: int,
        seed: int,
        mirror: bool,
        licences: dict[str, int],
        held_out: bool = False,
        half: int | None = None,
    ) -> None:
        self.store, self.side, self.seed, self.mirror = store, side, seed, mirror
        self.licences, self.held_out = licences, held_out
        self.format = VIEWS_WITH_GEOMETRY
        self.objects = [
            i
            for i, uid in enumerate(store.uids)
            if is_held_out(uid) == held_out and half in (None, half_of(uid))
        ]
        if not self.objects and not held_out:
            raise InputError("--data: expected an object that is not held out, found none; give more objects")

    def __len__(self) -> int:
        """Objects; each comes once an epoch."""
        return len(self.objects)

    def sample(self, index: int) -> dict[str, Any]:
        """Sample number `index`, whatever was read before; see `make_sample`."""
        views, draw = self.drawn(index)
        return {"index": index, "uid": views.uid} | make_sample(views, draw, self.side)

    def drawn(self, index: int) -> tuple[ObjectViews, Draw]:
        """The object of a sample, and what chance decides of it."""
        if self.held_out:
            views = self.store.object(self.objects[index])
            return views, plain_draw(len(views.rgba), np.random.default_rng([self.seed, 2, index]))
        epoch, inside = divmod(index, len(self))
        views = self.store.object(self.objects[int(self._order(epoch)[inside])])
        rng = np.random.default_rng([self.seed, 1, index])
        return views, random_draw(len(views.rgba), rng, mirror=self.mirror)

    def _order(self, epoch: int) -> np.ndarray:
        """The objects of an epoch; the one in use is kept."""
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            self._shuffled = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.objects))
        return self._shuffled


def is_held_out(uid: str) -> bool:
    """Whether training leaves an object out; all paints of one shape together."""
    digest = hashlib.sha256(shape_of(uid).encode()).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_OF == 0


def make_sample(views: ObjectViews, draw: Draw, side: int) -> dict[str, Any]:
    """The tensors of one sample; s is half the side, m half of that, r = `RAYS`².

    photo: (4, side, side) on white, in [0, 1]. depths: (4, s, s), enter, first leave, second enter and last leave in
    units of the network. solid, two: (s, s) bool, where the ray meets the object, and where it does twice. colors:
    (3, 3, m, m) of the first exit, the second entry and the last exit, as other views see them; seen: (3, m, m) bool.
    points: (r, k, 3), samples along rays through another view, placed in the frame. opaque: (r,) alpha that this view
    sees there. inside: (r, k) alpha of the photo at the points. elevation_deg: of the photo's camera. half: half side of
    the frame in the photo, which reaches from -1 to 1, at most 1.
    """
    cameras = [View.of(*map(float, row)) for row in views.cameras]
    frame = framed(views.rgba[draw.view, ..., 3], cameras[draw.view], draw)
    photo = _photo(views.rgba[draw.view], frame, draw, side)
    depths, solid, two = _targets(views.layers[draw.view], frame, photo[3:], side // 2)
    colors, seen = _hidden_colors(views, cameras, draw, frame, depths, solid, two)
    points, opaque = _rays(views.rgba[draw.looking, ..., 3], cameras[draw.looking], frame, draw.rng)
    inside = F.grid_sample(photo[None, 3:], points[None, ..., :2], align_corners=False)[0, 0]
    return {
        "photo": photo,
        "depths": depths,
        "solid": solid,
        "two": two,
        "colors": colors,
        "seen": seen,
        "points": points,
        "opaque": opaque,
        "inside": inside,
        "elevation_deg": float(views.cameras[draw.view, 0]),
        "half": min(frame.half, 1.0),
    }


def _box(alpha: UInt8[np.ndarray, "h w"]) -> tuple[int, int, int, int]:
    """Left, right, top and bottom of what is opaque, the ends past it."""
    rows, columns = np.flatnonzero((alpha > 127).any(1)), np.flatnonzero((alpha > 127).any(0))
    return int(columns[0]), int(columns[-1]) + 1, int(rows[0]), int(rows[-1]) + 1


def framed(alpha: UInt8[np.ndarray, "s s"], view: View, draw: Draw) -> Frame:
    """The square around the object's box, of which its larger side fills a share."""
    left, right, top, bottom = _box(alpha)
    size = len(alpha)
    side = max(right - left, bottom - top) / draw.fill
    x = ((left + right) / 2 + draw.shift[0] * side) / size * 2 - 1
    y = ((top + bottom) / 2 + draw.shift[1] * side) / size * 2 - 1
    return Frame(view, x, y, side / size, draw.mirrored)


def _premultiplied(rgba: UInt8[np.ndarray, "s s 4"]) -> Float[Tensor, "1 4 s s"]:
    planes = torch.from_numpy(np.ascontiguousarray(rgba)).permute(2, 0, 1)[None].float().div_(255)
    planes[:, :3] *= planes[:, 3:]
    return planes


def _photo(
    rgba: UInt8[np.ndarray, "s s 4"], frame: Frame, draw: Draw, side: int
) -> Float[Tensor, "4 side side"]:
    found = F.grid_sample(_premultiplied(rgba), frame.pixels(side)[None], align_corners=False)
    alpha = found[:, 3:]
    color = _toned(found[0, :3] / alpha[0].clamp(min=1e-3), draw)
    if draw.noise:
        noise = draw.rng.standard_normal(color.shape, np.float32) * draw.noise
        color = (color + torch.from_numpy(noise)).clamp(0, 1)
    found = torch.cat([color[None] * alpha, alpha], 1)
    if draw.blurred:
        found = F.avg_pool2d(F.pad(found, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return torch.cat([found[0, :3] + 1 - found[0, 3:], found[0, 3:]])


def _toned(color: Tensor, draw: Draw) -> Tensor:
    """Other exposure, white balance, contrast and saturation. color: (3, ...) in [0, 1]."""
    gain = torch.from_numpy(draw.gain).view(3, *[1] * (color.ndim - 1))
    color = (color.clamp(1e-4, 1) ** draw.gamma * gain).clamp(0, 1)
    gray = color.mean(0, keepdim=True)
    return (gray + (color - gray) * draw.saturation).clamp(0, 1)


def _targets(
    steps: UInt8[np.ndarray, "4 d d"], frame: Frame, alpha: Float[Tensor, "1 s2 s2"], side: int
) -> tuple[Float[Tensor, "4 s s"], Bool[Tensor, "s s"], Bool[Tensor, "s s"]]:
    """(depths, solid, two) of the frame's pixels, from the layers of the nearest pixels of the view."""
    size = steps.shape[-1]
    at = ((frame.pixels(side) + 1) * (size / 2)).floor().long()  # x, y
    within = ((at >= 0) & (at < size)).all(-1)
    x, y = at.clamp(0, size - 1).unbind(-1)
    found = torch.from_numpy(np.ascontiguousarray(steps))[:, y, x]
    depths = frame.scaled(torch.from_numpy(dequantized(found.numpy())))
    two = within & (found[3] > 0)
    depths[3] = torch.where(two, depths[3], depths[1])
    shallow = (depths[0].abs() < DEEPEST) & (depths[3].abs() < DEEPEST)
    solid = within & (found[0] > 0) & shallow & (F.avg_pool2d(alpha[None], 2)[0, 0] > 0.5)
    return depths, solid, two & solid


def _hidden_colors(
    views: ObjectViews,
    cameras: Sequence[View],
    draw: Draw,
    frame: Frame,
    depths: Float[Tensor, "4 s s"],
    solid: Bool[Tensor, "s s"],
    two: Bool[Tensor, "s s"],
) -> tuple[Float[Tensor, "surface 3 m m"], Bool[Tensor, "surface m m"]]:
    """Colours of the surfaces behind the visible one: of the first other view whose visible surface lies there."""
    every = slice(COLOR_STEP // 2, None, COLOR_STEP)
    deep = depths[1:, every, every]
    wanted = torch.stack([two, two, solid])[:, every, every]
    places = frame.pixels(depths.shape[-1])[every, every].expand(*deep.shape, 2)
    world = frame.view.unproject(places[wanted], frame.along_axis(deep[wanted]))
    found = torch.zeros(3, len(world))
    open_ = torch.ones(len(world), dtype=torch.bool)
    size = views.layers.shape[-1]
    for offset in range(1, len(cameras)):
        other = (draw.view + offset) % len(cameras)
        at, depth = cameras[other].project(world)
        cell = ((at + 1) * (size / 2)).floor().long()
        within = ((cell >= 0) & (cell < size)).all(-1)
        x, y = cell.clamp(0, size - 1).unbind(-1)
        enter = torch.from_numpy(np.ascontiguousarray(views.layers[other, 0]))[y, x]
        nearest = torch.from_numpy(dequantized(enter.numpy()))
        off = (depth / cameras[other].distance - nearest).abs()
        sees = torch.nonzero(open_ & within & (enter > 0) & (off < _NEAR))[:, 0]
        if len(sees):
            color = _looked_up(views.rgba[other], at[sees])
            whole = color[3] > 0.9
            found[:, sees[whole]] = color[:3, whole] / color[3, whole]
            open_[sees[whole]] = False
    colors = torch.zeros(3, HIDDEN_SURFACES, *deep.shape[1:])
    colors[:, wanted] = _toned(found, draw)
    seen = torch.zeros_like(wanted)
    seen[wanted] = ~open_
    return colors.transpose(0, 1).contiguous(), seen


def _looked_up(rgba: UInt8[np.ndarray, "s s 4"], at: Float[Tensor, "p 2"]) -> Float[Tensor, "4 p"]:
    """Colours times alpha, and alpha, between pixels: `grid_sample` of `_premultiplied` for few places."""
    size = len(rgba)
    place = ((at.numpy() + 1) * (size / 2) - 0.5).clip(0, size - 1)
    low = np.minimum(place.astype(np.int64), size - 2)
    (x, y), (right, down) = low.T, (place - low).T[..., None].astype(np.float32)
    corners = rgba[np.stack([y, y, y + 1, y + 1]), np.stack([x, x + 1, x, x + 1])].astype(np.float32) / 255
    corners[..., :3] *= corners[..., 3:]
    upper = corners[0] * (1 - right) + corners[1] * right
    lower = corners[2] * (1 - right) + corners[3] * right
    return torch.from_numpy((upper * (1 - down) + lower * down).T.copy())


def _rays(
    alpha: UInt8[np.ndarray, "s s"], view: View, frame: Frame, rng: np.random.Generator
) -> tuple[Float[Tensor, "r k 3"], Float[Tensor, " r"]]:
    """Random rays through the object's box in another view and a little around it; (points in the frame, alphas)."""
    left, right, top, bottom = _box(alpha)
    size = len(alpha)
    places = torch.from_numpy(rng.uniform(-1, 1, (RAYS**2, 2)).astype(np.float32))
    middle = torch.tensor([(left + right) / size - 1, (top + bottom) / size - 1])
    reach = torch.tensor([(right - left) / size, (bottom - top) / size]) * 1.2 + 0.04
    places = (places * reach + middle).clamp(-1, 1)
    planes = torch.from_numpy(np.ascontiguousarray(alpha))[None, None].float() / 255
    opaque = F.grid_sample(planes, places[None, None], align_corners=False)[0, 0, 0]
    shift = torch.from_numpy(rng.random((RAYS**2, 1), np.float32))
    along = ((torch.arange(RAY_SAMPLES) + shift) / RAY_SAMPLES * 2 - 1) * _REACH + 1
    world = view.unproject(places[:, None].expand(-1, RAY_SAMPLES, 2), along * view.distance)
    return frame.locate(world), opaque
