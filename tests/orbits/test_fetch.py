"""From a catalogue to files: the store of Objaverse on loopback, its faults, and runs that end early."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest
from helpers.store_server import annotation, glb, packed, publish_objaverse, running_store

from mv3d.core.errors import InputError, OutputError, UsageError
from mv3d.core.locking import folder_lock
from mv3d.orbits import fetch as fetch_module
from mv3d.orbits.catalogue import CatalogueItem, read_list
from mv3d.orbits.fetch import FetchConfig, complaint_about, fetch
from mv3d.orbits.infrastructure.download import Transport
from mv3d.orbits.objaverse import DATASET, ObjaverseStore, default_endpoint, objaverse_items
from mv3d.orbits.select import SelectConfig, select

QUICK = Transport(timeout_s=0.2, total_timeout_s=2, retries=1, backoff_s=0.001)
CONFIG = FetchConfig(transport=QUICK, parallel=4)


@pytest.fixture
def store(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with running_store() as running:
        yield running


@pytest.fixture
def items(store) -> list[CatalogueItem]:
    """Six objects of the store."""
    return [
        CatalogueItem(
            f"cube{k}", url=store.put(f"glbs/000-000/cube{k}.glb", glb(0.3 + 0.1 * k)), licence="CC0-1.0"
        )
        for k in range(6)
    ]


def break_file(store, name: str, *faults: str) -> None:
    store.faults[next(path for path in store.files if name in path)] += faults


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_file_arrives_and_is_listed(store, items, tmp_path):
    shares = []
    result = fetch(items, tmp_path, CONFIG, progress=lambda name, share: shares.append((name, share)))
    assert (result.fetched, result.kept, result.rejects) == (6, 0, ())
    assert shares[-1] == ("fetch", 1.0) and len(shares) == 6
    listed = read_list(tmp_path / "objects.jsonl")
    assert [item.uid for item in listed] == [item.uid for item in items]
    for item in listed:
        data = store.files[f"/{DATASET}/resolve/main/glbs/000-000/{item.uid}.glb"]
        assert item.path.read_bytes() == data and item.sha256 == hashlib.sha256(data).hexdigest()
        assert item.licence == "CC0-1.0"
    assert not list(tmp_path.rglob("*.part")) and (tmp_path / "rejects.jsonl").read_text() == ""


def test_one_failure_never_loses_the_others(store, items, tmp_path):
    del store.files[next(path for path in store.files if "cube1" in path)]
    break_file(store, "cube2", *["longer"] * 9)
    break_file(store, "cube3", *["stall"] * 9)
    store.ranges = False
    store.put("glbs/000-000/cube4.glb", b"<html>sign in</html>")
    odd = CatalogueItem("odd", url="file:///etc/hostname")
    nowhere = CatalogueItem("nowhere", path=tmp_path / "absent.glb")
    result = fetch([*items, odd, nowhere], tmp_path / "out", CONFIG)
    assert [item.uid for item in result.items] == ["cube0", "cube5"]
    found = {line["uid"]: line["reason"] for line in lines(tmp_path / "out" / "rejects.jsonl")}
    assert found == {
        "cube1": "not_found",
        "cube2": "cut_off",
        "cube3": "timeout",
        "cube4": "bad_content",
        "odd": "refused_url",
        "nowhere": "no_url",
    }
    store.faults.clear()
    # The same command asks only for what is missing. Patient, since a busy machine can be silent for a while.
    again = fetch(items, tmp_path / "out", FetchConfig(transport=Transport(retries=1), parallel=4))
    assert (again.fetched, again.kept) == (2, 2)
    assert {reject.uid for reject in again.rejects} == {"cube1", "cube4"}


def test_a_second_run_fetches_nothing(store, items, tmp_path):
    fetch(items, tmp_path, CONFIG)
    before = len(store.requests)
    assert fetch(items, tmp_path, CONFIG).kept == 6
    assert len(store.requests) == before


def test_files_that_changed_on_the_disk_are_fetched_again(store, items, tmp_path):
    first = fetch(items, tmp_path, CONFIG)
    victim = first.items[0].path
    victim.write_bytes(victim.read_bytes()[:-4] + b"oops")  # the same size
    trusting = FetchConfig(transport=QUICK, verify="size")
    assert fetch(items, tmp_path, trusting).fetched == 0
    assert fetch(items, tmp_path, CONFIG).fetched == 1
    victim.write_bytes(b"short")
    assert fetch(items, tmp_path, trusting).fetched == 1


def test_the_ledger_keeps_what_the_first_fetch_saw(store, items, tmp_path):
    first = fetch(items[:1], tmp_path, CONFIG)
    first.items[0].path.unlink()
    store.put("glbs/000-000/cube0.glb", glb(0.9))
    again = fetch(items[:1], tmp_path, CONFIG)
    assert again.rejects[0].reason == "checksum" and "first fetch" in again.rejects[0].detail


def test_a_hash_of_the_list_wins(store, items, tmp_path):
    wrong = CatalogueItem("cube0", url=items[0].url, sha256="0" * 64)
    assert fetch([wrong], tmp_path, CONFIG).rejects[0].reason == "checksum"
    assert fetch(items[:1], tmp_path, CONFIG).fetched == 1
    assert fetch([wrong], tmp_path, CONFIG).rejects[0].reason == "checksum"


def test_a_run_that_was_killed_goes_on(store, items, tmp_path):
    fetch(items[:3], tmp_path, CONFIG)
    ledger = tmp_path / "fetched.jsonl"
    text = ledger.read_text()
    ledger.write_text(text[: text.rfind('"sha256"')])  # killed within the last line
    (tmp_path / "objects.jsonl").unlink()
    before = len(store.requests)
    result = fetch(items, tmp_path, CONFIG)
    assert (result.fetched, result.kept) == (3, 3) and len(store.requests) == before + 3
    assert sorted(line["uid"] for line in lines(ledger)) == [item.uid for item in items]


def test_a_full_disk_keeps_what_arrived(store, items, tmp_path, monkeypatch):
    def record(path, item, *rest, real=fetch_module._record):
        if item.uid == "cube3":
            raise OutputError("no space")
        real(path, item, *rest)

    monkeypatch.setattr(fetch_module, "_record", record)
    with pytest.raises(OutputError, match="no space"):
        fetch(items, tmp_path, FetchConfig(transport=QUICK, parallel=1))
    listed = [item.uid for item in read_list(tmp_path / "objects.jsonl")]
    assert listed == ["cube0", "cube1", "cube2"]
    monkeypatch.undo()
    assert len(fetch(items, tmp_path, CONFIG).items) == 6


def test_local_files_stay_where_they_are(tmp_path):
    (tmp_path / "a.glb").write_bytes(glb())
    result = fetch([CatalogueItem("a", path=tmp_path / "a.glb")], tmp_path / "out", CONFIG)
    assert result.kept == 1 and result.items[0].path == tmp_path / "a.glb"


def test_two_runs_in_one_folder(items, tmp_path):
    with folder_lock(tmp_path), pytest.raises(OutputError, match=r"another mv3d process \(pid \d+\)"):
        fetch(items, tmp_path, CONFIG)


def test_bad_requests(items, tmp_path):
    with pytest.raises(InputError, match="at least one"):
        fetch([], tmp_path, CONFIG)
    with pytest.raises(InputError, match="twice"):
        fetch([items[0], items[0]], tmp_path, CONFIG)
    (tmp_path / "fetched.jsonl").write_text("nonsense\n")
    with pytest.raises(InputError, match="line 1"):
        fetch(items, tmp_path, CONFIG)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        fetch(items, tmp_path / "file", CONFIG)
    for options in ({"parallel": 0}, {"verify": "never"}):
        with pytest.raises(UsageError):
            FetchConfig(**options)


@pytest.mark.parametrize(
    ("suffix", "data", "complaint"),
    [
        (".glb", glb(), None),
        (".glb", glb()[:-1], "header names"),
        (".glb", glb() + b"\0", "header names"),
        (".glb", b"PK\x03\x04", "expected a GLB"),
        (".glb", b"\n <!DOCTYPE html>", "web page"),
        (".ply", b"ply\nformat", None),
        (".ply", b"solid", "expected a PLY"),
        (".obj", b"v 0 0 0", None),
        (".stl", b"", "empty"),
    ],
)
def test_content_is_judged_by_its_format(tmp_path, suffix, data, complaint):
    (tmp_path / "x").write_bytes(data)
    found = complaint_about(tmp_path / "x", suffix)
    assert found is None if complaint is None else complaint in found


# Objaverse


@pytest.fixture
def objaverse(store, tmp_path) -> ObjaverseStore:
    publish_objaverse(
        store,
        {
            "000-000": [annotation("aa"), annotation("ab", license="by-nc"), annotation("ac", license="cc0")],
            "000-001": [
                annotation("ba", name=None, user=None, archives={}, tags=7, license=None, animationCount=-1)
            ],
        },
        {"chair": ["aa", "ba"], "armchair": ["aa"], "bow_(weapon)": ["ac"]},
    )
    return ObjaverseStore(tmp_path / "cache", store.url, transport=QUICK)


def test_objaverse_annotations_become_items(store, objaverse):
    items = {item.uid: item for item in objaverse_items(objaverse, lvis=True)}
    assert sorted(items) == ["aa", "ab", "ac", "ba"]
    assert items["aa"] == CatalogueItem(
        "aa",
        licence="CC-BY-4.0",
        author="Some One",
        source="https://sketchfab.com/3d-models/aa",
        title="Thing aa",
        url=f"{store.url}/{DATASET}/resolve/main/glbs/000-000/aa.glb",
        category="armchair",
        tags=("chair",),
        faces=1000,
        textures=2,
        animations=0,
        bytes=5000,
        age_restricted=False,
    )
    assert items["ba"].licence == "LicenseRef-unknown" and items["ba"].faces == 1200
    assert items["ac"].category == "bow_(weapon)"


def test_objaverse_reads_only_what_it_needs_and_only_once(store, objaverse):
    assert [item.uid for item in objaverse_items(objaverse, uids=["ba", "unknown"])] == ["ba"]
    assert not store.seen("000-000") and not store.seen("lvis")
    before = len(store.requests)
    assert len(list(objaverse_items(objaverse, uids=["ba"]))) == 1
    assert len(store.requests) == before


@pytest.mark.parametrize(
    "broken",
    [b"not gzip", packed({"aa": 1})[:-9], gzip.compress(b"{"), packed([1])],
    ids=[
        "not gzip",
        "cut off",
        "not JSON",
        "a list",
    ],  # gzip holds the time, and names have to be the same in every process
)
def test_broken_metadata_are_never_kept(store, objaverse, broken):
    good = store.files[f"/{DATASET}/resolve/main/metadata/000-000.json.gz"]
    store.put("metadata/000-000.json.gz", broken)
    with pytest.raises(InputError, match=r"000-000.json.gz.*mirror"):
        list(objaverse_items(objaverse))
    store.put("metadata/000-000.json.gz", good)
    assert len(list(objaverse_items(objaverse))) == 4


def test_a_broken_file_of_an_earlier_download_is_fetched_again(store, objaverse):
    cached = objaverse.cache / "object-paths.json.gz"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(packed({"aa": "x"})[:-9])  # what an interrupted download of the package leaves
    assert len(list(objaverse_items(objaverse))) == 4


def test_metadata_survive_passing_faults(store, objaverse):
    for path in store.files:
        store.faults[path] += ["status 503"]
    assert len(list(objaverse_items(objaverse))) == 4


def test_paths_that_lead_elsewhere_are_ignored(store, objaverse):
    paths = {"aa": "glbs/000-000/aa.glb", "ab": "glbs/../ab.glb", "ac": "/etc/passwd", "ba": 3}
    store.put("object-paths.json.gz", packed(paths))
    assert [item.uid for item in objaverse_items(objaverse)] == ["aa"]


def test_the_endpoint_is_the_hub_or_what_the_environment_names(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    url = "https://huggingface.co/datasets/allenai/objaverse/resolve/main/metadata/000-000.json.gz"
    assert ObjaverseStore(Path("x")).url("metadata/000-000.json.gz") == url
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert default_endpoint() == "https://mirror.example"


def test_from_the_store_to_files(store, objaverse, tmp_path):
    selection = select(objaverse_items(objaverse), SelectConfig())
    assert [item.uid for item in selection.items] == ["aa", "ac"]
    result = fetch(selection.items, tmp_path / "out", CONFIG)
    assert [item.path.read_bytes()[:4] for item in result.items] == [b"glTF", b"glTF"]


def test_the_objaverse_package_reads_the_same(objaverse, monkeypatch):
    package = pytest.importorskip("objaverse")
    ours = {item.uid: item for item in objaverse_items(objaverse, lvis=True)}
    monkeypatch.setattr(package, "_VERSIONED_PATH", str(objaverse.cache))  # the cache is laid out as its own
    theirs = package.load_annotations(list(ours))
    assert set(theirs) == set(ours) == set(package.load_uids())
    assert all(ours[uid].title == (theirs[uid]["name"] or "") for uid in ours)
    assert package.load_lvis_annotations() == objaverse.lvis_categories()
