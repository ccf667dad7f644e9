"""The command line: parse, call the API, print. Exit codes: 0 done, 1 failed, 2 usage, 3 an optional part is
missing, 130 interrupted."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from mv3d.cli.models import (
    ConvertCommand,
    InfoCommand,
    ListCommand,
    convert_model,
    list_models,
    model_info,
)
from mv3d.cli.recon import ReconCommand, recon
from mv3d.errors import Mv3dError, UsageError

_Command = tuple[type, Callable[[Any], int], str]
_COMMANDS: dict[str, _Command] = {
    "recon": (ReconCommand, recon, "posed views of one object -> a textured mesh, or novel views"),
}
# Commands with commands of their own: a line about them, and those.
_GROUPS: dict[str, tuple[str, dict[str, _Command]]] = {
    "models": (
        "the generator's weights: list, convert, info",
        {
            "list": (ListCommand, list_models, "the models that have names"),
            "convert": (ConvertCommand, convert_model, "an original checkpoint -> a model folder"),
            "info": (InfoCommand, model_info, "what a model is"),
        },
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except Mv3dError as error:
        if os.environ.get("MV3D_DEBUG") == "1":
            raise
        print(f"mv3d: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("mv3d: interrupted; nothing was left half-written", file=sys.stderr)
        return 130
    except SystemExit as request:  # the parser's way to end: 0 after --help, 2 after a usage error
        return request.code if isinstance(request.code, int) else 2


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["--version"]:
        from mv3d import __version__

        print(__version__)
        return 0
    descriptions = {name: command[2] for name, command in _COMMANDS.items()}
    descriptions |= {name: description for name, (description, _) in _GROUPS.items()}
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage("mv3d", "One photo in, a textured 3D asset out.", descriptions))
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name in _GROUPS:
        return _dispatch_group(name, rest)
    if name not in _COMMANDS:
        raise UsageError(f"expected one of {', '.join(descriptions)}, got {name}; see mv3d --help")
    return _run(f"mv3d {name}", _COMMANDS[name], rest)


def _dispatch_group(group: str, arguments: list[str]) -> int:
    description, commands = _GROUPS[group]
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = {name: command[2] for name, command in commands.items()}
        print(_usage(f"mv3d {group}", f"{description[0].upper()}{description[1:]}.", lines))
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name not in commands:
        raise UsageError(f"expected one of {', '.join(commands)}, got {name}; see mv3d {group} --help")
    return _run(f"mv3d {group} {name}", commands[name], rest)


def _run(program: str, command: _Command, arguments: list[str]) -> int:
    kind, run, description = command
    return run(tyro.cli(kind, args=arguments, prog=program, description=description))


def _usage(program: str, title: str, descriptions: dict[str, str]) -> str:
    lines = [f"usage: {program} COMMAND [options]", "", title, ""]
    lines += [f"  {name:10} {description}" for name, description in descriptions.items()]
    lines += ["", f"{program} COMMAND --help lists the options; mv3d --version prints the version."]
    return "\n".join(lines)
