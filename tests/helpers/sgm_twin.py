"""A slow twin of the original's video UNet, from the papers: plain torch functions over a dictionary of weights.

It shares nothing with the network it checks: no diffusers, no fused attention, its own walk over the levels. `shapes`
lists the key names and shapes of the architecture; `forward` runs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

PREFIX = "model.diffusion_model."
Shapes = dict[str, tuple[int, ...]]


def rows(net: dict) -> tuple[list, list]:
    """The input and output blocks in order, each a list of (kind, channels in, channels out, level)."""
    base, mults = net["model_channels"], net["channel_mult"]
    inputs: list = [[("conv", net["in_channels"], base, 0)]]
    widths, ch = [base], base
    for level, mult in enumerate(mults):
        for _ in range(net["num_res_blocks"]):
            inputs.append([("res", ch, base * mult, level), *attention(net, base * mult, level)])
            ch = base * mult
            widths.append(ch)
        if level + 1 < len(mults):
            inputs.append([("down", ch, ch, level)])
            widths.append(ch)
    outputs = []
    for level in reversed(range(len(mults))):
        for i in range(net["num_res_blocks"] + 1):
            out = base * mults[level]
            block = [("res", ch + widths.pop(), out, level), *attention(net, out, level)]
            if level and i == net["num_res_blocks"]:
                block.append(("up", out, out, level))
            outputs.append(block)
            ch = out
    return inputs, outputs


def attention(net: dict, channels: int, level: int) -> list:
    return [("attn", channels, channels, level)] if 2**level in net["attention_resolutions"] else []


def parts(net: dict) -> Iterator[tuple[str, tuple]]:
    """(prefix, what) of every numbered part."""
    inputs, outputs = rows(net)
    top = net["model_channels"] * net["channel_mult"][-1]
    last = len(net["channel_mult"]) - 1
    middle = [("res", top, top, last), ("attn", top, top, "middle"), ("res", top, top, last)]
    for name, row in (("input_blocks", inputs), ("output_blocks", outputs)):
        for n, block in enumerate(row):
            for i, part in enumerate(block):
                yield f"{name}.{n}.{i}", part
    for i, part in enumerate(middle):
        yield f"middle_block.{i}", part


def depth_of(net: dict, level: int | str) -> int:
    depth = net["transformer_depth"]
    depths = [depth] * len(net["channel_mult"]) if isinstance(depth, int) else depth
    if level == "middle":
        return net.get("transformer_depth_middle") or depths[-1]
    return depths[level]  # type: ignore[index]


def shapes(net: dict) -> Shapes:
    """Every key with its shape, prefix included."""
    base = net["model_channels"]
    emb = 4 * base
    out: Shapes = {}

    def wb(key: str, *shape: int) -> None:
        out[key + ".weight"], out[key + ".bias"] = shape, shape[:1]

    def resblock(key: str, cin: int, cout: int, kernel: tuple[int, ...]) -> None:
        wb(key + ".in_layers.0", cin)
        wb(key + ".in_layers.2", cout, cin, *kernel)
        wb(key + ".emb_layers.1", cout, emb)
        wb(key + ".out_layers.0", cout)
        wb(key + ".out_layers.3", cout, cout, *kernel)
        if cin != cout:
            wb(key + ".skip_connection", cout, cin, *[1] * len(kernel))

    def feed_forward(key: str, c: int) -> None:
        wb(key + ".net.0.proj", 8 * c, c)
        wb(key + ".net.2", c, 4 * c)

    def transformer_block(key: str, c: int) -> None:
        for n, context in (("attn1", c), ("attn2", net["context_dim"])):
            out[f"{key}.{n}.to_q.weight"] = (c, c)
            out[f"{key}.{n}.to_k.weight"] = out[f"{key}.{n}.to_v.weight"] = (c, context)
            wb(f"{key}.{n}.to_out.0", c, c)
        feed_forward(key + ".ff", c)
        for n in (1, 2, 3):
            wb(f"{key}.norm{n}", c)

    for key, *shape in (
        ("time_embed.0", emb, base),
        ("time_embed.2", emb, emb),
        ("label_emb.0.0", emb, net["adm_in_channels"]),
        ("label_emb.0.2", emb, emb),
        ("out.0", base),
        ("out.2", net["out_channels"], base, 3, 3),
    ):
        wb(key, *shape)
    for key, (kind, cin, cout, level) in parts(net):
        if kind == "conv":
            wb(key, cout, cin, 3, 3)
        elif kind == "down":
            wb(key + ".op", cout, cin, 3, 3)
        elif kind == "up":
            wb(key + ".conv", cout, cin, 3, 3)
        elif kind == "res":
            resblock(key, cin, cout, (3, 3))
            resblock(key + ".time_stack", cout, cout, (3, 1, 1))
            out[key + ".time_mixer.mix_factor"] = (1,)
        else:
            wb(key + ".norm", cin)
            linear = () if net["use_linear_in_transformer"] else (1, 1)
            wb(key + ".proj_in", cin, cin, *linear)
            wb(key + ".proj_out", cin, cin, *linear)
            wb(key + ".time_pos_embed.0", 4 * cin, cin)
            wb(key + ".time_pos_embed.2", cin, 4 * cin)
            out[key + ".time_mixer.mix_factor"] = (1,)
            for d in range(depth_of(net, level)):
                transformer_block(f"{key}.transformer_blocks.{d}", cin)
                transformer_block(f"{key}.time_stack.{d}", cin)
                wb(f"{key}.time_stack.{d}.norm_in", cin)
                feed_forward(f"{key}.time_stack.{d}.ff_in", cin)
    return {PREFIX + key: shape for key, shape in out.items()}


def random_weights(net: dict, seed: int) -> dict[str, Tensor]:
    """Weights that keep activations of unit size, so that every part has a say in the output."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, shape in shapes(net).items():
        value = torch.randn(shape, generator=generator)
        if key.endswith("mix_factor"):
            weights[key] = value
        elif key.endswith("bias"):
            weights[key] = 0.1 * value
        elif len(shape) == 1:
            weights[key] = 1 + 0.1 * value
        else:
            weights[key] = value / math.sqrt(math.prod(shape[1:]))
    return weights


def sinusoid(value: Tensor, width: int) -> Tensor:
    frequencies = torch.tensor([10_000 ** (-2 * k / width) for k in range(width // 2)])
    angle = value.float()[:, None] * frequencies
    return torch.cat([angle.cos(), angle.sin()], 1)


class Twin:
    def __init__(self, weights: dict[str, Tensor], net: dict) -> None:
        self.w = {key.removeprefix(PREFIX): value for key, value in weights.items()}
        self.net = net

    def forward(self, x: Tensor, c_noise: Tensor, context: Tensor, vector: Tensor) -> Tensor:
        """x (frames, in_channels, h, w) of one video, c_noise (frames,), context (frames, tokens, width),
        vector (frames, adm_in_channels) -> (frames, out_channels, h, w)."""
        net = self.net
        emb = self.mlp("time_embed", sinusoid(c_noise, net["model_channels"])) + self.mlp(
            "label_emb.0", vector
        )
        inputs, outputs = rows(net)
        skips = []
        for n, block in enumerate(inputs):
            x = self.block(f"input_blocks.{n}", block, x, emb, context)
            skips.append(x)
        x = self.resblock("middle_block.0", x, emb)
        x = self.transformer("middle_block.1", x, context, depth_of(net, "middle"))
        x = self.resblock("middle_block.2", x, emb)
        for n, block in enumerate(outputs):
            x = self.block(f"output_blocks.{n}", block, torch.cat([x, skips.pop()], 1), emb, context)
        return self.conv("out.2", F.silu(self.group_norm("out.0", x, 1e-5)), 1)

    def block(self, key: str, block: list, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        for i, (kind, _, _, level) in enumerate(block):
            part = f"{key}.{i}"
            if kind == "conv":
                x = self.conv(part, x, 1)
            elif kind == "down":
                x = F.conv2d(x, self.w[part + ".op.weight"], self.w[part + ".op.bias"], stride=2, padding=1)
            elif kind == "up":
                x = self.conv(part + ".conv", x.repeat_interleave(2, 2).repeat_interleave(2, 3), 1)
            elif kind == "res":
                x = self.resblock(part, x, emb)
            else:
                x = self.transformer(part, x, context, depth_of(self.net, level))
        return x

    def resblock(self, key: str, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv(key + ".in_layers.2", F.silu(self.group_norm(key + ".in_layers.0", x, 1e-5)), 1)
        h = h + self.linear(key + ".emb_layers.1", F.silu(emb))[:, :, None, None]
        h = self.conv(key + ".out_layers.3", F.silu(self.group_norm(key + ".out_layers.0", h, 1e-5)), 1)
        skip = key + ".skip_connection"
        x = (self.conv(skip, x, 0) if skip + ".weight" in self.w else x) + h
        # The same along time: frames become the axis that the kernel walks.
        t = key + ".time_stack"
        video = x.permute(1, 0, 2, 3)[None]
        h = self.conv3(t + ".in_layers.2", F.silu(self.group_norm(t + ".in_layers.0", video, 1e-5)))
        h = h + self.linear(t + ".emb_layers.1", F.silu(emb)).T[None, :, :, None, None]
        h = self.conv3(t + ".out_layers.3", F.silu(self.group_norm(t + ".out_layers.0", h, 1e-5)))
        return self.mix(key, x, (video + h)[0].permute(1, 0, 2, 3))

    def transformer(self, key: str, x: Tensor, context: Tensor, depth: int) -> Tensor:
        frames, channels, height, width = x.shape
        h = self.group_norm(key + ".norm", x, 1e-6).flatten(2).transpose(1, 2)
        h = self.linear(key + ".proj_in", h)
        position = self.mlp(key + ".time_pos_embed", sinusoid(torch.arange(frames), channels))[:, None]
        # The temporal layers see the context of the first frame, at every place of the image.
        first = context[:1].expand(height * width, -1, -1)
        for d in range(depth):
            h = self.attend_and_feed(f"{key}.transformer_blocks.{d}", h, context)
            t = f"{key}.time_stack.{d}"
            along = (h + position).transpose(0, 1)
            along = along + self.feed_forward(t + ".ff_in", self.layer_norm(t + ".norm_in", along))
            along = self.attend_and_feed(t, along, first)
            h = self.mix(key, h, along.transpose(0, 1))
        h = self.linear(key + ".proj_out", h).transpose(1, 2).reshape(x.shape)
        return x + h

    def attend_and_feed(self, key: str, x: Tensor, context: Tensor) -> Tensor:
        normed = self.layer_norm(key + ".norm1", x)
        x = x + self.attend(key + ".attn1", normed, normed)
        x = x + self.attend(key + ".attn2", self.layer_norm(key + ".norm2", x), context)
        return x + self.feed_forward(key + ".ff", self.layer_norm(key + ".norm3", x))

    def attend(self, key: str, x: Tensor, context: Tensor) -> Tensor:
        channels = x.shape[-1]
        size = self.net.get("num_head_channels", -1)
        size = channels // self.net["num_heads"] if size == -1 else size
        q = x @ self.w[key + ".to_q.weight"].T
        k = context @ self.w[key + ".to_k.weight"].T
        v = context @ self.w[key + ".to_v.weight"].T
        heads = []
        for start in range(0, channels, size):
            part = slice(start, start + size)
            scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(size)
            heads.append(scores.softmax(-1) @ v[..., part])
        return self.linear(key + ".to_out.0", torch.cat(heads, -1))

    def feed_forward(self, key: str, x: Tensor) -> Tensor:
        value, gate = self.linear(key + ".net.0.proj", x).chunk(2, -1)
        return self.linear(key + ".net.2", value * gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2))))

    def mix(self, key: str, spatial: Tensor, temporal: Tensor) -> Tensor:
        share = 1 / (1 + torch.exp(-self.w[key + ".time_mixer.mix_factor"]))
        return share * spatial + (1 - share) * temporal

    def mlp(self, key: str, x: Tensor) -> Tensor:
        return self.linear(key + ".2", F.silu(self.linear(key + ".0", x)))

    def linear(self, key: str, x: Tensor) -> Tensor:
        return x @ self.w[key + ".weight"].flatten(1).T + self.w[key + ".bias"]

    def conv(self, key: str, x: Tensor, padding: int) -> Tensor:
        return F.conv2d(x, self.w[key + ".weight"], self.w[key + ".bias"], padding=padding)

    def conv3(self, key: str, x: Tensor) -> Tensor:
        return F.conv3d(x, self.w[key + ".weight"], self.w[key + ".bias"], padding=(1, 0, 0))

    def layer_norm(self, key: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.w[key + ".weight"] + self.w[key + ".bias"]

    def group_norm(self, key: str, x: Tensor, eps: float) -> Tensor:
        grouped = x.reshape(x.shape[0], 32, -1)
        centred = grouped - grouped.mean(-1, keepdim=True)
        scaled = (centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()).reshape(x.shape)
        ones = [1] * (x.ndim - 2)
        return scaled * self.w[key + ".weight"].view(1, -1, *ones) + self.w[key + ".bias"].view(1, -1, *ones)
