"""An exponential moving average of weights that training leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class Ema:
    """Averages of parameters, beside them: shards of a sharded network are averaged where they lie."""

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self._parameters, self._decay = list(parameters), decay
        self._averages = [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After the step with this number, the first being 0. Early steps count for more: the start is forgotten."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, [p.detach() for p in self._parameters], 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages as the network's weights, for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self._parameters, self._averages, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)
