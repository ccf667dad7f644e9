"""The command line: parse, call the API, print. Exit codes: 0 done, 1 failed, 2 usage, 3 an optional part is
missing, 130 interrupted, 143 terminated."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mv3d.cli.app import AppCommand, app
from mv3d.cli.generate import GenerateCommand, generate
from mv3d.cli.groups import parsed, unknown_command
from mv3d.cli.lift import LiftCommand, lift
from mv3d.cli.make import MakeCommand, make
from mv3d.cli.output import note, show
from mv3d.cli.page import PageCommand, page
from mv3d.cli.recon import ReconCommand, recon
from mv3d.cli.view import ViewCommand, view
from mv3d.core.errors import Mv3dError, Mv3dWarning, UsageError, shown
from mv3d.core.signals import Terminated, terminated_as_interrupt
from mv3d.core.wording import flags_spoken

_COMMANDS: dict[str, tuple[type, Callable[[Any], int], str]] = {
    "make": (MakeCommand, make, "one photo of an object -> a textured mesh: generate, then recon"),
    "lift": (
        LiftCommand,
        lift,
        "one photo of an object -> a textured mesh in seconds, from the 3D prior alone",
    ),
    "generate": (GenerateCommand, generate, "one photo of an object -> posed views of it"),
    "recon": (ReconCommand, recon, "posed views of one object -> a textured mesh, or novel views"),
    "view": (ViewCommand, view, "a result in the browser: mesh, cameras, views, differences, numbers"),
    "app": (AppCommand, app, "the whole way in the browser, and an HTTP interface for other programs"),
    "page": (PageCommand, page, "a mesh, its views and numbers -> one HTML file that needs no network"),
}
# Commands with commands of their own: what they do is loaded when one of them is called.
_GROUPS: dict[str, tuple[str, str]] = {
    "distill": (
        "mv3d.cli.distill",
        "a multi-view model that samples in many steps -> a student of 1, 2 or 4 steps",
    ),
    "clips": ("mv3d.cli.clips", "videos -> clips worth training on: split, score, select, info"),
    "eval": (
        "mv3d.cli.eval",
        "metrics: a model, views or a mesh against ground truth, views against each other",
    ),
    "models": ("mv3d.cli.models", "the generator's weights: list, convert, info"),
    "orbits": ("mv3d.cli.orbits", "objects -> rendered orbits in training shards: select, fetch, render, …"),
    "study": ("mv3d.cli.study", "what a video model is worth as a start, on data of your own"),
    "train": ("mv3d.cli.train", "orbit shards or video clips -> a model, or an adapter"),
}


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Writing fails so in the midst of a file, and the error names none."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    with flags_spoken():
        return _ended(list(sys.argv[1:] if argv is None else argv))


def _ended(arguments: list[str]) -> int:
    try:
        with _warnings_as_lines(), terminated_as_interrupt():
            return _dispatch(arguments)
    except Mv3dError as error:
        if os.environ.get("MV3D_DEBUG") == "1":
            raise
        print(f"mv3d: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as request:
        ended = isinstance(request, Terminated)
        print(f"mv3d: {str(request) or _interrupted(arguments)}", file=sys.stderr)
        return 143 if ended else 130
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        return 141
    except OSError as error:  # of a place that a command does not check itself, a name of 300 letters for one
        full = error.errno in _FULL
        if os.environ.get("MV3D_DEBUG") == "1" or (error.filename is None and not full):
            raise
        place = "the disk" if error.filename is None else shown(error.filename)
        print(
            f"mv3d: {place}: {error.strerror}; {'free some space' if full else 'check the path'}",
            file=sys.stderr,
        )
        return 1
    except SystemExit as request:  # the parser's way to end: 0 after --help, 2 after a usage error
        return request.code if isinstance(request.code, int) else 2


_GOES_ON = {
    ("clips", "score"), ("clips", "split"), ("distill",), ("eval", "run"), ("generate",), ("make",), ("orbits", "encode"),
    ("orbits", "fetch"), ("orbits", "paint"), ("orbits", "render"), ("study",), ("train",),
}  # fmt: skip
"""Commands that keep what is finished of their work: shards, objects, clips, checkpoints, the views of a photo."""


def _interrupted(arguments: list[str]) -> str:
    if (*arguments[:1],) in _GOES_ON or (*arguments[:2],) in _GOES_ON:
        return "interrupted; what is finished stays, and the same command goes on from there"
    return "interrupted; nothing was left half-written, and the same command starts again"


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show_line(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, Mv3dWarning):
                note(f"warning: {message}")
            else:
                usual(message, category, *where, **more)

        warnings.showwarning = show_line
        yield


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["--version"]:
        from mv3d.core.version import __version__

        show(__version__)
        return 0
    if not arguments or arguments[0] in ("-h", "--help"):
        show(_usage())
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name in _GROUPS:
        return getattr(importlib.import_module(_GROUPS[name][0]), name)(rest)
    if name not in _COMMANDS:
        raise UsageError(unknown_command(name, [*_COMMANDS, *_GROUPS], "mv3d"))
    kind, run, description = _COMMANDS[name]
    return run(parsed(kind, rest, program=f"mv3d {name}", description=description))


def _usage() -> str:
    lines = ["usage: mv3d COMMAND [options]", "", "One photo in, a textured 3D asset out.", ""]
    lines += [f"  {name:10} {description}" for name, (_, _, description) in _COMMANDS.items()]
    lines += [f"  {name:10} {description}" for name, (_, description) in _GROUPS.items()]
    return "\n".join(
        [*lines, "", "mv3d COMMAND --help lists the options; mv3d --version prints the version."]
    )
