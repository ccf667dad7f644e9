"""Work for child processes that goes wrong in every way, by the object's title."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import numpy as np

from mv3d.core.errors import InputError, MissingPartError
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.gate import Rejected
from mv3d.orbits.sample import Sample
from mv3d.orbits.shards import tar_fragment


def poisoned(item: CatalogueItem, config: Any) -> Sample:
    """What the title says; else a small sample made of the uid."""
    kind = item.title
    if kind == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "exit":
        os._exit(7)
    if kind == "sleep":
        time.sleep(60)
    if kind == "memory":
        hoard = []
        while True:
            hoard.append(np.ones(2**22))
    if kind == "second":  # goes wrong in a child that served before, and only there
        if os.environ.get("SERVED"):
            os._exit(1)
    if kind == "bug":
        raise ZeroDivisionError("one\nline")
    if kind == "unreadable":
        raise InputError("broken file")
    if kind == "gate":
        raise Rejected("blank", "nothing to see")
    if kind == "part":
        raise MissingPartError("no decoder; run: pip install decoder")
    os.environ["SERVED"] = "1"
    return small_sample(item)


def slow(item: CatalogueItem, config: Any) -> Sample:
    """Takes from 3 to 30 ms, differently for every object."""
    time.sleep(0.003 + (sum(item.uid.encode()) % 10) * 0.003)
    if item.uid.endswith("3"):
        raise Rejected("blank", "ends with a three")
    return small_sample(item)


def small_sample(item: CatalogueItem) -> Sample:
    content = np.random.default_rng(list(item.uid.encode())).bytes(2000)
    document = json.dumps({"uid": item.uid, "pid": 0}).encode()
    fragment = tar_fragment(item.uid, [("json", document), ("000.bin", content)])
    # Every seventh object is the same thing as the one before it in the seven.
    number = int(item.uid.removeprefix("o")) if item.uid.startswith("o") else 0
    twin = number - 1 if number % 7 == 6 else number
    summary = {"uid": item.uid, "licence": item.licence, "geometry": f"{item.uid[:1]}{twin}", "texture": ""}
    return Sample(fragment, summary)
