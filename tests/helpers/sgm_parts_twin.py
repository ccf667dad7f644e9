"""Slow twins of the original's autoencoder and of OpenCLIP's vision transformer, over dictionaries of weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
VAE_FULL = {"ch": 128, "mult": [1, 2, 4, 4]}
CLIP_FULL = {"width": 1280, "layers": 32, "heads": 16, "patch": 14, "image": 224, "out": 1024}


def random(shapes: Shapes, seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    weights = {}
    for key, shape in shapes.items():
        value = torch.randn(shape, generator=g)
        if len(shape) > 1:
            weights[key] = value / math.sqrt(math.prod(shape[1:]))
        elif key.endswith("bias") or key.endswith("mix_factor"):
            weights[key] = 0.1 * value
        else:
            weights[key] = 1 + 0.1 * value
    return weights


def add(out: Shapes, key: str, *shape: int) -> None:
    out[key + ".weight"], out[key + ".bias"] = shape, shape[:1]


def resnet(out: Shapes, key: str, cin: int, cout: int, temporal: bool) -> None:
    add(out, key + ".norm1", cin)
    add(out, key + ".conv1", cout, cin, 3, 3)
    add(out, key + ".norm2", cout)
    add(out, key + ".conv2", cout, cout, 3, 3)
    if cin != cout:
        add(out, key + ".nin_shortcut", cout, cin, 1, 1)
    if temporal:
        for place in ("in_layers", "out_layers"):
            add(out, f"{key}.time_stack.{place}.0", cout)
            conv = 2 if place == "in_layers" else 3
            add(out, f"{key}.time_stack.{place}.{conv}", cout, cout, 3, 1, 1)
        out[key + ".mix_factor"] = (1,)


def middle(out: Shapes, key: str, c: int, temporal: bool) -> None:
    resnet(out, key + ".block_1", c, c, temporal)
    resnet(out, key + ".block_2", c, c, temporal)
    add(out, key + ".attn_1.norm", c)
    for name in ("q", "k", "v", "proj_out"):
        add(out, f"{key}.attn_1.{name}", c, c, 1, 1)


def encoder_shapes(vae: dict) -> Shapes:
    out: Shapes = {}
    ch, mult = vae["ch"], vae["mult"]
    add(out, "conv_in", ch, 3, 3, 3)
    c = ch
    for level, m in enumerate(mult):
        for block in range(2):
            resnet(out, f"down.{level}.block.{block}", c, ch * m, False)
            c = ch * m
        if level + 1 < len(mult):
            add(out, f"down.{level}.downsample.conv", c, c, 3, 3)
    middle(out, "mid", c, False)
    add(out, "norm_out", c)
    add(out, "conv_out", 8, c, 3, 3)
    return out


def decoder_shapes(vae: dict, temporal: bool) -> Shapes:
    out: Shapes = {}
    ch, mult = vae["ch"], vae["mult"]
    c = ch * mult[-1]
    add(out, "conv_in", c, 4, 3, 3)
    middle(out, "mid", c, temporal)
    for level in reversed(range(len(mult))):
        for block in range(3):
            resnet(out, f"up.{level}.block.{block}", c, ch * mult[level], temporal)
            c = ch * mult[level]
        if level:
            add(out, f"up.{level}.upsample.conv", c, c, 3, 3)
    add(out, "norm_out", c)
    add(out, "conv_out", 3, c, 3, 3)
    if temporal:
        add(out, "conv_out.time_mix_conv", 3, 3, 3, 1, 1)
    return out


def checkpoint_shapes(vae: dict, clip: dict, *, temporal: bool, vocabulary: int = 49408) -> Shapes:
    """All of an SV3D file but the network."""
    out = {"first_stage_model.decoder." + k: s for k, s in decoder_shapes(vae, temporal).items()}
    still = "conditioner.embedders.1.encoder."
    out |= {still + "encoder." + k: s for k, s in encoder_shapes(vae).items()}
    out |= {still + "decoder." + k: s for k, s in decoder_shapes(vae, False).items()}
    add(out, still + "quant_conv", 8, 8, 1, 1)
    add(out, still + "post_quant_conv", 4, 4, 1, 1)
    return out | {
        "conditioner.embedders.0.open_clip.model." + k: s for k, s in clip_shapes(clip, vocabulary).items()
    }


def clip_shapes(clip: dict, vocabulary: int) -> Shapes:
    w, text = clip["width"], clip["out"]
    out: Shapes = {
        "positional_embedding": (77, text),
        "text_projection": (text, text),
        "logit_scale": (),
        "token_embedding.weight": (vocabulary, text),
        "visual.class_embedding": (w,),
        "visual.positional_embedding": ((clip["image"] // clip["patch"]) ** 2 + 1, w),
        "visual.proj": (w, text),
        "visual.conv1.weight": (w, 3, clip["patch"], clip["patch"]),
    }
    for key in ("ln_final",):
        add(out, key, text)
    for key in ("visual.ln_pre", "visual.ln_post"):
        add(out, key, w)
    for n in range(clip["layers"]):
        key = f"visual.transformer.resblocks.{n}"
        out[key + ".attn.in_proj_weight"], out[key + ".attn.in_proj_bias"] = (3 * w, w), (3 * w,)
        add(out, key + ".attn.out_proj", w, w)
        add(out, key + ".mlp.c_fc", 4 * w, w)
        add(out, key + ".mlp.c_proj", w, 4 * w)
        add(out, key + ".ln_1", w)
        add(out, key + ".ln_2", w)
    return out


class Vae:
    def __init__(self, weights: dict[str, Tensor], vae: dict) -> None:
        self.w, self.levels = weights, len(vae["mult"])

    def encode(self, x: Tensor) -> Tensor:
        """(frames, 3, h, w) in [-1, 1] -> the mean of the latents."""
        p = "conditioner.embedders.1.encoder.encoder."
        x = self.conv(p + "conv_in", x)
        for level in range(self.levels):
            for block in range(2):
                x = self.resnet(f"{p}down.{level}.block.{block}", x)
            if level + 1 < self.levels:
                key = f"{p}down.{level}.downsample.conv"
                x = F.conv2d(F.pad(x, (0, 1, 0, 1)), self.w[key + ".weight"], self.w[key + ".bias"], stride=2)
        x = self.middle(p + "mid", x)
        x = self.conv(p + "conv_out", F.silu(self.norm(p + "norm_out", x, 1e-6)))
        return self.conv("conditioner.embedders.1.encoder.quant_conv", x, 0)[:, :4]

    def decode(self, z: Tensor) -> Tensor:
        p = "first_stage_model.decoder."
        x = self.middle(p + "mid", self.conv(p + "conv_in", z))
        for level in reversed(range(self.levels)):
            for block in range(3):
                x = self.resnet(f"{p}up.{level}.block.{block}", x)
            if level:
                x = self.conv(
                    f"{p}up.{level}.upsample.conv", x.repeat_interleave(2, 2).repeat_interleave(2, 3)
                )
        x = self.conv(p + "conv_out", F.silu(self.norm(p + "norm_out", x, 1e-6)))
        last = p + "conv_out.time_mix_conv"
        return self.in_time(lambda v: self.conv3(last, v), x) if last + ".weight" in self.w else x

    def middle(self, key: str, x: Tensor) -> Tensor:
        x = self.resnet(key + ".block_1", x)
        h = self.norm(key + ".attn_1.norm", x, 1e-6)
        q, k, v = (self.conv(f"{key}.attn_1.{n}", h, 0).flatten(2).transpose(1, 2) for n in "qkv")
        h = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1) @ v
        x = x + self.conv(key + ".attn_1.proj_out", h.transpose(1, 2).reshape(x.shape), 0)
        return self.resnet(key + ".block_2", x)

    def resnet(self, key: str, x: Tensor) -> Tensor:
        h = self.conv(key + ".conv1", F.silu(self.norm(key + ".norm1", x, 1e-6)))
        h = self.conv(key + ".conv2", F.silu(self.norm(key + ".norm2", h, 1e-6)))
        shortcut = key + ".nin_shortcut"
        x = (self.conv(shortcut, x, 0) if shortcut + ".weight" in self.w else x) + h
        if key + ".mix_factor" not in self.w:
            return x
        share = self.w[key + ".mix_factor"].sigmoid()
        return share * self.in_time(lambda v: self.time_stack(key + ".time_stack", v), x) + (1 - share) * x

    def time_stack(self, key: str, v: Tensor) -> Tensor:
        h = self.conv3(key + ".in_layers.2", F.silu(self.norm(key + ".in_layers.0", v, 1e-5)))
        return v + self.conv3(key + ".out_layers.3", F.silu(self.norm(key + ".out_layers.0", h, 1e-5)))

    def in_time(self, run, x: Tensor) -> Tensor:
        return run(x.permute(1, 0, 2, 3)[None])[0].permute(1, 0, 2, 3)

    def conv(self, key: str, x: Tensor, padding: int = 1) -> Tensor:
        return F.conv2d(x, self.w[key + ".weight"], self.w[key + ".bias"], padding=padding)

    def conv3(self, key: str, x: Tensor) -> Tensor:
        return F.conv3d(x, self.w[key + ".weight"], self.w[key + ".bias"], padding=(1, 0, 0))

    def norm(self, key: str, x: Tensor, eps: float) -> Tensor:
        return F.group_norm(x, 32, self.w[key + ".weight"], self.w[key + ".bias"], eps)


def clip_embedding(weights: dict[str, Tensor], clip: dict, image: Tensor) -> Tensor:
    """(batch, 3, side, side), normalised -> (batch, out)."""
    w = {k.split("model.visual.")[-1]: v for k, v in weights.items() if "model.visual." in k}

    def norm(key: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[key + ".weight"], w[key + ".bias"], 1e-5)

    def linear(key: str, x: Tensor) -> Tensor:
        return x @ w[key + ".weight"].T + w[key + ".bias"]

    x = F.conv2d(image, w["conv1.weight"], stride=clip["patch"]).flatten(2).transpose(1, 2)
    x = torch.cat([w["class_embedding"].expand(len(x), 1, -1), x], 1) + w["positional_embedding"]
    x = norm("ln_pre", x)
    size = clip["width"] // clip["heads"]
    for n in range(clip["layers"]):
        key = f"transformer.resblocks.{n}"
        q, k, v = (
            norm(key + ".ln_1", x) @ w[key + ".attn.in_proj_weight"].T + w[key + ".attn.in_proj_bias"]
        ).chunk(3, -1)
        heads = []
        for start in range(0, clip["width"], size):
            s = slice(start, start + size)
            scores = q[..., s] @ k[..., s].transpose(1, 2) / math.sqrt(size)
            heads.append(scores.softmax(-1) @ v[..., s])
        x = x + linear(key + ".attn.out_proj", torch.cat(heads, -1))
        h = linear(key + ".mlp.c_fc", norm(key + ".ln_2", x))
        x = x + linear(key + ".mlp.c_proj", 0.5 * h * (1 + torch.erf(h / math.sqrt(2))))
    return norm("ln_post", x[:, 0]) @ w["proj"]
