"""Whatever an object does to its process, it costs one outcome."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.places import TESTS
from helpers.poison import poisoned

from mv3d.core.errors import MissingPartError, UsageError
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.infrastructure.isolate import Limits, LocalPool
from mv3d.orbits.sample import Outcome, Reject, Sample

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are Linux's")

LIMITS = Limits(timeout_s=3, memory_mb=400)


def outcomes(titles: list[str], *, workers: int = 1, limits: Limits = LIMITS) -> list[Outcome]:
    """Of one object per title, in the order of the titles."""
    done: dict[int, Outcome] = {}
    items = [CatalogueItem(f"o{index}", title=title) for index, title in enumerate(titles)]
    with LocalPool(poisoned, None, workers=workers, limits=limits) as pool:
        waiting = list(enumerate(items))
        while len(done) < len(items):
            while waiting and pool.capacity():
                pool.submit(*waiting.pop(0))
            done |= dict(pool.results())
    return [done[index] for index in range(len(items))]


def test_every_fault_is_one_reject_and_the_others_go_on():
    titles = ["", "segfault", "", "exit", "memory", "sleep", "bug", "", "unreadable", "gate", ""]
    results = outcomes(titles, workers=2)
    for title, result in zip(titles, results, strict=True):
        assert isinstance(result, Reject if title else Sample)
    by_title = {title: r for title, r in zip(titles, results, strict=True) if isinstance(r, Reject)}
    assert by_title["segfault"].reason == "crash" and "SIGSEGV" in by_title["segfault"].detail
    assert by_title["exit"].reason == "crash" and "exit code 7" in by_title["exit"].detail
    assert by_title["memory"].reason == "memory" and "400 MB" in by_title["memory"].detail
    assert by_title["sleep"].reason == "timeout" and "3 s" in by_title["sleep"].detail
    assert by_title["bug"].reason == "error"
    assert by_title["bug"].detail.startswith("ZeroDivisionError: one line (poison.py:")
    assert by_title["unreadable"] == Reject("o8", "unreadable", "broken file")
    assert by_title["gate"] == Reject("o9", "blank", "nothing to see")


def test_a_fault_in_a_used_child_is_tried_again_in_a_fresh_one():
    assert all(isinstance(result, Sample) for result in outcomes(["", "second", "second"]))


def test_children_are_replaced_after_some_objects():
    # "second" fails in a child that served before: with one object a child it never does.
    results = outcomes(["second"] * 3, limits=Limits(timeout_s=3, memory_mb=400, recycle_after=1))
    assert all(isinstance(result, Sample) for result in results)


def test_a_missing_part_ends_the_run_with_its_own_error():
    with pytest.raises(MissingPartError, match="pip install decoder"):
        outcomes(["", "part", ""])


def test_children_die_with_their_parent():
    """SIGKILL leaves the parent no time to say goodbye."""
    script = (
        "import sys; from helpers.poison import poisoned; from mv3d.orbits.infrastructure.isolate import *;"
        "from mv3d.orbits.catalogue import CatalogueItem;"
        "pool = LocalPool(poisoned, None, workers=1, limits=Limits());"
        "pool.submit(0, CatalogueItem('a', title='')); pool.results();"
        "pool.submit(1, CatalogueItem('b', title='sleep'));"
        "print(pool._children[0]._process.pid, flush=True); pool.results()"
    )
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-P", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.kill()
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":  # dead, and nobody here to bury it
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its parent")


def test_children_do_not_load_torch():
    script = (
        "import sys, mv3d.orbits.jobs, mv3d.orbits.infrastructure.worker; from mv3d.render.renderer import get_renderer;"
        "get_renderer('embree'); print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize("bad", [{"timeout_s": 0}, {"memory_mb": 10}, {"recycle_after": 0}])
def test_limits_are_checked(bad):
    with pytest.raises(UsageError, match="expected"):
        Limits(**bad)
