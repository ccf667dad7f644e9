"""What an .mtl file says: its statements by material, and what stands in front of a picture's name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_OPTIONS = {
    **dict.fromkeys(
        ("-blendu", "-blendv", "-boost", "-texres", "-clamp", "-bm", "-imfchan", "-type", "-cc"), 1
    ),
    **dict.fromkeys(("-s", "-o", "-t"), 3),
    "-mm": 2,
}
"""Values behind each option. Of the three of -s, -o and -t the last ones may be left out."""
_OPACITY_WRITERS = re.compile(r"meshlab|vcg|openmvs|mvs-texturing", re.IGNORECASE)


@dataclass(frozen=True)
class MtlEntry:
    """One material. values: the text behind each keyword in lower case, the last one where it comes twice. folder: of
    the .mtl file. tr_is_opacity: the file says that a program wrote it that means opacity by Tr."""

    name: str
    folder: Path
    tr_is_opacity: bool = False
    values: Mapping[str, str] = field(default_factory=dict)

    def numbers(self, key: str, count: int) -> list[float] | None:
        """The first finite numbers behind a keyword and its options, the last repeated to `count` of them; None where
        it is absent or begins with none (a spectral file)."""
        words = [word for word in self.values.get(key, "").split() if word.lower() != "-halo"]
        found: list[float] = []
        for word in words[:count]:
            number = _number(word)
            if number is None:
                break
            found.append(number)
        return found + found[-1:] * (count - len(found)) if found else None


@dataclass(frozen=True)
class MapStatement:
    """A picture of a material. files: its name, and what else the name may be (a comment can follow it). scale, offset: of
    u and v (v from the bottom): the picture is looked up at uv · scale + offset. strength: of a relief (-bm). channel:
    -imfchan, or ""."""

    files: tuple[str, ...]
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    clamp: bool = False
    strength: float = 1.0
    channel: str = ""


def text_of(data: bytes) -> str:
    """Text of any encoding that is found: UTF-8 or UTF-16 with a mark, UTF-8, else Windows' Western one; lines end with
    "\\n" alone and continued ones are joined."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16", "replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", "replace")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\\\n", " ") if "\\\n" in text else text


def parse_mtl(text: str, folder: Path) -> dict[str, MtlEntry]:
    """The materials of an .mtl file by name."""
    lines = [line.strip() for line in text.split("\n")]
    comments = " ".join(line for line in lines if line.startswith("#"))
    tr_is_opacity = bool(_OPACITY_WRITERS.search(comments))
    found: dict[str, dict[str, str]] = {}
    values: dict[str, str] = {}
    for line in lines:
        if line.startswith("#"):
            continue
        words = line.split(None, 1)
        if not words:
            continue
        key, rest = words[0].lower(), words[1].strip() if len(words) > 1 else ""
        if key == "newmtl":
            values = found.setdefault(rest, {})
        elif rest:
            values[key] = rest
    return {name: MtlEntry(name, folder, tr_is_opacity, values) for name, values in found.items()}


def parse_map(text: str) -> MapStatement:
    """The options and the name of a map statement: `-s 2 2 -bm 0.5 my picture.png`."""
    given: dict[str, list[str]] = {}
    rest = text.strip()
    while (words := rest.split(None, 1)) and len(words) > 1 and (option := words[0].lower()) in _OPTIONS:
        given[option], rest = [], words[1]
        for _ in range(_OPTIONS[option]):
            value, after = (*rest.split(None, 1), "")[:2]
            optional = option in ("-s", "-o", "-t") and given[option]
            if not after.strip() or (optional and _number(value) is None):
                break
            given[option].append(value)
            rest = after.strip()
    word = {option: values[0].lower() for option, values in given.items() if values}
    return MapStatement(
        _names(rest),
        _pair(given.get("-s", []), 1.0),
        _pair(given.get("-o", []), 0.0),
        word.get("-clamp") == "on",
        _pair(given.get("-bm", []), 1.0)[0],
        word.get("-imfchan", ""),
    )


def _names(text: str) -> tuple[str, ...]:
    if text[:1] in ("'", '"') and text.find(text[0], 1) > 1:
        return (text[1 : text.find(text[0], 1)].strip(),)
    plain = re.split(r"\s#", text)[0].strip()
    return tuple(dict.fromkeys(name for name in (text, plain) if name))


def _pair(words: list[str], default: float) -> tuple[float, float]:
    numbers = [number for number in map(_number, words[:2]) if number is not None]
    values = [*numbers, default, default]
    return values[0], values[1]


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < 1e6 else None
