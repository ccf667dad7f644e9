"""`mv3d` in one of several processes of which rank 1 gets into trouble at its third step, the first time it comes there.

python troubled_training.py hang|kill MARKER train …
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from mv3d.cli.main import main
from mv3d.training import loop

TROUBLE_STEP = 3
STEPS = iter(range(1, 1000))


def set_rates(optimizer, rate, real=loop._set_rates):
    marker = Path(sys.argv[2])
    if os.environ["RANK"] == "1" and next(STEPS) == TROUBLE_STEP and not marker.exists():
        marker.touch()
        if sys.argv[1] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)
    real(optimizer, rate)


if __name__ == "__main__":
    loop._set_rates = set_rates
    sys.exit(main(sys.argv[3:]))
