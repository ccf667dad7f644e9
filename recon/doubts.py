"""What is doubtful about a reconstruction, judged by its re-render in the views."""

from __future__ import annotations

from typing import Any

import numpy as np

from mv3d.core.errors import InputError
from mv3d.views.elevation import estimate_elevation, hull_recall
from mv3d.views.morphology import labelled
from mv3d.views.views import Views

LEAST_MEAN_IOU = 0.8
"""Below it no fit is claimed. Real orbits reach 0.95 to 0.98, blurred views of the small default model 0.95, an orbit
under a wrong elevation 0.5 to 0.7."""
_LEAST_PHOTO_IOU, _BEHIND_MEAN = 0.92, 0.06
_SPECK = 0.01  # of a silhouette's area


def doubts(views: Views, report: dict[str, Any]) -> list[str]:
    """Whole sentences, without a full stop. report: of `rerender_report`, with `shells` where there is a mesh."""
    mean, found = report["iou_mean"], []
    if mean < LEAST_MEAN_IOU:
        found.append(
            f"the result does not fit its views: mean silhouette IoU {mean:.2f}, expected {LEAST_MEAN_IOU} or more; "
            + _cause(views)
        )
    elif views.input_view is not None:
        photo = report["iou"][views.input_view]
        if photo < max(_LEAST_PHOTO_IOU, mean - _BEHIND_MEAN):
            found.append(
                f"the photo's own view ({views.input_view}) has a silhouette IoU of {photo:.2f}, the mean is "
                f"{mean:.2f}: thin parts that the photo shows are missing"
            )
    if report.get("shells", 1) > 1 and _in_one_piece(views):
        found.append(
            f"the mesh is in {report['shells']} pieces, the views show one: some of it floats, or a thin part is cut"
        )
    return found


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
    if orbit is None or np.ptp(orbit.elevations_deg) > 0.5:
        return "the cameras are not those of these images, or the views contradict each other"
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
            return (
                f"the silhouettes are those of an orbit{turn} at an elevation of {best.elevation_deg:.0f} degrees "
                f"({best.recall:.0%} covered), not of {given:.0f} ({covered:.0%})"
            )
    return f"the views contradict each other ({covered:.0%} of the silhouettes covered at best)"
