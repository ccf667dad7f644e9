"""`mv3d orbits procedural`: objects made of formulas, as files."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mv3d.cli.output import ObjectsBar, note, print_result
from mv3d.core.flags import SAID


@dataclass(frozen=True)
class ProceduralCommand:
    """Write textured objects made of formulas (CC0) as GLB files: furniture, vessels, vehicles, toys and more."""

    out: Path
    """Folder for the files, a new or an empty one."""
    count: int = 1000
    """Objects."""
    families: Annotated[str, tyro.conf.arg(metavar="chair,mug,…"), SAID] = ""
    """Only these, with commas between them. Default: all, chairs above all."""
    seed: int = 0
    """The same seed gives the same files; a larger count begins with the same ones."""
    json: bool = False
    """Print one JSON object."""


def procedural(command: ProceduralCommand) -> int:
    """Run `mv3d orbits procedural`; the exit code."""
    from mv3d.orbits.procedural.generate import family_counts, write_objects

    families = tuple(word.strip() for word in command.families.split(",") if word.strip())
    with closing(ObjectsBar()) as bar:
        items = write_objects(
            command.out, number=command.count, seed=command.seed, families=families, progress=bar
        )
    counts = family_counts(items)
    note(f"{len(items)} objects: " + ", ".join(f"{number} {name}" for name, number in counts.items()))
    document = {
        "out": str(command.out),
        "objects": len(items),
        "seed": command.seed,
        "families": counts,
        "faces": sum(item.faces or 0 for item in items),
        "bytes": sum(item.bytes or 0 for item in items),
    }
    print_result([str(command.out)], document, as_json=command.json)
    return 0
