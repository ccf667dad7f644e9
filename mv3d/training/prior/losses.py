"""The loss of the prior: layers, their slopes, the outline from another view, hidden colours, the elevation.

Every term is a sum over samples of sums over pixels, divided by constants: the loss of a batch is the mean of its parts,
however it is dealt out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mv3d.models.prior.layers import occupancy, stacked
from mv3d.models.prior.network import Prediction
from mv3d.training.prior.samples import COLOR_STEP

# Shares of pixels that a term usually counts, of the output's, and of the sampled pixels of the three hidden surfaces.
_SOLID_SHARE, _SEEN_SHARE = 0.3, 0.1
_SMOOTH = 0.08  # largest step between neighbours of one surface
ABSORBED = 0.85
"""Of a ray, by a sample that is wholly inside."""


@dataclass(frozen=True)
class TermWeights:
    """Weights of the loss's terms, not counting the silhouette's. enter, leave, thickness, gap: of depths. slope,
    back_slope: of the differences between neighbours. two: that there is a second layer. color: of hidden surfaces."""

    enter: float = 5.0
    leave: float = 5.0
    thickness: float = 2.5
    slope: float = 6.0
    back_slope: float = 3.0
    two: float = 0.5
    gap: float = 5.0
    color: float = 3.0
    elevation: float = 0.1


@dataclass(frozen=True, eq=False)
class PriorBatch:
    """Samples of `make_sample`, stacked, on the device; b samples."""

    photo: Float[Tensor, "b 4 h w"]
    depths: Float[Tensor, "b 4 s s"]
    solid: Bool[Tensor, "b s s"]
    two: Bool[Tensor, "b s s"]
    colors: Float[Tensor, "b surface 3 m m"]
    seen: Bool[Tensor, "b surface m m"]
    points: Float[Tensor, "b r k 3"]
    opaque: Float[Tensor, "b r"]
    inside: Float[Tensor, "b r k"]
    elevation_deg: Float[Tensor, " b"]
    half: Float[Tensor, " b"]

    @staticmethod
    def of(raw: dict[str, Any], device: torch.device | str) -> PriorBatch:
        """raw: as `DataLoader` stacks samples."""
        given = {name: raw[name].to(device, non_blocking=True) for name in PriorBatch.__dataclass_fields__}
        angles, halves = given["elevation_deg"].float(), given["half"].float()
        return PriorBatch(**given | {"elevation_deg": angles, "half": halves})


def prior_loss(
    prediction: Prediction,
    batch: PriorBatch,
    *,
    silhouette_weight: float,
    term_weights: TermWeights = TermWeights(),
) -> tuple[Tensor, dict[str, Tensor]]:
    """(mean loss, parts of it by name). silhouette_weight: 0 computes none.

    Errors of depth count in distances of the camera, not in units of the frame: what is seen end-on is enlarged, and how
    deep it is cannot be seen.
    """
    layers, depths = prediction.layers, batch.depths
    enter, leave = depths[:, 0], depths[:, 3]
    solid, two = batch.solid.float(), batch.two.float()

    def mean(values: Float[Tensor, "b s s"]) -> Tensor:
        return (values * solid).mean() / _SOLID_SHARE

    def mean_depth(errors: Float[Tensor, "b s s"]) -> Tensor:
        return mean(errors * batch.half[:, None, None])

    terms = {
        "enter": mean_depth((layers.enter - enter).abs()),
        "leave": mean_depth((layers.leave - leave).abs()),
        "thickness": mean_depth(((layers.leave - layers.enter) - (leave - enter)).abs()),
        "slope": slope_loss(layers.enter, enter, batch.solid),
        "back_slope": slope_loss(layers.leave, leave, batch.solid),
        "two": mean(F.binary_cross_entropy_with_logits(layers.two, two, reduction="none")),
        "gap": mean_depth(
            ((layers.first_leave - depths[:, 1]).abs() + (layers.second_enter - depths[:, 2]).abs()) * two
        ),
        "color": color_loss(prediction, batch),
        "elevation": _elevation_loss(prediction, batch),
    }
    weights = asdict(term_weights)
    if silhouette_weight:
        seen = rendered_alpha(stacked(layers), batch)
        terms["silhouette"] = F.binary_cross_entropy(seen, batch.opaque)
        weights["silhouette"] = silhouette_weight
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return total, terms


def slope_loss(
    made: Float[Tensor, "b s s"], true: Float[Tensor, "b s s"], solid: Bool[Tensor, "b s s"]
) -> Tensor:
    """Differences between neighbours of one smooth surface; a step of the truth counts for nothing."""
    total = made.new_zeros(())
    for axis in (1, 2):
        step, wanted = made.diff(dim=axis), true.diff(dim=axis)
        length = solid.shape[axis] - 1
        smooth = solid.narrow(axis, 0, length) & solid.narrow(axis, 1, length) & (wanted.abs() < _SMOOTH)
        total = total + ((step - wanted).abs() * smooth).mean() / _SOLID_SHARE
    return total


def rendered_alpha(channels: Float[Tensor, "b 5 s s"], batch: PriorBatch) -> Float[Tensor, "b r"]:
    """What another view sees of the predicted solid along its rays; within (0, 1).

    channels: `stacked` layers. A sample absorbs by its soft occupancy; the photo's outline bounds the solid.
    """
    places, depth = batch.points[..., :2].flatten(1, 2), batch.points[..., 2].flatten(1)
    looked = F.grid_sample(channels, places[:, None], align_corners=False, padding_mode="border")[:, :, 0]
    return marched_alpha(occupancy(looked, depth), batch)


def marched_alpha(occupied: Float[Tensor, "b p"], batch: PriorBatch) -> Float[Tensor, "b r"]:
    """What another view's rays see of a soft occupancy at their points, p = r k; within (0, 1)."""
    inside = occupied * batch.inside.flatten(1)
    passing = (1 - ABSORBED * inside).clamp(min=1e-4).log().view(batch.points.shape[:3]).sum(-1)
    return (1 - passing.exp()).clamp(1e-4, 1 - 1e-4)


def silhouette_iou(alpha: Float[Tensor, "b r"], batch: PriorBatch) -> Float[Tensor, " b"]:
    """Of the rays that meet the solid, and those that meet the true one."""
    made, true = alpha > 0.5, batch.opaque > 0.5
    return (made & true).sum(1) / (made | true).sum(1).clamp(min=1)


def color_loss(prediction: Prediction, batch: PriorBatch) -> Tensor:
    """Mean error of the hidden surfaces' colours in [0, 1], a usual share of seen pixels supposed."""
    every = slice(COLOR_STEP // 2, None, COLOR_STEP)
    own = F.avg_pool2d(batch.photo[:, :3], 2)[:, None, :, every, every]
    gate = prediction.gates[:, :, None, every, every]
    made = gate * own + (1 - gate) * prediction.colors[..., every, every]
    return ((made - batch.colors).abs() * batch.seen[:, :, None]).mean() / _SEEN_SHARE


def _elevation_loss(prediction: Prediction, batch: PriorBatch) -> Tensor:
    """Of a Laplace distribution whose scale is predicted, too."""
    off = (prediction.elevation_deg - batch.elevation_deg).abs()
    return (off * (-prediction.elevation_log_std).exp() + prediction.elevation_log_std).mean()


@torch.no_grad()
def scores(prediction: Prediction, batch: PriorBatch) -> dict[str, Tensor]:
    """(b,) each. iou: of the volumes between first entry and last exit, in the photo's columns. enter, leave: mean
    errors in units of the network. silhouette_iou: of another view's rays. elevation_deg: error."""
    layers, solid = prediction.layers, batch.solid.float()
    enter, leave = batch.depths[:, 0], batch.depths[:, 3]
    both = (torch.minimum(layers.leave, leave) - torch.maximum(layers.enter, enter)).clamp(min=0)
    either = torch.maximum(layers.leave, leave) - torch.minimum(layers.enter, enter)
    count = solid.sum((1, 2)).clamp(min=1)
    return {
        "iou": (both * solid).sum((1, 2)) / (either * solid).sum((1, 2)).clamp(min=1e-6),
        "enter": ((layers.enter - enter).abs() * solid).sum((1, 2)) / count,
        "leave": ((layers.leave - leave).abs() * solid).sum((1, 2)) / count,
        "silhouette_iou": silhouette_iou(rendered_alpha(stacked(layers), batch), batch),
        "elevation_deg": (prediction.elevation_deg - batch.elevation_deg).abs(),
    }
