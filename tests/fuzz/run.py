"""Fuzz the readers, or give one input again: python tests/fuzz/run.py --count 2000

--only READER:NUMBER writes that input and reads it here, without a child process, with the traceback on the screen.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.case import INPUT, Watch, judge, write_seeds
from fuzz.driver import plan, run, table
from fuzz.targets import TARGETS


def main() -> int:
    """Print the table; exit code 1 where there are findings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="inputs, over all readers")
    parser.add_argument("--reader", action="append", choices=list(TARGETS), help="these readers only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input of every reader")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("fuzz_findings"),
        help="a folder to work in: valid inputs, log, inputs that found something",
    )
    parser.add_argument("--only", metavar="READER:NUMBER", help="one input, in this process")
    options = parser.parse_args()
    if options.only:
        return _only(options.only, options.seed, options.out)
    begun = time.monotonic()
    work = options.out.resolve()
    jobs = plan(options.count, options.reader or tuple(TARGETS), first=options.first)
    outcomes = run(jobs, work, seed=options.seed, progress=_progress)
    findings = [outcome for outcome in outcomes if outcome.finding]
    for outcome in findings:
        folder = work / f"{outcome.reader}-{outcome.number}"
        folder.mkdir(exist_ok=True)
        (folder / "finding.json").write_text(json.dumps(outcome.document(), indent=2))
    print(table(outcomes))
    print(f"\nseed {options.seed}, {time.monotonic() - begun:.0f} s")
    for outcome in findings:
        print(f"{outcome.reader}:{outcome.number} {outcome.kind}: {outcome.what} [{outcome.damage}]")
    if findings:
        print(
            f"\ninputs: {options.out}; one again: python tests/fuzz/run.py --seed {options.seed} --only READER:NUMBER"
        )
    return 1 if findings else 0


def _only(which: str, seed: int, out: Path) -> int:
    reader, _, number = which.partition(":")
    work = out.resolve() / f"{reader}-{number}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    write_seeds(out.resolve() / "seeds", (reader,))
    outcome = judge(out.resolve() / "seeds", work, reader, int(number), seed, Watch())
    print(f"{outcome.kind}: {outcome.what} [{outcome.damage}]\n{outcome.trace}\ninput: {work / INPUT}")
    return 1 if outcome.finding else 0


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done}/{total}", end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
