"""`mv3d study prior` from an empty folder: clips of procedural objects in motion make a tiny video model, single frames of
the same clips a tiny image model, and both and nothing are starts for orbits of other objects.

    python benchmarks/study.py --out study [--clips 160] [--objects 120] [--base-steps 400] [--steps 160] [--seeds 3]

Everything is made by mv3d's own commands, which are printed. Clips: 12 views of 64² along a dynamic orbit, whose cameras
no model is told. Networks: channels (32, 64), 8 frames, latents of 4². About 25 minutes of one core at these sizes.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import imageio.v3 as iio

from mv3d.cli.main import main as mv3d
from mv3d.orbits.dataset import OrbitSet, OrbitSetConfig

_FRAMES = 8
_COMMON = f"--frames {_FRAMES} --precision fp32 --no-gradient-checkpointing --workers 1 --validate-every 0 --device cpu"


def run(command: str) -> None:
    """Print a command and run it; a failure ends the benchmark."""
    print(f"$ mv3d {command}", flush=True)
    code = mv3d(shlex.split(command))
    if code:
        raise SystemExit(code)


def orbits(out: Path, name: str, count: int, seed: int, trajectory: str) -> Path:
    """Rendered orbits of procedural objects."""
    folder = out / name
    if not (folder / "index.json").exists():
        run(f"orbits procedural --out {out / name}-objects --count {count} --seed {seed}")
        run(
            f"orbits render {out / name}-objects --out {folder} --views {12 if trajectory == 'dynamic' else _FRAMES} --size 64 "
            f"--trajectory {trajectory} --elevation 0:30 --seed {seed} --samples 2 --light-samples 16 --workers 1"
        )
    return folder


def clips(shards: Path, out: Path) -> Path:
    """The orbits as videos on white, without their cameras."""
    out.mkdir(exist_ok=True)
    samples = OrbitSet(shards, OrbitSetConfig(frames=12, backgrounds=("white",)))
    for number in range(len(samples)):
        sample = samples.sample(number)
        path = out / f"{sample['uid']}.mp4"
        if not path.exists():
            pixels = sample["images"][..., :3].numpy()
            iio.imwrite(path, pixels, plugin="pyav", codec="libx264", fps=8)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    for name, value in (
        ("clips", 160),
        ("objects", 120),
        ("base-steps", 400),
        ("steps", 160),
        ("every", 40),
        ("seeds", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    moving = clips(orbits(out, "moving", arguments.clips, 21, "dynamic"), out / "clips")
    data = orbits(out, "data", arguments.objects, 22, "static")
    held_out = orbits(out, "held-out", 24, 23, "static")
    base = f"--steps {arguments.base_steps} --resolution 64 --patch 16 --latent-channels 48 --channels 32 64 --lr 1e-3"
    run(
        f"train --preset autoencoder --data {moving} --out {out}/parts --resolution 64 --patch 16 --latent-channels 48 {_COMMON}"
    )
    parts = f"--preset tiny --base {out}/parts/model --data {moving} {base} --warmup 50 --ema 0.99"
    run(f"train {parts} --out {out}/video {_COMMON} --batch 8 --micro-batch 8")
    run(
        f"train {parts} --out {out}/image {_COMMON.replace(f'--frames {_FRAMES}', '--frames 1')} --batch 64 --micro-batch 64"
    )
    run(
        f"study prior --preset sv3d_p --data {data} --evaluation {held_out} --base {out}/video/model --image-base "
        f"{out}/image/model --out {out}/study --steps {arguments.steps} --every {arguments.every} --seeds {arguments.seeds} "
        f"--evaluation-orbits 8 --validation-steps 10 --batch 4 --micro-batch 4 --lr 1e-3 --warmup 20 --ema 0.98 --p-mean 0 "
        f"--p-std 1.2 --cond-mean -5 --backgrounds white {_COMMON}"
    )


if __name__ == "__main__":
    main()
