"""Latents and image embeddings of rendered orbits, in sister shards: what training reads instead of pixels.

Every frame is encoded twice: on white, and on one colour of its orbit that comes from the seed and the uid. A cached
latent cannot change its background, so every epoch shows these two.

Per sample: `latents.white.npy`, `latents.color.npy` (n, c, h/f, w/f) float16, the mode (the mean) of the posterior of an
autoencoder with c channels and f pixels along a latent's side, NOT multiplied by its scaling factor;
`embeddings.white.npy`, `embeddings.color.npy` (n, d) float16, CLIP's projected embedding of every frame, each of which
may become the condition frame; and a JSON with the angles.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Float, UInt8

from mv3d.core.devices import pick_device
from mv3d.core.errors import InputError, UsageError
from mv3d.core.locking import folder_lock
from mv3d.core.outputs import refuse_inputs
from mv3d.core.progress import ObjectProgress
from mv3d.core.version import __version__
from mv3d.orbits.config import sha256_of_json
from mv3d.orbits.index import INDEX, LATENTS, PIXELS, BuildResult, read_index
from mv3d.orbits.jobs import decode_frame, object_rng
from mv3d.orbits.reading import BACKGROUNDS, WHITE, composite, random_color, sample_document
from mv3d.orbits.sample import Outcome, Reject, Sample
from mv3d.orbits.shard_folder import ShardFolder
from mv3d.orbits.shards import Shard, is_count, tar_fragment, write_shard

if TYPE_CHECKING:
    import torch

Dtype = Literal["fp32", "fp16", "bf16"]
_RECORDED = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class EncodeConfig:
    """How `mv3d orbits encode` computes."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N. A device that is asked for and missing is an error."""
    dtype: Dtype = "fp32"
    """What the networks compute in; latents and embeddings are stored as fp16."""
    batch: int = 8
    """Frames at a time."""
    seed: int = 0
    """Seed of the random colours."""

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Dtype):
            raise UsageError(f"--dtype: expected fp32, fp16 or bf16, got {self.dtype}")
        if self.batch < 1:
            raise UsageError(f"--batch: expected at least 1, got {self.batch}")


def encode_shards(
    shards: str | os.PathLike[str],
    vae: str | os.PathLike[str],
    image_encoder: str | os.PathLike[str],
    out_dir: str | os.PathLike[str] | None = None,
    config: EncodeConfig | None = None,
    *,
    overwrite: bool = False,
    progress: ObjectProgress | None = None,
) -> BuildResult:
    """Encode finished shards of pixels; `out_dir` is by default the folder's name with -latents at its end.

    vae, image_encoder: folders with config.json and .safetensors files. The same call again goes on where the last one
    ended. Broken samples are left out and counted. Raises InputError for shards or networks that cannot be used, and
    for frames whose sides are no multiples of the autoencoder's factor; OutputError where the folder holds other
    latents.
    """
    config = config or EncodeConfig()
    source = Path(shards)
    out = Path(out_dir) if out_dir is not None else source.with_name(f"{source.name}-latents")
    refuse_inputs(out, (INDEX,), (source / INDEX,))
    index = read_index(source)
    if index is None or index["kind"] != PIXELS:
        raise InputError(f"{source}: expected a folder of mv3d orbits render, found no such index")
    if not index["finished"]:
        raise InputError(f"{source}: not finished yet; run its mv3d orbits render command again first")
    if not all(is_count(index["config"].get(key)) for key in ("views", "size")):
        raise InputError(
            f"{source / INDEX}: damaged: expected whole numbers for views and size in config; render the shards again, "
            "or restore the file"
        )
    identity = _identity(index, Path(vae), Path(image_encoder), config)
    _check_size(source, index["config"]["size"], Path(vae))
    with folder_lock(out):
        folder = ShardFolder(out, identity, [shard["name"] for shard in index["shards"]])
        folder.prepare(overwrite=overwrite)
        finished = len(folder.finished_shards) == len(folder.names) and folder.index()["finished"]
        if not finished:
            networks = load_networks(Path(vae), Path(image_encoder), config)
            encode = lambda members: encode_sample(members, networks, config)  # noqa: E731
            _work_through(folder, source, index["shards"], encode, progress)
        else:
            folder.close()
        return BuildResult(out, folder.index(), already_done=finished)


def _check_size(source: Path, size: int, vae: Path) -> None:
    """Refuse frames whose border an autoencoder would crop without a word."""
    from mv3d.models.components import latent_factor  # noqa: PLC0415 - loads torch
    from mv3d.models.folder import read_config  # noqa: PLC0415

    factor = latent_factor(read_config(vae))
    if size % factor:
        raise InputError(
            f"{source}: expected frames whose side is a multiple of {factor}, as {vae} needs, got {size}; render them in "
            "another --size"
        )


@dataclass(frozen=True, eq=False)
class Networks:
    """The frozen VAE and image encoder."""

    vae: Any
    image_encoder: Any


def load_networks(vae: Path, image_encoder: Path, config: EncodeConfig) -> Networks:
    """Load both from folders of safetensors; pickle is not read. Raises InputError."""
    import torch  # noqa: PLC0415
    from transformers import CLIPVisionModelWithProjection  # noqa: PLC0415

    from mv3d.models.components import Autoencoder  # noqa: PLC0415
    from mv3d.models.folder import read_config  # noqa: PLC0415

    device = pick_device(config.device)
    dtype = getattr(torch, _RECORDED[config.dtype])
    known: dict[str, Any] = {kind.__name__: kind for kind in get_args(Autoencoder)}
    document = read_config(vae)
    kind = str(document.get("_class_name") or document.get("architectures"))
    if kind not in known:
        raise InputError(f"{vae}: expected one of {', '.join(known)}, got {kind}")
    try:
        autoencoder = known[kind].from_pretrained(
            vae, use_safetensors=True, torch_dtype=dtype, local_files_only=True
        )
        encoder: Any = CLIPVisionModelWithProjection.from_pretrained(
            image_encoder, use_safetensors=True, dtype=dtype, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{vae}, {image_encoder}: the networks cannot be loaded ({first})") from error
    frozen = (network.to(device).eval().requires_grad_(False) for network in (autoencoder, encoder))
    return Networks(*frozen)


def encode_sample(members: dict[str, memoryview], networks: Networks, config: EncodeConfig) -> Sample:
    """Latents and embeddings of all frames of one sample, on white and on its colour. Raises InputError."""
    document = sample_document(members)
    uid, cameras = document["uid"], document["cameras"]
    names = [f"{number:03d}.webp" for number in range(len(cameras["azimuths_deg"]))]
    missing = [name for name in names if name not in members]
    if missing:
        raise InputError(f"sample {uid}: frame {missing[0]} is missing")
    frames = np.stack([decode_frame(members[name]) for name in names])
    colors = {"white": WHITE, "color": random_color(object_rng(config.seed, f"{uid}\0background"))}
    files: list[tuple[str, bytes]] = []
    for name in BACKGROUNDS:
        images = np.stack([composite(frame, colors[name]) for frame in frames])
        latents, embeddings = encode_images(images, networks, batch=config.batch)
        files += [(f"latents.{name}.npy", _npy(latents)), (f"embeddings.{name}.npy", _npy(embeddings))]
    summary = {key: document[key] for key in ("uid", "licence", "author", "source", "title", "faces")}
    head = {
        **summary,
        "elevations_deg": cameras["elevations_deg"],
        "azimuths_deg": cameras["azimuths_deg"],
        "backgrounds": {name: color.tolist() for name, color in colors.items()},
    }
    return Sample(tar_fragment(uid, [("json", json.dumps(head).encode()), *files]), summary)


def encode_images(
    images: UInt8[np.ndarray, "n h w 4"], networks: Networks, *, batch: int
) -> tuple[Float[np.ndarray, "n c y x"], Float[np.ndarray, "n d"]]:
    """(latents, embeddings) float16: the unscaled mode of the VAE's posterior of images in [-1, 1], and the image
    embedding of the same images as CLIP wants them. The alpha is for an autoencoder of four channels."""
    import torch  # noqa: PLC0415

    from mv3d.models.encode import encode_pixels, image_channels  # noqa: PLC0415

    vae, encoder, latents, embeddings = networks.vae, networks.image_encoder, [], []
    with torch.inference_mode():
        for begin in range(0, len(images), batch):
            part = torch.from_numpy(images[begin : begin + batch].transpose(0, 3, 1, 2).copy())
            pixels = part.to(vae.device, torch.float32) / 127.5 - 1
            latents.append(encode_pixels(vae, pixels[:, : image_channels(vae)], chunk=batch).cpu())
            prepared = clip_pixels(pixels[:, :3], encoder.config.image_size).to(encoder.dtype)
            embeddings.append(encoder(prepared).image_embeds.float().cpu())
    found = torch.cat(latents).numpy(), torch.cat(embeddings).numpy()
    for what, values in zip(("latents", "embeddings"), found, strict=True):
        if not np.isfinite(values).all() or np.abs(values).max() > np.finfo(np.float16).max:
            raise InputError(f"{what}: expected finite numbers of float16, got others; use --dtype fp32")
    return found[0].astype(np.float16), found[1].astype(np.float16)


def clip_pixels(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Images in [-1, 1] (n, 3, h, w) → CLIP's input (n, 3, size, size), resized as by `clip_resized`."""
    from mv3d.models.encode import clip_normalized, clip_resized  # noqa: PLC0415

    return clip_normalized((clip_resized(pixels, size) + 1) / 2)


def weights_sha256(folder: Path) -> str:
    """sha256 of a network's config.json and .safetensors files, names included."""
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files or not (folder / "config.json").is_file():
        raise InputError(f"{folder}: expected a folder with config.json and .safetensors files, found none")
    digest = hashlib.sha256()
    for path in [folder / "config.json", *files]:
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _work_through(
    folder: ShardFolder,
    source: Path,
    shards: list[dict[str, Any]],
    encode: Callable[[dict[str, memoryview]], Sample],
    progress: ObjectProgress | None,
) -> None:
    """Encode shard after shard. One sample is in memory at a time, and a killed run goes on within the shard."""
    finished = folder.finished_shards
    done = rejected = 0
    total = sum(shard["samples"] for shard in shards)
    for shard in shards:
        name = shard["name"]
        if name in finished:
            done += shard["samples"]
        else:
            staged: list[str] = []
            for outcome in _outcomes(folder, source / name, shard["samples"], encode):
                staged.append(_staged_name(name, len(staged)))
                if outcome is not None:
                    folder.stage(staged[-1], outcome)
                done += 1
                if progress:
                    progress(done, total, rejected)
            outcomes = (folder.staged(item) for item in staged)
            finished[name] = write_shard(folder.out_dir / name, outcomes, scratch=folder.staging)
            for item in staged:
                (folder.staging / item).unlink()
            folder.write_index([finished[n] for n in folder.names if n in finished], finished=False)
        rejected += len(finished[name]["rejects"])
    folder.write_index([finished[name] for name in folder.names], finished=True)
    folder.close()


def _outcomes(
    folder: ShardFolder, tar: Path, samples: int, encode: Callable[[dict[str, memoryview]], Sample]
) -> Iterator[Outcome | None]:
    """What becomes of each sample of a shard; None for one that is staged already."""
    try:
        shard = Shard(tar)
    except InputError as error:
        yield from (Reject(f"{tar.name}#{number}", "unreadable", str(error)) for number in range(samples))
        return
    for number, place in enumerate(shard.places):
        if (folder.staging / _staged_name(tar.name, number)).exists():
            yield None
            continue
        try:
            yield encode(shard.members(number))
        except (InputError, KeyError, ValueError) as error:
            yield Reject(place.key, "unreadable", f"{type(error).__name__}: {error}")


def _staged_name(shard: str, number: int) -> str:
    return f"{shard}-{number:06d}"


def _identity(index: dict[str, Any], vae: Path, image_encoder: Path, config: EncodeConfig) -> dict[str, Any]:
    """What decides the numbers. The device and the batch move them in the last bit only and are left out."""
    return {
        "kind": LATENTS,
        "mv3d": __version__,
        "objects": index["samples"],
        "source_sha256": sha256_of_json([shard["sha256"] for shard in index["shards"]]),
        "vae_sha256": weights_sha256(vae),
        "image_encoder_sha256": weights_sha256(image_encoder),
        "latents": "mode of the posterior, not multiplied by the scaling factor, float16",
        "config": {
            "backgrounds": {"white": [255, 255, 255], "color": "one an orbit, of the seed and the uid"},
            "image_embeddings": "CLIP, bicubic with anti-aliasing, corners aligned, float16",
            "views": index["config"]["views"],
            "size": index["config"]["size"],
            "dtype": _RECORDED[config.dtype],
            "seed": config.seed,
        },
    }


def _npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values))
    return buffer.getvalue()
