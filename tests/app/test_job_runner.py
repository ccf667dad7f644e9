from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.job_stub_command import STUB

from mv3d.app.job import Job, read_job, write_job
from mv3d.app.job_runner import EndedError, JobRunner
from mv3d.app.job_store import MOST_STARTS, JobStore, NoSuchJobError
from mv3d.core.errors import OutputError

posix = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    store = JobStore(tmp_path / "jobs")
    store.load()
    return store


@pytest.fixture
def runner(store: JobStore):
    runner = JobRunner(store, STUB, grace_s=0.3)
    runner.start()
    yield runner
    runner.close()


def _send(runner: JobRunner, title: str, device: str = "cpu") -> str:
    def fill(folder: Path) -> None:
        (folder / "photo").write_bytes(b"1234")

    job = runner.store.add("photo", {}, title, device, fill)
    runner.attend(device)
    return job.id


def _until(store: JobStore, job_id: str, *states: str, seconds: float = 30) -> Job:
    end = time.monotonic() + seconds
    while (job := store.get(job_id)).state not in states:
        assert time.monotonic() < end, f"hung: {job}"
        time.sleep(0.01)
    return job


def test_a_job_runs_and_its_files_are_found(runner: JobRunner, store: JobStore):
    job = _until(store, _send(runner, "done"), "done", "failed")
    assert (job.state, job.error, job.progress, job.starts) == ("done", None, 1.0, 1)
    assert job.warnings == ("photo: a warning",)
    assert job.created <= (job.started or 0) <= (job.ended or 0)
    files = store.files(job.id)
    assert list(files) == ["cutout.png", "mesh.glb", "images/000.png"]
    assert files["mesh.glb"].read_bytes() == b"glTF of 1234"
    assert read_job(store.path(job.id)) == job


@pytest.mark.parametrize(
    ("title", "says"),
    [
        ("fail", "photo: expected an object, got none; give another photo"),
        ("crash", "exit code 1 (RuntimeError: a bug)"),
        pytest.param("kill", "ended by SIGKILL", marks=posix),
    ],
)
def test_a_job_that_fails_says_why_and_harms_no_other(runner: JobRunner, store: JobStore, title, says):
    bad, good = _send(runner, title), _send(runner, "done")
    job = _until(store, bad, "done", "failed")
    assert job.state == "failed" and says in (job.error or "")
    assert _until(store, good, "done", "failed").state == "done"


def test_lines_that_are_no_messages_are_passed_over(runner: JobRunner, store: JobStore):
    assert _until(store, _send(runner, "chatter"), "done", "failed").state == "done"


def test_a_job_whose_folder_is_gone_fails_and_harms_no_other(runner: JobRunner, store: JobStore):
    first, gone, last = (_send(runner, name) for name in ("hang", "done", "done"))
    while store.get(first).stage != "wait":
        time.sleep(0.01)
    for job_id in (first, gone):  # one that runs, and one that waits
        shutil.rmtree(store.path(job_id))
    with pytest.raises(OutputError):
        runner.cancel(first)
    assert _until(store, first, "failed", "cancelled").state == "cancelled"
    assert _until(store, gone, "failed").error is not None
    assert _until(store, last, "done", "failed").state == "done"


@posix
def test_a_child_that_a_job_leaves_behind_is_ended_and_holds_nobody_up(runner: JobRunner, store: JobStore):
    began = time.monotonic()
    assert _until(store, _send(runner, "orphan"), "done", "failed").state == "done"
    assert time.monotonic() - began < 20


def test_one_job_at_a_time_on_a_device_in_their_order_and_devices_beside_each_other(
    runner: JobRunner, store: JobStore
):
    ids = [_send(runner, "done") for _ in range(3)]
    other = _send(runner, "hang", device="cuda:0")
    for job_id in ids:
        assert _until(store, job_id, "done", "failed").state == "done"
    _until(store, other, "running")
    runner.cancel(other)
    _until(store, other, "cancelled")
    order = (store.folder / "order.txt").read_text().split()
    assert [line for line in order if line[1:] != other] == [sign + job for job in ids for sign in "+-"]


@pytest.mark.parametrize("title", ["hang", pytest.param("deaf", marks=posix)])
def test_a_running_job_is_cancelled_and_a_waiting_one_too(runner: JobRunner, store: JobStore, title):
    first, waiting, last = (_send(runner, name) for name in (title, "done", "done"))
    while store.get(first).stage != "wait":
        time.sleep(0.01)
    assert runner.cancel(waiting).state == "cancelled"
    assert runner.cancel(first).stage == "cancelling"
    runner.cancel(first)  # twice is once
    assert _until(store, first, "cancelled", "failed").state == "cancelled"
    assert _until(store, last, "done").state == "done"
    assert store.get(waiting).starts == 0 and runner.cancel(waiting).state == "cancelled"
    with pytest.raises(EndedError, match="got one that is done"):
        runner.cancel(last)
    with pytest.raises(NoSuchJobError):
        runner.cancel("0" * 32)


def test_closing_queues_what_ran_and_the_next_server_finishes_it(store: JobStore, tmp_path: Path):
    runner = JobRunner(store, STUB, grace_s=0.3)
    runner.start()
    ran, waited = _send(runner, "hang"), _send(runner, "done")
    while store.get(ran).stage != "wait":
        time.sleep(0.01)
    runner.close()
    assert [store.get(each).state for each in (ran, waited)] == ["queued", "queued"]
    again = JobStore(store.folder)
    again.load()
    assert again.all() == store.all()
    again.change(ran, title="done")
    runner = JobRunner(again, STUB)
    runner.start()
    assert [_until(again, each, "done").starts for each in (ran, waited)] == [1, 1]
    runner.close()


def test_a_job_that_ran_when_the_server_died_is_queued_again_but_not_for_ever(tmp_path: Path):
    jobs = [Job(f"{n:032x}", "photo", 1.0 + n, state="running", starts=n) for n in range(1, MOST_STARTS + 1)]
    for job in jobs:
        (tmp_path / job.id).mkdir()
        write_job(tmp_path / job.id, job)
    store = JobStore(tmp_path)
    store.load()
    assert [store.get(job.id).state for job in jobs] == ["queued", "failed"]
    assert "the server ended 2 times" in (store.get(jobs[-1].id).error or "")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"schema": 1}', "\x00", '{"schema": 1, "id": "../../etc"}', "[" * 10_000]
)
def test_a_damaged_job_file_is_passed_over_and_stays(tmp_path: Path, text: str):
    good = Job("a" * 32, "photo", 1.0)
    for name in (good.id, "b" * 32):
        (tmp_path / name).mkdir()
    write_job(tmp_path / good.id, good)
    (tmp_path / ("b" * 32) / "job.json").write_text(text)
    (tmp_path / "notes").mkdir()
    store = JobStore(tmp_path)
    store.load()
    assert store.all() == [good]
    assert (tmp_path / ("b" * 32) / "job.json").read_text() == text and (tmp_path / "notes").exists()


def test_every_field_of_a_job_file_is_checked(tmp_path: Path):
    job = Job("a" * 32, "photo", 1.0, warnings=("x",))
    (tmp_path / job.id).mkdir()
    write_job(tmp_path / job.id, job)
    assert read_job(tmp_path / job.id) == job
    document = json.loads((tmp_path / job.id / "job.json").read_text())
    for name in document:
        for bad in ({"x": 1} if name != "settings" else [1],) + (
            ("other",) if name in ("kind", "state") else ()
        ):
            (tmp_path / job.id / "job.json").write_text(json.dumps(document | {name: bad}))
            assert read_job(tmp_path / job.id) is None, name


def test_an_upload_that_fails_leaves_nothing(store: JobStore):
    def fill(folder: Path) -> None:
        (folder / "photo").write_bytes(b"half")
        raise OutputError("no")

    with pytest.raises(OutputError):
        store.add("photo", {}, "x", "cpu", fill)
    assert store.all() == [] and list(store.folder.iterdir()) == []


def test_links_and_hidden_files_are_no_results(store: JobStore, tmp_path: Path):
    job = store.add("photo", {}, "x", "cpu", lambda to: None)
    out = store.path(job.id) / "out"
    (out / ".mv3d-abc").mkdir(parents=True)
    for name in (".mv3d.lock", ".mv3d-abc/mesh.glb", "mesh.obj"):
        (out / name).write_text("x")
    (tmp_path / "secret").write_text("x")
    (out / "mesh.glb").symlink_to(tmp_path / "secret")
    assert list(store.files(job.id)) == ["mesh.obj"]
    store.tidy(job.id)
    assert not (out / ".mv3d-abc").exists()


@posix
def test_a_process_ends_with_its_server(tmp_path: Path):
    """The real process waits for its stdin to close; here its job has no photo for it to finish."""
    code = (
        "import time, mv3d.app.job_process as p; p.run_job = lambda folder, tell: (tell(stage='x'), time.sleep(600));"
        "raise SystemExit(p.main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdin is not None
    assert json.loads(process.stdout.readline()) == {"stage": "x"}
    process.stdin.close()
    assert process.wait(20) in (143, -signal.SIGTERM)
    process.stdout.close()
