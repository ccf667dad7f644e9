"""Commands with commands of their own: `mv3d orbits render`, `mv3d models convert`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tyro

from mv3d.cli.examples import EXAMPLES
from mv3d.cli.output import show, stdout_checked
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
    made = kind if isinstance(kind, type) else kind(arguments)
    if program in EXAMPLES:
        description = f"{description}\n\n{EXAMPLES[program]}"
    tyro._experimental_options["ansi_codes"] = not os.environ.get("NO_COLOR")  # https://no-color.org
    with stdout_checked():
        return tyro.cli(made, args=arguments, prog=program, description=description)


def unknown_command(name: str, known: Iterable[str], program: str) -> str:
    """The message for a command that does not exist, with the nearest names."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"expected one of {', '.join(known)}, got {name}{hint or ';'} see {program} --help"
