"""What the parser prints, in the words of the other messages: a wrong argument is one sentence, a help says what to type."""

from __future__ import annotations

import difflib
import re
import textwrap

NARROW = 60
"""Columns of a terminal below which a help has no boxes."""
ONE_PHOTO = ("mv3d make", "mv3d lift")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_BROKEN = re.compile(r"\(default:( *│)\n│ *(?:''|None)\) *│")
_COLUMN = re.compile(r"\{None\}\|(\S+)( {2,}(?=\S))")
_NONE = re.compile(r"\{None\}\|(?=\S)|(?<=\{)None,| \(default: (?:''|None)\)")
_CHOICE = re.compile(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)")


def tidied(text: str) -> str:
    """A help without the values that say that nothing was given; its boxes keep their width."""
    lines = []
    for line in _BROKEN.sub(r"         \1", text).split("\n"):
        shorter = _NONE.sub("", _COLUMN.sub(r"\1\2       ", line))
        border = shorter.rfind("│")
        if border > 0:
            shorter = shorter[:border] + " " * (len(line) - len(shorter)) + shorter[border:]
        if shorter == line or shorter.strip("│ "):
            lines.append(shorter)
    return "\n".join(lines)


def plain(text: str, columns: int) -> str:
    """A help without its boxes, in lines of `columns` where no word is longer."""
    lines, entries = list[str](), list[list[str]]()
    for line in text.split("\n"):
        row = line[1:].rstrip("│ ").removeprefix(" ")
        if line.startswith("╭"):
            lines.append(f"{line.strip('╭─╮ ')}:")
        elif line.startswith("╰"):
            for names, *what in entries:
                lines += _entry(names, " ".join(what), columns)
            lines, entries = [*lines, ""], []
        elif not line.startswith("│"):
            lines.append(line)
        elif set(row) == {"─"}:  # below a box's introduction
            about = " ".join(" ".join(part) for part in entries)
            lines += textwrap.wrap(about, columns, initial_indent="  ", subsequent_indent="  ")
            entries = []
        elif row.startswith(" ") and entries:
            entries[-1].append(row.strip())
        elif row:
            entries.append(re.split(r" {2,}", row, maxsplit=1))
    return "\n".join(lines)


def _entry(names: str, what: str, columns: int) -> list[str]:
    """A flag and what it does, side by side where there is room."""
    indent = " " * (24 if columns >= NARROW else 6)
    beside = len(names) + 4 <= len(indent)
    wrapped = textwrap.wrap(
        what,
        columns,
        initial_indent=f"  {names}".ljust(len(indent)) if beside else indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapped if beside and wrapped else [f"  {names}", *wrapped]


def sentence(box: str, program: str) -> str | None:
    """The parser's drawn message about a wrong argument as one sentence; None where it is of an unknown form."""
    drawn = "╭" in box  # with blanks and hyphens where the terminal has no lines
    if not drawn and not box.startswith(" "):
        return None
    parts: list[list[str]] = [[]]
    for line in _COLOURS.sub("", box).splitlines():
        row = line[1:].rstrip("│ ")
        if drawn and not line.startswith("│"):
            continue
        if row.strip() and set(row.strip()) <= {"─", "-"}:
            parts.append([])
        elif row:
            parts[-1].append(row)
    if not drawn and len(parts) > 1:
        del parts[0]  # the title
    said = " ".join(" ".join(parts[0]).split())
    more = "; ".join(" ".join(part).strip() for part in parts[1:])
    found = _found(said, parts, more, program)
    if not found:
        return None
    return f"{found}{'' if found.endswith('?') else ';'} see {program} --help"


def _found(said: str, parts: list[list[str]], more: str, program: str) -> str | None:
    if match := _CHOICE.match(said):
        value, flag, listed = match.groups()
        choices = re.findall(r"'([^']*)'", listed)
        shown = [choice for choice in choices if choice != "None"]
        near = difflib.get_close_matches(value, shown, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        if (flag, value) == ("--quality", "instant"):
            hint = "; instant needs the photo: mv3d lift"
        return f"{flag}: expected one of {', '.join(shown)}, got {value}{hint}"
    if said.startswith("Unrecognized"):
        return _unrecognized(said, more, program)
    if said.startswith("Missing from"):
        names = [row.strip() for row in parts[0] if re.match(r" {5}\S", row)]
        return f"expected {', '.join(names)}" if names else said
    if match := re.match(r"Error parsing (\S+): (.*)", said):
        flag, why = match.groups()
        kind = re.search(rf"(?<!\S){re.escape(flag)} (\S+)", more)
        got = re.search(r"from \['(.*?)'\]|: '(.*?)'$", why)
        if kind and got:
            return f"{flag}: expected {kind[1].removeprefix('{None}|')}, got {got[1] or got[2]}"
        return f"{flag}: {why.rstrip('.')}"
    return said.rstrip(".") or None


def _unrecognized(said: str, more: str, program: str) -> str:
    wrong = said.partition(":")[2].strip().replace(", ", " ")
    flags = re.findall(r"(?<!\S)(--[\w-]+)", more) if "erhaps" in more or "imilar" in more else []
    typed = [word.partition("=")[0] for word in wrong.split() if word.startswith("--")]
    if program in ONE_PHOTO and not typed:
        return (
            f'expected one photo a run, got also {wrong}; for many: for photo in *.png; do {program} "$photo"; done '
            "(mv3d generate takes several photos, and makes views of each)"
        )
    near = difflib.get_close_matches(typed[0], flags, n=1, cutoff=0.5) if typed else []
    return f"unrecognized: {wrong}" + (f"; did you mean {near[0]}?" if near else "")
