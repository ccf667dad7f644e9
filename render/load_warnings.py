"""What a 3D file names and a reader could not use as it is meant: named warnings that travel with what was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

LoadWarningName = Literal[
    "missing_texture",
    "unusable_texture",
    "missing_material",
    "unsupported",
    "missing_detail",
    "approximated",
    "found_elsewhere",
    "read_as_opaque",
    "faces_left_out",
    "values_left_out",
]
LOAD_WARNINGS: tuple[LoadWarningName, ...] = get_args(LoadWarningName)
LOAD_WARNING_MEANINGS: dict[LoadWarningName, str] = {
    "missing_texture": "a picture of colour, opacity or emitted light is not there",
    "unusable_texture": "… is there and cannot be used: its format, its coordinates, its place",
    "missing_material": "a material library, or a material, is not there",
    "unsupported": "something that shapes or colours the object is not known",
    "missing_detail": "a picture of relief, gloss or metal is not there or cannot be used",
    "approximated": "a look is drawn by a simpler one",
    "found_elsewhere": "a file is not where it is said to be, and one of its name is taken",
    "read_as_opaque": "a transparency that its writer means as opacity",
    "faces_left_out": "faces with indices of vertices that are not there",
    "values_left_out": "texture coordinates, normals or colours that are not there",
}
"""What each means, for people. With the first four the object is not the one that its maker meant."""
_MOST = 8
"""Sentences of one name that are kept; further ones are counted."""


@dataclass(frozen=True)
class LoadWarning:
    """name: one of LOAD_WARNINGS. sentence: what is wrong, what is done instead, for people. count: how often."""

    name: LoadWarningName
    sentence: str
    count: int = 1

    def __str__(self) -> str:
        return f"{self.name}: {self.sentence}{f' ({self.count} times)' if self.count > 1 else ''}"

    def document(self) -> dict[str, Any]:
        """JSON values: name, sentence, count."""
        return asdict(self)


class WarningLog:
    """Gathers warnings while a file is read. What comes again is counted."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[LoadWarningName, str]] = Counter()

    def add(self, name: LoadWarningName, sentence: str, count: int = 1) -> None:
        """sentence: one line, without the file's name."""
        kept = sum(of == name for of, _ in self._counts)
        if (name, sentence) not in self._counts and kept >= _MOST:
            sentence = "further ones of this kind"
        self._counts[name, sentence] += count

    def found(self) -> tuple[LoadWarning, ...]:
        """In the order of LOAD_WARNINGS, then as they came."""
        found = [LoadWarning(name, sentence, count) for (name, sentence), count in self._counts.items()]
        return tuple(sorted(found, key=lambda warning: LOAD_WARNINGS.index(warning.name)))


def warning_texts(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    """The warnings of a record as lines for people."""
    return [str(LoadWarning(d["name"], d["sentence"], d["count"])) for d in documents]


def named_counts(names: Iterable[str]) -> dict[str, int]:
    """How often each name came, in alphabetical order: for records."""
    return dict(sorted(Counter(names).items()))
