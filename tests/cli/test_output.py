"""What the command line does with its streams and with values out of range, in processes of their own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import warnings
from pathlib import Path

import pytest
from PIL import Image

from mv3d.cli.main import main
from mv3d.cli.output import ObjectsBar, StageBars
from mv3d.core.errors import InputError, Mv3dWarning
from mv3d.generation.batch import GenerateResult

SCRIPT = [
    sys.executable,
    "-P",
    "-c",
    "import sys; from mv3d.cli.main import main; sys.exit(main(sys.argv[1:]))",
]


def on_terminal(command: list[str], *, columns: int, **environment: str) -> str:
    """What a command prints on a terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    variables |= {"TERM": "xterm", **environment}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=variables):
        os.close(theirs)
        text = b""
        try:
            while chunk := os.read(ours, 65536):
                text += chunk
        except OSError:  # Linux says so at the end of a terminal
            pass
    os.close(ours)
    return text.decode()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has /dev/full")
@pytest.mark.parametrize("arguments", [["models", "list"], ["models", "list", "--help"], ["--help"]])
def test_a_full_disk_costs_one_sentence(arguments: list[str]):
    with open("/dev/full", "w") as full:
        found = subprocess.run(
            [*SCRIPT, *arguments], check=False, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert found.returncode == 1
    assert re.fullmatch(r"mv3d: standard output: cannot be written \(.+\)\n", found.stderr)


def test_an_encoding_that_lacks_a_character_costs_one_sentence():
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    found = subprocess.run([*SCRIPT, "--help"], check=False, capture_output=True, text=True, env=ascii_only)
    assert found.returncode == 1 and found.stderr.count("\n") == 1
    assert "got ascii; set PYTHONIOENCODING=utf-8" in found.stderr


def test_a_reader_that_has_seen_enough_is_no_failure():
    command = [*SCRIPT, "models", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 141


def test_help_has_colours_on_a_terminal_unless_they_are_unwanted():
    command = [*SCRIPT, "recon", "--help"]
    assert "\x1b[" in on_terminal(command, columns=80)
    assert "\x1b[" not in on_terminal(command, columns=80, NO_COLOR="1")


@pytest.mark.parametrize("columns", [40, 120])
def test_the_bar_keeps_its_time(columns: int):
    script = "from mv3d.cli.output import ObjectsBar, StageBars; bars = StageBars(); bars('geometry', 0.5); bars.close()"
    lines = re.split(r"[\r\n]+", on_terminal([sys.executable, "-P", "-c", script], columns=columns))
    shown = [line for line in lines if "geometry" in line]
    assert all(re.search(r"\d\d:\d\d, (\d\d:\d\d|\?) left$", line) for line in shown)
    assert max(map(len, shown)) in (columns - 1, columns)


@pytest.mark.parametrize(
    "arguments",
    [
        ["recon", "{views}", "--fov", "500"],
        ["recon", "{views}", "--elevation", "nan"],
        ["eval", "consistency", "{views}", "--fov", "nan"],
        ["eval", "consistency", "{views}", "--elevation", "100"],
        ["generate", "x.png", "--elevation", "nan"],
        ["generate", "x.png", "--views", "0"],
    ],
    ids=" ".join,
)
def test_values_out_of_range_are_usage_errors(arguments: list[str], tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([part.replace("{views}", str(tmp_path)) for part in arguments]) == 2
    assert capsys.readouterr().err.startswith(f"mv3d: {arguments[-2]}: expected ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["recon", "a" * 300 + ".gif"], "File name too long"),
        (["generate", "a" * 300 + ".png"], "File name too long"),
        (["recon", "photo.png"], "mv3d make photo.png"),
        (["recon", "photo.jpg"], "mv3d make photo.jpg"),
        (["orbits", "select", "objects", "--out", "list.jsonl"], "no SOURCES.csv"),
        (
            ["generate", "photo.png", "--trajectory", "none.json"],
            "none.json: expected a JSON file of an orbit, found no such file",
        ),
        (["train", "--data", "x", "--print-config", "none"], "expected one of ddp, fsdp"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else value[0],
)
def test_what_is_missing_is_said_in_one_line(arguments, told, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photo.png", "photo.jpg"):
        Image.new("RGB", (8, 8)).save(name)
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "a.glb").touch()
    assert main(arguments) in (1, 2)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("mv3d: ") and told in last


def test_a_long_stage_is_a_line_now_and_then_where_there_is_no_terminal(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("mv3d.cli.output.time.monotonic", lambda: now[0])
    bars = StageBars()
    for second in range(0, 25, 4):
        now[0] = second
        bars("field", second / 25)
    assert capsys.readouterr().err == "field 48%\nfield 96%\n"


def test_warnings_of_ours_are_lines_and_sigterm_ends_with_143(capsys, monkeypatch):
    def stop(arguments: list[str]) -> int:
        warnings.warn("look twice", Mv3dWarning, stacklevel=1)
        signal.raise_signal(signal.SIGTERM)
        return 0

    monkeypatch.setattr("mv3d.cli.main._dispatch", stop)
    for arguments, then in (
        (["recon", "x"], "nothing was left half-written, and the same command starts again"),
        (["orbits", "render", "x"], "what is finished stays, and the same command goes on from there"),
        (["train"], "what is finished stays, and the same command goes on from there"),
    ):
        assert main(arguments) == 143
        assert capsys.readouterr().err.splitlines() == [
            "warning: look twice", f"mv3d: interrupted; {then}",
        ]  # fmt: skip


def test_objects_are_lines_where_no_terminal_is(capsys, monkeypatch):
    seconds = iter([0.0, 5.0, 11.0, 11.0, 12.0, 30.0, 30.0])
    monkeypatch.setattr("mv3d.cli.output.time.monotonic", lambda: next(seconds))
    bar = ObjectsBar()
    for done in range(1, 5):
        bar(done, 10, 1)
    assert capsys.readouterr().err == "object 2 of 10, 1 rejected\nobject 4 of 10, 1 rejected\n"


def test_a_photo_that_fails_is_told_when_it_does(tmp_path, capsys, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)

    def one(run, image, folder, *_):
        if image.name == "c.png":
            raise KeyboardInterrupt
        return GenerateResult(image, folder, error=InputError(f"{image.name}: no object"))

    monkeypatch.setattr("mv3d.generation.batch._one", one)
    assert main(["generate", str(tmp_path), "--out", str(tmp_path / "out")]) == 130
    told = capsys.readouterr().err.splitlines()
    assert told[:2] == ["mv3d: a.png: no object", "mv3d: b.png: no object"]
    assert told[2].startswith("mv3d: interrupted; what is finished stays") and len(told) == 3


def test_pictures_that_are_no_photos_are_named(tmp_path, capsys, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.gif")
    Image.new("RGB", (8, 8), "white").save(tmp_path / "b.png")
    made = {"views": 1, "seconds": {"total": 0.0}}
    monkeypatch.setattr(
        "mv3d.generation.batch._one", lambda run, image, folder, *_: GenerateResult(image, folder, made)
    )
    assert main(["generate", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert "skipped a.gif" in capsys.readouterr().err
