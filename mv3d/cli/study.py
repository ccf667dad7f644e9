"""`mv3d study prior`: what a video model is worth as a start, on data of one's own."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from mv3d.cli.groups import Command, run_group
from mv3d.cli.output import note, print_result
from mv3d.cli.train import with_preset
from mv3d.core.flags import SAID
from mv3d.evaluation.perceptual import PerceptualConfig
from mv3d.training.config import TrainConfig
from mv3d.training.study_config import StudyConfig

_TITLE = "What a start is worth: the same training from several, compared."


@dataclass(frozen=True)
class PriorStudyCommand:
    """The flags of `mv3d study prior`."""

    data: Path
    """Orbit shards to train on, rendered or encoded."""
    evaluation: Path
    """Orbit shards of other objects, which views are compared on."""
    base: str
    """The video model: a model folder, a name of `mv3d models list`, or a hub id."""
    image_base: Annotated[str, SAID] = ""
    """The image model, of the same network. Default: the spatial layers of --base."""
    out: Path = Path("study")
    """Runs, rows.jsonl, study.json, study.md and plots. The same command again goes on where it was cut off; more --steps and
    --seeds go on from what is there."""
    study: tyro.conf.OmitArgPrefixes[StudyConfig] = field(default_factory=StudyConfig)
    config: tyro.conf.OmitArgPrefixes[TrainConfig] = field(default_factory=TrainConfig)
    perceptual: tyro.conf.OmitArgPrefixes[PerceptualConfig] = field(default_factory=PerceptualConfig)
    json: bool = False
    """Print one JSON object."""


def study_prior(command: PriorStudyCommand) -> int:
    """Compare as parsed; the exit code."""
    from mv3d.evaluation.perceptual import perceptual_metrics
    from mv3d.training import study as training

    found = perceptual_metrics(command.perceptual, device="cpu")
    for name, reason in found.missing.items():
        note(f"{name} is left out: {reason}")
    result = training.study_prior(
        command.config,
        command.study,
        command.data,
        command.evaluation,
        command.base,
        command.out,
        image_base=command.image_base,
        measures=found.metrics,
        progress=note,
    )
    document = {"summary": result.summary, "points": [asdict(point) for point in result.points]}
    print_result([training.table(result.summary), str(result.out_dir)], document, as_json=command.json)
    return 0


COMMANDS: dict[str, Command] = {
    "prior": (
        with_preset(PriorStudyCommand),
        study_prior,
        "one network from nothing, an image model and a video model: PSNR, LPIPS and CLIP-S of unseen objects",
    ),
}


def study(arguments: list[str]) -> int:
    """Run one of the commands above; the exit code."""
    return run_group("study", _TITLE, COMMANDS, arguments)
