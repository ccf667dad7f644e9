"""`mv3d generate`: photos in, posed views out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from mv3d.cli.output import StageBars, note, print_result
from mv3d.core.errors import UsageError
from mv3d.core.files import sha256
from mv3d.core.flags import SAID
from mv3d.core.records import refuse_other_request
from mv3d.generation.config import GenerateConfig
from mv3d.generation.places import RECORD, require_photo

if TYPE_CHECKING:
    from mv3d.generation.batch import GenerateResult


@dataclass(frozen=True)
class GenerateCommand:
    """Turn photos of single objects into posed views."""

    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE..."), SAID]
    """Photos, or folders of photos. Best with transparency; else they are cut out."""
    out: Path = Path("out")
    """Where to write; several photos go to OUT/NAME each."""
    config: Annotated[GenerateConfig, tyro.conf.arg(name="")] = field(default_factory=GenerateConfig)
    overwrite: bool = False
    """Replace earlier results, and remove the mesh made of them in the same folder. Files that no record lists stay."""
    json: bool = False
    """Print one JSON object."""


def generate(command: GenerateCommand) -> int:
    """Run the command; the exit code."""
    if not command.images:
        raise UsageError("expected at least one IMAGE or folder of images; see mv3d generate --help")
    if len(command.images) == 1 and not command.images[0].is_dir():
        (image,) = command.images
        require_photo(image)
        if not command.overwrite:
            before = command.config.recorded_before_the_model()
            refuse_other_request(command.out / RECORD, before, sha256(image))
    from mv3d.generation.plan import plan_generation

    plan = plan_generation(command.config)  # a wrong name fails before torch loads
    from mv3d.generation.batch import generate_to

    bars, told = StageBars(), set[str]()

    many = len(command.images) > 1 or any(path.is_dir() for path in command.images)

    def report(result: GenerateResult) -> None:
        bars.close()
        if result.error is not None and (many or command.json):
            note(f"mv3d: {result.error}")
        if result.already_done:
            note(
                f"{result.out_dir}: done already: the same input and settings; use --overwrite to make it again"
            )
        note_views(result, told)
        if result.removed:
            note(
                f"{result.out_dir}: removed {', '.join(result.removed)}: made of the views that were replaced; "
                f"make new ones with: mv3d recon {result.out_dir}"
            )

    try:
        results = generate_to(
            command.images,
            command.out,
            plan,
            overwrite=command.overwrite,
            progress=lambda name: bars,
            on_result=report,
        )
    finally:
        bars.close()
    failed = [result for result in results if result.error is not None]
    if failed and failed[0].error is not None and not (many or command.json):
        raise failed[0].error
    if len(results) > 1 and failed:
        note(f"{len(failed)} of {len(results)} failed")
    document = {
        "results": [
            {
                "image": str(r.image),
                "out": str(r.out_dir),
                "already_done": r.already_done,
                "error": None if r.error is None else str(r.error),
                "record": r.record,
            }
            for r in results
        ]
    }
    print_result([str(r.out_dir) for r in results if r.error is None], document, as_json=command.json)
    return 1 if failed else 0


def note_views(result: GenerateResult, told: set[str]) -> None:
    """Print what a run has to say about one photo's views to stderr; nothing where it was done before.

    told: what was said of earlier photos, and is not repeated; grows.
    """
    if result.already_done:
        return
    for warning in result.record.get("warnings", ()):
        text = warning.removeprefix(f"{result.image}: ")
        if text not in told:
            note(f"warning: {warning}")
        told.add(text)
    if result.error is None:
        if result.elevation is not None:
            note(str(result.elevation))
        views, seconds = result.record["views"], result.record["seconds"]["total"]
        note(f"{result.out_dir}: {views} views in {seconds:.0f} s")
