"""Is a video model a better start than an image model, or than none? The comparison of SVD (arXiv 2311.15127, section 4.5:
its figures of PSNR, LPIPS and CLIP-S against steps), on data of one's own.

The same network is trained on the same orbits for as many steps from three starts:

- `nothing`: random weights everywhere;
- `image`: the spatial layers of an image model, temporal layers new;
- `video`: all weights of a video model.

The frozen parts (autoencoder, image encoder), the order of the data and the noise are the same for all.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import default_collate

from mv3d.core.devices import pick_device
from mv3d.core.errors import InputError, OutputError, UsageError
from mv3d.core.files import sha256, staging, to_json, write_text
from mv3d.core.locking import folder_lock
from mv3d.core.plots import Line, chart_png, line_chart
from mv3d.models.folder import COMPONENTS, read_config, read_info
from mv3d.models.loading import load_image_encoder, load_unet, load_vae
from mv3d.models.locate import resolve
from mv3d.models.network import MultiViewUNet
from mv3d.orbits.dataset import OrbitSet, OrbitSetConfig
from mv3d.orbits.index import read_index
from mv3d.orbits.shards import read_shard_record
from mv3d.training.batches import BatchMaker
from mv3d.training.config import TrainConfig
from mv3d.training.objective import Denoise
from mv3d.training.run import data_sha256, train
from mv3d.training.study_config import StudyConfig
from mv3d.training.validation import clean, sample_views
from mv3d.views.metrics import psnr

Start = Literal["nothing", "image", "video"]
STARTS: tuple[Start, ...] = get_args(Start)
Measure = Callable[[Float[np.ndarray, "n h w 3"], Float[np.ndarray, "n h w 3"]], Float[np.ndarray, " n"]]
"""(generated, truth) → a value a picture, as `mv3d.evaluation.perceptual` has them."""

ROWS, RESULT, TABLE, SETTINGS = "rows.jsonl", "study.json", "study.md", "settings.json"
_TITLES = {"psnr": "PSNR, dB", "lpips": "LPIPS", "clip_s": "CLIP-S"}
_TEMPORAL = ("temporal", "time_mixer", "time_pos_embed")
_MIX = "time_mixer.mix_factor"


@dataclass(frozen=True)
class Point:
    """One model of one run on the held-out orbits. scores: mean over all views but the given one, by metric."""

    start: Start
    seed: int
    step: int
    scores: Mapping[str, float]


@dataclass(frozen=True)
class StudyResult:
    """A finished study."""

    out_dir: Path
    points: tuple[Point, ...]
    summary: dict[str, Any]


def study_prior(
    config: TrainConfig,
    study: StudyConfig,
    data: Path,
    evaluation: Path,
    base: str,
    out: Path,
    *,
    image_base: str = "",
    measures: Mapping[str, Measure] | None = None,
    progress: Callable[[str], None] | None = None,
) -> StudyResult:
    """Train from every start with every seed, and compare; the same call goes on where the last one was cut off.

    config: of each run. data: orbits to train on. evaluation: orbits of other objects. base: the video model. image_base:
    the image model, of the same network; by default the video model's own spatial layers. measures: beside PSNR.

    Writes `runs/`, `rows.jsonl` (a line a point), `study.json`, `study.md` and a plot a metric into `out`. Raises
    UsageError for settings that make no sense, InputError for data or models that cannot be used, OutputError where `out`
    holds another study.
    """
    measures = measures or {}
    model = resolve(base).folder
    image_model = resolve(image_base).folder if image_base else model
    _check(config, study, data, evaluation, model, image_model)
    wanted = {
        "train": asdict(config) | {"steps": None}, "study": asdict(study) | {"seeds": None}, "data": data_sha256(data),
        "evaluation": data_sha256(evaluation), "base": sha256(model), "image_base": sha256(image_model),
        "metrics": sorted(measures),
    }  # fmt: skip
    with folder_lock(out, (SETTINGS, TABLE, RESULT)):
        _claim(out, wanted)
        points = _read_rows(out / ROWS)
        there = {(p.start, p.seed, p.step) for p in points}
        for seed in range(study.seeds):
            run_config = replace(config, seed=config.seed + seed)
            for start in STARTS:
                folder = model if start == "video" else out / "starts" / f"{start}-{seed}"
                for step in _steps(config.steps, study.every):
                    if (start, seed, step) in there:
                        continue
                    if not folder.exists():
                        write_start(model, image_model, start, run_config.seed, folder, study.image_share)
                    if progress:
                        progress(f"{start}, seed {seed}: to step {step} of {config.steps}")
                    run = out / "runs" / f"{start}-{seed}"
                    made = train(replace(run_config, steps=step), data, str(folder), run).files["model"]
                    scores = orbit_scores(made, evaluation, config, study.evaluation_orbits, measures)
                    points.append(Point(start, seed, step, scores))
                    with (out / ROWS).open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps(asdict(points[-1])) + "\n")
        wanted_points = [p for p in points if p.seed < study.seeds and p.step <= config.steps]
        summary = summarized(wanted_points)
        _publish(out, wanted_points, summary)
    return StudyResult(out, tuple(wanted_points), summary)


def write_start(
    base: Path, image_base: Path, start: Start, seed: int, folder: Path, image_share: float = 0.95
) -> None:
    """Write a model folder like `base` whose network begins from nothing, or from an image model's spatial layers.

    New weights are drawn from `seed`. image_share: see `StudyConfig`.
    """
    network = load_unet(base, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = MultiViewUNet(**network.arguments)
    state = {name: value.contiguous() for name, value in fresh.state_dict().items()}
    if start == "image":
        known = load_unet(image_base, dtype=torch.float32).state_dict()
        state |= {name: value.contiguous() for name, value in known.items() if is_spatial(name)}
        # diffusers' AlphaBlender: sigmoid of the factor is the share of the spatial branch.
        mix = math.log(image_share / (1 - image_share))
        state |= {name: torch.full_like(value, mix) for name, value in state.items() if name.endswith(_MIX)}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with staging(folder.parent) as staged:
        copy = staged / folder.name
        shutil.copytree(
            base, copy, ignore=lambda at, names: [n for n in names if n == "unet" and Path(at) == base]
        )
        (copy / "unet").mkdir()
        shutil.copy(base / "unet" / "config.json", copy / "unet")
        save_file(state, copy / "unet" / COMPONENTS["unet"], metadata={"format": "pt"})
        copy.rename(folder)


def is_spatial(name: str) -> bool:
    """Whether a weight belongs to the image model within the video model (SVD, appendix D.2)."""
    return not any(part in name for part in _TEMPORAL)


@torch.no_grad()
def orbit_scores(
    model: Path, evaluation: Path, config: TrainConfig, count: int, measures: Mapping[str, Measure]
) -> dict[str, float]:
    """PSNR and the other measures of the views that a model makes of `count` orbits, given the input view of each.

    The mean over all views but the given one. The noise is the same for every model.
    """
    device = pick_device(config.device)
    samples = OrbitSet(evaluation, OrbitSetConfig(frames=config.frames, backgrounds=("white",)))
    unet = load_unet(model, dtype=torch.float32)
    vae, encoder = load_vae(model, torch.float32), load_image_encoder(model, torch.float32)
    for part in (unet, vae, encoder):
        nn.Module.to(part, device)
    network = Denoise(unet.eval())
    batches = BatchMaker(
        clean(config),
        scaling_factor=float(read_config(model / "vae").get("scaling_factor", 0.18215)),
        device=device,
        vae=vae,
        image_encoder=encoder,
        input_frame=samples.format.input_frame,
    )
    sampler = read_info(model).sampler
    found: dict[str, list[float]] = {name: [] for name in ("psnr", *measures)}
    for number in range(min(count, len(samples))):
        raw = default_collate([samples.sample(number)])
        pair = sample_views(
            network, raw, batches, vae, steps=config.validation_steps, sampler=sampler, seed=0
        )
        truth, made = (
            views[: samples.format.input_frame].clamp(0, 1).movedim(1, -1).float().cpu().numpy()
            for views in pair
        )
        found["psnr"] += [psnr(one, other) for one, other in zip(made, truth, strict=True)]
        for name, measure in measures.items():
            found[name] += [float(value) for value in measure(made, truth)]
    return {name: float(np.mean(values)) for name, values in found.items()}


def summarized(points: Sequence[Point]) -> dict[str, Any]:
    """By start: mean and standard deviation over the seeds of each metric at the last step, and the first step at which
    the mean PSNR is what `nothing` reaches at its end (None where it never is).
    """
    last = max(p.step for p in points)
    curves = {start: _means(points, start, "psnr") for start in STARTS}
    goal = dict(curves["nothing"]).get(last, math.inf)
    found: dict[str, Any] = {"steps": last, "seeds": len({p.seed for p in points})}
    for start in STARTS:
        ends = [p.scores for p in points if p.start == start and p.step == last]
        found[start] = {
            name: [float(np.mean([e[name] for e in ends])), float(np.std([e[name] for e in ends]))]
            for name in (ends[0] if ends else ())
        }
        found[start]["steps_to_the_end_of_nothing"] = next(
            (s for s, value in curves[start] if value >= goal), None
        )
    return found


def _means(points: Iterable[Point], start: Start, metric: str) -> list[tuple[int, float]]:
    """(step, mean over the seeds) of one start."""
    by_step: dict[int, list[float]] = {}
    for point in points:
        if point.start == start:
            by_step.setdefault(point.step, []).append(point.scores[metric])
    return [(step, float(np.mean(values))) for step, values in sorted(by_step.items())]


def table(summary: Mapping[str, Any]) -> str:
    """The summary as Markdown."""
    metrics = [name for name in _TITLES if name in summary["video"]]
    head = ["start", *(_TITLES[name] for name in metrics), "steps to the PSNR that nothing ends with"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for start in STARTS:
        row = summary[start]
        cells = [f"{row[name][0]:.4g} ± {row[name][1]:.2g}" for name in metrics]
        reached = row["steps_to_the_end_of_nothing"]
        lines.append("| " + " | ".join([start, *cells, str(reached or "not reached")]) + " |")
    about = f"{summary['steps']} steps, {summary['seeds']} seeds; mean ± standard deviation over the seeds."
    return "\n".join([*lines, "", about, ""])


def _steps(last: int, every: int) -> list[int]:
    return [*range(every, last, every), last]


def _publish(out: Path, points: Sequence[Point], summary: dict[str, Any]) -> None:
    for metric in points[0].scores:
        lines = [Line(start, _means(points, start, metric)) for start in STARTS]
        chart = line_chart(
            lines, title="Views of objects never seen", x="steps", y=_TITLES.get(metric, metric)
        )
        (out / f"{metric}.png").write_bytes(chart_png(chart))
    write_text(out / TABLE, table(summary))
    write_text(out / RESULT, to_json({"summary": summary, "points": [asdict(p) for p in points]}))


def _read_rows(path: Path) -> list[Point]:
    """The points of an earlier call; a line that was cut off is none."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(Point(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def _claim(out: Path, wanted: dict[str, Any]) -> None:
    """Compare the settings in the folder with ours, or write them. More steps and more seeds go on."""
    path, text = out / SETTINGS, to_json(wanted)
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) != json.loads(text):
            raise OutputError(f"{out}: holds a study of other data, models or settings; choose another --out")
        return
    if any(p for p in out.iterdir() if not p.name.startswith(".")):
        raise OutputError(f"{out}: holds something else; choose another --out")
    write_text(path, text)


def _check(
    config: TrainConfig, study: StudyConfig, data: Path, evaluation: Path, base: Path, image_base: Path
) -> None:
    if config.network != "base" or config.trained == "lora" or config.prior:
        raise UsageError(
            f"--preset {config.preset}: expected svd_mv, sv3d_u or sv3d_p, whose whole network is trained from a base"
        )
    if study.every > config.steps:
        raise UsageError(f"--every: expected at most --steps {config.steps}, got {study.every}")
    for flag, folder in (("--data", data), ("--evaluation", evaluation)):
        if read_index(folder) is None:
            raise InputError(
                f"{flag} {folder}: expected orbit shards of mv3d orbits render or encode, found none"
            )
        OrbitSet(folder, OrbitSetConfig(frames=config.frames))  # raises where frames and samples do not fit
    shared = _uids(data) & _uids(evaluation)
    if shared:
        raise InputError(
            f"--evaluation {evaluation}: expected objects that are not in --data, found {len(shared)} that are, such as "
            f"{min(shared)}"
        )
    if image_base != base and _shape(image_base) != _shape(base):
        raise InputError(
            "--image-base: expected the same network as that of --base, got one of another shape"
        )


def _shape(model: Path) -> dict[str, Any]:
    """What two networks must have in common; an image model was trained on single frames."""
    return {k: v for k, v in read_config(model / "unet").items() if k != "num_frames"}


def _uids(folder: Path) -> set[str]:
    found: set[str] = set()
    for path in sorted(folder.glob("shard-*.json")):
        record = read_shard_record(path)
        if record is None:
            raise InputError(f"{path}: expected the record of a shard, found none that can be read")
        found |= {str(sample["uid"]) for sample in record["samples"]}
    return found
