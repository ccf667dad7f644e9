"""What README.md and docs/ tell people to type: the commands parse, the Python runs, the pages of docs/cli are fresh."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import math
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from docs_check import pages
from docs_check.compare import missing_lines
from docs_check.given import KINDS
from docs_check.pages import Block
from docs_check.run import Sizes, run_page, turned_down
from PIL import Image
from safetensors import safe_open

ROOT = pages.ROOT


BLOCKS = [block for path in pages.documents() for block in pages.blocks_of(path)]
COMMANDS = [command for block in BLOCKS if block.language == "sh" for command in pages.commands(block)]
SHELL = [(command.where, command.mv3d) for command in COMMANDS if command.mv3d is not None]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def test_blocks_and_commands_are_found():
    text = "a\n```sh needs=gpu,network\nmv3d recon x \\\n    --out y   # why\n\n# only said\nls | head\n```\n"
    text += "```python given=a.png:photo,views\n1\n```\n```text output tolerance=0.1\n2\n```\n"
    held, free, shown = pages.blocks(text, "p.md")
    recon, listed = pages.commands(held)
    assert (recon.where, recon.mv3d) == ("p.md:3", ["recon", "x", "--out", "y"])
    assert (listed.text, listed.mv3d) == ("ls | head", None)
    assert (held.needs, held.runs, free.runs) == (("gpu", "network"), False, True)
    assert free.given == (("a.png", "photo"), ("views", "views"))
    assert (shown.output, shown.tolerance, shown.text) == (True, 0.1, "2\n")
    assert len(SHELL) > 70 and len(PYTHON) >= 3


@pytest.mark.parametrize(
    "fence", ["", "sh needs=luck", "sh output", "python slow", "text given=views", "text output"]
)
def test_a_fence_that_says_something_else_is_refused(fence: str):
    with pytest.raises(pages.MarkError, match=r"p\.md:1"):
        pages.blocks(f"```{fence}\n1\n```\n", "p.md")


def test_what_is_given_can_be_made():
    unknown = {kind for block in BLOCKS for _, kind in block.given} - KINDS.keys()
    assert not unknown


def test_shell_parses():
    for command in COMMANDS:
        shlex.split(command.text, comments=True)  # no quote is left open
    script = "\n".join(command.text for command in COMMANDS)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


# -- what is printed


def test_lines_are_compared_with_numbers_within_a_tolerance():
    shown = "IoU 0.958 (least 0.948, view 9), 19890 faces\n\nout/… done\n"
    printed = "hull 100%\nIoU  0.960 (least 0.940, view 9), 20,000 faces\nout/mesh.glb done\n"
    assert missing_lines(shown, printed, 0.02) == []
    assert missing_lines(shown, printed, 0.001) == shown.splitlines()[:1]
    assert missing_lines(shown, printed.replace("faces", "corners"), 0.02) == shown.splitlines()[:1]
    assert missing_lines("b 1\na 1", "a 1\nb 1", 0) == ["a 1"]
    assert missing_lines("loss -1e-3", "loss 1e-3", 0.5) == ["loss -1e-3"]


def test_commands_are_turned_down():
    sizes = Sizes(views=4, size=64, count=3)
    render = ["orbits", "render", "x", "--views", "84", "--size=576", "--elevation=-5:30"]
    assert turned_down(render, sizes) == [
        *["orbits", "render", "x", "--views", "4", "--size", "64", "--elevation=-5:30", "--workers", "1"]
    ]
    assert turned_down(render, Sizes(full=True)) == render
    stored = ["orbits", "views", "shards", "--uid", "a", "--out", "b"]  # takes no settings of a rendering
    assert turned_down(stored, sizes) == stored
    made = ["make", "x", "--quality", "draft", "--texture-size", "512", "--views", "4", "--size", "64"]
    assert turned_down(["make", "x", "--quality", "high"], sizes) == made
    field = ["recon", "x", "--method", "nerf", "--quality", "draft"]  # has no texture
    assert turned_down(field, sizes) == field
    trained = [turned_down(["train", "--preset", preset], sizes) for preset in ("tiny", "svd_mv")]
    assert ["--encoder-steps" in words for words in trained] == [True, False]


def test_a_page_is_run_block_by_block(tmp_path: Path):
    text = "```sh\necho 12 > a; cat a\n```\n```text output\n12.1\n```\n```sh needs=gpu\nfalse\n```\n"
    text += "```sh\ncat a\n```\n```text output\n14\n```\n```sh\nls\ncat b\nls\n```\n"
    found = pages.blocks(text, "p.md")
    first, held, other, broken = run_page(found, tmp_path, tmp_path / "given", Sizes(), 0.05, 20)
    assert not list(run_page([], tmp_path, tmp_path / "given", Sizes(), 0.05, 20))
    assert (first.failure, first.ran, held.skipped) == ("", 1, ("gpu",))
    assert "p.md:13: nothing like this was printed" in other.failure and "14" in other.failure
    assert (
        broken.failure.startswith("p.md:18: cat b") and "ended with 1" in broken.failure and broken.ran == 2
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", pages.documents(), ids=lambda page: page.name)
def test_every_block_runs(page: Path, tmp_path: Path, given_folder: Path):
    outcomes = run_page(pages.blocks_of(page), tmp_path, given_folder, Sizes(), 0.2, 1800)
    failures = [outcome.failure for outcome in outcomes if outcome.failure]
    assert not failures, "\n".join(failures)


@pytest.fixture(scope="session")
def given_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("given")


# -- links


def test_links_and_anchors_are_found(tmp_path: Path):
    text = "# A `b`, c_d\n![a](b.png) [c](https://d) [`e`](f.md#g) [h](#a-b-c_d) [i](#a-b-c_d-1)\n"
    text += '# A b c_d\n```text\n[j](k)\n# L\n```\n`[m](n)`\n<img src="o.png">\n'
    assert pages.links(text) == ["b.png", "https://d", "f.md#g", "#a-b-c_d", "#a-b-c_d-1", "o.png"]
    assert pages.anchors(text) == {"a-b-c_d", "a-b-c_d-1"}
    (tmp_path / "p.md").write_text(text)
    (tmp_path / "f.md").write_text("## H\n")
    lost = pages.lost_links(tmp_path / "p.md")
    assert [sentence.split(":")[0] for sentence in lost] == ["b.png", "f.md#g", "o.png"]


@pytest.mark.parametrize("path", pages.linking_pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path):
    assert pages.lost_links(path) == []


# -- commands


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Nothing is run: what a command would have been given lands here."""
    from mv3d.cli import distill, main, train

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


FLAGS = pages.documented_flags()
FOREIGN = {
    "benchmarks.md": {"--small"},
    "cluster.md": {"--max_restarts"},
    "training.md": {"--max_restarts"},
    "formats.md": {
        *("--scale-factor", "--alpha-color", "--eval-every", "--machine.device-type", "--mixed-precision"),
        *("--pipeline.model.implementation", "--vis"),
    },
}
"""Flags of other programs that a page names without the program."""


@pytest.mark.parametrize("path", pages.documents(), ids=lambda path: path.name)
def test_commands_and_flags_in_sentences_exist(path: Path):
    codes = pages.inline_code(path.read_text(encoding="utf-8"))
    unknown = {word for code in codes for word in pages.unknown_words(code, FLAGS)}
    assert unknown == FOREIGN.get(path.name, set())


def test_words_that_no_command_knows_are_found():
    assert pages.unknown_words("mv3d recon out/ --quality high --facets 3", FLAGS) == ["--facets"]
    assert pages.unknown_words("mv3d orbits rendre x", FLAGS) == ["rendre"]
    assert pages.unknown_words("mv3d recn x", FLAGS) == ["recn"]
    assert pages.unknown_words("--elevation=-5:30 --half 0", FLAGS) == []
    assert pages.unknown_words("--no-such", FLAGS) == ["--no-such"]
    assert pages.unknown_words("ns-train --data x", FLAGS) == []


# -- Python


@pytest.mark.parametrize("block", PYTHON, ids=[block.where for block in PYTHON])
def test_python_compiles(block: Block):
    compile(block.text, block.where, "exec")


@pytest.mark.parametrize(
    "block", [b for b in PYTHON if b.runs], ids=[block.where for block in PYTHON if block.runs]
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


# -- README's figures


def test_figures_of_readme_are_those_of_the_code():
    from mv3d.models.names import DEFAULT_FOLDER
    from mv3d.orbits.config import OrbitConfig
    from mv3d.orbits.procedural.families import FAMILIES
    from mv3d.recon.config import ReconConfig

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    weights = next(DEFAULT_FOLDER.rglob("*.safetensors"))
    with safe_open(weights, "np") as file:
        parameters = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())
    assert f"{parameters / 1e6:.1f} million parameters" in text
    assert f"{OrbitConfig().views} views of {OrbitConfig().size}²" in text
    assert f"objects of {len(FAMILIES)} families" in text
    assert f"{ReconConfig(profile='web').resolved().faces:,} faces, JPEG" in text


def test_figures_of_the_bundled_model_are_those_of_its_table():
    """README and the model's card say what `mv3d eval run` found."""
    table = (ROOT / "docs" / "evaluation" / "default-static.md").read_text(encoding="utf-8")
    rows = {
        row.split("|")[1].strip(): row.split("|")[2:]
        for row in reversed(table.splitlines())
        if row[:1] == "|"
    }
    ours, repeated = (
        [cell.split("[")[0].strip() for cell in rows[name]]
        for name in ("default", "input repeated (no model)")
    )
    count, psnr, ssim, _, _, lpips, _, iou, _ = ours[:9]
    said = (
        f"On {count} objects that it has never seen, at 256², it reaches {float(psnr):.1f} dB, LPIPS {lpips}"
    )
    said += f" and a mask IoU of {float(iou):.2f}; repeating the photo gives {float(repeated[1]):.1f} dB, {repeated[5]}"
    assert f"{said} and {float(repeated[7]):.2f}" in (ROOT / "README.md").read_text(encoding="utf-8")
    card = (ROOT / "mv3d" / "models" / "default" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"\| ([\d.]+) \|$", card.partition("| metric |")[2], re.MULTILINE)
    assert listed == [psnr, ssim, lpips, iou, repeated[1], repeated[5], repeated[7]]


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
