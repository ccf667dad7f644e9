"""Ctrl-C, SIGTERM, a dead process and a full disk at any moment of any long command: nothing half-written, and the same
command again gives what it would have given. Moments are counted here; tests/core/test_signalled_processes.py times them.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.moments import Killed, full, killed, signalled, watched
from helpers.small_jobs import Job, each_job, half_written, prepared, quickened, results

from mv3d.cli.main import main
from mv3d.core.locking import mend

pytestmark = pytest.mark.usefixtures("one_thread")
MOMENTS = int(os.environ.get("MV3D_TEST_MOMENTS", "10"))
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture(autouse=True)
def at_hand(inputs, monkeypatch):
    monkeypatch.chdir(inputs)
    quickened(monkeypatch)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run: its results, and how many changes it made to files."""

    results: dict[str, bytes]
    changes: int


@pytest.fixture(scope="module")
def finished() -> dict[str, Whole]:
    return {}


@pytest.fixture(params=[2, pytest.param(MOMENTS, marks=pytest.mark.slow)])
def count(request) -> int:
    return request.param


@pytest.fixture
def whole(job, at_hand, finished, tmp_path) -> Whole:
    if job.name not in finished:
        out = tmp_path / "whole"
        before = prepared(job, out)
        with watched(out) as watch:
            assert main(job.command(out)) == 0
        finished[job.name] = Whole(results(out), watch.count)
        assert watch.count >= 5 and results(out).keys() > before.keys()
    return finished[job.name]


def moments(job: Job, whole: Whole, count: int) -> list[int]:
    """Seeded, in all parts of the run: the last ones are those where results get their names."""
    rng = random.Random(job.name)
    edges = [round(1 + whole.changes * share / count) for share in range(count + 1)]
    return sorted({rng.randint(low, max(low, high - 1)) for low, high in itertools.pairwise(edges)})


def scratch(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob(".*") if p.name != ".work"] + [
        p.name for p in folder.rglob("*.part")
    ]


def goes_on(job: Job, out: Path, whole: Whole, moment: int) -> None:
    """The same command again. What a process that died with its work done left of scratch goes with the next that writes."""
    found = results(out)
    assert not half_written(job, found, whole.results), moment
    was_done = found == whole.results
    assert main(job.command(out)) == 0, moment
    found = results(out)
    assert [n for n in {*found, *whole.results} if found.get(n) != whole.results.get(n)] == [], moment
    assert was_done or not scratch(out), moment


@each_job
def test_signals(job, count, whole, tmp_path, capsys):
    for index, moment in enumerate(moments(job, whole, count)):
        number = list(CODES)[index % 2]
        out = tmp_path / str(moment)
        prepared(job, out)
        with watched(out, signalled(moment, number)):
            code = main(job.command(out))
        error = capsys.readouterr().err
        assert code == CODES[number], f"moment {moment}: {error}"
        assert error.splitlines()[-1].startswith("mv3d: ") and "Traceback" not in error
        assert not scratch(out), moment
        goes_on(job, out, whole, moment)


@each_job
def test_a_signal_leaves_the_earlier_result_or_the_new_one(job, count, whole, tmp_path):
    """Commands that work through many objects replace them one by one; the others all at once."""
    if job.goes_on:
        pytest.skip("--overwrite begins anew at once")
    out = tmp_path / "out"
    assert main(job.command(out, *job.other)) == 0
    earlier = results(out)
    assert earlier != whole.results
    for moment in moments(job, whole, count):
        with watched(out, signalled(moment, signal.SIGINT)):
            assert main(job.command(out, "--overwrite")) == 130
        assert results(out) in (earlier, whole.results), moment
    assert main(job.command(out, "--overwrite")) == 0 and results(out) == whole.results


@each_job
def test_a_dead_process(job, count, whole, tmp_path):
    for moment in moments(job, whole, count):
        out = tmp_path / str(moment)
        prepared(job, out)
        with watched(out, killed(moment)), pytest.raises(Killed):
            main(job.command(out))
        gc.collect()  # what a dead process had open is closed
        goes_on(job, out, whole, moment)


@each_job
def test_a_process_that_dies_overwriting(job, count, whole, tmp_path):
    """The earlier result or the new one is there for the next that looks; commands that go on lose all of the earlier one
    or nothing of it before they have a new one."""
    earlier, timed = tmp_path / "earlier", tmp_path / "timed"
    prepared(job, earlier)
    assert main(job.command(earlier, *job.other)) == 0
    shutil.copytree(earlier, timed)
    events = [""]
    with watched(timed, lambda number, event: events.append(event)) as watch:
        assert main(job.command(timed, "--overwrite")) == 0
    rng = random.Random(job.name)
    renames = [moment for moment, event in enumerate(events) if event == "os.rename"][-5:]
    for moment in sorted({*rng.sample(renames, min(count, len(renames))), rng.randint(1, watch.count)}):
        out = tmp_path / str(moment)
        shutil.copytree(earlier, out)
        with watched(out, killed(moment)), pytest.raises(Killed):
            main(job.command(out, "--overwrite"))
        gc.collect()
        if job.goes_on:
            mend(out)
        else:  # done already, or refused: the earlier one is of other settings
            done = main(job.command(out)) == 0
            assert results(out) == (whole.results if done else results(earlier)), moment
        assert main(job.command(out, "--overwrite")) == 0 and results(out) == whole.results, moment
        assert not scratch(out), moment


@each_job
def test_a_full_disk(job, count, whole, tmp_path, capsys):
    for moment in moments(job, whole, count):
        out = tmp_path / str(moment)
        prepared(job, out)
        with watched(out, full(moment)):
            code = main(job.command(out))
        error = capsys.readouterr().err
        if code:  # else nothing but names was to be given any more
            assert code == 1 and "No space left" in error.splitlines()[-1] and "Traceback" not in error, error
            assert not scratch(out), moment
        goes_on(job, out, whole, moment)
