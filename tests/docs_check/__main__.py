"""The command line of the check."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from docs_check.pages import NEEDS, ROOT, blocks_of, documents, is_external, linking_pages, links, lost_links
from docs_check.run import Outcome, Sizes, run_page


@dataclass(frozen=True)
class Options:
    """Runs what the documentation says, and follows its links.

    pages: README.md, docs/data.md, …; none: all. line: only the block whose fence is there. links: follow the
    links alone. external: list the links that lead out of the repository. tolerance: relative, of the numbers
    in the lines that a page shows. timeout_s: of one command. work: where pages run, and where what they take
    for granted is kept for the next time; none: a temporary folder.
    """

    pages: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    line: int | None = None
    links: bool = False
    external: bool = False
    tolerance: float = 0.2
    timeout_s: float = 900.0
    work: Path | None = None
    sizes: Sizes = field(default_factory=Sizes)


def main(options: Options) -> int:
    """0: everything holds; 1: something does not, and is printed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wrong = _follow_links(options)
    if not options.links:
        with tempfile.TemporaryDirectory() as scratch:
            wrong += _run_blocks(options, options.work or Path(scratch))
    return 1 if wrong else 0


def _follow_links(options: Options) -> int:
    pages = linking_pages()
    lost = [f"{p.relative_to(ROOT)}: {sentence}" for p in pages for sentence in lost_links(p)]
    targets = [target for p in pages for target in links(p.read_text(encoding="utf-8"))]
    out = sorted({target for target in targets if is_external(target)})
    print(*lost, *(out if options.external else []), sep="\n", end="\n" if lost or options.external else "")
    print(
        f"{len(targets)} links on {len(pages)} pages, {len(lost)} lost; {len(out)} lead elsewhere (not asked)"
    )
    return len(lost)


def _run_blocks(options: Options, work: Path) -> int:
    outcomes: list[Outcome] = []
    for path in [ROOT / page for page in options.pages] or documents():
        page = str(path.relative_to(ROOT))
        found = blocks_of(path)
        if options.line is not None:
            found = [
                block
                for before, block in zip([None, *found], found, strict=False)
                if block.line == options.line or (block.output and before and before.line == options.line)
            ]
        folder = work / "pages" / page.replace("/", "-")
        if options.line is None:
            shutil.rmtree(folder, ignore_errors=True)
        given = work / "given"
        for outcome in run_page(found, folder, given, options.sizes, options.tolerance, options.timeout_s):
            outcomes.append(outcome)
            print(_line(outcome), *filter(None, [outcome.failure]), sep="\n", flush=True)
    print(_summary(outcomes))
    return sum(bool(outcome.failure) for outcome in outcomes)


def _line(outcome: Outcome) -> str:
    if outcome.skipped:
        return f"{outcome.block.where}: skipped, needs {', '.join(outcome.skipped)}"
    return f"{outcome.block.where}: {'FAILED' if outcome.failure else 'ok'}, {outcome.seconds:.0f} s"


def _summary(outcomes: list[Outcome]) -> str:
    ran = [outcome for outcome in outcomes if not outcome.skipped]
    skipped = Counter(need for outcome in outcomes for need in outcome.skipped)
    reasons = ", ".join(f"{count} {NEEDS[need]}" for need, count in sorted(skipped.items()))
    return (
        f"{len(ran)} blocks run ({sum(outcome.ran for outcome in ran)} commands and scripts), "
        f"{sum(bool(outcome.failure) for outcome in ran)} failed, {len(outcomes) - len(ran)} skipped"
        + (f"; they need: {reasons}" if reasons else "")
    )


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
