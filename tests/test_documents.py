"""What README.md and docs/ tell people to type: the commands parse, the Python runs, the pages of docs/cli are fresh."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GALLERY = [ROOT / "docs" / "gallery" / "README.md"]
NOT_RUN = re.compile(r"<!-- not run: needs .+ -->\s*$")
"""In front of a Python block: it is compiled only."""


@dataclass(frozen=True)
class Block:
    """A fenced block. language: as the fence says. run: whether nothing in front says otherwise."""

    where: str
    language: str
    text: str
    run: bool


def blocks(text: str, name: str = "text") -> list[Block]:
    found = []
    for match in re.finditer(r"^```([a-z]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start()) + 1
        found.append(
            Block(f"{name}:{line}", match[1], match[2], NOT_RUN.search(text[: match.start()]) is None)
        )
    return found


def commands(text: str) -> list[list[str]]:
    """The arguments of every `mv3d …` in a shell block, what follows three spaces or a # left out."""
    found = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        words = shlex.split(re.split(r"\s{3,}", line.strip())[0], comments=True)
        if words[:2] == ["accelerate", "launch"] and words[-1] != "...":
            words = words[words.index("mv3d") :]
        if words[:1] == ["mv3d"]:
            found.append(words[1:])
    return found


def _all_blocks() -> list[Block]:
    return [block for path in DOCUMENTS for block in blocks(path.read_text(encoding="utf-8"), path.name)]


SHELL = [
    (b.where, c)
    for b in _all_blocks()
    if b.language in ("", "sh", "bash", "console")
    for c in commands(b.text)
]
PYTHON = [block for block in _all_blocks() if block.language == "python"]


def test_blocks_and_commands_are_found():
    text = "a\n```\nmv3d recon x \\\n    --out y   # why\n$ no\nmv3d info A B      what it does\n```\n"
    text += "<!-- not run: needs a GPU -->\n```python\n1\n```\n```python\n2\n```\n"
    shell, held, free = blocks(text)
    assert commands(shell.text) == [["recon", "x", "--out", "y"], ["info", "A", "B"]]
    assert (held.run, free.run, free.text) == (False, True, "2\n")
    assert len(SHELL) > 30 and len(PYTHON) >= 2


# -- links


def links(text: str) -> list[str]:
    """Targets of links and pictures that lie in the repository."""
    found = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    return [target for target in found if "://" not in target]


def test_links_are_found():
    text = "![a](b.png) [c](https://d) [e](f.md#g) [h](#i)\n```\n[j](k)\n```\n"
    assert links(text) == ["b.png", "f.md"]


@pytest.mark.parametrize("path", DOCUMENTS + GALLERY, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path):
    lost = [t for t in links(path.read_text(encoding="utf-8")) if not (path.parent / t).exists()]
    assert not lost, f"{path.name}: {', '.join(lost)} is not there"


# -- commands


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Nothing is run: what a command would have been given lands here."""
    from mv3d.cli import distill, main, study, train

    given: list[Any] = []

    def keep(command: Any) -> int:
        given.append(command)
        return 0

    groups = [importlib.import_module(module) for module, _ in main._GROUPS.values()]
    tables = [main._COMMANDS, *(group.COMMANDS for group in groups if hasattr(group, "COMMANDS"))]
    for table in tables:
        for name, (kind, _, what) in table.items():
            monkeypatch.setitem(table, name, (kind, keep, what))
    monkeypatch.setattr(train, "run", keep)
    monkeypatch.setattr(distill, "run", keep)
    monkeypatch.setattr(study, "run", keep)
    return given


@pytest.mark.parametrize(("where", "command"), SHELL, ids=[f"{where}-{c[0]}" for where, c in SHELL])
def test_every_command_parses(
    where: str, command: list[str], parsed: list[Any], capsys: pytest.CaptureFixture[str]
):
    from mv3d.cli.main import main

    assert main(command) == 0, f"{where}: mv3d {shlex.join(command)}\n{capsys.readouterr()}"
    assert len(parsed) == 1 or "--print-config" in command


@pytest.mark.parametrize(
    "command", [["recon", "x", "--no-such-flag"], ["orbits", "nothing"], ["train", "--lr", "x"]]
)
def test_wrong_commands_do_not_parse(
    command: list[str], parsed: list[Any], capsys: pytest.CaptureFixture[str]
):
    from mv3d.cli.main import main

    assert main(command) == 2
    assert parsed == []


# -- Python


@pytest.mark.parametrize("block", PYTHON, ids=[block.where for block in PYTHON])
def test_python_compiles(block: Block):
    compile(block.text, block.where, "exec")


@pytest.mark.parametrize(
    "block", [b for b in PYTHON if b.run], ids=[block.where for block in PYTHON if block.run]
)
def test_python_runs(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ball_views: Any, one_thread: None
):
    """In a folder with a small stand-in for each file that the block names, at draft quality."""
    import mv3d
    from mv3d import api
    from mv3d.recon.config import ReconConfig

    monkeypatch.chdir(tmp_path)
    _stand_ins(tmp_path, block.text, ball_views, monkeypatch)
    quick = dataclasses.replace(ReconConfig(), quality="draft", texture_size=256, device="cpu")
    monkeypatch.setattr(api, "ReconConfig", lambda: quick)
    # In a document a name may come from the block before.
    exec(compile(block.text, block.where, "exec"), {"__name__": "example", "mv3d": mv3d})
    for name in re.findall(r'\.(?:export|save)\("([^"]+)"\)', block.text):
        assert (tmp_path / name).exists(), f"{block.where}: {name} was not written"


def _stand_ins(folder: Path, text: str, views: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers import tiny_model

    from mv3d.models.network import SV3D_P

    pictures = [Image.fromarray((image * 255).astype(np.uint8)) for image in views.images]
    if "orbit.gif" in text:
        white = [
            Image.alpha_composite(Image.new("RGBA", p.size, "white"), p).convert("RGB") for p in pictures
        ]
        white[0].save(folder / "orbit.gif", save_all=True, append_images=white[1:], duration=80)
    if "chair.png" in text:
        shutil.copy(ROOT / "examples" / "chair.png", folder / "chair.png")
    for name in re.findall(r'model="(models/\w+)"', text):
        monkeypatch.setattr(tiny_model, "FRAMES", 21)
        tiny_model.write_model(folder / name, SV3D_P)


# -- the pages of the commands


def _make_cli_pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_cli_pages", ROOT / "docs" / "make_cli_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their own module up.
    import sys

    sys.modules["make_cli_pages"] = module
    spec.loader.exec_module(module)
    return module


def test_pages_of_the_commands_are_fresh():
    maker = _make_cli_pages()
    there = {path.name: path.read_text(encoding="utf-8") for path in maker.PAGES.glob("*.md")}
    made = maker.pages()
    stale = sorted(name for name in made.keys() | there.keys() if made.get(name) != there.get(name))
    assert not stale, f"docs/cli: {', '.join(stale)} differ from the commands' help; run: {maker.REGENERATE}"


def test_pages_do_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch):
    maker = _make_cli_pages()
    before = maker.help_text(["recon"])
    for name, value in {"COLUMNS": "60", "FORCE_COLOR": "1", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    assert maker.help_text(["recon"]) == before
    assert "\x1b" not in before


def test_every_flag_of_the_help_is_on_its_page():
    maker = _make_cli_pages()
    for verb, page in maker.pages().items():
        if verb in ("README.md", "clips.md", "orbits.md", "models.md", "eval.md", "study.md"):
            continue
        shown = maker.help_text([verb.removesuffix(".md")])
        flags = set(re.findall(r"^│ (--[a-z][\w.-]*)", shown, re.MULTILINE))
        assert flags and all(f"`{flag}" in page for flag in flags), verb
