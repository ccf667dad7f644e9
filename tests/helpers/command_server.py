"""Commands as processes without the seconds that torch takes to load: forked from one that has loaded it.

python tests/helpers/command_server.py FOLDER reads a JSON list a line, [arguments, signal or 0, seconds before it], runs
`mv3d` in FOLDER, and answers with [exit code, stderr, seconds].
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def main() -> int:
    import pytest

    from helpers.small_jobs import with_known_prior

    os.chdir(sys.argv[1])
    with_known_prior(pytest.MonkeyPatch())
    for line in sys.stdin:
        print(json.dumps(run(*json.loads(line))), flush=True)
    return 0


def run(arguments: list[str], number: int, after_s: float) -> tuple[int, str, float]:
    """One command, and a signal to it so many seconds after it began."""
    with tempfile.TemporaryFile() as said:
        begun = time.perf_counter()
        child = os.fork()
        if not child:
            os.dup2(said.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            os.dup2(1, 0)
            command(arguments)
        if number:
            time.sleep(after_s)
            os.kill(child, number)  # it is not waited for yet: the id is its own though it may have ended
        _, status = os.waitpid(child, 0)
        seconds = time.perf_counter() - begun
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read().decode(), seconds


def command(arguments: list[str]) -> None:
    """`mv3d` as the entry point runs it; never returns."""
    from mv3d.cli.main import main as mv3d

    code = 1
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = mv3d(arguments)
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
