"""The teacher of a student: which models can be one, and what they decide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mv3d.core.errors import UsageError
from mv3d.models.folder import PRIOR, ModelInfo, read_config, read_info
from mv3d.models.locate import ResolvedModel, resolve
from mv3d.training.distill.config import DistillConfig, for_teacher
from mv3d.training.distill.consistency import student_sampler

_WHAT_CAN = "a multi-view model can: sv3d_p, sv3d_u, or what mv3d train makes of --preset svd_mv, sv3d_u, sv3d_p or tiny"


def check_teacher(info: ModelInfo, name: str) -> None:
    """Raises UsageError for a model that cannot be distilled: a 3D prior, and a student."""
    if info.kind == PRIOR:
        raise UsageError(
            f"--teacher {name}: a 3D prior cannot be distilled: it samples nothing, one pass makes its solid; {_WHAT_CAN}"
        )
    if info.distilled_steps is not None:
        raise UsageError(
            f"--teacher {name}: a student of {info.distilled_steps} steps cannot be distilled again; give its teacher "
            f"({info.base})"
        )


def with_teacher(config: DistillConfig, teacher: ResolvedModel) -> DistillConfig:
    """The settings with what the teacher decides. Raises UsageError for a model that cannot be one, InputError for none."""
    info = read_info(teacher.folder)
    check_teacher(info, teacher.name)
    takes_renders = bool(read_config(teacher.folder / "unet").get("render_channels", 0))
    return for_teacher(config, info, teacher.name, takes_renders=takes_renders)


def with_local_teacher(config: DistillConfig, name: str) -> DistillConfig:
    """`with_teacher` for a model on the disk; another name is looked up when the run begins."""
    return with_teacher(config, resolve(name)) if name == "default" or Path(name).is_dir() else config


def student_info(config: DistillConfig, teacher: ModelInfo) -> ModelInfo:
    """The description of the student of a teacher."""
    sampler = student_sampler(teacher.sampler, config.student_steps)
    return replace(teacher, sampler=sampler, distilled_steps=config.student_steps)
