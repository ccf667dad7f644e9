"""Commands with commands of their own: `mv3d orbits render`, `mv3d models convert`."""

from __future__ import annotations

import difflib
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

import tyro

from mv3d.cli.examples import EXAMPLES
from mv3d.cli.output import show
from mv3d.cli.usage import NARROW, plain, sentence, tidied
from mv3d.core.errors import UsageError

Kind = type | Callable[[list[str]], type]
"""The dataclass of a command, or a function that makes it of the arguments, where one flag decides the others' defaults."""
Command = tuple[Kind, Callable[[Any], int], str]


def run_group(group: str, title: str, commands: Mapping[str, Command], arguments: list[str]) -> int:
    """Run one of a group's commands, or list them; the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"usage: mv3d {group} COMMAND [options]", "", title, ""]
        width = max(10, *map(len, commands))
        lines += [f"  {name:{width}} {description}" for name, (_, _, description) in commands.items()]
        show("\n".join([*lines, "", f"mv3d {group} COMMAND --help lists the options."]))
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name not in commands:
        raise UsageError(unknown_command(name, commands, f"mv3d {group}"))
    kind, run, description = commands[name]
    return run(parsed(kind, rest, program=f"mv3d {group} {name}", description=description))


def parsed(kind: Kind, arguments: list[str], *, program: str, description: str) -> Any:
    """The command's dataclass from its arguments. SystemExit ends the program after --help and a usage error.

    description: the head of the help; the verb's example follows it.
    """
    # A file whose name begins with a hyphen is no flag.
    arguments = [f"./{word}" if word[:1] == "-" and os.path.lexists(word) else word for word in arguments]
    made = kind if isinstance(kind, type) else kind(arguments)
    if program in EXAMPLES:
        description = f"{description}\n\n{EXAMPLES[program]}"
    tyro._experimental_options["ansi_codes"] = not os.environ.get("NO_COLOR")  # https://no-color.org
    wrong, columns = _Caught(sys.stderr), shutil.get_terminal_size().columns
    boxed = sys.stdout.isatty() and columns >= NARROW
    printed = _Caught(sys.stdout) if boxed else _InBoxes()
    try:
        with redirect_stdout(printed), redirect_stderr(wrong), _columns(columns if boxed else _WIDE):
            return tyro.cli(made, args=arguments, prog=program, description=description)
    except SystemExit as request:
        if not request.code:
            text = tidied(printed.getvalue())
            show((text if boxed else plain(text, columns)).rstrip("\n"))
            raise
        if said := sentence(wrong.getvalue(), program):
            wrong.truncate(0)
            raise UsageError(said) from None
        raise
    finally:
        sys.stderr.write(wrong.getvalue())


_WIDE = 120  # one column of flags, and few of their words broken


@contextmanager
def _columns(count: int) -> Iterator[None]:
    """Let the parser lay out its help for so many columns."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(count)
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


class _InBoxes(io.StringIO):
    """A help with the signs by which `plain` takes it apart, whatever the terminal has."""

    encoding = "utf-8"


class _Caught(io.StringIO):
    """What is meant for a stream, in its colours and with its signs."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._coloured, self._signs = stream.isatty(), stream.encoding

    def isatty(self) -> bool:
        return self._coloured

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._signs


def unknown_command(name: str, known: Iterable[str], program: str) -> str:
    """The message for a command that does not exist, with the nearest name."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"expected one of {', '.join(known)}, got {name}{hint or ';'} see {program} --help"
