"""Latents and image embeddings of rendered orbits, in sister shards: what training reads instead of pixels.

For every frame of every sample, on white and on one colour that is drawn per orbit from seed and uid and kept in the
sample: a cached latent cannot change its background, so training sees that one colour (and white) in every epoch.

Per sample: `latents.white.npy`, `latents.color.npy` (n, 4, h/8, w/8) float16, the mode (the mean) of the VAE's
posterior, NOT multiplied by its scaling factor; `embeddings.white.npy`, `embeddings.color.npy` (n, d) float16, CLIP's
projected embedding of every frame, each of which may become the condition frame; and a JSON with the angles.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from mv3d.core.devices import pick_device
from mv3d.core.errors import InputError, MissingPartError, OutputError, UsageError
from mv3d.core.locking import folder_lock
from mv3d.core.progress import ObjectProgress
from mv3d.core.version import __version__
from mv3d.orbits.build import INDEX, PIXELS, BuildResult, read_index, write_index
from mv3d.orbits.config import sha256_of_json
from mv3d.orbits.jobs import decode_frame, object_rng
from mv3d.orbits.reading import BACKGROUNDS, LATENTS, WHITE, composite, random_color
from mv3d.orbits.sample import Outcome, Reject, Sample
from mv3d.orbits.shards import (
    Shard,
    is_count,
    is_whole,
    read_shard_record,
    tar_fragment,
    write_pieces,
    write_shard,
)

if TYPE_CHECKING:
    import torch

_WORK = ".work"
_VAES = ("AutoencoderKL", "AutoencoderKLTemporalDecoder")
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class EncodeConfig:
    """How to compute."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N. A device that is asked for and missing is an error."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """What the networks compute in."""
    batch: int = 8
    """Frames at a time."""
    seed: int = 0
    """Of the random colours."""

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16", "bfloat16"):
            raise UsageError(f"--dtype: expected float32, float16 or bfloat16, got {self.dtype}")
        if self.batch < 1:
            raise UsageError(f"--batch: expected at least 1, got {self.batch}")


def encode_shards(
    shards: Path | str,
    vae: Path | str,
    image_encoder: Path | str,
    out_dir: Path | str | None = None,
    config: EncodeConfig | None = None,
    *,
    autoencoders: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: ObjectProgress | None = None,
) -> BuildResult:
    """Encode finished shards of pixels; `out_dir` is by default the folder's name with -latents at its end.

    autoencoders: classes beside diffusers' own, by the name in a config.json. The same call again goes on where the last
    one ended. Broken samples are left out and counted. Raises InputError
    for shards or networks that cannot be used, OutputError where the folder holds other latents.
    """
    config = config or EncodeConfig()
    source = Path(shards)
    out = Path(out_dir) if out_dir is not None else source.with_name(f"{source.name}-latents")
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
    with folder_lock(out):
        store = _LatentStore(source, out, index, _identity(index, Path(vae), Path(image_encoder), config))
        store.claim(overwrite=overwrite)
        if store.finished:
            return BuildResult(out, store.read_index() or {}, already_done=True)
        networks = load_networks(Path(vae), Path(image_encoder), config, autoencoders or {})
        store.work_through(lambda members: encode_sample(members, networks, config), progress)
        return BuildResult(out, store.read_index() or {})


@dataclass(frozen=True, eq=False)
class Networks:
    """The frozen VAE and image encoder."""

    vae: Any
    image_encoder: Any
    device: torch.device
    dtype: torch.dtype


def load_networks(
    vae: Path,
    image_encoder: Path,
    config: EncodeConfig,
    autoencoders: Mapping[str, Any] = MappingProxyType({}),
) -> Networks:
    """From folders of safetensors; pickle is not read. autoencoders: as of `encode_shards`. Raises InputError, MissingPartError."""
    try:
        import diffusers  # noqa: PLC0415
        import torch  # noqa: PLC0415
        import transformers  # noqa: PLC0415
    except ImportError as error:
        raise MissingPartError(
            f"encoding needs {error.name}; run: pip install diffusers transformers"
        ) from error
    device = pick_device(config.device)
    dtype = getattr(torch, config.dtype)
    kind = _class_name(vae)
    known = {name: getattr(diffusers, name) for name in _VAES} | dict(autoencoders)
    if kind not in known:
        raise InputError(f"{vae}: expected one of {', '.join(known)}, got {kind}")
    try:
        autoencoder = known[kind].from_pretrained(
            vae, use_safetensors=True, torch_dtype=dtype, local_files_only=True
        )
        encoder: Any = transformers.CLIPVisionModelWithProjection.from_pretrained(
            image_encoder, use_safetensors=True, dtype=dtype, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{vae}, {image_encoder}: the networks cannot be loaded ({first})") from error
    return Networks(
        autoencoder.to(device).eval().requires_grad_(False),
        encoder.to(device).eval().requires_grad_(False),
        device,
        dtype,
    )


def encode_sample(members: dict[str, memoryview], networks: Networks, config: EncodeConfig) -> Sample:
    """Latents and embeddings of all frames of one sample, on white and on its colour. Raises InputError."""
    document = json.loads(bytes(members["json"]))
    uid, cameras = document["uid"], document["cameras"]
    names = [f"{number:03d}.webp" for number in range(len(cameras["azimuths_deg"]))]
    missing = [name for name in names if name not in members]
    if missing:
        raise InputError(f"sample {uid}: frame {missing[0]} is missing")
    frames = np.stack([decode_frame(members[name]) for name in names])
    colors = {"white": WHITE, "color": random_color(object_rng(config.seed, f"{uid}\0background"))}
    side = document["cameras"]["w"]
    if side % 8 or document["cameras"]["h"] % 8:
        raise InputError(f"sample {uid}: expected sides that 8 divides, got {side}")
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
) -> tuple[Float[np.ndarray, "n 4 y x"], Float[np.ndarray, "n d"]]:
    """(latents, embeddings) float16: the unscaled mode of the VAE's posterior of images in [-1, 1], and the image
    embedding of the same images as CLIP wants them. The alpha is for an autoencoder of four channels."""
    import torch  # noqa: PLC0415

    channels = int(networks.vae.config.get("in_channels", 3))
    latents, embeddings = [], []
    with torch.inference_mode():
        for begin in range(0, len(images), batch):
            part = torch.from_numpy(images[begin : begin + batch].transpose(0, 3, 1, 2).copy())
            pixels = part.to(networks.device, torch.float32) / 127.5 - 1
            posterior = networks.vae.encode(pixels[:, :channels].to(networks.dtype), return_dict=False)[0]
            latents.append(posterior.mode().float().cpu())
            prepared = clip_pixels(pixels[:, :3], networks.image_encoder.config.image_size).to(networks.dtype)
            embeddings.append(networks.image_encoder(prepared).image_embeds.float().cpu())
    found = torch.cat(latents).numpy(), torch.cat(embeddings).numpy()
    for what, values in zip(("latents", "embeddings"), found, strict=True):
        if not np.isfinite(values).all() or np.abs(values).max() > np.finfo(np.float16).max:
            raise InputError(f"{what}: expected finite numbers of float16, got others; use --dtype float32")
    return found[0].astype(np.float16), found[1].astype(np.float16)


def clip_pixels(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Images in [-1, 1] (n, 3, h, w) → CLIP's input: bicubic with anti-aliasing to size², CLIP's mean and deviation.

    The resizing is the one that Stable Video Diffusion was trained with (kornia, corners aligned).
    """
    import torch  # noqa: PLC0415
    from kornia.geometry.transform import resize  # noqa: PLC0415

    small = resize(pixels, (size, size), interpolation="bicubic", align_corners=True, antialias=True)
    mean = torch.tensor(_CLIP_MEAN, device=pixels.device)[:, None, None]
    std = torch.tensor(_CLIP_STD, device=pixels.device)[:, None, None]
    return ((small + 1) / 2 - mean) / std


def weights_sha256(folder: Path) -> str:
    """Of a network's config.json and .safetensors files, names included."""
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files or not (folder / "config.json").is_file():
        raise InputError(f"{folder}: expected a folder with config.json and .safetensors files, found none")
    digest = hashlib.sha256()
    for path in [folder / "config.json", *files]:
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


class _LatentStore:
    """The folder of the latents; one process at a time uses it."""

    def __init__(self, source: Path, out: Path, index: dict[str, Any], identity: dict[str, Any]) -> None:
        self._source, self._out, self._index, self._identity = source, out, index, identity
        self._aside = out / _WORK
        self._records: dict[str, dict[str, Any]] = {}

    @cached_property
    def _names(self) -> list[str]:
        return [shard["name"] for shard in self._index["shards"]]

    @property
    def finished(self) -> bool:
        return len(self._records) == len(self._names) and (self.read_index() or {}).get("finished") is True

    def read_index(self) -> dict[str, Any] | None:
        return read_index(self._out)

    def claim(self, *, overwrite: bool) -> None:
        there = None if overwrite else self.read_index()  # a damaged one can be replaced
        if overwrite:
            (self._out / INDEX).unlink(missing_ok=True)
            for path in [*self._out.glob("shard-*.tar"), *self._out.glob("shard-*.json")]:
                path.unlink()
            shutil.rmtree(self._aside, ignore_errors=True)
        elif there is not None and there.get("identity_sha256") != sha256_of_json(self._identity):
            changed = [key for key, value in self._identity.items() if there.get(key) != value]
            raise OutputError(
                f"{self._out}: holds other latents (another {', '.join(changed)}); choose another --out, or use "
                "--overwrite to replace them"
            )
        elif there is None and any(self._out.glob("*.tar")):
            raise OutputError(f"{self._out}: holds tar files of something else; choose another --out")
        self._aside.mkdir(exist_ok=True)
        for part in self._aside.glob("*.part"):
            part.unlink()
        for name in self._names:
            record = read_shard_record((self._out / name).with_suffix(".json"))
            if record is not None and is_whole(self._out / name, record):
                self._records[name] = record
        if there is None:
            self._write_index(finished=False)

    def work_through(
        self, encode: Callable[[dict[str, memoryview]], Sample], progress: ObjectProgress | None
    ) -> None:
        done = rejected = 0
        total = sum(shard["samples"] for shard in self._index["shards"])
        for shard in self._index["shards"]:
            name = shard["name"]
            if name in self._records:
                done += shard["samples"]
                rejected += len(self._records[name]["rejects"])
                continue
            outcomes: list[Path] = []
            for number, outcome in enumerate(self._outcomes(name, shard["samples"], encode)):
                # One sample in memory at a time, and a killed run goes on within the shard.
                outcomes.append(self._aside / f"{name}-{number:06d}")
                if outcome is not None:
                    self._put(outcomes[-1], outcome)
                done += 1
                if progress:
                    progress(done, total, rejected)
            self._records[name] = write_shard(
                self._out / name, (self._get(path) for path in outcomes), scratch=self._aside
            )
            rejected += len(self._records[name]["rejects"])
            for path in outcomes:
                path.unlink()
            self._write_index(finished=False)
        self._write_index(finished=True)
        shutil.rmtree(self._aside)

    def _outcomes(
        self, name: str, samples: int, encode: Callable[[dict[str, memoryview]], Sample]
    ) -> Iterator[Outcome | None]:
        """Of every sample of a shard; None where it was put aside before."""
        try:
            shard = Shard(self._source / name)
        except InputError as error:
            yield from (Reject(f"{name}#{number}", "unreadable", str(error)) for number in range(samples))
            return
        for number, place in enumerate(shard.places):
            if (self._aside / f"{name}-{number:06d}").exists():
                yield None
                continue
            try:
                yield encode(shard.members(number))
            except (InputError, KeyError, ValueError) as error:
                yield Reject(place.key, "unreadable", f"{type(error).__name__}: {error}")

    def _put(self, path: Path, outcome: Outcome) -> None:
        if isinstance(outcome, Sample):
            header, blob = {"sample": dict(outcome.summary)}, outcome.fragment
        else:
            header, blob = {"reject": asdict(outcome)}, b""
        write_pieces(path, [json.dumps(header).encode() + b"\n", blob])

    def _get(self, path: Path) -> Outcome:
        head, _, blob = path.read_bytes().partition(b"\n")
        header = json.loads(head)
        return Sample(blob, header["sample"]) if "sample" in header else Reject(**header["reject"])

    def _write_index(self, *, finished: bool) -> None:
        records = [self._records[name] for name in self._names if name in self._records]
        write_index(self._out, self._identity, records, finished=finished, scratch=self._aside)


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
            "dtype": config.dtype,
            "seed": config.seed,
        },
    }


def _class_name(folder: Path) -> str:
    try:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(document.get("_class_name") or document.get("architectures"))
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{folder}: expected a diffusers folder with config.json ({error})") from error


def _npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values))
    return buffer.getvalue()
