"""What each part of the 3D prior's training is worth: equal runs that leave one out, scored on held-out objects.

    python benchmarks/prior_ablations.py --data SHARDS --encoder FILE --out ablations [--steps 1000] [--side 64]

SHARDS: of `mv3d orbits render --geometry`, as `mv3d train --preset prior` takes them; FILE: EfficientNet-Lite0's weights.
Every run sees the same photos in the same order but where objects are what is left out, in fp32 masters with a bf16 copy,
AdamW and a cosine as the trainer has them, no average of the weights. A row is printed and kept as soon as it is measured;
the same command goes on with the rows that are missing. `layer IoU`, `silhouette IoU`, `elevation`: `scores` of
mv3d.training.prior.losses; `slope`: mean error of the difference between neighbouring depths, in units of the network,
times 100; `hidden colour`: mean error of what another view sees of the hidden surfaces, of 255.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from mv3d.models.prior.network import Prediction, PriorNetwork
from mv3d.training.config import PriorConfig
from mv3d.training.loop import make_optimizer
from mv3d.training.objective import HalfWeights, Objective
from mv3d.training.prior.layer_store import LayerStore, build_store, geometry_shards
from mv3d.training.prior.losses import PriorBatch, TermWeights, color_loss, prior_loss, scores, slope_loss
from mv3d.training.prior.samples import PriorSamples
from mv3d.training.prior.stage import start_network

_HELD_OUT_AT_ONCE = 16
_SEEN_SHARE = 0.1  # that color_loss supposes


@dataclass(frozen=True)
class Variant:
    """encoder: "published" or "none". keeps: whether an object of this uid is trained on."""

    name: str
    weights: TermWeights = field(default_factory=TermWeights)
    silhouette: float = 1.0
    gate: bool = True
    encoder: str = "published"
    keeps: Callable[[str], bool] = lambda uid: True


VARIANTS = (
    Variant("everything"),
    Variant("without the silhouette of another view", silhouette=0.0),
    Variant("without slopes", TermWeights(slope=0.0, back_slope=0.0)),
    Variant("without the gate", gate=False),
    Variant("random encoder", encoder="none"),
    Variant("without painted shapes", keeps=lambda uid: kind_of(uid) != "painted"),
    Variant("without procedural objects", keeps=lambda uid: kind_of(uid) != "procedural"),
    Variant("without the thickness", TermWeights(thickness=0.0)),
)


def kind_of(uid: str) -> str:
    return "painted" if "-paint-" in uid else "procedural" if uid.startswith("procedural-") else "other"


KINDS = ("other", "painted", "procedural")


@dataclass(frozen=True)
class Budget:
    steps: int
    batch: int
    side: int
    seed: int


class _Numbered(Dataset[dict[str, Any]]):
    def __init__(self, samples: PriorSamples, count: int) -> None:
        self._samples, self._count = samples, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self._samples.sample(number)


def without_gate(prediction: Prediction) -> Prediction:
    """Every hidden colour is the network's own."""
    return replace(prediction, gates=torch.zeros_like(prediction.gates))


def batches(samples: PriorSamples, budget: Budget) -> Iterator[PriorBatch]:
    loader = DataLoader(
        _Numbered(samples, budget.steps * budget.batch), budget.batch, num_workers=1, prefetch_factor=4
    )
    for raw in loader:
        yield PriorBatch.of(raw, "cpu")


def trained(variant: Variant, samples: PriorSamples, encoder: Path, budget: Budget) -> PriorNetwork:
    random = variant.encoder == "none"
    config = PriorConfig(
        encoder="none" if random else str(encoder),
        encoder_rate=1.0 if random else 0.1,
        steps=budget.steps,
        batch=budget.batch,
        micro_batch=budget.batch,
        side=budget.side,
        seed=budget.seed,
        warmup=min(200, budget.steps // 5),
    )
    network = start_network(config, None)
    module: nn.Module = HalfWeights(network)
    objective = Objective(
        network, module, lambda *_: (torch.zeros(()), {}), {"encoder.": config.encoder_rate}
    )
    optimizer = make_optimizer(config, objective.groups())
    for step, batch in enumerate(batches(samples, budget)):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate(step) * group["rate"]
        prediction = module(batch.photo.to(torch.bfloat16, memory_format=torch.channels_last))
        if not variant.gate:
            prediction = without_gate(prediction)
        silhouette = variant.silhouette if step >= min(config.silhouette_after, budget.steps // 5) else 0.0
        loss, _ = prior_loss(prediction, batch, silhouette_weight=silhouette, term_weights=variant.weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return network.eval()


@torch.no_grad()
def measured(variant: Variant, network: PriorNetwork, held_out: PriorSamples) -> dict[str, float]:
    """Means over the held-out objects; the layer IoU of each kind besides."""
    found: dict[str, list[Tensor]] = {}
    kinds = [kind_of(held_out.store.uids[number]) for number in held_out.objects]
    for begin in range(0, len(held_out), _HELD_OUT_AT_ONCE):
        numbers = range(begin, min(begin + _HELD_OUT_AT_ONCE, len(held_out)))
        batch = PriorBatch.of(default_collate([held_out.sample(number) for number in numbers]), "cpu")
        prediction = network(batch.photo)
        if not variant.gate:
            prediction = without_gate(prediction)
        values = scores(prediction, batch)
        slope = slope_loss(prediction.layers.enter, batch.depths[:, 0], batch.solid) * 100
        share = batch.seen.float().mean() / _SEEN_SHARE
        color = color_loss(prediction, batch) / share * 255
        values |= {"slope": slope.expand(len(numbers)), "color": color.expand(len(numbers))}
        for name, of_each in values.items():
            found.setdefault(name, []).append(of_each)
    whole = {name: torch.cat(values) for name, values in found.items()}
    means = {name: float(values.mean()) for name, values in whole.items()}
    for kind in KINDS:
        means[kind] = float(whole["iou"][[each == kind for each in kinds]].mean())
    return means


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| | objects | layer IoU | other / painted / procedural | silhouette IoU | elevation, degrees | slope | hidden colour |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        kinds = " / ".join(f"{row[kind]:.3f}" for kind in KINDS)
        cells = f"{row['iou']:.3f} | {kinds} | {row['silhouette_iou']:.3f} | {row['elevation_deg']:.1f}"
        lines.append(
            f"| {row['name']} | {row['objects']} | {cells} | {row['slope']:.2f} | {row['color']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--layers", type=Path, help="folder of the layers, which `mv3d train --layers` shares"
    )
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    budget = Budget(arguments.steps, arguments.batch, arguments.side, arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    data = geometry_shards(arguments.data)
    store = LayerStore(build_store(data, arguments.layers or arguments.out / "layers"))
    rows = []
    for variant in VARIANTS:
        kept = arguments.out / f"{variant.name}.json"
        if not kept.exists():
            begun = time.process_time()
            settings = {
                "side": budget.side,
                "seed": budget.seed,
                "mirror": True,
                "licences": data.licences,
            }
            samples = PriorSamples(store, **settings)
            samples.objects = [number for number in samples.objects if variant.keeps(store.uids[number])]
            network = trained(variant, samples, arguments.encoder, budget)
            row = measured(variant, network, PriorSamples(store, held_out=True, **settings))
            row |= {"name": variant.name, "objects": len(samples), "seconds": time.process_time() - begun}
            kept.write_text(json.dumps(row), encoding="utf-8")
        rows.append(json.loads(kept.read_text(encoding="utf-8")))
        print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    print(f"\n{budget.steps} steps of {budget.batch} photos of {budget.side}², {len(store)} objects in all.")


if __name__ == "__main__":
    main()
