"""SIGINT and SIGTERM at seeded times of real commands, children and all, and two of them on one output at once."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from helpers.places import TESTS
from helpers.small_jobs import JOBS, half_written, prepared, results

from mv3d.core.locking import mend

pytestmark = pytest.mark.slow
MOMENTS = int(os.environ.get("MV3D_TEST_MOMENTS", "10"))
Run = Callable[..., tuple[int, str, float]]


@pytest.fixture(scope="module")
def run(inputs) -> Iterator[Run]:
    """Run a command in the folder of the inputs: (exit code, stderr, seconds)."""
    script = [sys.executable, str(TESTS / "helpers" / "command_server.py"), str(inputs)]
    with subprocess.Popen(
        script,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as server:
        assert server.stdin is not None and server.stdout is not None

        def ask(command: list[str], number: int = 0, after_s: float = 0.0) -> tuple[int, str, float]:
            print(json.dumps([command, number, after_s]), file=server.stdin, flush=True)
            return tuple(json.loads(server.stdout.readline()))

        yield ask
        server.stdin.close()


@pytest.mark.parametrize("job", JOBS.values(), ids=list(JOBS))
def test_at_any_time(job, run, inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(inputs)
    prepared(job, tmp_path / "whole")
    run(job.command(tmp_path / "first"))  # loads what is loaded late
    code, said, seconds = run(job.command(tmp_path / "whole"))
    assert code == 0, said
    whole = results(tmp_path / "whole")
    rng, cut = random.Random(job.name), 0
    for moment in range(MOMENTS):
        out = tmp_path / str(moment)
        before = prepared(job, out)
        number = rng.choice((signal.SIGINT, signal.SIGTERM))
        code, said, _ = run(job.command(out), number, rng.uniform(0.02, seconds))
        # On a busy machine a signal may come before the program listens.
        unheard = code in (-number, 1) and not said and results(out) == before
        assert unheard or (code in (0, 128 + number) and "Traceback" not in said), (moment, code, said)
        cut += code != 0
        assert not half_written(job, results(out), whole), moment
        assert not [p for p in out.rglob(".mv3d-*")] and not [p for p in out.rglob("*.part")], moment
        code, said, _ = run(job.command(out))
        found = results(out)
        assert code == 0, (moment, said)
        assert [n for n in {*found, *whole} if found.get(n) != whole.get(n)] == [], moment
    assert cut >= MOMENTS // 2


@pytest.mark.parametrize("job", [job for job in JOBS.values() if not job.goes_on], ids=lambda job: job.name)
def test_killed_while_it_replaces(job, run, inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(inputs)
    run(job.command(tmp_path / "whole"))
    run(job.command(tmp_path / "earlier", *job.other))
    _, _, seconds = run(job.command(tmp_path / "whole", "--overwrite"))
    known = [results(tmp_path / name) for name in ("earlier", "whole")]
    rng, killed = random.Random(job.name), 0
    for moment in range(MOMENTS):
        out = tmp_path / str(moment)
        shutil.copytree(tmp_path / "earlier", out)
        # Most of them at the end, where files are moved.
        code, said, _ = run(
            job.command(out, "--overwrite"),
            signal.SIGKILL,
            seconds * rng.choice((rng.random(), rng.uniform(0.9, 1))),
        )
        assert code in (0, -signal.SIGKILL), said
        killed += code != 0
        mend(out)
        assert results(out) in known, moment
    assert killed >= MOMENTS // 3


@pytest.mark.parametrize("job", JOBS.values(), ids=list(JOBS))
def test_two_at_once(job, inputs, tmp_path, monkeypatch):
    """One wins, whichever; the other names it, or came late and finds the result."""
    out = tmp_path / "out"
    monkeypatch.chdir(inputs)
    prepared(job, out)
    both = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "mv3d", *job.command(out)], cwd=inputs, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=600)[1] for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes, said
    for code, text, other in zip(codes, said, reversed(both), strict=True):
        if code:
            last = text.splitlines()[-1]
            assert code == 1 and f"another mv3d process (pid {other.pid}) is writing here" in last, text
