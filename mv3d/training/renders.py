"""Training samples with renders: what a 3D prior sees in the photo of each sample, along the sample's own orbit.

A render is made once and kept, uint8 and compressed, under a hash of all that decides it: the prior's weights, the photo
and the cameras. It is made by the processes that read samples.
"""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from mv3d.core.errors import InputError, Mv3dWarning, UsageError
from mv3d.core.files import atomic_path
from mv3d.models.locate import resolve
from mv3d.models.prior.folder import load_prior, read_prior_settings
from mv3d.models.prior.halves import PRIORS, prior_for
from mv3d.models.prior.network import PriorNetwork
from mv3d.models.prior.renders import lifted_along, prior_sha256
from mv3d.orbits.dataset import OrbitSet, SampleFormat, Samples
from mv3d.render.cameras import SV3D_FOV_DEG, SV3D_RADIUS, Orbit
from mv3d.training.config import TrainConfig
from mv3d.training.distill.config import DistillConfig

FOLDER = "renders"
_VERSION = 2  # of what is rendered of the same photo by the same prior
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Priors:
    """The priors of a run: one for all objects; or two halves (`mv3d.models.prior.halves`), and perhaps a third one that
    has seen all objects and renders none of them here, but goes along with the model."""

    names: tuple[str, ...]
    folders: tuple[Path, ...]
    digests: tuple[str, ...]
    """`prior_sha256` of each."""

    def number(self, uid: str) -> int:
        """Which of them lifts an object."""
        return prior_for(uid) if len(self.folders) >= PRIORS else 0

    @property
    def kept(self) -> Path:
        """The folder of the prior that goes along with the model: the third where there is one, else the first."""
        return self.folders[PRIORS if len(self.folders) > PRIORS else 0]

    def recorded(self) -> list[dict[str, str]]:
        """JSON values for the record."""
        return [{"name": n, "sha256": d} for n, d in zip(self.names, self.digests, strict=True)]


def open_priors(config: TrainConfig) -> Priors | None:
    """The priors that a configuration names, or None. Warns where one alone has to lift what it may have learned.

    Raises InputError for a folder without a prior.
    """
    names = tuple(name.strip() for name in config.prior.split(",") if name.strip())
    if not names:
        return None
    folders = []
    for name in names:
        try:
            folder = resolve(name).folder
            read_prior_settings(folder)
        except InputError as error:
            raise InputError(f"--prior {name}: {error}") from error
        folders.append(folder)
    if len(names) == 1 and not isinstance(
        config, DistillConfig
    ):  # how far to trust it is the teacher's to know
        text = (
            f"--prior {names[0]}: it lifts every object, those that it was trained on, too; its renders of these are better "
            "than of a new photo. Give two priors, each trained on one half of the objects"
        )
        warnings.warn(text, Mv3dWarning, stacklevel=2)
    return Priors(names, tuple(folders), tuple(map(prior_sha256, folders)))


def check_lifted(samples: Samples) -> None:
    """Raises UsageError for samples without a photo that a prior can lift."""
    if samples.format.latents:
        raise UsageError(
            "--prior: expected shards of mv3d orbits render in --data, got cached latents, which have no photo to lift"
        )
    if not samples.format.alpha:
        raise UsageError("--prior: expected orbits in --data, got video clips, whose objects are not cut out")
    if isinstance(samples, OrbitSet):
        fov_deg = samples.store.index.get("config", {}).get("fov_deg", SV3D_FOV_DEG)
        if fov_deg != SV3D_FOV_DEG:
            raise UsageError(
                f"--prior: expected orbits of a field of view of {SV3D_FOV_DEG} degrees, as priors know it, got {fov_deg}"
            )


class RenderedSamples:
    """Samples with `renders` (n, h, w, 4) uint8, straight alpha; all zero where the prior found no solid.

    epochs: after so many, samples are drawn as in the first ones, whose renders are kept; 0 for never. The number of
    a sample, and with it its noise, stays its own.
    """

    def __init__(self, samples: Samples, priors: Priors, cache: Path, *, epochs: int = 0) -> None:
        self._samples, self._priors, self.cache, self._epochs = samples, priors, cache, epochs
        self._networks: dict[int, tuple[PriorNetwork, int]] = {}

    @property
    def format(self) -> SampleFormat:
        return self._samples.format

    @property
    def licences(self) -> dict[str, int]:
        return self._samples.licences

    def __len__(self) -> int:
        return len(self._samples)

    def __getstate__(self) -> dict[str, Any]:
        # Every process that reads loads the networks by itself.
        return {**self.__dict__, "_networks": {}}

    def sample(self, index: int) -> dict[str, Any]:
        """Sample number `index` with its renders."""
        drawn = index % (self._epochs * len(self)) if self._epochs else index
        raw: dict[str, Any] = {**self._samples.sample(drawn), "index": index}
        number = self._priors.number(raw["uid"])
        images = raw["images"].numpy()
        parts = [raw[name].numpy() for name in ("background", "elevations_deg", "azimuths_deg")]
        digest = hashlib.sha256(f"{_VERSION} {self._priors.digests[number]} {images.shape}".encode())
        for part in (images[-1], *parts):
            digest.update(np.ascontiguousarray(part).tobytes())
        name = digest.hexdigest()
        photo = straight(images[-1], parts[0])
        made = cached(
            self.cache / name[:2] / f"{name}.npz", images.shape, lambda: self._made(number, photo, raw)
        )
        return raw | {"renders": torch.from_numpy(made)}

    def _made(
        self, number: int, photo: Float[np.ndarray, "h w 4"], raw: dict[str, Any]
    ) -> UInt8[np.ndarray, "n h w 4"]:
        if number not in self._networks:
            folder = self._priors.folders[number]
            self._networks[number] = load_prior(folder), read_prior_settings(folder).side
        network, side = self._networks[number]
        elevations, azimuths = raw["elevations_deg"].tolist(), raw["azimuths_deg"].tolist()
        orbit = Orbit(tuple(elevations), tuple(azimuths), SV3D_RADIUS, input_view=len(azimuths) - 1)
        try:
            _, renders = lifted_along(network, photo, orbit, side=side)
        except InputError:  # no solid in this photo: the network learns to do without
            return np.zeros((len(azimuths), *photo.shape), np.uint8)
        return (renders * 255 + 0.5).astype(np.uint8)


def straight(
    picture: UInt8[np.ndarray, "h w 4"], background: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "h w 4"]:
    """A picture on a background, with its alpha as the fourth channel → straight alpha, float32 in [0, 1]."""
    values = picture.astype(np.float32) / 255
    alpha = values[..., 3:]
    colors = (values[..., :3] - background * (1 - alpha)) / np.maximum(alpha, 1 / 255)
    return np.concatenate([colors.clip(0, 1), alpha], -1)


def cached(
    path: Path, shape: tuple[int, ...], make: Callable[[], UInt8[np.ndarray, "*shape"]]
) -> UInt8[np.ndarray, "*shape"]:
    """The array in a file; where there is none, or a broken one, it is made and kept. Raises OutputError for a full disk."""
    try:
        with np.load(path, allow_pickle=False) as content:
            found = content["renders"]
        if found.shape == shape and found.dtype == np.uint8:
            return found
    except _UNREADABLE:
        pass
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_path(path, hint="free some space, or choose another --renders") as part,
        part.open("wb") as stream,
    ):
        np.savez_compressed(stream, renders=made)
    return made
