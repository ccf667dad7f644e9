import itertools
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.moments import Killed, killed, watched

from mv3d.core.errors import OutputError
from mv3d.core.files import (
    atomic_path,
    discard,
    publish,
    put_right,
    remove,
    replace,
    restore,
    sha256,
    staging,
    write_files,
    write_text,
)


def full(*_args):
    raise OSError(28, "No space left on device")


def test_a_file_appears_whole(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with atomic_path(tmp_path / "a.txt") as part:
        part.write_text("new")
        assert part.name.endswith(".part") and (tmp_path / "a.txt").read_text() == "old"
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.txt": "new"}


def test_a_folder_replaces_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with atomic_path(tmp_path / "a") as part:
        part.mkdir()
        (part / "new").touch()
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "new"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x"), OSError(28, "No space")])
def test_what_fails_leaves_nothing(tmp_path, error):
    write_text(tmp_path / "a", "old")
    expected = OutputError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), atomic_path(tmp_path / "a") as part:
        part.mkdir()
        (part / "b").touch()
        raise error
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "old"}


def test_an_error_of_a_library_is_not_one_of_the_disk(tmp_path):
    with pytest.raises(OSError, match="no picture"), atomic_path(tmp_path / "a"):
        raise OSError("no picture")


def copied(part: Path, big: Path) -> None:
    shutil.copytree(big, part)


def saved_tensors(part: Path, big: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(5000)}, part)


def saved_objects(part: Path, big: Path) -> None:
    with part.open("wb") as file:
        torch.save({"a": torch.zeros(5000)}, file)


@pytest.mark.parametrize("write", [copied, saved_tensors, saved_objects])
def test_a_library_that_meets_a_full_disk_is_believed(tmp_path, write):
    """Files of at most 10,000 bytes: an error of the system as a full disk gives it, in each library's own words."""
    resource = pytest.importorskip("resource")
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "file").write_bytes(bytes(20_000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    refused = pytest.raises(
        OutputError, match=r"a: cannot be written \(File too large\); choose another --out"
    )
    try:
        with refused, atomic_path(tmp_path / "a") as part:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
            write(part, tmp_path / "big")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p.name for p in tmp_path.iterdir()] == ["big"]


def test_a_failed_rename_keeps_the_old_file(tmp_path, monkeypatch):
    write_text(tmp_path / "a", "old")
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match=r"No space left.*choose another --out"):
        write_text(tmp_path / "a", "new")
    with pytest.raises(OutputError, match="wait"), atomic_path(tmp_path / "a", hint="wait") as part:
        part.write_text("new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "old"}


def test_an_unfinished_file_may_lie_elsewhere(tmp_path):
    (tmp_path / "scratch").mkdir()
    with atomic_path(tmp_path / "a", scratch=tmp_path / "scratch") as part:
        part.write_bytes(b"1")
        assert part.parent.name == "scratch"
    assert (tmp_path / "a").read_bytes() == b"1" and not any((tmp_path / "scratch").iterdir())


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with atomic_path(tmp_path / "a") as first, atomic_path(tmp_path / "a") as second:
        first.write_text("1")
        second.write_text("2")
    assert (tmp_path / "a").read_text() == "1" and len(list(tmp_path.iterdir())) == 1


def test_the_last_of_several_files_appears_last(tmp_path, monkeypatch):
    renamed, real = [], os.replace
    monkeypatch.setattr("os.replace", lambda a, b: (renamed.append(Path(b).name), real(a, b)))
    write_files({tmp_path / name: b"" for name in ("z.png", "b.mtl", "a.obj")})
    assert renamed == ["z.png", "b.mtl", "a.obj"]


def test_one_of_several_files_that_fails_leaves_all_as_they_were(tmp_path):
    with pytest.raises(OutputError):
        write_files({tmp_path / "a": b"1", tmp_path / "absent" / "b": b"2"})
    with pytest.raises(OutputError):
        write_files({tmp_path / "absent" / "b": b"2", tmp_path / "a": b"1"})
    assert not any(tmp_path.iterdir())


def test_a_place_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Not a directory"):
        write_text(tmp_path / "file" / "a", "")


def test_a_link_goes_without_its_target(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "new").mkdir()
    remove(tmp_path / "link")
    assert (tmp_path / "there").is_dir() and not os.path.lexists(tmp_path / "link")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    replace(tmp_path / "file", tmp_path / "link")
    assert (tmp_path / "link").read_text() == "x" and (tmp_path / "there").is_dir()


def test_staged_results_are_published_with_the_record_last(tmp_path, monkeypatch):
    renamed, real = [], os.replace
    with staging(tmp_path) as folder:
        for name in ("a.json", "b"):
            (folder / name).touch()
        monkeypatch.setattr("os.replace", lambda a, b: (renamed.append(Path(b).name), real(a, b)))
        publish(folder, tmp_path, last="a.json")
    assert renamed[1:] == ["b", "a.json"] and len(list(tmp_path.iterdir())) == 2


def test_a_hash_of_a_folder_holds_names_and_content(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "a").write_text("1")
    assert sha256(tmp_path / "one") == sha256(tmp_path / "two")
    (tmp_path / "two" / "sub" / "a").rename(tmp_path / "two" / "sub" / "b")
    assert sha256(tmp_path / "one") != sha256(tmp_path / "two")


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def each_death(tmp_path, prepare, act):
    """The folder as each moment leaves it at which the process that acts on it may die; at last, as one that does not."""
    for moment in itertools.count(1):
        folder = tmp_path / f"out{moment}"
        prepare(folder)
        try:
            with watched(folder, killed(moment)):
                act(folder)
        except Killed:
            yield folder
        else:
            yield folder
            return


def earlier_files(folder):
    for name in ("a", "images/0", "stale/0", "last"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("earlier")


def whole_files(folder):
    earlier_files(folder)
    staged = folder / ".mv3d-01234567"
    for name in ("a", "c", "images/0", "last"):
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / name).write_text("new")


def test_a_process_that_dies_publishing_leaves_the_earlier_files_or_the_next_one_makes_the_new_ones(tmp_path):
    published = dict.fromkeys(("a", "c", "images/0", "last"), "new")
    earlier_files(tmp_path / "earlier")
    earlier = tree(tmp_path / "earlier")

    def act(folder):
        publish(folder / ".mv3d-01234567", folder, last="last", stale=["stale", "last", "absent"])
        remove(folder / ".mv3d-01234567")

    found = []
    for folder in each_death(tmp_path, whole_files, act):
        shutil.copytree(folder, tmp_path / "again", dirs_exist_ok=True)
        for again in each_death(tmp_path / "again", partial(shutil.copytree, folder), put_right):
            put_right(again)
            found.append(tree(again))
            assert found[-1] in (earlier, published), again
        shutil.rmtree(tmp_path / "again")
    assert found[0] == earlier and found[-1] == published and len(found) > 100


def test_a_process_that_dies_discarding_leaves_all_or_nothing(tmp_path):
    earlier_files(tmp_path / "earlier")
    earlier = tree(tmp_path / "earlier")
    found = []
    for folder in each_death(
        tmp_path, earlier_files, lambda folder: discard(folder, ["a", "images", "stale/0", "absent"])
    ):
        put_right(folder)
        found.append(tree(folder))
        assert found[-1] in (earlier, {"last": "earlier"}), folder
    assert found[0] == earlier and found[-1] != earlier and len(found) > 5


def test_a_list_of_moves_leads_nowhere_else(tmp_path):
    (tmp_path / "mine").write_text("mine")
    left = tmp_path / "out" / ".mv3d-01234567"
    left.mkdir(parents=True)
    (left / "moves.mv3d").write_text('{"names": ["../../b"], "stale": ["../mine"]}')
    (left / "a").touch()
    put_right(tmp_path / "out")
    assert tree(tmp_path) == {"mine": "mine"}


def test_what_killed_processes_left_goes_or_is_back(tmp_path):
    for name in (
        ".a.json.0123abcd.part",
        ".a.json.0123abcd.old",
        ".b.json.0123abcd.old",
        ".c.json.0123abcd.part",
    ):
        (tmp_path / name).write_text(name)
    (tmp_path / "a.json").write_text("new")
    restore(tmp_path, ["a.json", "b.json"])
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
        "a.json": "new",
        "b.json": ".b.json.0123abcd.old",  # moved aside for a new one that never came
        ".c.json.0123abcd.part": ".c.json.0123abcd.part",  # not ours
    }
