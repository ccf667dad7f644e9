"""What `import mv3d` offers is there, and loads nothing before it is used."""

from __future__ import annotations

import subprocess
import sys

import mv3d


def test_every_public_name_is_there():
    for name in mv3d.__all__:
        assert getattr(mv3d, name) is not None


def test_importing_loads_no_torch():
    script = "import sys, mv3d; mv3d.OrbitConfig; mv3d.build_shards; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
