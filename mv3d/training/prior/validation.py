"""Scores and a sheet of held-out objects, so that a run can be looked at and its learning curve drawn."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import default_collate

from mv3d.models.prior.network import Prediction, PriorNetwork
from mv3d.training.prior.losses import PriorBatch, scores
from mv3d.training.prior.samples import PriorSamples
from mv3d.training.validation import FOLDER, SCORES

_SHOWN = 12  # objects of a sheet
_AT_ONCE = 16


class PriorValidator:
    """Writes a line of `validation/scores.jsonl` and a sheet `validation/00001000.png`.

    A sheet has a column for each object: the photo, its depth and the depth where rays leave, and below each what the
    network says. The objects are held out from training.
    """

    def __init__(
        self,
        network: PriorNetwork,
        samples: PriorSamples,
        out: Path,
        *,
        objects: int,
        device: torch.device,
        main: bool,
    ) -> None:
        self._network, self._samples, self._out, self._device = network, samples, out / FOLDER, device
        self._count, self._main = min(objects, len(samples)), main

    @torch.no_grad()
    def __call__(self, module: nn.Module, step: int) -> None:
        """Of the network's weights as they are, in fp32; the module that trains it is not called."""
        if not self._main or not self._count:
            return
        found: dict[str, list[Tensor]] = {}
        sheet: list[Float[Tensor, "h w 3"]] = []
        for begin in range(0, self._count, _AT_ONCE):
            numbers = range(begin, min(begin + _AT_ONCE, self._count))
            raw = default_collate([self._samples.sample(number) for number in numbers])
            batch = PriorBatch.of(raw, self._device)
            prediction = self._network(batch.photo)
            for name, values in scores(prediction, batch).items():
                found.setdefault(name, []).append(values.float().cpu())
            sheet += _columns(prediction, batch, _SHOWN - len(sheet))
        self._out.mkdir(exist_ok=True)
        picture = (torch.cat(sheet, 1).clamp(0, 1) * 255).round().byte().numpy()
        Image.fromarray(picture).save(self._out / f"{step:08d}.png")
        line = {"step": step, "objects": self._count}
        line |= {name: round(float(torch.cat(values).mean()), 5) for name, values in found.items()}
        with (self._out / SCORES).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def last_scores(out: Path) -> dict[str, float]:
    """The scores of the last validation by a name for people; empty where there was none."""
    path = out / FOLDER / SCORES
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    last = json.loads(lines[-1]) if lines else {}
    names = {"iou": "held-out volume IoU", "silhouette_iou": "held-out silhouette IoU", "elevation_deg": "held-out elevation error, degrees"}  # fmt: skip
    return {text: float(last[name]) for name, text in names.items() if name in last}


def _columns(prediction: Prediction, batch: PriorBatch, count: int) -> list[Float[Tensor, "h w 3"]]:
    """At most `count` columns of pictures."""
    columns = []
    side = batch.depths.shape[-1]
    photos = torch.nn.functional.interpolate(batch.photo[:, :3], (side, side), mode="area")
    for row in range(min(max(count, 0), len(batch.photo))):
        alpha = batch.solid[row].float()
        pictures = [photos[row].permute(1, 2, 0)]
        for depth in (
            batch.depths[row, 0],
            prediction.layers.enter[row],
            batch.depths[row, 3],
            prediction.layers.leave[row],
        ):
            shade = (0.5 - 0.5 * depth) * alpha + 1 - alpha
            pictures.append(shade[..., None].expand(-1, -1, 3))
        columns.append(torch.cat([picture.float().cpu() for picture in pictures], 0))
    return columns
