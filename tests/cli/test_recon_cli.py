"""`mv3d recon` as a process: output, exit codes, an interrupt, and what --help loads."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path


def cli(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mv3d", *arguments],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_command_line(cube_views, tmp_path):
    cube_views.save(tmp_path / "v")
    quick = ("recon", "v", "--quality", "draft", "--faces", "1000", "--texture-size", "256")
    done = cli(*quick, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["report"]["watertight"] and Path(tmp_path, answer["files"]["mesh.glb"]).is_file()
    assert "IoU" in done.stderr and "\r" not in done.stderr
    again = cli(*quick, cwd=tmp_path)
    assert again.returncode == 0 and "done already" in again.stderr and "v/mesh.glb" in again.stdout
    other = cli(*quick, "--seed", "1", cwd=tmp_path)
    assert other.returncode == 1 and "--overwrite" in other.stderr and other.stderr.count("\n") == 1
    for arguments, code, expected in (
        (("recon", "none"), 1, "found nothing"),
        (("recon", "v", "--format", "fbx"), 2, "--format"),
        (("recon", "v", "--faces", "many"), 2, "faces"),
        (("paint",), 2, "recon"),
        ((), 2, ""),
    ):
        answer = cli(*arguments, cwd=tmp_path)
        assert answer.returncode == code and expected in answer.stderr and "Traceback" not in answer.stderr


def test_interrupt_of_the_command_exits_130_and_leaves_nothing(cube_views, tmp_path):
    cube_views.save(tmp_path / "v")
    before = {p.name for p in (tmp_path / "v").iterdir()}
    # A shell starts its background jobs with interrupts ignored, and a job's children inherit that.
    code = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); runpy.run_module('mv3d', run_name='__main__')"
    running = subprocess.Popen(
        [sys.executable, "-c", code, "recon", "v"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    while {p.name for p in (tmp_path / "v").iterdir()} == before and time.monotonic() < deadline:
        time.sleep(0.05)  # until the staging folder shows that the work has begun
    running.send_signal(signal.SIGINT)
    _, message = running.communicate(timeout=120)
    assert running.returncode == 130 and "interrupted" in message and "Traceback" not in message
    assert {p.name for p in (tmp_path / "v").iterdir()} == before


def test_help_loads_no_torch(tmp_path):
    code = "import sys, mv3d; from mv3d.cli.main import main; main(['--help']); main(['recon', '--help']); print([m for m in ('torch', 'diffusers', 'trimesh') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip().endswith("[]"), done.stderr
