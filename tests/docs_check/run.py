"""Runs the blocks of a page in order, in one folder, at small sizes."""

from __future__ import annotations

import ast
import itertools
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from docs_check.compare import missing_lines
from docs_check.given import place
from docs_check.pages import Block, Command, commands

MOST = {
    "--count": "count", "--limit": "count", "--views": "views", "--size": "size", "--depth-size": "size",
    "--steps": "steps", "--every": "steps",
    "--workers": "workers", "--parallel": "workers", "--seeds": "workers", "--paints": "workers",
    "--texture-size": "texture", "--batch": "workers", "--micro-batch": "workers", "--side": "size", "--warmup": "workers",
}  # fmt: skip
"""Numbers of a command and the size that limits each."""


@dataclass(frozen=True)
class Sizes:
    """The variables by which commands of a page are turned down. full: run as written.

    quality: of `recon` and `make`, and the default of `mv3d.reconstruct`. texture: texels of a side of theirs. views, size
    (pixels of a side), count (objects), steps (of training), workers (processes, and whatever else is best taken once): the
    most that a command may ask for; where it asks for nothing, its flag is added.
    """

    full: bool = False
    quality: str = "draft"
    views: int = 8
    size: int = 128
    texture: int = 512
    count: int = 3
    steps: int = 2
    workers: int = 1

    def added(self) -> dict[tuple[str, ...], dict[str, str]]:
        """Flags that a command gets where it has none of their name."""
        mesh = {"--quality": self.quality, "--texture-size": str(self.texture)}
        orbit = {"--views": str(self.views), "--size": str(self.size)}
        training = {"--steps": str(self.steps), "--batch": "1", "--micro-batch": "1"}
        training |= {"--workers": "0", "--precision": "fp32"}
        return {
            ("recon",): mesh,
            ("make",): mesh | orbit,
            ("generate",): orbit,
            ("train",): training | {"--encoder-steps": str(self.steps)},
            ("distill",): training,
            ("orbits", "render"): orbit | {"--workers": "1"},
            ("orbits", "views"): orbit,
        }


def turned_down(arguments: list[str], sizes: Sizes) -> list[str]:
    """A command's arguments (without `mv3d`) at the sizes asked for."""
    if sizes.full:
        return arguments
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    for i, word in enumerate(words[:-1]):
        if word == "--quality":
            words[i + 1] = words[i + 1] if words[i + 1] == "instant" else sizes.quality
        elif word in MOST and words[i + 1].isdigit():
            words[i + 1] = str(min(int(words[i + 1]), getattr(sizes, MOST[word])))
    for verb, flags in sizes.added().items():
        if tuple(words[: len(verb)]) == verb and not {"--print-config", "--uid"} & set(words):
            fitting = [flag for flag in flags if flag not in words and _fits(flag, words)]
            words += [x for flag in fitting for x in (flag, flags[flag])]
    return [
        f"{word}={words[i + 1]}" if _dashed_value(words, i) else word
        for i, word in enumerate(words)
        if not _dashed_value(words, i - 1)
    ]


def _fits(flag: str, words: list[str]) -> bool:
    """Whether a command takes a flag: a field of density has no texture, and few presets train an encoder."""
    if flag == "--encoder-steps":
        return not {"tiny", "autoencoder"}.isdisjoint(words)
    return flag != "--texture-size" or "nerf" not in words


def _dashed_value(words: list[str], i: int) -> bool:
    """Whether word i is a flag with a value such as -5:30."""
    return (
        0 <= i < len(words) - 1
        and words[i].startswith("--")
        and words[i + 1][:1] == "-"
        and words[i + 1][1:2].isdigit()
    )


PRELUDE = """\
import dataclasses as _d, mv3d.api as _a
from mv3d.recon.config import ReconConfig as _c
_a.ReconConfig = lambda: _d.replace(_c(), quality={quality!r}, texture_size={texture})
"""


@dataclass(frozen=True)
class Outcome:
    """What became of one block. failure: the report; empty where all is well. skipped: what it needs."""

    block: Block
    seconds: float = 0.0
    ran: int = 0
    failure: str = ""
    skipped: tuple[str, ...] = ()


def run_page(
    blocks: list[Block], folder: Path, made: Path, sizes: Sizes, tolerance: float, timeout_s: float
) -> Iterator[Outcome]:
    """An outcome for each sh or python block. After a failure the page's later blocks run all the same."""
    folder.mkdir(parents=True, exist_ok=True)
    imports: list[str] = []
    for block, after in itertools.zip_longest(blocks, blocks[1:]):
        if block.language not in ("sh", "python"):
            continue
        if block.needs:
            yield Outcome(block, skipped=block.needs)
            continue
        started = time.monotonic()
        as_asked = replace(sizes, full=sizes.full or block.as_written)
        for name, kind in block.given:
            place(name, kind, folder, made)
        if block.language == "python":
            script = _script(block.text, imports, as_asked)
            imports += _imports(block.text)
            steps = [(block.where, "python", [sys.executable, "-c", script])]
        else:
            steps = [(c.where, c.text, ["bash", "-c", _small(c, as_asked)]) for c in commands(block)]
        printed, failure, ran = "", "", 0
        for where, text, command in steps:
            code, output = _run(command, folder, timeout_s)
            printed, ran = printed + output, ran + 1
            if code != 0:
                shown = text if block.language == "python" else f"{text}\n  as: {command[-1]}"
                failure = f"{where}: {shown}\n  ended with {code}:\n{_indented(output)}"
                break
        if not failure and after is not None and after.output:
            failure = _differences(after, printed, tolerance)
        yield Outcome(block, time.monotonic() - started, ran, failure)


def _small(command: Command, sizes: Sizes) -> str:
    words = command.mv3d
    return command.text if words is None else shlex.join(["mv3d", *turned_down(words, sizes)])


def _script(text: str, imports: list[str], sizes: Sizes) -> str:
    prelude = PRELUDE.format(quality=sizes.quality, texture=sizes.texture)
    return ("" if sizes.full else prelude) + "\n".join(imports) + "\n" + text


def _imports(text: str) -> list[str]:
    return [ast.unparse(n) for n in ast.parse(text).body if isinstance(n, ast.Import | ast.ImportFrom)]


def _differences(shown: Block, printed: str, tolerance: float) -> str:
    missing = missing_lines(shown.text, printed, tolerance if shown.tolerance is None else shown.tolerance)
    if not missing:
        return ""
    lines = "\n".join(f"  shown:   {line}" for line in missing)
    return f"{shown.where}: nothing like this was printed:\n{lines}\n  printed:\n{_indented(printed)}"


def _indented(text: str, most: int = 30) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-most:])


def _run(command: list[str], folder: Path, timeout_s: float) -> tuple[int, str]:
    """Exit code and what was printed on both streams; a code of 124 after the time is over, as of timeout(1)."""
    places = {"HOME": str(folder / ".home"), "MV3D_CACHE": str(folder / ".cache")}
    quiet = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120", "HF_HUB_OFFLINE": "1"}
    quiet["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | places | quiet | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout_s)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return 124, f"{output}\n(stopped after {timeout_s:.0f} s)"
    finally:
        if process.poll() is None:  # whatever ends the check ends its commands
            os.killpg(process.pid, signal.SIGKILL)
