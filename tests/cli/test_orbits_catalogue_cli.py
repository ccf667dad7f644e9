"""The commands that choose and fetch objects: exit codes, what they print, what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trimesh
import tyro
from helpers.store_server import annotation, publish_objaverse, running_store

from mv3d.cli.orbits_catalogue import (
    FetchCommand,
    GuardCommand,
    SelectCommand,
    fetch_objects,
    guard_list,
    select_objects,
)
from mv3d.core.errors import InputError, OutputError, UsageError
from mv3d.core.files import sha256
from mv3d.orbits.catalogue import read_list
from mv3d.orbits.decontamination import read_evaluation_list
from mv3d.orbits.gate import Rejected

QUICK = ["--timeout", "0.2", "--retries", "0"]


@pytest.fixture
def store(monkeypatch, tmp_path):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MV3D_CACHE", str(tmp_path / "cache"))
    with running_store() as running:
        publish_objaverse(
            running,
            {"000-000": [annotation("aa"), annotation("ab", license="by-nc"), annotation("ac", faceCount=9)]},
            {"chair": ["aa"]},
        )
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def select(*arguments: str) -> int:
    return select_objects(tyro.cli(SelectCommand, args=[*arguments, *QUICK]))


def fetch(*arguments: str) -> int:
    return fetch_objects(tyro.cli(FetchCommand, args=[*arguments, *QUICK]))


def test_from_objaverse_to_files(store, capsys):
    assert select() == 0
    printed = capsys.readouterr()
    assert printed.out == "objects.jsonl\n" and not store.seen("lvis")
    assert [line.split()[-1] for line in printed.err.splitlines()] == ["3", "2", "2", "2", "2", "2"]
    assert [line.split()[0] for line in printed.err.splitlines()][:2] == ["catalogue", "licence"]
    assert fetch("objects.jsonl", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["objects"] == document["fetched"] == 2 and document["rejected"] == {}
    assert [item.uid for item in read_list(document["list"])] == ["aa", "ac"]
    assert fetch("objects.jsonl", "--json") == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 2


def test_flags_reach_the_filters(store, capsys):
    Path("never.txt").write_text("ac\n")
    Path("some.txt").write_text("aa\nab\nac\nnobody\n")
    arguments = [
        "--non-commercial",
        "--exclude",
        "never.txt",
        "--uids",
        "some.txt",
        "--json",
        "--out",
        "l.csv",
    ]
    assert select(*arguments) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["objects"] == 2 and document["unknown_uids"] == ["nobody"]
    assert document["funnel"]["not excluded"] == 2 and "1 uids are not in the catalogue" in printed.err
    assert {item.licence for item in read_list("l.csv")} == {"CC-BY-4.0", "CC-BY-NC-4.0"}
    assert select("--categories", "chair", "--out", "c.csv") == 0
    assert [item.category for item in read_list("c.csv")] == ["chair"]
    assert select("--licences", "cc-by-4.0,cc0", "--limit", "1", "--out", "d.csv") == 0
    assert len(read_list("d.csv")) == 1


def test_the_token_goes_along(store, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert select() == 0
    assert fetch("objects.jsonl") == 0
    assert all(headers["Authorization"] == "Bearer secret" for _, headers in store.requests)
    monkeypatch.setenv("HF_ENDPOINT", "https://huggingface.co")  # the list names a host that is not the hub
    store.requests.clear()
    assert fetch("objects.jsonl", "--out", "other") == 0
    assert store.requests and all("Authorization" not in headers for _, headers in store.requests)


def test_the_same_command_again_changes_nothing(store, capsys):
    assert select() == select() == 0
    assert "done already" in capsys.readouterr().err
    with pytest.raises(OutputError, match="--overwrite"):
        select("--limit", "1")
    assert len(read_list("objects.jsonl")) == 2
    assert select("--limit", "1", "--overwrite") == 0
    assert len(read_list("objects.jsonl")) == 1
    assert not list(Path().glob(".*.new*"))


def test_a_folder_is_a_source(store, tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    trimesh.creation.box().export(folder / "box.glb")
    with pytest.raises(InputError, match="no object passes"):
        select("mine")  # nobody says under which licence
    assert not Path("objects.jsonl").exists()
    assert select("mine", "--non-commercial") == 0
    assert fetch("objects.jsonl") == 0
    assert "1 there already" in capsys.readouterr().err


def test_rejects_do_not_fail_the_command_unless_nothing_is_left(store, capsys):
    select()
    paths = [path for path in store.files if path.endswith(".glb")]
    del store.files[paths[0]]
    assert fetch("objects.jsonl") == 0
    assert "not_found" in capsys.readouterr().err
    store.files.clear()
    assert fetch("objects.jsonl", "--out", "other") == 1
    assert json.loads(Path("other/rejects.jsonl").read_text().splitlines()[0])["reason"] == "not_found"


def test_bad_requests(store):
    with pytest.raises(UsageError, match="--out"):
        select("--out", "list.txt")
    with pytest.raises(OutputError, match="create it first"):
        select("--out", "absent/list.csv")
    with pytest.raises(UsageError, match="'chiar'; there is chair"):
        select("--categories", "chiar")
    with pytest.raises(InputError, match="check the path"):
        select("absent")
    with pytest.raises(InputError, match="check the path"):
        fetch("absent.jsonl")
    with pytest.raises(UsageError, match="--parallel"):
        fetch("absent.jsonl", "--parallel", "0")
    store.files.clear()
    with pytest.raises(InputError, match=r"object-paths.json.gz.*not_found"):
        select()


def test_an_evaluation_list_of_a_folder(store, tmp_path, capsys):
    folder = tmp_path / "eval"
    folder.mkdir()
    trimesh.creation.capsule().export(folder / "pill.glb")
    command = GuardCommand(folder, Path("eval.json"))
    assert guard_list(command) == guard_list(command) == 0
    assert capsys.readouterr().out == "eval.json\neval.json\n"
    with pytest.raises(Rejected, match="pill"):
        read_evaluation_list("eval.json").check_file(sha256(folder / "pill.glb"))
    with pytest.raises(UsageError, match="--out"):
        guard_list(GuardCommand(folder, Path("eval.txt")))
