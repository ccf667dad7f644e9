"""Metrics with their protocol written down: models, views and meshes against ground truth, views alone.

Importing this loads no torch; what needs it imports it when called.
"""
# ruff: noqa: F401 - these are the public names

from __future__ import annotations

from mv3d.evaluation.alignment import Alignment, align
from mv3d.evaluation.bootstrap import Interval, bootstrap_interval
from mv3d.evaluation.consistency import evaluate_consistency
from mv3d.evaluation.curve import azimuth_chart, save_azimuth_chart
from mv3d.evaluation.distances import surface_distances, thinned, volume_iou
from mv3d.evaluation.image_sets import ImageSet, image_set, read_image_set
from mv3d.evaluation.mesh_metrics import compare_renders, evaluate_mesh
from mv3d.evaluation.perceptual import (
    Perceptual,
    PerceptualConfig,
    load_clip_s,
    load_lpips,
    perceptual_metrics,
)
from mv3d.evaluation.protocols import PROTOCOLS, MeshProtocol, protocol
from mv3d.evaluation.run.config import EvalRunConfig
from mv3d.evaluation.run.decontamination import Contamination, find_contamination
from mv3d.evaluation.run.evaluate import EvalRunResult, evaluate_model
from mv3d.evaluation.run.published import SV3D_ROWS, PublishedRow, published_rows
from mv3d.evaluation.run.tables import summary_lines
from mv3d.evaluation.silhouettes import silhouette_recall
from mv3d.evaluation.surfaces import Samples, normalized, sample_surface
from mv3d.evaluation.view_metrics import compare_image_sets, evaluate_views
from mv3d.views.metrics import CONVENTION, compare, mask_iou, mse, psnr, ssim, ssim_padded
