"""Places that people have: odd and long names, links, folders that cannot be written, files in the way, small disks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.small_jobs import INPUTS, each_job, prepared, quickened, results

from mv3d.cli.main import main
from mv3d.core.locking import folder_lock

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = {"odd": 'it\'s "größe" 椅子 % #1', "long": "n" * 180 + "椅" * 20}


@pytest.fixture(autouse=True)
def at_hand(inputs, monkeypatch):
    monkeypatch.chdir(inputs)
    quickened(monkeypatch)


def fails(command: list[str], capsys) -> str:
    """What a command says in one line that cannot do what it is asked for."""
    assert main(command) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err, captured
    return captured.err.splitlines()[-1]


def renamed(inputs: Path, folder: Path, name: str) -> dict[str, str]:
    """Links to all inputs, in `folder` and named so, by their usual names; files of folders have that name, too."""
    found = {}
    for index, usual in enumerate(INPUTS):
        source, target = inputs / usual, folder / f"{index}{name}{Path(usual).suffix}"
        if usual in ("objects", "set", "videos"):
            target.mkdir()
            for number, file in enumerate(source.iterdir()):
                (target / f"{number}{name}{file.suffix}").symlink_to(file)
        else:
            target.symlink_to(source)
        found[usual] = str(target)
    return found


@each_job
@pytest.mark.parametrize("name", NAMES.values(), ids=list(NAMES))
def test_names_and_links(job, name, inputs, tmp_path, monkeypatch, capsys):
    """Links to inputs, and a link to the folder of the results, all of that name, seen from another folder."""
    (tmp_path / name / "real").mkdir(parents=True)
    (tmp_path / "there").mkdir()
    out = tmp_path / name / name
    out.symlink_to("real")
    prepared(job, out, name)
    monkeypatch.chdir(tmp_path / "there")
    places = renamed(inputs, Path("..", name), name)
    command = [places.get(part, part) for part in job.command(os.path.join("..", name, name))]
    assert main(command) == 0, capsys.readouterr().err
    made = results(out)
    assert out.is_symlink() and len(made) >= 3 and results(tmp_path / name / "real") == made
    assert not list((tmp_path / "there").iterdir())
    said = capsys.readouterr()
    assert "rejected: " not in said.err
    assert main(command) == 0 and results(out) == made


@each_job
def test_in_the_way(job, tmp_path, capsys):
    """A file, below a file, a link to nothing, a folder that another process holds."""
    file, link, held = tmp_path / "file", tmp_path / "link", tmp_path / "held"
    file.write_bytes(b"mine")
    link.symlink_to("nothing")
    for place in (file, file / "below", link):
        said = fails(job.command(place), capsys)
        assert str(place) in said or "expected a folder of clips" in said
    assert file.read_bytes() == b"mine" and sorted(p.name for p in tmp_path.iterdir()) == ["file", "link"]
    before = prepared(job, held)
    with folder_lock(held):
        assert f"{held}: another mv3d process (pid {os.getpid()})" in fails(job.command(held), capsys)
    assert results(held) == before if job.name == "clips score" else not held.exists()


@contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    """A disk of its own at `place`. Skips the test where nobody may mount one."""
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no disk of its own: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.slow
@each_job
def test_a_folder_that_is_read_only(job, tmp_path, capsys):
    place = tmp_path / "disk"
    with mounted(place, "size=10m"):
        prepared(job, place / "out")
        before = results(place)
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        said = fails(job.command(place / "out"), capsys)
        assert f"{place}" in said and "cannot be written (Read-only file system)" in said
        subprocess.run(["mount", "-o", "remount,rw", place], check=True)
        assert results(place) == before


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [20, 100, 300])
@each_job
def test_a_disk_that_is_full(job, kilobytes, inputs, tmp_path, capsys):
    """Of this size, beside what is there already. Done, or one line; and on a larger disk the same command goes on."""
    place = tmp_path / "disk"
    with mounted(place, "size=400m"):
        prepared(job, place / "out")
        used = sum(-(-p.stat().st_size // 4096) * 4 for p in place.rglob("*") if p.is_file())
        subprocess.run(["mount", "-o", f"remount,size={used + kilobytes}k", place], check=True)
        code = main(job.command(place / "out"))
        said = capsys.readouterr().err
        if code:
            last = said.splitlines()[-1]
            assert code == 1 and "Traceback" not in said and last.startswith("mv3d: "), said
            assert "No space left" in last and str(place) in last, said
        subprocess.run(["mount", "-o", "remount,size=400m", place], check=True)
        assert main(job.command(place / "out")) == 0
