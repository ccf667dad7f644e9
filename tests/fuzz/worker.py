"""The child process: reads its share of the inputs, one line of JSON each; the number in work is on disk before.

python worker.py CORPUS WORK SEED: (reader, number) pairs come as lines on stdin, outcomes go to WORK/outcomes.jsonl.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

CPU_SECONDS = 10
"""Of one input. A process that needs more is ended by the kernel."""
MANY = 100
"""Above so many inputs all valid ones are read first."""
MEMORY = 3 * 2**30
"""Address space of one input, above what the process has once everything is imported."""


def main(arguments: list[str]) -> int:
    corpus, work, seed = Path(arguments[0]), Path(arguments[1]).resolve(), int(arguments[2])
    from fuzz.case import Watch, judge, write_seeds  # numpy, pillow

    jobs = [(name, int(number)) for name, number in map(str.split, sys.stdin)]
    readers = tuple(dict.fromkeys(name for name, _ in jobs))
    write_seeds(corpus, readers)
    _warm(corpus, readers, every=len(jobs) > MANY)
    base = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (base + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    watch = Watch()
    with (work / "outcomes.jsonl").open("a", encoding="utf-8") as out:
        for reader, number in jobs:
            place = work / f"{reader}-{number}"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            (work / "current").write_text(f"{reader} {number}")
            used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
            resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 1 + CPU_SECONDS, resource.RLIM_INFINITY))
            outcome = judge(corpus, place, reader, number, seed, watch)
            out.write(json.dumps(outcome.document()) + "\n")
            out.flush()
            if not outcome.finding:
                shutil.rmtree(place)
    return 0


def _warm(corpus: Path, readers: tuple[str, ...], *, every: bool) -> None:
    """Read valid inputs of the readers, all or the first of each: imports and first use are not what the limits are
    for. They are valid, so nothing may go wrong."""
    from fuzz.targets import TARGETS

    for name in readers:
        folders = sorted(path for path in (corpus / name).iterdir() if path.is_dir())
        for folder in folders if every else folders[:1]:
            TARGETS[name].read(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
