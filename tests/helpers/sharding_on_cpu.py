"""`mv3d` with FSDP on the CPU: accelerate shards over accelerators alone, torch over gloo, too.

Started by `accelerate launch`; the arguments are those of `mv3d`.
"""

from __future__ import annotations

import sys

from accelerate import PartialState
from accelerate.utils import DistributedType

if __name__ == "__main__":
    PartialState(cpu=True)
    # From here on accelerate takes the processes for ones with a GPU each, which it may shard over.
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    from mv3d.cli.main import main

    sys.exit(main(sys.argv[1:]))
