"""The dataparser `mv3d-views` of nerfstudio. nerfstudio finds it by an entry point, and it alone imports this module."""

# pyright: reportMissingImports=false
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from nerfstudio.utils.colors import get_color

from mv3d.core.errors import InputError
from mv3d.views.nerfstudio_scene import nerfstudio_scene


@dataclass
class Mv3dViewsConfig(DataParserConfig):
    """Views of mv3d: a views folder, or whatever else `mv3d recon` takes. The world stays that of the views."""

    _target: type = field(default_factory=lambda: Mv3dViews)
    scale_factor: float = 1.0
    """Multiplies the world; the meshes of mv3d and of nerfstudio lie in one place at 1."""
    eval_every: int = 0
    """Each so-many-th view is for evaluation alone. 0: all views are for both."""
    alpha_color: str | None = None
    """Colour behind the object, "white" or "black". None: the model gets the alpha, and puts its own background there."""


class Mv3dViews(DataParser):
    """Hands on a `NerfstudioScene`."""

    config: Mv3dViewsConfig

    def _generate_dataparser_outputs(self, split: str = "train", **_: Any) -> DataparserOutputs:
        config = self.config
        if not 0 < config.scale_factor < float("inf"):
            raise InputError(
                f"--scale-factor: expected a finite positive number, got {config.scale_factor:g}"
            )
        scene = nerfstudio_scene(config.data)
        keep = scene.split(split, config.eval_every)
        kept = scene.cameras[keep]
        c2w = torch.tensor(kept.c2w[:, :3], dtype=torch.float32)
        c2w[..., 3] *= config.scale_factor
        lenses = {
            nerfstudio: torch.tensor(getattr(kept, ours), dtype=torch.float32)
            for nerfstudio, ours in (("fx", "fl_x"), ("fy", "fl_y"), ("cx", "cx"), ("cy", "cy"))
        }
        metadata: dict[str, Any] = {}
        if scene.points is not None:
            metadata["points3D_xyz"] = (
                torch.tensor(scene.points.points, dtype=torch.float32) * config.scale_factor
            )
            colors = scene.points.colors
            metadata["points3D_rgb"] = (
                torch.full((len(scene.points.points), 3), 128, dtype=torch.uint8)
                if colors is None
                else torch.tensor(colors)
            )
        return DataparserOutputs(
            image_filenames=[scene.image_files[index] for index in keep],
            cameras=Cameras(
                c2w, **lenses, width=kept.width, height=kept.height, camera_type=CameraType.PERSPECTIVE
            ),
            alpha_color=None if config.alpha_color is None else get_color(config.alpha_color),
            scene_box=SceneBox(aabb=torch.tensor(scene.box * config.scale_factor, dtype=torch.float32)),
            metadata=metadata,
            dataparser_scale=config.scale_factor,
        )


MV3D_VIEWS = DataParserSpecification(
    config=Mv3dViewsConfig(), description="Views of mv3d, in the world that mv3d has them in"
)
