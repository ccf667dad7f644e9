"""Wrong arguments are one sentence each, and helps say what to type."""

from __future__ import annotations

import pytest

from mv3d.cli.main import main
from mv3d.cli.usage import sentence, tidied


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            "recon x --qualty draft",
            "unrecognized: --qualty draft; did you mean --quality? see mv3d recon --help",
        ),
        (
            "recon x --quality drft",
            "--quality: expected one of draft, standard, high, got drft; did you mean draft? see mv3d recon --help",
        ),
        (
            "recon x --quality zzz",
            "--quality: expected one of draft, standard, high, got zzz; see mv3d recon --help",
        ),
        ("orbits render", "expected LIST|FOLDER|FILE, --out PATH; see mv3d orbits render --help"),
        ("recon x --faces abc", "--faces: expected INT, got abc; see mv3d recon --help"),
        (
            "make a.png b.png c.png",
            'expected one photo a run, got also b.png c.png; for many: for photo in *.png; do mv3d make "$photo"; done '
            "(mv3d generate takes several photos, and makes views of each); see mv3d make --help",
        ),
        ("lift a.png b.png --vews 3", "unrecognized: b.png --vews 3; see mv3d lift --help"),
        ("recon x y", "unrecognized: y; see mv3d recon --help"),
        ("mkae x", "did you mean make? see mv3d --help"),
    ],
)
@pytest.mark.parametrize("columns", [40, 200])
def test_a_wrong_argument_is_one_sentence(arguments, told, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(arguments.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("mv3d: ") and captured.err.count("\n") == 1
    assert captured.err.endswith(f"{told}\n")


def test_what_the_parser_says_in_another_form_stays():
    assert sentence("Traceback", "mv3d recon") is None


def test_a_help_says_what_to_type():
    box = "│ --shot {None}|PATH   │\n│ --print {None,ddp}   │\n│ a text (default: '') │"
    assert tidied(box).split("\n") == [
        "│ --shot PATH          │", "│ --print {ddp}        │", "│ a text               │",
    ]  # fmt: skip
    assert tidied("│ b (default: 'x') │") == "│ b (default: 'x') │"
    broken = "│ text (default: │\n│      None)      │\n│ x              │"
    assert tidied(broken).split("\n") == [f"│ text{' ' * 11}│", "│ x              │"]


def test_no_help_has_a_none(capsys):
    for verb in ("view", "recon", "train"):
        assert main([verb, "--help"]) == 0
        text = capsys.readouterr().out
        assert "{None" not in text and "(default: '')" not in text and "usage: mv3d" in text
