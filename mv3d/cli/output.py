"""What the commands print: results on stdout, everything else on stderr, bars only on a terminal."""

from __future__ import annotations

import json
import sys
from typing import Any


def print_result(lines: list[str], document: dict[str, Any], *, as_json: bool) -> None:
    """Lines for people, or one JSON object."""
    print(json.dumps(document) if as_json else "\n".join(lines))


def note(text: str) -> None:
    """For the reader's eyes; never part of the result."""
    print(text, file=sys.stderr)


class StageBars:
    """One bar per stage on a terminal; on anything else nothing."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._bar: Any = None
        self._name = ""

    def __call__(self, name: str, share: float) -> None:
        if not self._shown:
            return
        from tqdm import tqdm

        if name != self._name:
            self.close()
            self._bar = tqdm(
                total=100,
                desc=f"{name:>12}",
                file=sys.stderr,
                bar_format="{desc} {bar:30} {elapsed}, {remaining} left",
            )
            self._name = name
        self._bar.n = round(100 * share)
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar, self._name = None, ""


class ObjectsBar:
    """Objects done and rejected, on a terminal; on anything else nothing."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._bar: Any = None

    def __call__(self, done: int, total: int, rejected: int) -> None:
        if not self._shown:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done - 1, file=sys.stderr, unit="object")
        self._bar.set_postfix_str(f"{rejected} rejected", refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
