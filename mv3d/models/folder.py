"""The folder form of a model: safetensors and JSON per component, `mv3d.json` over them, and a model card.

model/
  mv3d.json          what the network takes and how it is sampled
  README.md          the model card: base, licence, data, seed, metrics
  unet/              config.json, diffusion_pytorch_model.safetensors
  vae/               config.json, diffusion_pytorch_model.safetensors
  image_encoder/     config.json, model.safetensors
  prior/             config.json, model.safetensors

A folder holds the three of a network of the SVD family, a prior (`mv3d.models.prior`), or both.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mv3d.core.errors import InputError, shown
from mv3d.core.files import sha256, to_json, write_text
from mv3d.render.cameras import SV3D_FOV_DEG

SCHEMA = 1
_LARGEST = 2**20  # of what a model counts: views, pixels, steps
INFO_FILE = "mv3d.json"
COMPONENTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "image_encoder": "model.safetensors",
}
PRIOR = "prior"
"""The folder of the single-photo 3D prior, and the kind of a model that has nothing else."""
WEIGHTS = COMPONENTS | {PRIOR: "model.safetensors"}
"""File of the weights by folder."""
CameraSupport = Literal["none", "fixed turn", "orbit"]
"""none: a video model, whose cameras are not known. fixed turn: even steps of one turn at one elevation. orbit: an
azimuth and an elevation per view."""


@dataclass(frozen=True)
class SamplerDefaults:
    """How the model is sampled unless asked otherwise."""

    steps: int = 50
    sampler: str = "euler"
    sigma_min: float = 0.002
    sigma_max: float = 700.0
    rho: float = 7.0
    guidance_min: float = 1.0
    guidance_max: float = 2.5
    guidance_shape: str = "triangular"
    """triangular: min - max - min over the orbit. linear: min to max."""
    cond_aug: float = 1e-5


@dataclass(frozen=True)
class ModelInfo:
    """The content of `mv3d.json`."""

    kind: str
    """Which code makes the views (`mv3d.generation.generator.GENERATORS`): sv3d_p, sv3d_u, svd_mv, svd, prior, ..."""
    num_frames: int = 21
    resolution: int = 576
    """Side of the square images, pixels; a side that is not square in `height`."""
    height: int | None = None
    fov_deg: float = SV3D_FOV_DEG
    camera: CameraSupport = "orbit"
    takes_elevation: bool = True
    """Whether the elevation is an input. A fixed turn without it is at an elevation that the model chooses."""
    elevations_deg: tuple[float, float] = (-89.0, 89.0)
    """Range of elevations that the model was trained for: of its views; of the photo where the model is a 3D prior, whose
    views may be anywhere."""
    alpha_threshold: float = 0.5
    """For models that make alpha: pixels from here on count as the object; the threshold becomes one half."""
    consistent_alpha: bool = False
    """For models that make alpha: lower it to the alphas of one visual hull (`mv3d.generation.consensus`)."""
    sampler: SamplerDefaults = field(default_factory=SamplerDefaults)
    distilled_steps: int | None = None
    """For students of another model (`mv3d distill`): the steps that they make, and no other number."""
    base: str = ""
    """Hub id or file that the weights come from."""
    revision: str = ""
    source_sha256: str = ""
    licence: str = ""
    licence_url: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the views, pixels."""
        return self.resolution, self.height or self.resolution

    @property
    def most_views(self) -> int:
        """Views that the model makes of one photo at most: a solid is seen from as many cameras as one likes."""
        return 1000 if self.kind == PRIOR else self.num_frames

    @property
    def takes(self) -> str:
        """The cameras that the model can follow, in words."""
        if self.camera == "orbit":
            return "a camera per view"
        if self.camera == "none":
            return "no camera: a base for training"
        return "the elevation of a static orbit" if self.takes_elevation else "the static orbit"


@dataclass(frozen=True)
class ModelCard:
    """The model card, written as README.md."""

    title: str
    licence: str
    licence_url: str = ""
    base: str = ""
    data: str = ""
    seed: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    notes: str = ""

    def text(self) -> str:
        """Markdown with the hub's front matter."""
        lines = ["---", "library_name: mv3d", "pipeline_tag: image-to-3d"]
        if self.licence_url:
            lines += ["license: other", f"license_name: {self.licence}", f"license_link: {self.licence_url}"]
        else:
            lines.append(f"license: {self.licence}")
        lines += [f"base_model: {self.base}"] if self.base else []
        lines += ["---", "", f"# {self.title}", ""]
        rows = {
            "Base": self.base or "none: trained from random weights",
            "Licence": f"{self.licence} ({self.licence_url})" if self.licence_url else self.licence,
            "Data": self.data or "not recorded",
            "Seed": "none" if self.seed is None else str(self.seed),
        }
        lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
        if self.metrics:
            lines += ["", "| metric | value |", "|---|---|"]
            lines += [f"| {name} | {value:g} |" for name, value in self.metrics.items()]
        if self.notes:
            lines += ["", self.notes]
        lines += ["", "Use it with `mv3d generate IMAGE --model THIS_FOLDER`.", ""]
        return "\n".join(lines)


def write_info(folder: Path, info: ModelInfo) -> None:
    """Write `mv3d.json`. Only students say how many steps they were distilled to."""
    document = {"schema": SCHEMA} | dataclasses.asdict(info)
    if info.distilled_steps is None:
        del document["distilled_steps"]
    write_text(folder / INFO_FILE, to_json(document))


def read_info(folder: Path) -> ModelInfo:
    """Read `mv3d.json`. A file without `camera` gets it from the inputs of the folder's network.

    Raises InputError for a folder that is no model, a file of a later version, and unknown fields.
    """
    path = folder / INFO_FILE
    document = read_json(path)
    if document.pop("schema", None) != SCHEMA:
        raise InputError(f"{path}: expected schema {SCHEMA}; it was written by another version of mv3d")
    sampler = document.pop("sampler", {})
    cameras = get_args(CameraSupport)
    if "camera" not in document and (folder / "unet").is_dir():
        document |= camera_support(read_micro_names(folder))
    try:
        if "elevations_deg" in document:
            low, high = map(float, document["elevations_deg"])
            if not -90 <= low <= high <= 90:
                raise ValueError(f"elevations_deg: expected -90 to 90, got {low:g} to {high:g}")
            document["elevations_deg"] = (low, high)
        info = ModelInfo(**document, sampler=SamplerDefaults(**sampler))
        if info.camera not in cameras:
            raise ValueError(f"camera: expected one of {', '.join(cameras)}, got {info.camera}")
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: not a description of a model ({shown(error)})") from error
    _check_kinds(info, path)
    _check_kinds(info.sampler, path)
    return info


def camera_support(micro_names: Sequence[str]) -> dict[str, Any]:
    """The fields `camera` and `takes_elevation` for a network of the SVD family with these micro-conditioning inputs."""
    elevation = "elevation" in micro_names or "polar" in micro_names
    if "azimuth" in micro_names:
        camera = "orbit"
    else:
        camera = "none" if "fps" in micro_names and not elevation else "fixed turn"
    return {"camera": camera, "takes_elevation": elevation}


def read_micro_names(folder: Path) -> list[str]:
    """The micro-conditioning inputs in the network's config.json. Raises InputError where they are no names."""
    names = read_config(folder / "unet").get("vector_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"{folder}/unet/config.json: expected a list of names vector_names, got {shown(names)}"
        )
    return names


def model_sha256(folder: Path) -> str:
    """One hash of what decides a model's views: description, configurations and weights, but not its card.

    Raises InputError where one of them is missing.
    """
    digest = hashlib.sha256()
    for path in _model_files(folder):
        if not path.is_file():
            raise InputError(f"{folder}: expected {path.relative_to(folder)} in the model, found none")
        digest.update(f"{path.relative_to(folder)}\0{sha256(path)}".encode())
    return digest.hexdigest()


def has_prior(folder: Path) -> bool:
    """Whether a model folder holds a single-photo 3D prior."""
    return (folder / PRIOR).is_dir()


def components_of(folder: Path) -> tuple[str, ...]:
    """The folders of weights that a model needs: all of the SVD family where one of them is there, and the prior."""
    family = tuple(COMPONENTS) if any((folder / name).is_dir() for name in COMPONENTS) else ()
    return (*family, PRIOR) if has_prior(folder) else family


def _model_files(folder: Path) -> Iterator[Path]:
    yield folder / INFO_FILE
    known = components_of(folder)
    for name in known:
        yield folder / name / "config.json"
        yield weights_path(folder, name)
    for path in sorted(folder.rglob("*")):  # the parts of models outside the SVD family
        place = path.relative_to(folder)
        if path.suffix in (".json", ".safetensors") and place.parts[0] not in (INFO_FILE, *known):
            yield path


_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "int | None": (int, type(None)),
}


def _check_kinds(values: ModelInfo | SamplerDefaults, path: Path) -> None:
    """Raises InputError for a field of another type than declared, infinite numbers, and counts below one."""
    for entry in dataclasses.fields(values):
        value, kind = getattr(values, entry.name), str(entry.type)
        if kind not in _KINDS:
            continue
        good = isinstance(value, _KINDS[kind]) and isinstance(value, bool) == (kind == "bool")
        if good and isinstance(value, int | float):
            good = 1 <= value <= _LARGEST if kind.startswith("int") else abs(value) < math.inf
        if not good:
            raise InputError(f"{path}: {entry.name}: expected {kind}, finite, got {shown(repr(value))}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises InputError where it is missing or broken."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({shown(error)})") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(document).__name__}")
    return document


def read_config(folder: Path) -> dict[str, Any]:
    """A component's config.json. Raises InputError where the component is not there."""
    if not folder.is_dir():
        raise InputError(f"{folder.parent}: expected a folder {folder.name} in the model, got none")
    return read_json(folder / "config.json")


def weights_path(folder: Path, component: str) -> Path:
    """The file of a component's weights: the fp16 variant where there is no other.

    Raises InputError where the weights are only there as a pickle.
    """
    name = WEIGHTS[component]
    path = folder / component / name
    variant, pickle = path.with_suffix(".fp16.safetensors"), path.with_suffix(".bin")
    if path.exists() or variant.exists():
        return path if path.exists() else variant
    if pickle.exists():
        raise InputError(
            f"{path.parent}: has its weights only as a pickle ({pickle.name}); fetch {name} of the same model"
        )
    return path
