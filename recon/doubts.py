"""What is doubtful about a reconstruction, judged by its re-render in the views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mv3d.core.errors import EmptyHullError, InputError
from mv3d.core.progress import Clock
from mv3d.recon.config import ReconConfig
from mv3d.recon.other_readings import fitting_reading
from mv3d.recon.representation import Reconstructor, Representation
from mv3d.views.elevation import estimate_elevation, hull_recall
from mv3d.views.metrics import mask_iou
from mv3d.views.morphology import labelled
from mv3d.views.views import Views

LEAST_MEAN_IOU = 0.8
"""Below it no fit is claimed. Real orbits reach 0.95 to 0.98, blurred views of the small default model 0.95, an orbit
under a wrong elevation 0.5 to 0.7."""
LEAST_COVERAGE = 0.2
"""Share of the surface that some view sees; below it no fit is claimed. Real orbits reach 0.8 to 0.95, three views a
third; a box around inverted masks 0.04."""
_LEAST_PHOTO_IOU, _BEHIND_MEAN = 0.92, 0.06
_QUICK_PX = 192
_AS_WELL = 0.02
_NEAR = 1.1  # of the faces asked for
_SPECK = 0.01  # of a silhouette's area


def doubts(views: Views, report: dict[str, Any]) -> list[str]:
    """Whole sentences, without a full stop. report: of `rerender_report`, with `shells` and `coverage` where there is a
    mesh."""
    mean, found = report["iou_mean"], []
    if not fits(report):
        what = f"mean silhouette IoU {mean:.2f}, expected {LEAST_MEAN_IOU} or more"
        if mean >= LEAST_MEAN_IOU:
            what = f"they see {report['coverage']:.0%} of its surface, expected {LEAST_COVERAGE:.0%} or more"
        found.append(f"the result does not fit its views: {what}; {_cause(views)}")
    elif views.input_view is not None:
        photo = report["iou"][views.input_view]
        if photo < max(_LEAST_PHOTO_IOU, mean - _BEHIND_MEAN):
            found.append(
                f"the photo's own view ({views.input_view}) has a silhouette IoU of {photo:.2f}, the mean is "
                f"{mean:.2f}: thin parts that the photo shows are missing, or the cameras are not those of the views"
            )
    if report.get("shells", 1) > 1 and _in_one_piece(views):
        found.append(
            f"the mesh is in {report['shells']} pieces, the views show one: some of it floats, or a thin part is cut"
        )
    return found


def too_many_faces(config: ReconConfig, report: Mapping[str, Any]) -> list[str]:
    """A sentence where the mesh has clearly more faces than were asked for. config: resolved."""
    faces = report.get("faces", 0)
    if config.faces is None or faces <= _NEAR * config.faces:
        return []
    return [
        f"{faces} faces where {config.faces} were asked for: fewer would not keep its thin parts and gaps"
    ]


def fits(report: Mapping[str, Any]) -> bool:
    """Whether the re-render agrees with the views: mean silhouette IoU of 0.8 or more, and a coverage of 20 % or more
    where there is one. report: as in `doubts`."""
    return report["iou_mean"] >= LEAST_MEAN_IOU and report.get("coverage", 1.0) >= LEAST_COVERAGE


def fitted(reconstructor: Reconstructor, views: Views, clock: Clock) -> Representation:
    """What a reconstructor makes of views. An EmptyHullError also says which other reading of the views fits."""
    try:
        return reconstructor.fit(views, clock)
    except EmptyHullError as error:
        reading = fitting_reading(views)
        raise EmptyHullError(f"{error}; {reading[1]}" if reading else str(error)) from error


def judged(views: Views, shown: Representation) -> list[str]:
    """`doubts` of a representation that has not been measured, by a re-render of at most 192 pixels."""
    share = min(1.0, _QUICK_PX / max(views.cameras.width, views.cameras.height))
    size = [max(8, round(side * share)) for side in (views.cameras.height, views.cameras.width)]
    alphas = torch.tensor(views.images[..., 3])[:, None]
    truth = torch.nn.functional.interpolate(alphas, size, mode="area")[:, 0].numpy()
    again = shown.render(views.cameras.resized(size[1], size[0]))[..., 3]
    ious = [mask_iou(a, b) for a, b in zip(truth, again, strict=True)]
    return doubts(views, {**shown.details(), "iou_mean": float(np.mean(ious)), "iou": ious})


def _in_one_piece(views: Views) -> bool:
    """Whether the object is connected in most views."""
    whole = 0
    for alpha in views.images[..., 3]:
        labels, count = labelled(alpha > 0.5)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        whole += int((sizes > _SPECK * sizes.sum()).sum() == 1)
    return 2 * whole > len(views)


def _cause(views: Views) -> str:
    """What makes such views fit no object. Takes a few seconds."""
    orbit, alphas = views.orbit, views.images[..., 3]
    found, other = [], fitting_reading(views)
    if orbit is None or np.ptp(orbit.elevations_deg) > 0.5:
        nothing = "the cameras are not those of these images, or the views contradict each other"
        return other[1] if other else nothing
    given = orbit.elevations_deg[0]
    covered = hull_recall(alphas, views.cameras)
    for azimuths, turn in (
        (np.array(orbit.azimuths_deg), ""),
        (-np.array(orbit.azimuths_deg), " the other way round"),
    ):
        try:
            best = estimate_elevation(alphas, azimuths, radius=orbit.radius, fov_deg=orbit.fov_deg)
        except InputError:  # no elevation at all
            continue
        if best.recall > max(0.9, covered + 0.02) and (turn or abs(best.elevation_deg - given) > 2):
            sentence = (
                f"the silhouettes are those of an orbit{turn} at an elevation of {best.elevation_deg:.0f} degrees "
                f"({best.recall:.0%} covered), not of {given:.0f} ({covered:.0%})"
            )
            found.append((best.recall, sentence))
    found += [other] if other else []
    if found:  # the first of those that fit about as well
        best = max(covered for covered, _ in found)
        return next(sentence for covered, sentence in found if covered > best - _AS_WELL)
    return f"the views contradict each other ({covered:.0%} of the silhouettes covered at best)"
