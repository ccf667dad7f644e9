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
import torch.nn.functional as F
from prior_variants import (
    ImplicitNetwork,
    Muon,
    NormalsNetwork,
    SamplesWithNormals,
    SamplesWithRays,
    cosine,
    field_points,
    layer_grid,
    lite2_network,
    normals_of_depths,
    outer_layers,
    ray_losses,
    true_normals,
    volume_iou,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from mv3d.models.locate import resolve
from mv3d.models.prior.layers import stacked
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
    """encoder: "published", "none" or "lite2". keeps: whether an object of this uid is trained on. rays: weights of the
    depth and the colour that another view sees. head: "layers", "implicit" or "normals". seed: beside the run's. muon: its
    rate, for the decoder's matrices; 0 for AdamW alone."""

    name: str
    weights: TermWeights = field(default_factory=TermWeights)
    silhouette: float = 1.0
    gate: bool = True
    encoder: str = "published"
    keeps: Callable[[str], bool] = lambda uid: True
    rays: tuple[float, float] = (0.0, 0.0)
    head: str = "layers"
    width: int = 192
    seed: int = 0
    muon: float = 0.0


VARIANTS = (
    Variant("everything"),
    Variant("without the silhouette of another view", silhouette=0.0),
    Variant("without slopes", TermWeights(slope=0.0, back_slope=0.0)),
    Variant("without the gate", gate=False),
    Variant("random encoder", encoder="none"),
    Variant("without painted shapes", keeps=lambda uid: kind_of(uid) != "painted"),
    Variant("without procedural objects", keeps=lambda uid: kind_of(uid) != "procedural"),
    Variant("without the thickness", TermWeights(thickness=0.0)),
    Variant("everything, second seed", seed=1),
    Variant("everything, third seed", seed=2),
    Variant("the silhouette and the depth of another view", rays=(5.0, 0.0)),
    Variant("the depth of another view instead", silhouette=0.0, rays=(5.0, 0.0)),
    Variant("the depth and the colour of another view instead", silhouette=0.0, rays=(5.0, 1.0)),
    Variant("EfficientNet-Lite2", encoder="lite2"),
    Variant("EfficientNet-Lite2 and a decoder of 288 channels", encoder="lite2", width=288),
    Variant("an implicit decoder besides", silhouette=0.0, head="implicit"),
    Variant("a head for normals besides", head="normals"),
    Variant("Muon in the decoder", muon=0.01),
    Variant("Muon in the decoder, three times its rate", muon=0.03),
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


@dataclass(frozen=True)
class Files:
    """encoder, lite2: published weights. base: a prior to begin with instead."""

    encoder: Path
    lite2: Path
    base: str = ""


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


def batches(samples: PriorSamples, budget: Budget) -> Iterator[dict[str, Any]]:
    return iter(
        DataLoader(
            _Numbered(samples, budget.steps * budget.batch), budget.batch, num_workers=1, prefetch_factor=4
        )
    )


def begun(variant: Variant, config: PriorConfig, files: Files) -> PriorNetwork:
    """The network before its first step."""
    if variant.encoder == "lite2":
        return lite2_network(config, files.lite2)
    network = start_network(config, resolve(files.base) if files.base else None)
    kinds = {"implicit": ImplicitNetwork, "normals": NormalsNetwork}
    if variant.head not in kinds:
        return network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        larger = kinds[variant.head](config.width)
    larger.load_state_dict(network.state_dict(), strict=False)
    for name, parameter in network.named_parameters():
        larger.get_parameter(name).requires_grad_(parameter.requires_grad)
    return larger.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def trained(variant: Variant, samples: PriorSamples, files: Files, budget: Budget) -> PriorNetwork:
    random = variant.encoder == "none"
    config = PriorConfig(
        encoder="" if files.base else "none" if random else str(files.encoder),
        encoder_rate=1.0 if random else 0.1,
        steps=budget.steps,
        batch=budget.batch,
        micro_batch=budget.batch,
        side=budget.side,
        width=variant.width,
        seed=budget.seed + variant.seed,
        warmup=min(200, budget.steps // 5),
    )
    network = begun(variant, config, files)
    module: nn.Module = HalfWeights(network)
    objective = Objective(
        network, module, lambda *_: (torch.zeros(()), {}), {"encoder.": config.encoder_rate}
    )
    optimizer = make_optimizer(config, objective.groups())
    muon = Muon(network, optimizer) if variant.muon else None
    generator = torch.Generator().manual_seed(config.seed)
    for step, raw in enumerate(batches(samples, budget)):
        batch = PriorBatch.of(raw, "cpu")
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate(step) * group["rate"]
        photo = batch.photo.to(torch.bfloat16, memory_format=torch.channels_last)
        extra = torch.zeros(())
        if variant.head == "implicit":
            places, depth, inside = field_points(batch, generator)
            prediction, logits = module(photo, places, depth)
            extra = F.binary_cross_entropy_with_logits(logits, inside)
        elif variant.head == "normals":
            prediction, normals = module(photo)
            extra = (1 - cosine(normals, raw["normals"], batch.solid)).mean()
        else:
            prediction = module(photo)
        if not variant.gate:
            prediction = without_gate(prediction)
        looks = step >= min(config.silhouette_after, budget.steps // 5)
        silhouette = variant.silhouette if looks else 0.0
        loss, _ = prior_loss(prediction, batch, silhouette_weight=silhouette, term_weights=variant.weights)
        if any(variant.rays) and looks:
            terms = ray_losses(prediction, batch, raw)
            extra = extra + sum(weight * term for weight, term in zip(variant.rays, terms, strict=True))
        (loss + extra).backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
        if not torch.isfinite(norm):  # as the trainer leaves a batch out
            print(f"step {step} left out", flush=True)
            optimizer.zero_grad(set_to_none=True)
            continue
        if muon is not None:
            muon.step(variant.muon * config.learning_rate(step) / config.lr)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return network.eval()


@torch.no_grad()
def answered(
    variant: Variant, network: PriorNetwork, batch: PriorBatch, raw: dict[str, Any]
) -> tuple[Prediction, dict[str, Tensor]]:
    """The prediction, and what only this kind of network is measured by."""
    if isinstance(network, ImplicitNetwork):
        features, pooled = network.features(batch.photo)
        made = network.answer(features, pooled)
        channels = stacked(made.layers)
        grid = network.column_grid(features, channels)
        scored = {"volume_iou": volume_iou(grid, batch)}
        scored["implicit_silhouette_iou"] = network.silhouette_iou(features, channels, batch)
        scored["layers_iou"] = scores(made, batch)["iou"]
        return replace(made, layers=outer_layers(grid, made.layers)), scored
    if isinstance(network, NormalsNetwork):
        made, normals = network(batch.photo)
        by_depths = normals_of_depths(made.layers, batch.solid)
        true = raw["normals"]
        scored = {
            "normals": cosine(normals, true, batch.solid),
            "normals_of_depths": cosine(by_depths, true, batch.solid),
        }
    else:
        made, scored = network(batch.photo), {}
    scored["volume_iou"] = volume_iou(layer_grid(made.layers), batch)
    return made if variant.gate else without_gate(made), scored


@torch.no_grad()
def measured(variant: Variant, network: PriorNetwork, held_out: PriorSamples) -> dict[str, float]:
    """Means over the held-out objects; the layer IoU of each kind besides."""
    found: dict[str, list[Tensor]] = {}
    kinds = [kind_of(held_out.store.uids[number]) for number in held_out.objects]
    for begin in range(0, len(held_out), _HELD_OUT_AT_ONCE):
        numbers = range(begin, min(begin + _HELD_OUT_AT_ONCE, len(held_out)))
        raw = default_collate([held_out.sample(number) for number in numbers])
        batch = PriorBatch.of(raw, "cpu")
        prediction, values = answered(variant, network, batch, raw)
        values |= scores(prediction, batch)
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
    parser.add_argument("--lite2", type=Path, help="EfficientNet-Lite2's weights", default=Path("lite2"))
    parser.add_argument("--base", default="", help="a prior to begin with, instead of the encoder's weights")
    parser.add_argument("--only", nargs="*", help="names of variants")
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
    files = Files(arguments.encoder, arguments.lite2, arguments.base)
    for variant in VARIANTS:
        if arguments.only and variant.name not in arguments.only:
            continue
        kept = arguments.out / f"{variant.name}.json"
        if not kept.exists():
            started = time.process_time()
            settings = {
                "side": budget.side,
                "seed": budget.seed,
                "mirror": True,
                "licences": data.licences,
            }
            kind = PriorSamples
            if variant.head == "normals":
                kind = SamplesWithNormals
                SamplesWithNormals.known = true_normals(data)
            elif any(variant.rays):
                kind = SamplesWithRays
            settings["seed"] += variant.seed
            samples = kind(store, **settings)
            samples.objects = [number for number in samples.objects if variant.keeps(store.uids[number])]
            network = trained(variant, samples, files, budget)
            settings["seed"] = budget.seed
            row = measured(variant, network, kind(store, held_out=True, **settings))
            row |= {"name": variant.name, "objects": len(samples), "seconds": time.process_time() - started}
            kept.write_text(json.dumps(row), encoding="utf-8")
        rows.append(json.loads(kept.read_text(encoding="utf-8")))
        print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    print(f"\n{budget.steps} steps of {budget.batch} photos of {budget.side}², {len(store)} objects in all.")


if __name__ == "__main__":
    main()
