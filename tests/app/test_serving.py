from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mv3d.app.app_config import AppConfig, check_parts, is_loopback
from mv3d.app.serving import TOKEN_VARIABLE, chosen_token, listening
from mv3d.cli.main import main
from mv3d.core.errors import MissingPartError, UsageError

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"port": -1}, "--port: expected 0 to 65535, got -1"),
        ({"port": 65536}, "--port"),
        ({"max_upload_mb": 0}, "--max-upload-mb"),
        ({"max_upload_mb": float("nan")}, "--max-upload-mb"),
        ({"max_queued": 0}, "--max-queued"),
        ({"host": ""}, "--host"),
    ],
)
def test_settings_out_of_range_are_refused(values, says):
    with pytest.raises(UsageError, match=says):
        AppConfig(**values)


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.5", False), ("box", False), ("127.0.0.1.evil.example", False)],
)  # fmt: skip
def test_only_other_hosts_need_a_token(host: str, alone: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert is_loopback(host) is alone
    tokens = [chosen_token(AppConfig(host=host)) for _ in range(2)]
    assert tokens == [None, None] if alone else (tokens[0] != tokens[1] and len(tokens[0] or "") >= 24)


def test_a_token_can_be_given_but_no_short_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "a-token_of-twenty-six-chars")
    assert chosen_token(AppConfig()) == "a-token_of-twenty-six-chars"
    for bad in ("short", "with a space, and long enough", "ünïcode-letters-are-no-good"):
        monkeypatch.setenv(TOKEN_VARIABLE, bad)
        with pytest.raises(UsageError, match="expected at least 16"):
            chosen_token(AppConfig())


def test_an_address_that_is_taken_is_one_sentence():
    with listening("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port}: cannot listen there"):
            listening("127.0.0.1", port)
    with pytest.raises(UsageError, match="cannot listen there"):
        listening("no-such-host.invalid", 7008)


def test_missing_packages_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("mv3d.app.app_config.find_spec", lambda name: None)
    with pytest.raises(MissingPartError, match="python-multipart; install"):
        check_parts()
    assert main(["app"]) == 3
    assert "pip install starlette" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_the_command_serves_holds_its_folder_and_ends_by_ctrl_c(tmp_path: Path):
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "mv3d", "app", "--port", "0", "--out", str(tmp_path / "jobs")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        import urllib.request

        with urllib.request.urlopen(f"{address}v1/jobs", timeout=60) as answer:
            assert answer.read() == b'{"jobs":[]}'
        second = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert second.returncode == 1 and f"(pid {server.pid}) is writing here" in second.stderr
        server.send_signal(signal.SIGINT)
        assert server.communicate(timeout=60)[1].splitlines()[-1] == "ended" and server.returncode == 0
    finally:
        server.kill()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_killed_server_leaves_no_process_and_the_next_one_finishes_its_job(tmp_path: Path):
    httpx = pytest.importorskip("httpx2")
    psutil = pytest.importorskip("psutil")
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "mv3d", "app", "--port", "0", "--out", str(tmp_path / "jobs")]

    def started() -> tuple[subprocess.Popen[str], str]:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        return server, server.stdout.readline().strip()

    def until(address: str, *states: str) -> dict:
        end = time.monotonic() + 400
        while (job := httpx.get(f"{address}v1/jobs/{job_id}").json())["state"] not in states:
            assert time.monotonic() < end, job
            time.sleep(0.1)
        return job

    first, address = started()
    try:
        photo = (EXAMPLES / "chair.png").read_bytes()
        sent = httpx.post(
            f"{address}v1/jobs",
            files={"photo": photo},
            data={"settings": '{"quality": "instant"}'},
            timeout=120,
        )
        job_id = sent.json()["id"]
        until(address, "running")
        workers = psutil.Process(first.pid).children(recursive=True)
        assert len(workers) == 1
    finally:
        first.kill()
        first.wait()
    assert psutil.wait_procs(workers, timeout=30)[1] == []
    second, address = started()
    try:
        job = until(address, "done", "failed", "cancelled")
        assert (job["state"], job["starts"]) == ("done", 2), job["error"]
        assert "mesh.glb" in job["files"]
    finally:
        second.terminate()
        assert second.wait(60) == 143
