"""Shapes that many signatures share."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

Vertices = Float[np.ndarray, "v 3"]
Faces = Int[np.ndarray, "f 3"]
PerVertex = Float[np.ndarray, " v"]
Volume = Float[torch.Tensor, "x y z"]
Rays = tuple[Float[torch.Tensor, "r 3"], Float[torch.Tensor, "r 3"]]
"""Origins and unit directions in the world."""
