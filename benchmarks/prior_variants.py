"""Networks and losses that the 3D prior might have had, for benchmarks/prior_ablations.py.

A larger encoder; soft ray-marched depth and colour of another view as losses; an implicit decoder on the features of a
point's pixel; a head for the normals of the visible surface.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mv3d.models.prior.depths import cleaned, depth_normals, smoothed
from mv3d.models.prior.encoder import Encoder, folded_weights
from mv3d.models.prior.layers import RANGE, Layers, occupancy, signed_depth, stacked
from mv3d.models.prior.network import Prediction, PriorNetwork
from mv3d.orbits.geometry import read_geometry
from mv3d.orbits.reading import sample_document
from mv3d.orbits.shards import Shard
from mv3d.training.config import PriorConfig
from mv3d.training.prior.encoder_file import published_weights
from mv3d.training.prior.frames import View
from mv3d.training.prior.layer_store import GeometryShards, dequantized
from mv3d.training.prior.losses import ABSORBED, PriorBatch, marched_alpha, silhouette_iou
from mv3d.training.prior.samples import (
    PriorSamples,
    _looked_up,
    _toned,
    framed,
)

LITE2 = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 3),
    (5, 2, 6, 48, 3),
    (3, 2, 6, 88, 4),
    (5, 1, 6, 120, 4),
    (5, 2, 6, 208, 5),
    (3, 1, 6, 352, 1),
)
"""Stages of EfficientNet-Lite2."""
SOFTNESS = 0.08  # of the choice of a point's surface, in units of the network
DEPTHS = 128  # samples of a column where an implicit solid is read
REACH = 1.6  # of these
FIELD_POINTS = 4096  # of a photo in a training step


def lite2_network(config: PriorConfig, path: Path) -> PriorNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = PriorNetwork(config.width, Encoder(LITE2))
    network.encoder.load_state_dict(folded_weights(published_weights(path), LITE2))
    for block in network.encoder.blocks[: config.frozen_blocks]:
        block.requires_grad_(False)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


class ImplicitNetwork(PriorNetwork):
    """Occupancy anywhere in the frustum: the layers' signed depth, corrected by a small network that reads the features
    of the point's pixel and where the point lies among the layers (after PIFu, arXiv 1905.05172)."""

    def __init__(self, width: int = 192) -> None:
        super().__init__(width)
        hidden = 64
        last = nn.Linear(hidden, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.field = nn.Sequential(
            nn.Linear(width // 4 + 13, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), last
        )

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, rgba: Float[Tensor, "b 4 h w"], places: Tensor, depth: Tensor
    ) -> tuple[Prediction, Float[Tensor, "b p"]]:
        """places: (b, p, 2) in the frame, depth: (b, p). The prediction, and logits of occupancy."""
        features, pooled = self.features(rgba)
        made = self.answer(features, pooled)
        return made, self.logits(features, stacked(made.layers), places, depth)

    def logits(
        self, features: Tensor, channels: Tensor, places: Tensor, depth: Tensor
    ) -> Float[Tensor, "b p"]:
        dtype = features.dtype
        # In bf16 the gradient of this is not finite on some processors.
        seen = F.grid_sample(
            features.float(), places[:, None], align_corners=False, padding_mode="border"
        ).to(dtype)
        looked = F.grid_sample(channels, places[:, None], align_corners=False, padding_mode="border")[:, :, 0]
        waves = [f(depth * (np.pi * 2**k) / 2) for k in range(4) for f in (torch.sin, torch.cos)]
        enter, leave, first_leave, second_enter, two = looked.unbind(1)
        among = [depth - enter, leave - depth, depth - first_leave, second_enter - depth, torch.sigmoid(two)]
        told = torch.cat([torch.stack(waves + among, -1).to(dtype), seen[:, :, 0].transpose(1, 2)], -1)
        return 48 * signed_depth(looked, depth) + 8 * self.field(told)[..., 0].float()

    def column_grid(self, features: Tensor, channels: Tensor) -> Float[Tensor, "b d s s"]:
        """Occupancy in [0, 1] at `DEPTHS` samples of every column."""
        batch, _, height, width = features.shape
        y, x = ((torch.arange(n) + 0.5) / n * 2 - 1 for n in (height, width))
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(1, -1, 2).expand(batch, -1, 2)
        layers = []
        for depth in torch.linspace(-REACH, REACH, DEPTHS):
            logit = self.logits(features, channels, grid, depth.expand(batch, height * width))
            layers.append(torch.sigmoid(logit).view(batch, height, width))
        return torch.stack(layers, 1)

    def silhouette_iou(self, features: Tensor, channels: Tensor, batch: PriorBatch) -> Float[Tensor, " b"]:
        """Of another view's rays, as in `scores`."""
        logit = self.logits(
            features, channels, batch.points[..., :2].flatten(1, 2), batch.points[..., 2].flatten(1)
        )
        return silhouette_iou(marched_alpha(torch.sigmoid(logit), batch), batch)


def field_points(batch: PriorBatch, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """(places, depths, inside) of `FIELD_POINTS` a photo: half of them near a surface, half anywhere."""
    side = batch.depths.shape[-1]
    weights = batch.solid.flatten(1).float() + 1e-6
    pixel = torch.multinomial(weights, FIELD_POINTS, replacement=True, generator=generator)
    of_pixel = batch.depths.flatten(2).gather(2, pixel[:, None].expand(-1, 4, -1))
    two = batch.two.flatten(1).gather(1, pixel)
    which = torch.randint(4, pixel.shape, generator=generator)
    near = of_pixel.gather(1, which[:, None])[:, 0] + 0.06 * torch.randn(pixel.shape, generator=generator)
    far = (torch.rand(pixel.shape, generator=generator) * 2 - 1) * 1.3
    depth = torch.where(torch.arange(FIELD_POINTS) % 2 == 0, near, far)
    x, y = pixel % side, pixel // side
    places = (torch.stack([x, y], -1) + 0.5) / side * 2 - 1
    return places, depth, occupied(of_pixel, two, depth).float()


def occupied(depths: Tensor, two: Tensor, depth: Tensor) -> Tensor:
    """Whether points lie in the true layers; depths: (b, 4, ...), the others as its parts or broadcast."""
    enter, first_leave, second_enter, leave = depths.unbind(1)
    whole = (depth > enter) & (depth < leave)
    return whole & ~(two & (depth > first_leave) & (depth < second_enter))


def volume_iou(occupancy_of: Float[Tensor, "b d s s"], batch: PriorBatch) -> Float[Tensor, " b"]:
    """Of the solids with their gaps, in the photo's columns."""
    at = torch.linspace(-REACH, REACH, DEPTHS)[None, :, None, None]
    true = occupied(batch.depths[:, :, None], batch.two[:, None], at)
    made, solid = occupancy_of > 0.5, batch.solid[:, None]
    both, either = (made & true & solid).sum((1, 2, 3)), ((made | true) & solid).sum((1, 2, 3))
    return both / either.clamp(min=1)


def layer_grid(layers: Layers) -> Float[Tensor, "b d s s"]:
    """Occupancy of layers at the samples of `volume_iou`."""
    channels = stacked(layers).flatten(2)
    found = [
        occupancy(channels, at.expand(len(channels), channels.shape[-1]))
        for at in torch.linspace(-REACH, REACH, DEPTHS)
    ]
    return torch.stack(found, 1).unflatten(-1, layers.enter.shape[1:])


def outer_layers(grid: Float[Tensor, "b d s s"], layers: Layers) -> Layers:
    """The layers with the first entry and the last exit of an implicit solid; as they were where it has none."""
    inside = grid > 0.5
    step = 2 * REACH / (DEPTHS - 1)
    first, last = inside.float().argmax(1), DEPTHS - 1 - inside.flip(1).float().argmax(1)
    some = inside.any(1)
    enter = torch.where(some, -REACH + (first - 0.5) * step, layers.enter)
    leave = torch.where(some, -REACH + (last + 0.5) * step, layers.leave)
    return Layers(enter, leave, layers.first_leave, layers.second_enter, layers.two)


class SamplesWithRays(PriorSamples):
    """Samples with what the other view's rays meet: `ray_depth` (r,), `ray_color` (r, 3), and `along` (r, k), the
    depths of the points along its axis; depths in its distances, 0 where it sees nothing."""

    def sample(self, index: int) -> dict[str, Any]:
        found = super().sample(index)
        views, draw = self.drawn(index)
        cameras = [View.of(*map(float, row)) for row in views.cameras]
        frame = framed(views.rgba[draw.view, ..., 3], cameras[draw.view], draw)
        points = found["points"]
        sign = -1.0 if frame.mirrored else 1.0
        places = torch.stack(
            [frame.x + frame.half * sign * points[..., 0], frame.y + frame.half * points[..., 1]], -1
        )
        world = frame.view.unproject(places, frame.along_axis(points[..., 2]))
        at, depth = cameras[draw.looking].project(world)
        at, along = at[:, 0], depth / cameras[draw.looking].distance
        size = views.layers.shape[-1]
        x, y = ((at + 1) * (size / 2)).floor().long().clamp(0, size - 1).unbind(-1)
        enter = torch.from_numpy(np.ascontiguousarray(views.layers[draw.looking, 0]))[y, x]
        seen = torch.from_numpy(dequantized(enter.numpy()))
        color = _looked_up(views.rgba[draw.looking], at)
        alpha = color[3:]
        toned = _toned(color[:3] / alpha.clamp(min=1e-3), draw) * alpha + 1 - alpha
        return found | {
            "ray_depth": torch.where(enter > 0, seen, 0.0).float(),
            "ray_color": toned.T.contiguous().float(),
            "along": along.float(),
        }


def ray_losses(prediction: Prediction, batch: PriorBatch, raw: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """(error of the depth in units of RANGE, error of the colour) of another view's rays, marched through the layers."""
    channels = stacked(prediction.layers)
    rays, samples = batch.points.shape[1:3]
    places, depth = batch.points[..., :2].flatten(1, 2)[:, None], batch.points[..., 2].flatten(1)
    looked = F.grid_sample(channels, places, align_corners=False, padding_mode="border")[:, :, 0]
    absorbed = ABSORBED * (occupancy(looked, depth) * batch.inside.flatten(1)).view(-1, rays, samples)
    passing = torch.cumprod(torch.cat([torch.ones_like(absorbed[..., :1]), 1 - absorbed], -1), -1)
    weights = absorbed * passing[..., :-1]
    missing = 1 - weights.sum(-1)
    true, along = raw["ray_depth"], raw["along"]
    met = (true > 0) & (batch.opaque > 0.5)
    reached = (weights * along).sum(-1) + missing * true
    of_depth = ((reached - true).abs().clamp(max=0.3) * met).mean() / RANGE
    enter, leave, first_leave, second_enter, _ = looked.unbind(1)
    off = torch.stack([enter, first_leave, second_enter, leave], 1) - depth[:, None]
    share = torch.softmax(-off.abs() / SOFTNESS, 1)
    own = F.avg_pool2d(batch.photo[:, :3], 2)
    gates = prediction.gates[:, :, None]
    colors = torch.cat([own[:, None], gates * own[:, None] + (1 - gates) * prediction.colors], 1).flatten(
        1, 2
    )
    seen = F.grid_sample(colors, places, align_corners=False, padding_mode="border")[:, :, 0].unflatten(
        1, (4, 3)
    )
    made = (seen * share[:, :, None]).sum(1).unflatten(-1, (rays, samples))
    drawn = (made * weights[:, None]).sum(-1) + missing[:, None]
    return of_depth, (drawn - raw["ray_color"].transpose(1, 2)).abs().mean()


class NormalsNetwork(PriorNetwork):
    """With a head for the normals of the visible surface."""

    def __init__(self, width: int = 192) -> None:
        super().__init__(width)
        self.normals = nn.Conv2d(width // 4, 3, 1)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, rgba: Float[Tensor, "b 4 h w"]
    ) -> tuple[Prediction, Float[Tensor, "b 3 y x"]]:
        features, pooled = self.features(rgba)
        return self.answer(features, pooled), F.normalize(self.normals(features).float(), dim=1)


def true_normals(data: GeometryShards) -> dict[str, UInt8[np.ndarray, "v d d 3"]]:
    """Of the depths in the shards, by uid; a step is 1 / 127, and 0 stands where nothing is."""
    found = {}
    for path, _ in data.shards:
        shard = Shard(path)
        for number in range(len(shard)):
            members = shard.members(number)
            document = sample_document(members)
            depths = read_geometry(document, members).depth / float(document["cameras"]["radius"])
            normals = [
                depth_normals((np.where(d > 0, d, 1.5) - 1) / RANGE) * (d > 0)[..., None] for d in depths
            ]
            found[str(document["uid"])] = (np.stack(normals) * 127 + 128).round().astype(np.uint8)
    return found


class SamplesWithNormals(PriorSamples):
    """Samples with `normals` (3, s, s) in the camera's axes, 0 where there is none."""

    known: dict[str, UInt8[np.ndarray, "v d d 3"]]

    def sample(self, index: int) -> dict[str, Any]:
        found = super().sample(index)
        views, draw = self.drawn(index)
        frame = framed(views.rgba[draw.view, ..., 3], View.of(*map(float, views.cameras[draw.view])), draw)
        given = torch.from_numpy(self.known[views.uid][draw.view].astype(np.float32) - 128).permute(2, 0, 1)
        at = frame.pixels(found["depths"].shape[-1])[None]
        seen = F.grid_sample(given[None], at, mode="nearest", align_corners=False)[0]
        if frame.mirrored:
            seen[0] *= -1
        return found | {"normals": torch.where(seen.norm(dim=0) > 64, F.normalize(seen, dim=0), 0.0)}


def cosine(made: Tensor, true: Tensor, solid: Tensor) -> Float[Tensor, " b"]:
    """Mean over the pixels with a true normal."""
    known = solid & (true.norm(dim=1) > 0.5)
    return ((made * true).sum(1) * known).sum((1, 2)) / known.sum((1, 2)).clamp(min=1)


def normals_of_depths(layers: Layers, solid: Tensor) -> Float[Tensor, "b 3 s s"]:
    """Of the first depths, as `visible_normals` smooths them."""
    found = []
    for depth, valid in zip(layers.enter.numpy(), solid.numpy(), strict=True):
        if not valid.any():
            valid = np.ones_like(valid)  # noqa: PLW2901
        found.append(depth_normals(smoothed(cleaned(depth, valid), 1.0)))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)


class Muon:
    """Orthogonalised momentum for the decoder's matrices (Jordan et al. 2024, Muon), which AdamW then leaves alone."""

    def __init__(self, network: PriorNetwork, others: torch.optim.Optimizer, momentum: float = 0.95) -> None:
        outside = ("encoder.", "head.", "camera.")
        self.matrices = [
            weight
            for name, weight in network.named_parameters()
            if weight.ndim > 1 and not name.startswith(outside) and ".place." not in name
        ]
        chosen = {id(weight) for weight in self.matrices}
        for group in others.param_groups:
            group["params"] = [weight for weight in group["params"] if id(weight) not in chosen]
        self.momentum = momentum
        self.moments = [torch.zeros_like(weight) for weight in self.matrices]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for weight, moment in zip(self.matrices, self.moments, strict=True):
            assert weight.grad is not None
            moment.lerp_(weight.grad, 1 - self.momentum)
            update = weight.grad.lerp(moment, self.momentum).flatten(1)
            made = orthogonal(update) * max(1, update.shape[0] / update.shape[1]) ** 0.5
            weight.mul_(1 - rate * 0.02).add_(made.reshape(weight.shape), alpha=-rate)
            weight.grad = None


def orthogonal(matrix: Float[Tensor, "m n"], rounds: int = 5) -> Float[Tensor, "m n"]:
    """The matrix with its singular values brought near 1: Muon's quintic Newton-Schulz iteration."""
    x = matrix / (matrix.norm() + 1e-7)
    turned = len(x) > x.shape[1]
    x = x.T if turned else x
    for _ in range(rounds):
        square = x @ x.T
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x.T if turned else x
