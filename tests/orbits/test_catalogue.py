"""Lists and folders of objects, licences, and every filter of a selection."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.places import SHARED

from mv3d.core.errors import InputError, OutputError, UsageError
from mv3d.orbits.attribution import attribution_text, write_attribution
from mv3d.orbits.catalogue import CatalogueItem, read_list, read_uids, safe_uid, write_list
from mv3d.orbits.licences import parse_licence
from mv3d.orbits.select import SelectConfig, select

ITEM = CatalogueItem(
    "a1",
    licence="CC-BY-4.0",
    author="Ann, O'Nym",
    source="https://example.org/a",
    sha256="ab" * 32,
    title="A “chair”\tof wood",
    url="https://example.org/a.glb",
    category="chair",
    tags=("wood", "seat"),
    faces=100,
    textures=1,
    animations=0,
    bytes=2000,
    age_restricted=False,
)


# Licences


@pytest.mark.parametrize(
    ("text", "name", "commercial", "share_alike", "derivatives"),
    [
        ("by", "CC-BY-4.0", True, False, True),
        ("by-sa", "CC-BY-SA-4.0", True, True, True),
        ("by-nc", "CC-BY-NC-4.0", False, False, True),
        ("by-nc-sa", "CC-BY-NC-SA-4.0", False, True, True),
        ("by-nd", "CC-BY-ND-4.0", True, False, False),
        ("by-nc-nd", "CC-BY-NC-ND-4.0", False, False, False),
        ("cc0", "CC0-1.0", True, False, True),
        ("CC-BY-3.0", "CC-BY-3.0", True, False, True),
        ("CC BY-NC-SA 3.0", "CC-BY-NC-SA-3.0", False, True, True),
        ("CC Attribution-NonCommercial-ShareAlike", "CC-BY-NC-SA-4.0", False, True, True),
        ("Creative Commons - Attribution", "CC-BY-4.0", True, False, True),
        ("CC0 Public Domain", "CC0-1.0", True, False, True),
        ("MIT", "MIT", True, False, True),
        ("MIT-0", "MIT-0", True, False, True),
        ("MIT License", "MIT", True, False, True),
        ("Apache License 2.0", "Apache-2.0", True, False, True),
        ("GPL-3.0", "LicenseRef-GPL", True, True, True),
        ("CC0-1.0 (inferred: info.json license code 1; most are Kenney)", "CC0-1.0", True, False, True),
        ("MIT (repo); items shared with YCB are CC-BY-4.0 at origin", "MIT AND CC-BY-4.0", True, False, True),
        ("MIT AND CC-BY-NC-4.0", "MIT AND CC-BY-NC-4.0", False, False, True),
        # What is not granted plainly is not granted.
        ("", "LicenseRef-unknown", False, False, True),
        ("unknown", "LicenseRef-unknown", False, False, True),
        ("Free Standard", "LicenseRef-Free-Standard", False, False, True),
        ("Editorial", "LicenseRef-Editorial", False, False, True),
        (
            "BSD-style, Toyota Research Institute",
            "LicenseRef-BSD-style-Toyota-Research-Institute",
            False,
            False,
            True,
        ),
        ("not MIT", "LicenseRef-not-MIT", False, False, True),
        ("mitigated", "LicenseRef-mitigated", False, False, True),
        ("bypass", "LicenseRef-bypass", False, False, True),
        ("CC-BY (non-commercial)", "LicenseRef-CC-BY-non-commercial", False, False, True),
        ("MIT AND LicenseRef-own", "LicenseRef-MIT-AND-LicenseRef-own", False, False, True),
    ],
)
def test_licence_table(text, name, commercial, share_alike, derivatives):
    licence = parse_licence(text)
    assert licence.id == name
    assert (licence.commercial, licence.share_alike, licence.derivatives) == (
        commercial,
        share_alike,
        derivatives,
    )
    assert parse_licence(name).id == name  # what a list holds is read back as it was
    assert parse_licence(name).commercial == commercial


def test_only_public_domain_needs_no_credit():
    assert not parse_licence("cc0").attribution and not parse_licence("MIT-0").attribution
    assert parse_licence("by").attribution and parse_licence("MIT").attribution
    assert parse_licence("by-nc").url == "https://creativecommons.org/licenses/by-nc/4.0/"


# Lists and folders


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_list_comes_back_as_it_was(tmp_path, suffix):
    (tmp_path / "files").mkdir()
    items = [
        ITEM,
        CatalogueItem("b", path=tmp_path / "files" / "b.glb"),
        CatalogueItem("c", age_restricted=True),
    ]
    path = tmp_path / f"list{suffix}"
    write_list(path, items)
    assert read_list(path) == items
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / path.name).write_bytes(path.read_bytes())
    assert (
        read_list(moved / path.name)[1].path == moved / "files" / "b.glb"
    )  # beside the list, wherever it is


def test_paths_outside_the_folder_of_the_list_are_absolute(tmp_path):
    (tmp_path / "lists").mkdir()
    write_list(tmp_path / "lists" / "l.jsonl", [CatalogueItem("a", path=tmp_path / "a.glb")])
    assert json.loads((tmp_path / "lists" / "l.jsonl").read_text())["path"] == str(tmp_path / "a.glb")


def test_a_json_array_and_a_list_of_paths(tmp_path):
    (tmp_path / "l.json").write_text(
        json.dumps([{"uid": "x", "licence": "by"}, {"path": "sub/my chair.glb"}])
    )
    first, second = read_list(tmp_path / "l.json")
    assert (
        first.licence == "CC-BY-4.0"
        and second.uid == "my_chair"
        and second.path == tmp_path / "sub/my chair.glb"
    )


def test_a_folder_is_a_catalogue(tmp_path):
    for name in ("b.glb", "a.obj", "a.glb", "sub/c.ply", ".hidden/d.glb", "notes.txt", "my chair (1).STL"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "SOURCES.csv").write_text(
        "name,file,source_repo,path,commit,licence,author,sha256,faces,colour_kind\n"
        f"Bee,b.glb,who/where,models/b.obj,c0ffee,CC-BY-3.0,Bea,{'0' * 64},12,factor\n"
    )
    items = {item.uid: item for item in read_list(tmp_path)}
    assert list(items) == ["a", "a_obj", "Bee", "my_chair_1_", "sub_c"]
    assert items["Bee"] == CatalogueItem(
        "Bee",
        tmp_path / "b.glb",
        "CC-BY-3.0",
        "Bea",
        "who/where/models/b.obj@c0ffee",
        "0" * 64,
        "Bee",
        faces=12,
        bytes=0,
    )
    assert items["a"].licence == "LicenseRef-unknown" and items["a"].title == "a"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.jsonl", "", "empty list"),
        ("l.csv", "uid,path\n", "empty list"),
        ("l.jsonl", '{"uid": "a"}\n{"uid": "a"}\n', "a comes twice"),
        ("l.jsonl", '{"uid": "../a"}\n', "entry 1: uid"),
        ("l.jsonl", '{"uid": "a/b"}\n', "entry 1: uid"),
        ("l.jsonl", '{"uid": ".a"}\n', "entry 1: uid"),
        ("l.jsonl", '{"uid": "a.b"}\n', "entry 1: uid"),
        ("l.jsonl", '{"licence": "by"}\n', "entry 1: expected a uid or a path"),
        ("l.jsonl", '{"uid": "a", "sha256": "12"}\n', "64 hexadecimal"),
        ("l.jsonl", '{"uid": "a", "faces": -3}\n', "entry 1: expected a whole number"),
        ("l.jsonl", '{"uid": "a", "age_restricted": "maybe"}\n', "true or false"),
        ("l.jsonl", "[1, 2]\n", "JSON objects"),
        ("l.jsonl", '{"uid": \n', "cannot be read as JSON"),
        ("l.json", "[" * 100_000, "cannot be read as JSON"),
        ("l.json", '{"uid": "a"}', "JSON objects"),
        ("l.csv", "uid,path\na\n", "as many columns"),
        ("l.csv", "uid,path\na,b,c\n", "as many columns"),
        ("l.csv", "uid,path\na," + "x" * 200_000, "cannot be read as CSV"),
        ("l.jsonl", '{"uid": "a", "tags": 5}\n', "entry 1"),
        ("l.jsonl", '{"uid": "a", "faces": [1]}\n', "entry 1"),
        ("l.txt", "a\n", "expected a folder or one of"),
        ("l.jsonl", f'{{"uid": "a", "faces": 1{"0" * 400}}}', "entry 1"),
        ("l.jsonl", f'{{"uid": "a", "faces": "{"x" * 9000}"}}', "entry 1: .{1,320}$"),
    ],
)
def test_bad_lists(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_list(tmp_path / name)


def test_bad_places(tmp_path):
    with pytest.raises(InputError, match="catalogue is empty"):
        read_list(tmp_path)
    with pytest.raises(InputError, match="check the path"):
        read_list(tmp_path / "absent")
    (tmp_path / "l.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_list(tmp_path / "l.jsonl")
    with pytest.raises(UsageError, match=r"\.jsonl or \.csv"):
        write_list(tmp_path / "l.txt", [ITEM])
    with pytest.raises(OutputError, match="cannot be written"):
        write_list(tmp_path / "absent" / "l.jsonl", [ITEM])


@pytest.mark.parametrize("place", ["/etc/passwd", "/a.glb"])
def test_a_source_outside_its_folder_is_refused(tmp_path, place):
    (tmp_path / "a.glb").write_bytes(b"")
    (tmp_path / "SOURCES.csv").write_text(f"name,file\na,{place}\n")
    with pytest.raises(InputError, match="entry 1: expected a file in the folder itself"):
        read_list(tmp_path)


def test_uids_of_text_files_and_lists(tmp_path):
    (tmp_path / "uids.txt").write_text("# chosen by hand\na1\n\nb2  # nice\n")
    assert read_uids(tmp_path / "uids.txt") == ("a1", "b2")
    write_list(tmp_path / "l.csv", [ITEM])
    assert read_uids(tmp_path / "l.csv") == ("a1",)
    with pytest.raises(InputError, match="file of uids"):
        read_uids(tmp_path / "absent.txt")


def test_any_name_gives_a_uid():
    for name in ("", "../../etc", "ünïcode", "-x", ".", "a" * 500, "a b"):
        CatalogueItem(safe_uid(name))
    assert safe_uid("GSO_Mug-1") == "GSO_Mug-1"


@pytest.mark.skipif(not (SHARED / "assets" / "train").is_dir(), reason="no shared assets")
def test_the_shared_assets_are_a_catalogue():
    items = read_list(SHARED / "assets" / "train")
    assert len(items) > 2000 and all(item.author and item.sha256 and item.source for item in items)
    kept = select(items, SelectConfig()).items
    assert len(items) - len(kept) <= 1  # all of them are free but one under an unclear licence


# Selection


def varied() -> list[CatalogueItem]:
    change = {
        "noncommercial": {"licence": "CC-BY-NC-4.0"},
        "sharealike": {"licence": "CC-BY-SA-4.0"},
        "noderivs": {"licence": "CC-BY-ND-4.0"},
        "free": {"licence": "CC0-1.0"},
        "unknown": {"licence": "LicenseRef-unknown"},
        "heavy": {"faces": 1_000_000},
        "light": {"faces": 3},
        "plain": {"textures": 0},
        "moving": {"animations": 2},
        "big": {"bytes": 200_000_000},
        "adult": {"age_restricted": True},
        "sofa": {"category": "sofa"},
        "stray": {"category": ""},
        "optout": {"tags": ("noai",)},
        "silent": {
            "faces": None,
            "textures": None,
            "animations": None,
            "bytes": None,
            "age_restricted": None,
        },
    }
    return [ITEM] + [replace(ITEM, uid=uid, **values) for uid, values in change.items()]


def left_out(config: SelectConfig) -> set[str]:
    kept = {item.uid for item in select(varied(), config).items}
    return {item.uid for item in varied()} - kept


DEFAULT_OUT = {"noncommercial", "noderivs", "unknown", "heavy", "big", "adult", "optout"}


@pytest.mark.parametrize(
    ("options", "more", "fewer"),
    [
        ({}, set(), set()),
        ({"non_commercial": True}, set(), {"noncommercial", "unknown"}),
        ({"no_derivatives": True}, set(), {"noderivs"}),
        ({"share_alike": False}, {"sharealike"}, set()),
        ({"max_faces": 2_000_000}, set(), {"heavy"}),
        ({"min_faces": 50}, {"light"}, set()),
        ({"min_textures": 1}, {"plain"}, set()),
        ({"max_animations": 0}, {"moving"}, set()),
        ({"max_megabytes": 500}, set(), {"big"}),
        ({"max_megabytes": 0.001}, {u.uid for u in varied()} - {"silent"}, set()),
        ({"age_restricted": True}, set(), {"adult"}),
        ({"exclude_tags": ()}, set(), {"optout"}),
        ({"exclude_tags": ("Wood",)}, {u.uid for u in varied()} - {"optout"}, {"optout"}),
        ({"categories": ("Chair",)}, {"sofa", "stray"}, set()),
        ({"exclude_categories": ("sofa",)}, {"sofa"}, set()),
        ({"with_category": True}, {"stray"}, set()),
        ({"exclude_uids": ("a1", "nobody")}, {"a1"}, set()),
        ({"licences": ("cc0",)}, {u.uid for u in varied()} - {"free"}, set()),
        ({"licences": ("by-nc",), "non_commercial": True}, {u.uid for u in varied()}, {"noncommercial"}),
    ],
)
def test_every_filter(options, more, fewer):
    assert left_out(SelectConfig(**options)) == (DEFAULT_OUT | more) - fewer


def test_the_funnel_counts_after_each_filter():
    selection = select(varied(), SelectConfig(uids=("a1", "heavy", "adult", "optout", "noderivs", "nobody")))
    assert selection.funnel == (
        ("catalogue", 16),
        ("listed", 5),
        ("licence", 4),
        ("for all ages", 3),
        ("no excluded tag", 2),
        ("faces", 1),
        ("file size", 1),
    )
    assert selection.unknown_uids == ("nobody",)


def test_a_limit_draws_by_the_seed_alone():
    items = [replace(ITEM, uid=f"u{k}") for k in range(200)]
    ten = [item.uid for item in select(items, SelectConfig(limit=10)).items]
    assert ten == sorted(ten) and len(set(ten)) == 10
    assert ten == [item.uid for item in select(reversed(items), SelectConfig(limit=10)).items]
    assert set(ten) < {item.uid for item in select(items, SelectConfig(limit=50)).items}
    assert ten != [item.uid for item in select(items, SelectConfig(limit=10, seed=1)).items]
    assert select(items, SelectConfig(limit=10)).funnel[-1] == ("limit", 10)
    assert len(select(items, SelectConfig(limit=500)).items) == 200


def test_bad_selections():
    with pytest.raises(InputError, match="at least one object"):
        select([], SelectConfig())
    for options, message in (
        ({"licences": ("free",)}, "--licences"),
        ({"licences": ("cc0", "by-nc")}, "CC-BY-NC-4.0 needs --non-commercial"),
        ({"licences": ("by-nd",)}, "CC-BY-ND-4.0 needs --no-derivatives"),
        ({"licences": ("by-sa",), "share_alike": False}, "CC-BY-SA-4.0 needs --share-alike"),
        ({"min_faces": 10, "max_faces": 5}, "--min-faces"),
        ({"limit": 0}, "--limit"),
        ({"max_megabytes": 0}, "--max-megabytes"),
    ):
        with pytest.raises(UsageError, match=message):
            SelectConfig(**options)
    assert select(varied(), SelectConfig(uids=())).items == ()


# Attribution


def test_attribution_names_everyone_by_licence(tmp_path):
    items = [
        ITEM,
        replace(
            ITEM,
            uid="b",
            licence="CC0-1.0",
            author="",
            title="*bold*\n# [x](y) <b>",
            source="me/my_repo/a_b.obj@c0",
        ),
        replace(ITEM, uid="c", licence="CC-BY-NC-SA-4.0"),
    ]
    markdown, table = write_attribution(tmp_path, items)
    text = markdown.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## CC-BY-4.0 (1)",
        "## CC-BY-NC-SA-4.0 (1)",
        "## CC0-1.0 (1)",
    ]
    assert "- “A “chair” of wood” by Ann, O'Nym, <https://example.org/a> (`a1`)" in text
    escaped = r"\*bold\* \# \[x\](y) \<b\>"
    assert f"- “{escaped}” by unknown author, `me/my_repo/a_b.obj@c0` (`b`)" in text
    assert "no commercial use; name the author; share under the same licence" in text
    assert "https://creativecommons.org/licenses/by/4.0/" in text
    rows = table.read_text(encoding="utf-8").splitlines()
    assert rows[0] == "uid,title,author,licence,licence_url,source,sha256" and len(rows) == 5
    before = markdown.read_bytes(), table.read_bytes()
    write_attribution(tmp_path, reversed(items))
    assert (markdown.read_bytes(), table.read_bytes()) == before
    assert attribution_text([]).startswith("# Attribution")


def test_attribution_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError):
        write_attribution(Path(tmp_path) / "absent", [ITEM])
