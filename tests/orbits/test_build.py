"""Shards are the same bytes however they came about: workers, order, kills, full disks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.builds import CONFIG, ITEMS, content
from helpers.places import TESTS
from helpers.poison import poisoned, slow

from mv3d.core.errors import InputError, MissingPartError, OutputError, UsageError
from mv3d.core.records import ALGORITHMS
from mv3d.orbits.build import build_shards
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.shards import Shard

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are Linux's")

RUNNER = """
import sys
from pathlib import Path
from helpers.poison import slow
from helpers.builds import CONFIG, ITEMS
from mv3d.orbits.build import build_shards
build_shards(ITEMS, Path(sys.argv[1]), CONFIG, workers=2, work=slow)
"""


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict[str, bytes]:
    """What one worker makes without any interruption."""
    folder = tmp_path_factory.mktemp("reference")
    build_shards(ITEMS, folder, CONFIG, workers=1, work=slow)
    return content(folder)


def test_what_a_data_set_holds(reference):
    index = json.loads(reference["index.json"])
    assert index["finished"] and index["objects"] == 40
    rejects = [json.loads(line) for line in reference["rejects.jsonl"].splitlines()]
    # Threes are rejected by the work, sixes of every seven are twins of their neighbour — unless that one is a three,
    # which was rejected itself.
    expected = {f"o{i}": "blank" for i in range(40) if i % 10 == 3}
    expected |= {f"o{i}": "duplicate" for i in range(40) if i % 7 == 6 and i % 10 != 3 and (i - 1) % 10 != 3}
    assert {r["uid"]: r["reason"] for r in rejects} == expected
    assert [int(r["uid"][1:]) for r in rejects] == sorted(int(r["uid"][1:]) for r in rejects)
    assert index["rejected"] == {
        "blank": 4,
        "duplicate": sum(reason == "duplicate" for reason in expected.values()),
    }
    assert index["samples"] == 40 - len(expected) == sum(index["licences"].values())
    assert sum(shard["samples"] for shard in index["shards"]) == index["samples"]


def test_any_number_of_workers_gives_the_same_bytes(reference, tmp_path):
    build_shards(ITEMS, tmp_path, CONFIG, workers=3, work=slow)
    assert content(tmp_path) == reference


def run_until(folder: Path, seconds: float | None) -> bool:
    """Start a run, kill it after a while; True where it ended by itself."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with subprocess.Popen([sys.executable, "-P", "-c", RUNNER, str(folder)], env=environment) as process:
        try:
            assert process.wait(seconds) == 0
            return True
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            return False


def kill_again_and_again(folder: Path, *, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    left = kills
    while left:
        # Starting takes about half a second; the work itself as long again.
        if run_until(folder, rng.uniform(0.3, 1.2)):
            return
        left -= 1
    assert run_until(folder, None)


def test_killed_at_random_moments_it_gives_the_same_bytes(reference, tmp_path):
    kill_again_and_again(tmp_path, kills=4, seed=1)
    assert content(tmp_path) == reference


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_killed_many_times_it_gives_the_same_bytes(reference, tmp_path, seed):
    kill_again_and_again(tmp_path, kills=8, seed=seed)
    assert content(tmp_path) == reference


@pytest.mark.parametrize(
    "stop", [pytest.param(stop, marks=[] if stop % 12 == 5 else pytest.mark.slow) for stop in range(1, 72)]
)
def test_cut_off_after_any_rename_it_gives_the_same_bytes(reference, tmp_path, monkeypatch, stop):
    """Like a kill at the moment of every rename, those of records and of the index among them."""
    real, left = os.replace, stop

    class Cut(BaseException):
        pass

    def replace_some(source, target):
        nonlocal left
        left -= 1
        if left == 0:
            raise Cut
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_some)
        try:
            build_shards(ITEMS, tmp_path, CONFIG, workers=2, work=slow)
        except Cut:
            pass
    build_shards(ITEMS, tmp_path, CONFIG, workers=2, work=slow)
    assert content(tmp_path) == reference


def test_the_same_command_again_says_that_it_is_done(reference, tmp_path, monkeypatch):
    assert not build_shards(ITEMS, tmp_path, CONFIG, work=slow).already_done
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
    again = build_shards(ITEMS, tmp_path, CONFIG, work=slow)
    assert again.already_done and again.index["samples"] == json.loads(reference["index.json"])["samples"]
    (tmp_path / "run.json").unlink()  # a run that was cut off just before its last file
    assert not build_shards(ITEMS, tmp_path, CONFIG, work=slow).already_done
    assert (tmp_path / "run.json").is_file()
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
    monkeypatch.setitem(ALGORITHMS, "orbits render", 3)
    with pytest.raises(OutputError, match="algorithm version 2 of orbits render, now 3"):
        build_shards(ITEMS, tmp_path, CONFIG, work=slow)


def test_a_damaged_or_missing_shard_is_made_again(reference, tmp_path):
    build_shards(ITEMS, tmp_path, CONFIG, work=slow)
    (tmp_path / "shard-000002.tar").unlink()
    (tmp_path / "shard-000004.tar").write_bytes(b"cut")
    result = build_shards(ITEMS, tmp_path, CONFIG, work=slow)
    assert not result.already_done and content(tmp_path) == reference


def test_other_settings_or_another_list_are_refused(tmp_path):
    build_shards(ITEMS[:3], tmp_path, CONFIG, work=slow)
    before = content(tmp_path)
    with pytest.raises(OutputError, match=r"views: there 4, asked for 5\); .*--overwrite"):
        build_shards(ITEMS[:3], tmp_path, replace(CONFIG, views=5), work=slow)
    with pytest.raises(OutputError, match="objects: there 3, asked for 4"):
        build_shards(ITEMS[:4], tmp_path, CONFIG, work=slow)
    with pytest.raises(OutputError, match="another list of objects"):
        build_shards([replace(ITEMS[0], author="x"), *ITEMS[1:3]], tmp_path, CONFIG, work=slow)
    assert content(tmp_path) == before
    build_shards(ITEMS[:4], tmp_path, CONFIG, work=slow, overwrite=True)
    assert json.loads((tmp_path / "index.json").read_text())["objects"] == 4


def test_tar_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "backup.tar").write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"backup\.tar, which no record"):
        build_shards(ITEMS, tmp_path, CONFIG, work=slow)


def test_files_may_move_between_two_runs(tmp_path):
    build_shards(ITEMS[:3], tmp_path / "out", CONFIG, work=slow)
    moved = [replace(item, path=tmp_path / item.uid) for item in ITEMS[:3]]
    assert build_shards(moved, tmp_path / "out", CONFIG, work=slow).already_done


def test_two_runs_into_one_folder_at_once(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with subprocess.Popen([sys.executable, "-P", "-c", RUNNER, str(tmp_path)], env=environment) as process:
        while not (tmp_path / "index.json").exists() and process.poll() is None:
            time.sleep(0.01)
        with pytest.raises(OutputError, match=r"another mv3d process .*is writing here"):
            build_shards(ITEMS, tmp_path, CONFIG, work=slow)
        assert process.wait() == 0


def test_a_killed_run_leaves_no_lock(tmp_path):
    assert not run_until(tmp_path, 0.7)
    build_shards(ITEMS, tmp_path, CONFIG, work=slow)


def test_a_full_disk_costs_one_line_and_nothing_finished(reference, tmp_path):
    """A file system of 64 KB: the data set needs 100."""
    room = tmp_path / "small"
    room.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(room)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("only root may mount a small file system")
    try:
        with pytest.raises(OutputError, match=r"small.*: cannot be written \(No space left.*goes on"):
            build_shards(ITEMS, room / "out", CONFIG, work=slow)
        there = content(room / "out")
        finished = [name for name in there if name.endswith(".tar")]
        assert finished and all(there[name] == reference[name] for name in finished)
        assert not [name for name in there if name.endswith(".part")]
        subprocess.run(["mount", "-o", "remount,size=1m", str(room)], check=True)
        build_shards(ITEMS, room / "out", CONFIG, work=slow)
        assert content(room / "out") == reference
    finally:
        subprocess.run(["umount", str(room)], check=True)


def test_a_file_that_may_not_grow_is_the_same(tmp_path, monkeypatch):
    """The same where nobody may mount: writing fails with an error of the system."""
    real = Path.open

    def refuse(self, mode="r", *args, **kwargs):
        if "w" in mode and self.name.startswith(".shard-000001.tar."):
            raise OSError(28, "No space left on device")
        return real(self, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(OutputError, match=r"No space left on device.*same command again"):
            build_shards(ITEMS, tmp_path, CONFIG, work=slow)
    assert (tmp_path / "shard-000000.tar").exists() and not (tmp_path / "shard-000001.tar").exists()
    build_shards(ITEMS, tmp_path, CONFIG, work=slow)


def test_a_missing_part_keeps_what_was_done(tmp_path):
    items = [*ITEMS[:8], CatalogueItem("needs-part", title="part"), *ITEMS[8:10]]
    with pytest.raises(MissingPartError, match="pip install decoder"):
        build_shards(items, tmp_path, CONFIG, work=poisoned)
    assert (tmp_path / "shard-000000.tar").exists()


def test_poison_among_good_objects(tmp_path):
    items = [
        replace(item, title=title) for item, title in zip(ITEMS[:4], ("", "segfault", "bug", ""), strict=True)
    ]
    result = build_shards(items, tmp_path, CONFIG, workers=2, work=poisoned)
    assert result.index["rejected"] == {"crash": 1, "error": 1} and result.index["samples"] == 2


def test_a_shard_of_rejects_only_has_no_tar(tmp_path):
    config = replace(CONFIG, shard_size=1)
    items = [CatalogueItem("a3"), CatalogueItem("a4")]
    result = build_shards(items, tmp_path, config, work=slow)
    assert [shard["name"] for shard in result.index["shards"]] == ["shard-000001.tar"]
    assert build_shards(items, tmp_path, config, work=slow).already_done


def test_any_tar_reader_opens_a_shard(reference, tmp_path):
    path = tmp_path / "alone.tar"
    path.write_bytes(reference["shard-000000.tar"])
    with tarfile.open(path) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in tar.getmembers()} == {(0, 0, 0, "", 0o644)}
    shard = Shard(path)  # without its record: the headers say where samples are
    ours = {
        f"{place.key}.{name}": bytes(data)
        for number, place in enumerate(shard.places)
        for name, data in shard.members(number).items()
    }
    assert ours == members


def test_long_names_in_a_tar_file(tmp_path):
    from mv3d.orbits.shards import END_OF_TAR, tar_fragment

    keys = ["a" * 150, "b", "c" * 200]
    parts = [tar_fragment(key, [("json", b"{}"), ("000.bin", key.encode())]) for key in keys]
    (tmp_path / "x.tar").write_bytes(b"".join(parts) + END_OF_TAR)
    shard = Shard(tmp_path / "x.tar")
    assert [place.key for place in shard.places] == keys
    assert [bytes(shard.members(n)["000.bin"]) for n in range(3)] == [key.encode() for key in keys]
    for number in (-1, 3):  # an index of another shard asks for it
        with pytest.raises(InputError, match=f"expected sample {number} .* found 3 samples"):
            shard.members(number)
    with tarfile.open(tmp_path / "x.tar") as tar:
        assert len(tar.getnames()) == 6


@pytest.mark.parametrize("bad", [b"", b"x" * 5000, bytes(2048)])
def test_a_broken_shard_is_one_line(tmp_path, bad):
    (tmp_path / "x.tar").write_bytes(bad)
    with pytest.raises(InputError, match=r"x\.tar"):
        Shard(tmp_path / "x.tar")


def test_an_empty_list_and_no_workers(tmp_path):
    with pytest.raises(InputError, match="at least one object"):
        build_shards([], tmp_path, CONFIG)
    with pytest.raises(UsageError, match="--workers"):
        build_shards(ITEMS, tmp_path, CONFIG, workers=0)
