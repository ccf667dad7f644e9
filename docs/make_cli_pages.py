"""Writes docs/cli/: a page for each command, from what its --help says.

Run: python docs/make_cli_pages.py
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mv3d.cli.main import main

PAGES = Path(__file__).parent / "cli"
REGENERATE = "python docs/make_cli_pages.py"
WITH_OTHER_FLAGS = {"train": [("--preset", "prior")]}
"""What makes a command take other flags, which then have tables of their own on its page."""
_WIDTH = "120"  # of the terminal that the help is made for: one column of flags
_BOX = re.compile(r"^╭─+ *(?=\w)", re.MULTILINE)
_DEFAULT = re.compile(r"\s*\((default: (?P<value>.*)|required|repeatable)\)$")


@dataclass(frozen=True)
class Flag:
    """One line of a table. names: as they are typed, with the kind of their value. default: empty for none."""

    names: str
    text: str
    default: str


def pages() -> dict[str, str]:
    """Content by file name."""
    overview, verbs = _commands(help_text([]))
    found = {"README.md": _index(overview, verbs)}
    for verb in verbs:
        lines = [*_head(), *_page([verb], 1)]
        for flags in WITH_OTHER_FLAGS.get(verb, ()):
            lines += [f"## mv3d {verb} {' '.join(flags)}", "", *_tables(help_text([verb, *flags]))]
        found[f"{verb}.md"] = "\n".join(lines).rstrip() + "\n"
    return found


def help_text(command: list[str]) -> str:
    """What `mv3d COMMAND --help` prints on a terminal of a fixed width without colours."""
    raw = io.BytesIO()
    # Of a known encoding, as a terminal has: the boxes of the help depend on it.
    with _terminal(), contextlib.redirect_stdout(_Screen(raw, encoding="utf-8")) as out:
        code = main([*command, "--help"])
        out.flush()
    if code != 0:
        raise SystemExit(f"mv3d {' '.join(command)} --help: expected exit code 0, got {code}")
    return re.sub(r"\x1b\[[0-9;]*m", "", raw.getvalue().decode())


def write(folder: Path = PAGES) -> None:
    """Write the pages; those of commands that are gone go."""
    folder.mkdir(exist_ok=True)
    made = pages()
    for path in folder.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


class _Screen(io.TextIOWrapper):
    """What passes for a terminal: elsewhere a help has no boxes."""

    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def _terminal() -> Iterator[None]:
    """The environment that decides how help is laid out, held still."""
    wanted = {"COLUMNS": _WIDTH, "LINES": "50", "NO_COLOR": "1", "TERM": "dumb"}
    before = {name: os.environ.get(name) for name in (*wanted, "FORCE_COLOR")}
    os.environ.pop("FORCE_COLOR", None)
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _head() -> list[str]:
    return [f"<!-- Made from the commands' own help: {REGENERATE} -->", ""]


def _index(overview: str, verbs: dict[str, str]) -> str:
    rows = [f"| [`mv3d {verb}`]({verb}.md) | {_cell(what)} |" for verb, what in verbs.items()]
    end = "`mv3d COMMAND --help` prints the same; `mv3d --version` prints the version."
    return "\n".join(
        [*_head(), "# Commands", "", overview, "", "| command | what |", "|---|---|", *rows, "", end, ""]
    )


def _page(command: list[str], level: int) -> list[str]:
    """A command and the commands below it."""
    name, text = " ".join(["mv3d", *command]), help_text(command)
    lines = [f"{'#' * level} {name}", ""]
    if not text.startswith(f"usage: {name} COMMAND"):
        return [*lines, *_body(text)]
    title, below = _commands(text)
    lines += [title, ""]
    for verb in below:
        lines += _page([*command, verb], level + 1)
    return lines


def _commands(text: str) -> tuple[str, dict[str, str]]:
    """What a list of commands says at its top, and the commands with what they do."""
    title = text.split("\n\n")[1].strip()
    return title, dict(re.findall(r"^  ([a-z][\w-]*) +(.+)$", text, re.MULTILINE))


def _body(text: str) -> list[str]:
    """Usage, description, and a table for each box of the help."""
    before = _BOX.split(text)[0]
    usage, _, description = before.partition("\n\n")
    lines = ["```", re.sub(r"\s+", " ", usage).removeprefix("usage: ").replace(" [-h]", ""), "```", ""]
    for paragraph in filter(None, (part.strip() for part in description.split("\n\n"))):
        shell = paragraph.startswith(("mv3d ", "accelerate "))
        lines += ["```", paragraph, "```", ""] if shell else [" ".join(paragraph.split()), ""]
    return lines + _tables(text)


def _tables(text: str) -> list[str]:
    """A table for each box of the help."""
    lines: list[str] = []
    for box in _BOX.split(text)[1:]:
        title, about, flags = _box(box)
        flags = [flag for flag in flags if not flag.names.startswith("-h,")]
        if not flags:
            continue
        lines += [about, ""] if about else []
        lines += [f"| {title} | what | default |", "|---|---|---|"]
        lines += [f"| `{_cell(flag.names)}` | {_cell(flag.text)} | {_cell(flag.default)} |" for flag in flags]
        lines.append("")
    return lines


def _box(box: str) -> tuple[str, str, list[Flag]]:
    """Title, introduction and flags of one box."""
    title, *rows = box.splitlines()
    rows = [row.removeprefix("│").removesuffix("│")[1:].rstrip() for row in rows if row.startswith("│")]
    rules = [place for place, row in enumerate(rows) if set(row) == {"─"}]
    about = " ".join(row.strip() for row in rows[: rules[0]]) if rules else ""
    entries: list[list[str]] = []
    for row in rows[rules[0] + 1 :] if rules else rows:
        if row.startswith(" ") and entries:
            entries[-1].append(row.strip())
        else:
            entries.append(re.split(r" {2,}", row, maxsplit=1))
    return title.split(" ─")[0].strip(), about, [_flag(names, " ".join(rest)) for names, *rest in entries]


def _flag(names: str, text: str) -> Flag:
    default = ""
    while found := _DEFAULT.search(text):
        text = text[: found.start()]
        value = found["value"]
        default = (
            found[0].strip(" ()") if value is None else f"`{value}`" if value and value != "None" else default
        )
    return Flag(
        names.replace("{None}|", "").replace("{None,", "{"), text, "" if default == "`''`" else default
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    write()
    sys.stdout.write(f"{PAGES}\n")
