"""What one object becomes: a piece of a shard, or the reason why not. A leaf module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FaultReason = Literal["unreadable", "timeout", "memory", "crash", "error"]
"""Besides the reasons of `mv3d.orbits.gate`: a file that cannot be read, and what befell the process at work:
too long, out of memory, dead by a signal, an exception that nobody foresaw."""


@dataclass(frozen=True)
class Sample:
    """fragment: the sample's part of a tar file. summary: for the shard's record, JSON values; it holds `uid` and
    `licence`, and the hashes `geometry` and `texture` where duplicates are to be found."""

    fragment: bytes = field(repr=False)
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Reject:
    """reason: FaultReason, or one of the reasons of `mv3d.orbits.gate` and the downloads. detail: one line."""

    uid: str
    reason: str
    detail: str


Outcome = Sample | Reject
