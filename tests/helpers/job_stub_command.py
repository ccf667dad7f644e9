"""The command that runs `job_stub` in place of a job's process."""

import sys
from pathlib import Path

STUB = (sys.executable, "-S", str(Path(__file__).with_name("job_stub.py")))
