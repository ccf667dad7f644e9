"""`mv3d make`: a photo in, a textured mesh out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from mv3d.cli.generate import note_views
from mv3d.cli.lift import LiftCommand, lift
from mv3d.cli.orbits_flags import Hidden
from mv3d.cli.output import StageBars, note, print_result
from mv3d.cli.recon import judged, summary
from mv3d.core.files import sha256
from mv3d.core.flags import SAID
from mv3d.core.records import refuse_other_request
from mv3d.generation import places
from mv3d.generation.config import GenerateConfig, LiftConfig, PhotoQuality, instant_settings
from mv3d.generation.places import make_folder, require_photo
from mv3d.recon import places as recon_places
from mv3d.recon.config import ReconConfig, recorded

if TYPE_CHECKING:
    from mv3d.generation.batch import GenerateResult


@dataclass(frozen=True)
class MeshFlags(ReconConfig):
    """`ReconConfig` as flags beside those of `GenerateConfig`: the device and the seed are common to both."""

    quality: PhotoQuality = ReconConfig.quality  # pyright: ignore
    """instant: the mesh of `mv3d lift`, no views are made. draft: the tightened hull, seconds.
    standard: a field fitted to all views. high: finer grids, longer."""
    method: Annotated[str, *Hidden] = ReconConfig.method
    trajectory: Annotated[str, *Hidden] = ReconConfig.trajectory
    device: Annotated[str, *Hidden] = ReconConfig.device
    seed: Annotated[int, *Hidden] = ReconConfig.seed

    def __post_init__(self) -> None:
        if self.quality == "instant":
            changed: dict[str, Any] = {**vars(self), "quality": "draft"}
            ReconConfig(**changed)
        else:
            super().__post_init__()


@dataclass(frozen=True)
class MakeCommand:
    """Turn a photo of one object into a textured mesh: the views of `mv3d generate`, then the mesh of `mv3d recon`."""

    image: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="IMAGE")]
    """A photo. Best with transparency; else it is cut out."""
    out: Annotated[Path | None, SAID] = None
    """Where to write views and mesh. Default: out/NAME, NAME of the photo."""
    views: Annotated[GenerateConfig, tyro.conf.arg(name="")] = field(default_factory=GenerateConfig)
    mesh: Annotated[MeshFlags, tyro.conf.arg(name="")] = field(default_factory=MeshFlags)
    accept: bool = False
    """End with 0 though the mesh does not fit the views."""
    overwrite: bool = False
    """Replace earlier results of other settings. Views stay where only settings of the mesh differ."""
    json: bool = False
    """Print one JSON object."""


def make(command: MakeCommand) -> int:
    """Run the command; the exit code."""
    if command.mesh.quality == "instant":
        return lift(_as_lift(command))
    begun = time.monotonic()
    require_photo(command.image)
    common = {"device": command.views.device, "seed": command.views.seed}
    mesh_config = ReconConfig(**vars(command.mesh) | common)
    if not command.overwrite:
        out, before = make_folder(command.image, command.out), command.views.recorded_before_the_model()
        refuse_other_request(out / places.RECORD, before, sha256(command.image))
        refuse_other_request(out / recon_places.RECORD, recorded(mesh_config.resolved()))
    from mv3d.api import make_to  # torch loads here, not for --help

    bars, doubts = StageBars(), list[str]()

    def report(views: GenerateResult) -> None:
        bars.close()
        if views.error is None:
            doubts.extend(views.record.get("warnings", ()))
        note_views(views, {doubt.removeprefix(f"{views.image}: ") for doubt in doubts})

    try:
        views, mesh = make_to(
            command.image,
            command.out,
            command.views,
            mesh_config,
            overwrite=command.overwrite,
            progress=bars,
            on_views=report,
        )
    finally:
        bars.close()
        for warning in doubts:  # at the end, where they are seen, and also where there is no mesh
            note(f"warning: {warning}")
    told = summary(mesh.report, time.monotonic() - begun)
    note("done already: the same photo and settings" if mesh.already_done else told)
    document = {
        "out": str(views.out_dir),
        "already_done": mesh.already_done,
        "files": {name: str(path) for name, path in mesh.files.items()},
        "views": views.record,
        "mesh": mesh.report,
    }
    print_result([str(path) for path in mesh.files.values()], document, as_json=command.json)
    return judged(mesh, accept=command.accept)


def _as_lift(command: MakeCommand) -> LiftCommand:
    """The same request with the 3D prior alone. Raises UsageError for flags of views, which are not made."""
    settings = instant_settings(vars(command.views) | vars(command.mesh), "--quality instant")
    return LiftCommand(command.image, command.out, LiftConfig(**settings), command.overwrite, command.json)
