"""Joined data sets hold what each of them held."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from helpers.painted import painted

from mv3d.core.errors import InputError, OutputError
from mv3d.orbits.attribution import TABLE
from mv3d.orbits.build import build_shards
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig
from mv3d.orbits.info import inspect_shards
from mv3d.orbits.join import join_shards
from mv3d.orbits.reading import OrbitStore

CONFIG = OrbitConfig(views=4, size=32, environments=("uniform",), shard_size=2)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    for name, count in (("a", 3), ("b", 2)):
        items = [CatalogueItem(f"{name}{n}", licence="CC0-1.0", author=f"of {name}") for n in range(count)]
        build_shards(items, folder / name, CONFIG, work=painted)
    build_shards(
        [CatalogueItem("c", licence="CC0-1.0")], folder / "c", replace(CONFIG, size=64), work=painted
    )
    return folder


def contents(folder):
    store = OrbitStore(folder)
    found = {}
    for place in store.places:
        members = store.members(place)
        found[json.loads(bytes(members["json"]))["uid"]] = {k: bytes(v) for k, v in members.items()}
    return found


def test_a_joined_set_holds_all_samples_byte_for_byte(sets, tmp_path):
    result = join_shards([sets / "a", sets / "b"], tmp_path / "both")
    assert contents(tmp_path / "both") == contents(sets / "a") | contents(sets / "b")
    assert (result.index["samples"], result.index["objects"], result.index["finished"]) == (5, 5, True)
    assert not inspect_shards(tmp_path / "both", verify=True).problems
    rows = (tmp_path / "both" / TABLE).read_text().splitlines()
    assert len(rows) == 6
    assert {"of a" in row or "of b" in row for row in rows[1:]} == {True}
    assert not list((tmp_path / "both").glob(".*part"))


def test_the_originals_stay_when_the_joined_set_goes(sets, tmp_path):
    join_shards([sets / "a", sets / "b"], tmp_path / "both")
    for path in (tmp_path / "both").iterdir():
        path.unlink()
    assert len(contents(sets / "a")) == 3


def test_sets_that_do_not_fit_are_refused(sets, tmp_path):
    for folders, words in (
        ([sets / "a"], "at least 2"),
        ([sets / "a", sets / "c"], "expected size 32 as in .*, got 64"),
        ([sets / "a", tmp_path], "no such index"),
    ):
        with pytest.raises(InputError, match=words):
            join_shards(folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_data_set_given_twice_is_refused(sets, tmp_path):
    with pytest.raises(InputError, match="would count twice"):
        join_shards([sets / "a", sets / "b", sets / "a"], tmp_path / "out")


def test_the_index_names_all_trajectories(sets, tmp_path):
    for name, trajectory in (("d", "sine"), ("e", "dynamic")):
        items = [CatalogueItem(name, licence="CC0-1.0")]
        build_shards(items, tmp_path / name, replace(CONFIG, trajectory=trajectory), work=painted)
    join_shards([sets / "a", tmp_path / "d"], tmp_path / "two")
    three = join_shards([tmp_path / "two", tmp_path / "e"], tmp_path / "three")
    assert three.index["config"]["trajectory"] == "static,sine,dynamic"


def test_a_cut_off_shard_is_refused_and_nothing_stays(sets, tmp_path):
    build_shards([CatalogueItem("d", licence="CC0-1.0")], tmp_path / "d", CONFIG, work=painted)
    shard = tmp_path / "d" / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(InputError, match="cut off"):
        join_shards([sets / "a", tmp_path / "d"], tmp_path / "out")
    assert not list((tmp_path / "out").glob("[!.]*"))


@pytest.mark.parametrize(
    "damage", [lambda t: t.replace("author", "writer"), lambda t: t + "x,y\n", lambda t: t + "\x00"]
)
def test_a_damaged_table_of_credits_is_refused(sets, tmp_path, damage):
    build_shards([CatalogueItem("d", licence="CC0-1.0")], tmp_path / "d", CONFIG, work=painted)
    table = tmp_path / "d" / TABLE
    table.write_text(damage(table.read_text()))
    with pytest.raises(InputError, match=r"attribution\.csv: damaged"):
        join_shards([sets / "a", tmp_path / "d"], tmp_path / "out")


def test_other_results_are_not_overwritten(sets, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="empty"):
        join_shards([sets / "a", sets / "b"], tmp_path)
