"""What holds for every command, found in the help of `mv3d` itself: a new one is covered by being there."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import shlex
import subprocess
import sys
from functools import cache

import pytest

from mv3d.cli.main import main

WIDTHS = (40, 120)
SERVERS = {"app", "view"}
"""They print an address and stay: there is no result for --json."""
STDIN_CLOSED = "import os, sys; os.close(0); from mv3d.cli.main import main; sys.exit(main(sys.argv[1:]))"


class Screen(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def printed(arguments: list[str], columns: int = 120, kind: type = io.TextIOWrapper) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of a command on something `columns` wide, by default no terminal."""
    raw, wrong = io.BytesIO(), io.StringIO()
    before = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR", "TERM")}
    os.environ.update(COLUMNS=str(columns), NO_COLOR="1", TERM="dumb")
    try:
        out = kind(raw, encoding="utf-8")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(wrong):
            code = main(arguments)
        out.flush()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    return code, raw.getvalue().decode(), wrong.getvalue()


@cache
def help_text(verb: tuple[str, ...], columns: int = 120, kind: type = io.TextIOWrapper) -> str:
    code, text, wrong = printed([*verb, "--help"], columns, kind)
    assert code == 0 and wrong == "", f"mv3d {' '.join(verb)} --help"
    return text


def verbs(group: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command that does something, as the lists of commands name them."""
    text = help_text(group)
    if group and not text.startswith(f"usage: {' '.join(('mv3d', *group))} COMMAND"):
        return [group]
    names = re.findall(r"^  ([a-z][\w-]*) +\S", text, re.MULTILINE)
    return [found for name in names for found in verbs((*group, name))]


VERBS = verbs()
each_verb = pytest.mark.parametrize("verb", VERBS, ids=" ".join)


def test_there_are_many_verbs():
    assert len(VERBS) >= 30 and {("make",), ("orbits", "render"), ("eval", "run"), ("clips", "split")} <= set(
        VERBS
    )


@each_verb
def test_help_is_plain_and_keeps_to_the_width(verb):
    boxed = help_text(verb, kind=Screen)
    assert max(map(len, [line for line in boxed.splitlines() if line.startswith(("│", "╭", "╰"))])) <= 120
    for columns, kind in itertools.product(WIDTHS, (Screen, io.TextIOWrapper)):
        text = help_text(verb, columns, kind)
        assert "\x1b" not in text and "(default: )" not in text
        if (columns, kind) != (120, Screen):
            assert not set("│╭╰─") & set(text)
            told = [line for line in text.splitlines() if line.startswith("      ")]
            assert all(len(line) <= columns or len(line.split()) == 1 for line in told)
            assert words(text) == words(boxed)
    assert f"mv3d {' '.join(verb)}" in help_text(verb).splitlines()[0]


def words(text: str) -> list[str]:
    """Without what the help's form adds: boxes, and the colon of a title."""
    return re.sub(r"[│╭╮╰╯─:]", " ", text).split()


@each_verb
def test_one_default_is_named_once(verb):
    for flag in re.split(r"\n  (?=--)", help_text(verb)):
        named = re.findall(r"[Dd]efault:", " ".join(flag.split()))
        assert len(named) <= 1, flag


def example(verb: tuple[str, ...]) -> list[str]:
    """The first command of this verb that its help shows."""
    command = f"mv3d {' '.join(verb)} "
    lines = [line.strip("│ ") for line in help_text(verb).splitlines()]
    examples = [line for line in lines if line.startswith(command)]
    assert examples, f"{command}--help: no example"
    return shlex.split(examples[0].split("#")[0])[1:]


@each_verb
def test_the_example_parses_and_a_wrong_flag_is_a_usage_error(verb):
    """Nothing but the flag that is put in is wrong with the example. No result is printed."""
    code, out, wrong = printed([*example(verb), "--no-such-flag"])
    wrong = " ".join(wrong.replace("│", " ").split())
    assert code == 2 and out == ""
    assert wrong.startswith("mv3d: unrecognized: --no-such-flag") and "expected" not in wrong, wrong


@each_verb
def test_results_come_as_json_where_they_are_asked_for(verb):
    assert ("--json" in help_text(verb)) != (verb[0] in SERVERS)


@pytest.mark.slow
@each_verb
def test_bare_surroundings(verb, tmp_path):
    """No HOME, no standard input, a folder that is no checkout, a reader that leaves after a line."""
    bare = {k: v for k, v in os.environ.items() if k not in ("HOME", "COLUMNS", "LINES", "TERM")}
    script = [sys.executable, "-P", "-c", STDIN_CLOSED, *verb, "--help"]
    done = subprocess.run(script, capture_output=True, text=True, env=bare, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("usage: mv3d")
    piped = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" | head -1', "bash", *script],
        capture_output=True, text=True, env=bare, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert piped.returncode in (0, 141) and piped.stderr == "" and piped.stdout.startswith("usage: mv3d")
    assert not list(tmp_path.iterdir())
