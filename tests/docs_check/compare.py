"""Compares the lines that a page shows with those that were printed."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(?<![\w.])-?\d(?:[\d,]*\d)?(?:\.\d+)?(?:e[-+]?\d+)?")


def missing_lines(shown: str, printed: str, tolerance: float) -> list[str]:
    """The shown lines that no printed line matches, in their order; … in a shown line stands for anything.

    tolerance: |a − b| ≤ tolerance · max(|a|, |b|) for each number of a line; words and signs must be equal.
    """
    rest = printed.splitlines()
    missing = []
    for line in filter(str.strip, shown.splitlines()):
        at = next((i for i, other in enumerate(rest) if same_line(line, other, tolerance)), None)
        if at is None:
            missing.append(line)
        else:
            rest = rest[at + 1 :]
    return missing


def same_line(shown: str, printed: str, tolerance: float) -> bool:
    """Whether both say the same, numbers within the tolerance."""
    shown, printed = " ".join(shown.split()), " ".join(printed.split())
    parts = [_pattern(part) for part in re.split(r"…|\.\.\.", shown)]
    match = re.fullmatch(".*?".join(parts), printed)
    if match is None:
        return False
    pairs = zip(_NUMBER.findall(shown), match.groups(), strict=True)
    return all(_near(_value(a), _value(b), tolerance) for a, b in pairs)


def _pattern(text: str) -> str:
    """A regular expression of a text, with a group for each number in it."""
    words = _NUMBER.split(text)
    return f"({_NUMBER.pattern})".join(map(re.escape, words))


def _value(text: str) -> float:
    return float(text.replace(",", ""))


def _near(a: float, b: float, tolerance: float) -> bool:
    return abs(a - b) <= tolerance * max(abs(a), abs(b))
