"""The page about 3D files says what the code's own tables say."""

from __future__ import annotations

import pytest
from helpers.places import REPOSITORY

from mv3d.orbits.catalogue import SUFFIXES
from mv3d.orbits.gate import UNFIT
from mv3d.render.load_warnings import LOAD_WARNING_MEANINGS, LOAD_WARNINGS
from mv3d.render.loading import MODEL_FORMATS, MODEL_SUFFIXES
from mv3d.render.lookup import PICTURE_FOLDERS
from mv3d.render.mtl import MTL_STATEMENTS
from mv3d.render.ply import PLY_COLOURS, PLY_COORDINATES
from mv3d.render.stl import STL_COLOURS


def tables() -> dict[str, list[str]]:
    """Every table as lines of Markdown."""
    return {
        "formats": [f"| `{suffix}` | {text} |" for suffix, text in MODEL_FORMATS.items()],
        "mtl": [f"| `{key}` | {text} |" for key, text in MTL_STATEMENTS.items()],
        "warnings": [
            f"| `{name}` | {LOAD_WARNING_MEANINGS[name]} | {f'`{UNFIT[name]}`' if name in UNFIT else ''} |"
            for name in LOAD_WARNINGS
        ],
        "ply": [
            f"| colours | {'; '.join(' '.join(f'`{n}`' for n in names) for names in PLY_COLOURS)} |",
            f"| coordinates | {'; '.join(' '.join(f'`{n}`' for n in names) for names in PLY_COORDINATES)} |",
        ],
        "stl": [f"| {name} | {text} |" for name, text in STL_COLOURS.items()],
        "folders": [", ".join(f"`{folder}`" for folder in PICTURE_FOLDERS)],
    }


@pytest.mark.parametrize("name", list(tables()))
def test_the_page_holds_every_table(name):
    page = (REPOSITORY / "docs" / "what-mv3d-reads.md").read_text(encoding="utf-8")
    assert "\n".join(tables()[name]) in page


def test_the_names_agree():
    assert tuple(LOAD_WARNING_MEANINGS) == LOAD_WARNINGS and SUFFIXES == MODEL_SUFFIXES
