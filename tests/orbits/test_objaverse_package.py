"""`mv3d orbits fetch` beside the objaverse package: its files on this disk, and its sources of Objaverse-XL."""

from __future__ import annotations

import hashlib
import json
import sys
import types
from pathlib import Path

import pytest
from helpers.store_server import glb

from mv3d.orbits import fetch as fetch_module
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.fetch import FetchConfig, fetch
from mv3d.orbits.infrastructure.download import Transport
from mv3d.orbits.objaverse_package import downloaded, package_cache, xl_source

NOWHERE = "http://127.0.0.1:9/datasets/allenai/objaverse/resolve/main/"
BLOB = "https://github.com/someone/things/blob/0123456789abcdef/models/cube%20{}.glb"


def config(folder: Path) -> FetchConfig:
    return FetchConfig(
        transport=Transport(timeout_s=0.2, retries=0), parallel=2, objaverse=folder / "package"
    )


def item(k: int, **values) -> CatalogueItem:
    return CatalogueItem(f"cube{k}", url=f"{NOWHERE}glbs/000-000/cube{k}.glb", licence="CC0-1.0", **values)


@pytest.fixture
def cached(tmp_path: Path) -> list[bytes]:
    """Three files as the package keeps them, the last one cut off."""
    contents = [glb(0.3 + 0.1 * k) for k in range(3)]
    contents[2] = contents[2][:-7]
    home = tmp_path / "package" / "glbs" / "000-000"
    home.mkdir(parents=True)
    for k, content in enumerate(contents):
        (home / f"cube{k}.glb").write_bytes(content)
    return contents


def rejected(folder: Path) -> dict[str, tuple[str, str]]:
    lines = map(json.loads, (folder / "rejects.jsonl").read_text().splitlines())
    return {line["uid"]: (line["reason"], line["detail"]) for line in lines}


def test_what_the_package_has_is_not_fetched(cached, tmp_path: Path):
    digest = hashlib.sha256(cached[0]).hexdigest()
    items = [item(0, sha256=digest), item(1), item(2)]
    out = tmp_path / "out"
    result = fetch(items, out, config(tmp_path))
    assert (result.fetched, result.kept, result.bytes) == (0, 2, 0)
    assert [each.path.read_bytes() for each in result.items] == cached[:2]
    assert result.items[1].sha256 == hashlib.sha256(cached[1]).hexdigest()
    assert rejected(out).keys() == {"cube2"} and rejected(out)["cube2"][0] == "unreachable"
    for file in (tmp_path / "package").rglob("*.glb"):
        file.unlink()
    assert fetch(items[:2], out, config(tmp_path)).kept == 2, "the ledger knows them"


def test_a_file_with_another_hash_than_the_list_says_is_fetched(cached, tmp_path: Path):
    fetch([item(0, sha256="0" * 64)], tmp_path / "out", config(tmp_path))
    assert rejected(tmp_path / "out")["cube0"][0] == "unreachable"
    assert not list((tmp_path / "out" / "objects").rglob("*.glb"))


@pytest.mark.parametrize(
    "url",
    [f"{NOWHERE}glbs/../../secret.glb", "https://a.org/glbs/000-000/cube0.glb", f"{NOWHERE}glbs/000-000/none.glb"],
)  # fmt: skip
def test_other_addresses_are_none_of_the_packages(url: str, cached, tmp_path: Path):
    (tmp_path / "secret.glb").write_bytes(cached[0])
    assert downloaded(url, tmp_path / "package") is None
    mirror = "https://mirror.org/hub/datasets/allenai/objaverse/resolve/abc/glbs/000-000/cube0.glb"
    assert downloaded(mirror, tmp_path / "package") == tmp_path / "package" / "glbs" / "000-000" / "cube0.glb"


def test_the_folder_is_the_packages_own():
    objaverse = pytest.importorskip("objaverse")
    assert str(package_cache()) == objaverse._VERSIONED_PATH


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list:
    """A package that has cube 0 as it was, cube 1 changed, and no cube 2; the tables that it was given."""
    pytest.importorskip("pandas")
    calls = []

    def download_objects(objects, *, download_dir, processes, handle_found_object, handle_modified_object):
        assert download_dir is None and processes == 2
        calls.append(objects)
        for row in objects.itertuples():
            file = tmp_path / "clone"
            if "cube%200" in row.fileIdentifier:
                file.write_bytes(glb(0.3))
                handle_found_object(str(file), row.fileIdentifier, row.sha256, {})
            if "cube%201" in row.fileIdentifier:
                file.write_bytes(glb(0.4))
                handle_modified_object(
                    local_path=str(file), file_identifier=row.fileIdentifier, new_sha256="", old_sha256="", metadata={}
                )  # fmt: skip
            file.unlink(missing_ok=True)
        if "cube%202" in "".join(objects["fileIdentifier"]):
            raise RuntimeError("git is not here")

    module, xl = types.ModuleType("objaverse"), types.ModuleType("objaverse.xl")
    module.xl, xl.download_objects = xl, download_objects
    monkeypatch.setitem(sys.modules, "objaverse", module)
    monkeypatch.setitem(sys.modules, "objaverse.xl", xl)
    monkeypatch.setattr(fetch_module, "has_package", lambda: True)
    return calls


def test_objects_of_xl_are_brought_by_the_package(package: list, tmp_path: Path):
    known = hashlib.sha256(glb(0.3)).hexdigest()
    items = [
        CatalogueItem("a", url=BLOB.format(0), licence="MIT", sha256=known),
        CatalogueItem("b", url=BLOB.format(1), licence="MIT"),
        CatalogueItem("c", url=BLOB.format(2), licence="MIT"),
        CatalogueItem("d", url=BLOB.format(1) + "?again", licence="MIT", sha256="0" * 64),
    ]
    out = tmp_path / "out"
    result = fetch(items, out, config(tmp_path))
    assert [each.path.read_bytes() for each in result.items] == [glb(0.3), glb(0.4)]
    assert (result.fetched, result.bytes) == (2, len(glb(0.3)) + len(glb(0.4)))
    assert {uid: reason for uid, (reason, _) in rejected(out).items()} == {"c": "not_found", "d": "checksum"}
    assert rejected(out)["c"][1].endswith("(RuntimeError: git is not here)")
    (table,) = package
    assert list(table["source"]) == ["github"] * 4 and list(table["sha256"])[:2] == [known, ""]
    assert list(table["fileType"])[:1] == ["glb"]
    assert fetch(items[:2], out, config(tmp_path)).kept == 2 and len(package) == 1
    assert not list(out.glob(".mv3d-*"))


def test_without_the_package_they_cost_a_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fetch_module, "has_package", lambda: False)
    fetch([CatalogueItem("a", url=BLOB.format(0), licence="MIT")], tmp_path, config(tmp_path))
    reason, detail = rejected(tmp_path)["a"]
    assert reason == "needs_objaverse" and "pip install objaverse" in detail


def test_sources_are_known_by_their_addresses():
    assert xl_source(BLOB.format(0)) == "github"
    assert xl_source("https://www.thingiverse.com/thing:12/files?fileId=3") == "thingiverse"
    assert xl_source("https://raw.githubusercontent.com/a/b/c/d.glb") is None
    assert xl_source("https://3d-api.si.edu/content/document/a.glb") is None and xl_source("") is None
