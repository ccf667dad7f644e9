"""`mv3d lift`: a photo in, a textured mesh out, in seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from mv3d.cli.output import StageBars, note, print_result
from mv3d.cli.recon import summary
from mv3d.core.files import sha256
from mv3d.core.flags import SAID
from mv3d.core.records import refuse_other_request
from mv3d.generation.config import LiftConfig
from mv3d.generation.places import RECORD, lift_folder, require_photo

_ASSETS = ("mesh", "points", "splats")  # how the names of files begin that are what was asked for


@dataclass(frozen=True)
class LiftCommand:
    """Turn a photo of one object into a textured mesh with the model's 3D prior alone: a preview in seconds."""

    image: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="IMAGE")]
    """A photo. Best with transparency; else it is cut out."""
    out: Annotated[Path | None, SAID] = None
    """Where to write. Default: out/NAME-lift, NAME of the photo."""
    config: Annotated[LiftConfig, tyro.conf.arg(name="")] = field(default_factory=LiftConfig)
    overwrite: bool = False
    """Replace an earlier result: what its record lists, no other file."""
    json: bool = False
    """Print one JSON object."""


def lift(command: LiftCommand) -> int:
    """Run the command; the exit code."""
    begun = time.monotonic()
    require_photo(command.image)
    if not command.overwrite:
        place = lift_folder(command.image, command.out) / RECORD
        refuse_other_request(place, command.config.recorded(), sha256(command.image))
    from mv3d.generation.plan import plan_generation

    plan = plan_generation(command.config.for_photo())  # a wrong name fails before torch loads
    import torch

    from mv3d.generation.elevation import ElevationEstimate
    from mv3d.generation.lifting import lift_to

    bars, threads = StageBars(), torch.get_num_threads()
    torch.set_num_threads(1)  # more wait for each other longer than the small network takes
    try:
        result = lift_to(
            command.image, command.out, command.config, plan=plan, overwrite=command.overwrite, progress=bars
        )
    finally:
        torch.set_num_threads(threads)
        bars.close()
    report = result.report
    if result.already_done:
        note("done already: the same photo and settings; use --overwrite to make it again")
    else:
        if command.config.elevation == "auto":
            found = report["elevation_estimate"]
            note(str(ElevationEstimate(found["chosen_deg"], found["std_deg"])))
        note(summary(report, time.monotonic() - begun))
    for warning in report["warnings"]:
        note(f"warning: {warning}")
    document = {
        "files": {name: str(path) for name, path in result.files.items()},
        "already_done": result.already_done,
        "report": report,
    }
    shown = [str(path) for name, path in result.files.items() if name.startswith(_ASSETS)]
    print_result(shown, document, as_json=command.json)
    return 0
