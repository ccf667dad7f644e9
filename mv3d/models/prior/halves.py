"""Which half of the objects a prior is trained on, so that another one can lift them without having seen them.

Two priors are cross-fitted: prior 0 learns from half 0, prior 1 from half 1. What a multi-view network learns from is
rendered by the prior of the other half (`prior_for`), which meets these objects as it will meet somebody's photo. A prior
that has seen an object draws it better than any photo's, and the network would learn to trust renders too far.
"""

from __future__ import annotations

import hashlib
import re

PRIORS = 2
"""Halves, and priors."""
_PAINT = re.compile(r"-paint-\d+-\d+-v\d+$")


def shape_of(uid: str) -> str:
    """The uid without the paint: one name for all paints of a shape (`mv3d orbits paint`)."""
    return _PAINT.sub("", uid)


def half_of(uid: str) -> int:
    """0 or 1, by a hash of the object's uid; all paints of one shape are in one half."""
    digest = hashlib.sha256(b"half\0" + shape_of(uid).encode()).digest()
    return digest[0] % PRIORS


def prior_for(uid: str) -> int:
    """The prior of two that has not seen an object: that of the other half."""
    return 1 - half_of(uid)
