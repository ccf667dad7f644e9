"""What the prior says of one photo: the value between the network, the surface and its texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

ENTER, LEAVE, FIRST_LEAVE, SECOND_ENTER = range(4)


@dataclass(frozen=True, eq=False)
class Solid:
    """What the prior says of one photo, at the network's resolution (s) beside the photo (p).

    depths: (4, s, s) float32, enter, leave, first_leave, second_enter, in units of RANGE around the centre.
    two: (s, s) in [0, 1], probability of a second layer. colors: (3, s, s, 3) in [0, 1] of first_leave, second_enter
    and leave. gates: (3, s, s) in [0, 1], how far the photo's own pixel is that colour instead.
    photo: (p, p, 4) float32 straight alpha, framed as the network saw it.
    crop: centre x and y (down) and half side of that frame in the camera's image, which reaches from -1 to 1; depths
    scale with the half side, as a nearer camera would show them. elevation_deg: of the camera.
    enters: (k, s, s) the answers that the first depth is the mean of: to the photo and to its mirror image.
    """

    depths: Float[np.ndarray, "4 s s"]
    two: Float[np.ndarray, "s s"]
    colors: Float[np.ndarray, "3 s s 3"]
    gates: Float[np.ndarray, "3 s s"]
    photo: Float[np.ndarray, "p p 4"]
    crop: tuple[float, float, float] = (0.0, 0.0, 1.0)
    elevation_deg: float = 0.0
    enters: Float[np.ndarray, "k s s"] | None = None
