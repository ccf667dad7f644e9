"""Reads a Markdown page: its fenced blocks with their marks, its links, and the anchors that links may name."""

from __future__ import annotations

import re
import shlex
import unicodedata
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

NEEDS = {
    "gpu": "an NVIDIA GPU",
    "weights": "published weights, or a model that takes hours to train",
    "network": "a download",
    "data": "data that neither come with mv3d nor are made here in seconds",
    "extra": "a package or program that mv3d does not install by itself",
    "server": "somebody who looks at it: runs until it is stopped",
}
"""What a block may need that the check does not have. Such a block is skipped, and counted."""

LANGUAGES = ("sh", "python", "text", "json")
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_HTML_LINK = re.compile(r"<(?:a|img|source|video)\b[^>]*?\b(?:href|src)=\"([^\"]+)\"")
_CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)


class MarkError(ValueError):
    """A fence says something that the check does not know."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    page: relative to the root. line: of its fence, from 1. given: (name, kind) of what lies in the folder
    before it runs. output: it shows what the block before it prints. tolerance: relative, of its numbers;
    None: the run's. as_written: its commands are not turned down.
    """

    page: str
    line: int
    language: str
    text: str
    needs: tuple[str, ...] = ()
    given: tuple[tuple[str, str], ...] = ()
    output: bool = False
    tolerance: float | None = None
    as_written: bool = False

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        return self.language in ("sh", "python") and not self.needs


def documents() -> list[Path]:
    """The pages that people read in order: README and docs/*.md."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks_of(path: Path) -> list[Block]:
    """The fenced blocks of a page of the repository."""
    return blocks(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))


def linking_pages() -> list[Path]:
    """Every page of the repository whose links are followed."""
    folders = ("docs", "examples", "mv3d")
    found = [p for f in folders for p in sorted((ROOT / f).rglob("*.md")) if "node_modules" not in p.parts]
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *found]


def blocks(text: str, page: str = "text") -> list[Block]:
    """All fenced blocks of a page. Raises MarkError where a fence's words are none of those below."""
    found: list[Block] = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        block = _block(page, line, match[1].split(), match[2])
        if block.output and not (found and found[-1].language in ("sh", "python")):
            raise MarkError(f"{block.where}: output of what? Expected a sh or python block before it")
        found.append(block)
    return found


def _block(page: str, line: int, words: list[str], text: str) -> Block:
    where = f"{page}:{line}"
    language, *marks = words or [""]
    if language not in LANGUAGES:
        raise MarkError(
            f"{where}: expected a language of {', '.join(LANGUAGES)} behind ```, got {language!r}"
        )
    needs: tuple[str, ...] = ()
    given: tuple[tuple[str, str], ...] = ()
    output, tolerance, as_written = False, None, False
    for mark in marks:
        name, _, value = mark.partition("=")
        if name == "needs" and language in ("sh", "python"):
            needs = tuple(value.split(","))
            unknown = set(needs) - NEEDS.keys()
            if unknown:
                raise MarkError(f"{where}: needs {', '.join(sorted(unknown))}, expected {', '.join(NEEDS)}")
        elif name == "given" and language in ("sh", "python"):
            pairs = [part.partition(":") for part in value.split(",")]
            given = tuple((path, kind or path) for path, _, kind in pairs)
        elif mark == "as-written" and language in ("sh", "python"):
            as_written = True
        elif mark == "output" and language == "text":
            output = True
        elif name == "tolerance" and output:
            tolerance = float(value)
        else:
            raise MarkError(f"{where}: {mark!r} behind ```{language} is no mark (see tests/docs_check)")
    return Block(page, line, language, text, needs, given, output, tolerance, as_written)


@dataclass(frozen=True)
class Command:
    """One command of a shell block, its continued lines joined. line: in the page, from 1."""

    where: str
    text: str

    @property
    def mv3d(self) -> list[str] | None:
        """The arguments behind `mv3d`, where that is all of the command; else None."""
        words = shlex.split(self.text, comments=True)
        if words[:2] == ["accelerate", "launch"] and "mv3d" in words:
            words = words[words.index("mv3d") :]
        plain = not re.search(r"[|<>;&*~$]", re.sub(r"(\s|^)#.*|'[^']*'|\"[^\"]*\"", "", self.text))
        return words[1:] if words[:1] == ["mv3d"] and plain else None


def commands(block: Block) -> list[Command]:
    """The commands of a shell block, without empty lines and those that are a comment."""
    found = []
    lines = block.text.splitlines()
    index = 0
    while index < len(lines):
        start, joined = index, lines[index].rstrip()
        while joined.endswith("\\") and index + 1 < len(lines):
            index += 1
            joined = joined[:-1].rstrip() + " " + lines[index].strip()
        index += 1
        if joined.strip() and not joined.lstrip().startswith("#"):
            found.append(Command(f"{block.page}:{block.line + 1 + start}", joined.strip()))
    return found


def inline_code(text: str) -> list[str]:
    """What stands in backquotes outside of fenced blocks, on one line each."""
    return [re.sub(r"\s+", " ", match[2]).strip() for match in _CODE.finditer(_FENCE.sub("", text))]


def documented_flags() -> dict[str, set[str]]:
    """The flags of each command that has a page in docs/cli, by its name with mv3d."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "docs" / "cli").glob("*.md")):
        _, *sections = re.split(r"^#+ (?=mv3d )", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for section in sections:
            name, _, body = section.partition("\n")
            command = re.split(r" (?=--)", name)[0]
            found.setdefault(command, set()).update(re.findall(r"--[a-z][\w.-]*", body))
    return found


def unknown_words(code: str, flags: dict[str, set[str]]) -> list[str]:
    """The words of an inline `mv3d …`, or of flags alone, that no command knows; other code has none.

    code: what stands in backquotes. flags: as of documented_flags.
    """
    words = code.split()
    if code.startswith("--"):
        every = set().union(*flags.values())
        return [word for word in words if word.startswith("--") and word.split("=")[0] not in every]
    if words[0] != "mv3d" or len(words) < 2 or not re.match(r"[a-z]", words[1]):
        return []
    name = words[0]
    for word in words[1:]:
        if f"{name} {word}" not in flags:
            break
        name = f"{name} {word}"
    rest = words[name.count(" ") + 1 :]
    is_group = any(other.startswith(f"{name} ") for other in flags)
    if (name == "mv3d" or is_group) and rest and re.match(r"[a-z]", rest[0]):
        return rest[:1]
    given = {word.split("=")[0].rstrip(",…") for word in words if word.startswith("--")}
    return sorted(given - flags[name] - {"--help"})


def links(text: str) -> list[str]:
    """Targets of links and pictures in order, those within code left out."""
    plain = _CODE.sub("", _FENCE.sub("", text))
    # A link's text may be code; its target stays behind it.
    return _LINK.findall(plain) + _HTML_LINK.findall(plain)


def anchors(text: str) -> set[str]:
    """The names that GitHub gives a page's headings, and those of its <a id> and <a name>."""
    found: set[str] = set()
    for match in _HEADING.finditer(_FENCE.sub("", text)):
        title = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", match[1])
        name = "".join(
            c
            for c in title.lower()
            if c in " -_" or unicodedata.category(c)[0] in "LN" or unicodedata.category(c) == "Mn"
        ).replace(" ", "-")
        number, unique = 0, name
        while unique in found:
            number += 1
            unique = f"{name}-{number}"
        found.add(unique)
    return found | set(re.findall(r"<a\s+(?:id|name)=\"([^\"]+)\"", text))


def is_external(target: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]*:", target) is not None


def lost_links(path: Path) -> list[str]:
    """What is wrong with the page's links into the repository, a sentence each."""
    wrong = []
    text = path.read_text(encoding="utf-8")
    for target in links(text):
        if is_external(target):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if not file.exists():
            wrong.append(f"{target}: no such file")
        elif anchor and (file.suffix != ".md" or anchor not in anchors(file.read_text(encoding="utf-8"))):
            wrong.append(f"{target}: {file.name} has no such heading")
    return wrong
