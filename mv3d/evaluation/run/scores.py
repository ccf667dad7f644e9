"""Metrics of one object's views, and their means over all objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from mv3d.core.errors import EmptyHullError, InputError
from mv3d.evaluation.bootstrap import bootstrap_interval
from mv3d.evaluation.image_sets import ImageSet
from mv3d.evaluation.perceptual import Perceptual
from mv3d.evaluation.silhouettes import silhouette_recall
from mv3d.evaluation.view_metrics import evaluate_views

METRICS = ("psnr", "ssim", "ssim_padded", "mse", "lpips", "clip_s", "mask_iou", "silhouette_recall")
Method = Literal["model", "baseline"]
METHODS: tuple[Method, ...] = ("model", "baseline")
Part = Literal["mean_without_input", "mean"]


def score_object(
    generated: ImageSet, truth: ImageSet, *, size: int, found: Perceptual, baseline: bool
) -> dict[Method, dict[str, Any]]:
    """For the model and the baseline: `mean`, `mean_without_input` and `views` of `evaluate_views`, with
    silhouette_recall. Raises InputError for image sets that do not fit together."""
    methods: dict[Method, ImageSet] = {"model": generated}
    if baseline:
        methods["baseline"] = input_repeated(truth)
    return {method: _score(pictures, truth, size, found) for method, pictures in methods.items()}


def input_repeated(truth: ImageSet) -> ImageSet:
    """The input view in place of every other: a baseline that needs no model."""
    if truth.input_view is None:
        raise InputError("truth: expected an orbit that says which view is given, got none")
    images = np.repeat(truth.images[[truth.input_view]], len(truth), axis=0)
    return replace(truth, images=images, masks=images[..., 3])


def _score(pictures: ImageSet, truth: ImageSet, size: int, found: Perceptual) -> dict[str, Any]:
    document = evaluate_views(pictures, truth, size=size, extra=found.metrics, missing=found.missing)
    recalls = recalls_of(pictures, truth)
    rows = [
        row | {"silhouette_recall": float(value)}
        for row, value in zip(document["views"], recalls, strict=True)
    ]
    others = [row["silhouette_recall"] for row in rows if not row.get("input")]
    return {
        "mean": document["mean"] | {"silhouette_recall": float(recalls.mean())},
        "mean_without_input": document["mean_without_input"] | {"silhouette_recall": float(np.mean(others))},
        "views": rows,
    }


def recalls_of(pictures: ImageSet, truth: ImageSet) -> Float[np.ndarray, " n"]:
    """`silhouette_recall` with the truth's cameras, at the images' own size.

    0 for all views if a silhouette is empty or the silhouettes have no object in common: an empty hull covers nothing.
    """
    assert pictures.masks is not None and truth.cameras is not None
    if not (pictures.masks > 0.5).any((1, 2)).all():
        return np.zeros(len(pictures))
    cameras = truth.cameras.resized(pictures.width, pictures.height)
    try:
        return silhouette_recall(pictures.masks, cameras)
    except EmptyHullError:
        return np.zeros(len(pictures))


def differences(scores: Sequence[Mapping[str, Any]], part: Part) -> list[dict[str, float]]:
    """Metric → the model's value minus the baseline's, for each object."""
    return [
        {key: value - score["baseline"][part][key] for key, value in score["model"][part].items()}
        for score in scores
    ]


def by_view(scores: Sequence[Mapping[str, Any]], method: Method) -> list[dict[str, Any]]:
    """Frame by frame, the mean over the objects."""
    if not scores:
        return []
    table = []
    for index, first in enumerate(scores[0][method]["views"]):
        rows = [score[method]["views"][index] for score in scores]
        keys = [key for key in METRICS if key in first]
        angle = float(np.mean([row["azimuth_deg"] for row in rows]))
        means = {key: float(np.mean([row[key] for row in rows])) for key in keys}
        table.append({"view": index, "azimuth_deg": angle, **means})
    return table


def intervals(rows: Sequence[Mapping[str, float]], **settings: int) -> dict[str, dict[str, float]]:
    """Metric → mean, low and high over the rows, one for each object; {} for none. settings: of the bootstrap."""
    return {
        key: asdict(bootstrap_interval([row[key] for row in rows], **settings))
        for key in METRICS
        if rows and key in rows[0]
    }
