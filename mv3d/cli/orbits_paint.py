"""`mv3d orbits paint`: shapes without colours as objects of wood, plastic, cloth and the like."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mv3d.cli.output import ObjectsBar, note, print_result


@dataclass(frozen=True)
class PaintCommand:
    """Give shapes without colours materials, one for each kind of connected part, and write them as GLB files with a
    SOURCES.csv."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER|LIST")]
    """A folder of .glb, .gltf, .obj, .ply and .stl files, or a list of objects."""
    out: Path
    """Folder for the files. The same command again goes on where the last one ended."""
    paints: int = 1
    """Files a shape, each with other materials."""
    seed: int = 0
    """The same file, seed and number of the paint give the same bytes."""
    stretch: float = 0.0
    """Stretch and taper each file's shape by chance, so that the paints of one shape differ in form too: standard
    deviation of the scales' logarithms, 0 to 1; 0.25 is a good start."""
    json: bool = False
    """Print one JSON object."""


def paint(command: PaintCommand) -> int:
    """Run `mv3d orbits paint`; the exit code: 0 also where files were broken, 1 where all were."""
    from mv3d.orbits.paint import paint_shapes

    with closing(ObjectsBar()) as bar:
        painted = paint_shapes(
            command.source,
            command.out,
            paints=command.paints,
            seed=command.seed,
            stretch=command.stretch,
            progress=bar,
        )
    for reject in painted.rejects:
        note(f"{reject.uid}: {reject.detail}")
    note(
        f"{len(painted.items)} files, {painted.kept} of them there before; {len(painted.rejects)} shapes left out"
    )
    document = {
        "out": str(command.out),
        "objects": len(painted.items),
        "kept": painted.kept,
        "rejected": {reject.uid: reject.detail for reject in painted.rejects},
        "paints": command.paints,
        "seed": command.seed,
        "stretch": command.stretch,
    }
    print_result([str(command.out)], document, as_json=command.json)
    return 0 if painted.items else 1
