"""`mv3d study prior`: what a video model is worth as a start, on data of one's own."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from mv3d.cli.groups import parsed, unknown_command
from mv3d.cli.output import note, print_result, show
from mv3d.cli.train import asked_preset
from mv3d.core.errors import UsageError
from mv3d.core.flags import SAID
from mv3d.evaluation.perceptual import PerceptualConfig
from mv3d.training.config import TrainConfig, preset
from mv3d.training.study_config import StudyConfig

_TITLE = "what a start is worth: the same training from several, compared"
_HELP = """Train the same network on the same orbits from nothing, from an image model and from a video model, and compare the
views of objects never seen: PSNR, LPIPS and CLIP-S against steps, one table, one plot a metric.

mv3d study prior --data orbits/ --evaluation held_out/ --base svd_xt --steps 4000 --every 500 --out study/

The same command again goes on where it was cut off; more --steps and --seeds go on from what is there."""


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
    """Runs, rows.jsonl, study.json, study.md and plots."""
    study: tyro.conf.OmitArgPrefixes[StudyConfig] = field(default_factory=StudyConfig)
    config: tyro.conf.OmitArgPrefixes[TrainConfig] = field(default_factory=TrainConfig)
    perceptual: tyro.conf.OmitArgPrefixes[PerceptualConfig] = field(default_factory=PerceptualConfig)
    json: bool = False
    """Print one JSON object."""


def study(arguments: list[str]) -> int:
    """Run the command; the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        show(f"usage: mv3d study COMMAND [options]\n\n{_TITLE}\n\n  prior      nothing, an image model, a video model\n\n"
             "mv3d study COMMAND --help lists the options.")  # fmt: skip
        return 0 if arguments else 2
    if arguments[0] != "prior":
        raise UsageError(unknown_command(arguments[0], ["prior"], "mv3d study"))
    kind = _with_defaults(preset(asked_preset(arguments)))
    return run(parsed(kind, arguments[1:], program="mv3d study prior", description=_HELP))


def run(command: PriorStudyCommand) -> int:
    """Compare as parsed; the exit code."""
    from mv3d.evaluation.perceptual import perceptual_metrics
    from mv3d.training.study import study_prior, table

    found = perceptual_metrics(command.perceptual, device="cpu")
    for name, reason in found.missing.items():
        note(f"{name} is left out: {reason}")
    result = study_prior(
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
    print_result([table(result.summary), str(result.out_dir)], document, as_json=command.json)
    return 0


def _with_defaults(chosen: TrainConfig) -> Any:
    """The command whose training starts from a preset."""

    @dataclass(frozen=True)
    class Preset(PriorStudyCommand):
        config: tyro.conf.OmitArgPrefixes[TrainConfig] = chosen

    return Preset
