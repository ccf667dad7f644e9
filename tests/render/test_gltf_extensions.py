"""The table of glTF extensions: what the page says is what the code does."""

from __future__ import annotations

import re

import pytest
from helpers.gltf_files import triangle
from helpers.places import REPOSITORY

from mv3d.core.errors import InputError
from mv3d.render.gltf_extensions import EXTENSIONS, MESHOPT, TEXTURE_SOURCES, Handling
from mv3d.render.loading import load_model


def test_the_page_has_the_table():
    page = (REPOSITORY / "docs" / "what-mv3d-reads.md").read_text(encoding="utf-8")
    section = page.partition("## glTF: extensions")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (.+) \|$", section, re.MULTILINE)
    assert rows == [(name, known.handling, known.note) for name, known in EXTENSIONS.items()]


@pytest.mark.parametrize("name", EXTENSIONS)
def test_a_file_may_require_what_is_in_the_table(tmp_path, name):
    document = triangle()
    document.json["extensionsRequired"] = document.json["extensionsUsed"] = [name]
    assert len(load_model(document.write(tmp_path / "a.glb")).faces) == 1


def test_others_are_refused_where_they_are_required_only(tmp_path):
    document = triangle()
    document.json["extensionsUsed"] = ["VENDOR_shape"]
    assert load_model(document.write(tmp_path / "a.glb")).warnings == ()
    document.json["extensionsRequired"] = ["VENDOR_shape"]
    with pytest.raises(InputError, match="requires VENDOR_shape, which is not supported"):
        load_model(document.write(tmp_path / "b.glb"))


@pytest.mark.parametrize("name", [n for n, known in EXTENSIONS.items() if known.handling == "approximated"])
def test_every_approximated_look_is_named(tmp_path, name):
    document = triangle()
    document.json["materials"] = [{"name": "skin", "extensions": {name: {}}}]
    document.primitive["material"] = 0
    (warning,) = load_model(document.write(tmp_path / "a.glb")).warnings
    assert str(warning) == f"approximated: skin: {name}: {EXTENSIONS[name].note}"


def test_the_tables_agree():
    handling: dict[str, Handling] = {name: known.handling for name, known in EXTENSIONS.items()}
    assert all(handling[name] == "read" for name in MESHOPT)
    assert [name for name in TEXTURE_SOURCES if name not in EXTENSIONS] == ["MSFT_texture_dds"]
