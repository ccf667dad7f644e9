"""`mv3d generate`'s path beside diffusers' own `StableVideoDiffusionPipeline`, with the same network.

    python benchmarks/generation.py [--quick | --small] [--out generation.json]
    python benchmarks/generation.py --device cuda --channels 320 640 1280 1280 --size 576 --fp16    the full size

Random weights (from one seed, the same for both), SVD's vector, the same photo, seed, noise levels, frames and guidance. Every
measurement is a process of its own, so that its peak memory is its own; rounds alternate, a figure is the median over the
rounds. A step: the median of the seconds between the ends of two steps. A generation: from the photo to frames in
memory, everything loaded and warm (one generation of two steps comes first). Decoding alone: by how many frames go at a time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from generation_sides import GUIDANCE, Job, Measured, Setup, network_of, run_job
from part import (
    Chart,
    Part,
    Series,
    Table,
    describe_machine,
    part_parser,
    rounded,
    scale_of,
    versions_of,
    write_part,
)

from mv3d.core.errors import UsageError

SETUPS = {
    "quick": Setup((32, 64, 64), 64, 8, 4, 1, 4, (8,)),
    "small": Setup((64, 128, 128, 128), 128, 21, 8, 6, 7, (1, 7, 21)),
    "full": Setup((64, 128, 256, 256), 256, 21, 25, 6, 7, (1, 3, 7, 21)),
}


def in_own_process(job: Job) -> Measured:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run_job, job).result()


def variants(setup: Setup) -> list[Job]:
    """The generations that are compared: with and without offloading where there is a GPU."""
    offloads = (False, True) if setup.device.startswith("cuda") else (False,)
    return [
        Job(setup, who, "generate", offload, setup.chunk)
        for offload in offloads
        for who in ("mv3d", "diffusers")
    ]


def alternating(jobs: list[Job], rounds: int, run: Callable[[Job], Measured]) -> dict[Job, list[Measured]]:
    """Every job once a round, in the other order every second round."""
    found: dict[Job, list[Measured]] = {job: [] for job in jobs}
    for number in range(rounds):
        for job in jobs if number % 2 == 0 else jobs[::-1]:
            found[job].append(run(job))
            last = found[job][-1]
            step = "" if last.step is None else f"{last.step:.3f} s a step, "
            print(
                f"round {number}: {name_of(job)}, {job.chunk} decoded at a time: {step}{last.seconds:.2f} s, "
                f"{last.peak_gb:.2f} GB",
                flush=True,
            )
    return found


def name_of(job: Job) -> str:
    if job.what == "decode":
        return "mv3d, decoding" if job.who == "mv3d" else "diffusers, decoding"
    names = {
        ("mv3d", False): "mv3d",
        ("mv3d", True): "mv3d, --offload model",
        ("diffusers", False): "diffusers' pipeline",
        ("diffusers", True): "diffusers' pipeline, enable_model_cpu_offload",
    }
    return names[job.who, job.offload]


def median_of(found: list[Measured], name: str) -> float | None:
    values = [getattr(m, name) for m in found]
    return None if values[0] is None else rounded(statistics.median(values))


def table_of(caption: str, found: dict[Job, list[Measured]]) -> Table:
    columns = ("", "frames decoded at a time", "s per step", "s in all", "peak memory GB", "GPU memory GB")
    rows = tuple(
        (
            name_of(job),
            job.chunk,
            *(median_of(got, name) for name in ("step", "seconds", "peak_gb", "device_gb")),
        )
        for job, got in found.items()
    )
    return Table(caption, columns, rows)


def differences(found: dict[Job, list[Measured]]) -> dict[Job, tuple[float, float]]:
    """Largest and mean difference of each variant's frames from the first one's, in the first round, of 255."""
    pictures = {job: got[0].frames for job, got in found.items()}
    first = next(iter(pictures.values()))
    gaps = {job: np.abs(picture - first) * 255 for job, picture in pictures.items()}
    return {job: (float(gap.max()), float(gap.mean())) for job, gap in gaps.items()}


def difference_text(found: dict[Job, list[Measured]], *, fp16: bool) -> str:
    """One sentence about every variant but the first."""
    first, *others = differences(found).items()
    told = "; ".join(f"{name_of(job)} {largest:.2g}, {mean:.2g}" for job, (largest, mean) in others)
    why = (
        " In half precision the pipeline's autoencoder decodes in it as well, ours in single, and a random network makes "
        "much of what is rounded."
        if fp16
        else ""
    )
    return f"Frames of the same seed, largest and mean difference from those of {name_of(first[0])}, of 255: {told}.{why}"


def counted(rounds: int) -> str:
    return f"{rounds} round{'s' if rounds != 1 else ''}"


def ratio_text(found: dict[Job, list[Measured]]) -> str:
    """Ours by theirs, the median over the rounds of the ratio within a round, and how far the rounds lie apart."""
    ours, theirs = (
        next(got for job, got in found.items() if job.who == who and not job.offload)
        for who in ("mv3d", "diffusers")
    )

    def told(name: str) -> str:
        ratios = [getattr(a, name) / getattr(b, name) for a, b in zip(ours, theirs, strict=True)]
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

    return (
        f"mv3d by diffusers, median (lowest to highest) over {counted(len(ours))} of the ratio within a round: "
        f"{told('step')} of the seconds of a step, {told('seconds')} of those of a generation, {told('peak_gb')} of the "
        "peak memory."
    )


def measure(setup: Setup) -> tuple[tuple[str, ...], tuple[Table, ...], tuple[Chart, ...]]:
    """Text, tables and charts."""
    made = alternating(variants(setup), setup.rounds, in_own_process)
    decode_jobs = [
        Job(setup, who, "decode", chunk=chunk) for chunk in setup.chunks for who in ("mv3d", "diffusers")
    ]
    decoded = alternating(decode_jobs, 1, in_own_process)
    size = f"{setup.frames} frames of {setup.size}² pixels ({setup.latent}² latents), {setup.steps} steps"
    weights = sum(p.numel() for p in _shape_only(setup)) / 1e6
    text = [
        f"{size}; a network of SVD's form with channels {', '.join(map(str, setup.channels))} ({weights:.0f} million "
        f"weights) and guidance 1 to {GUIDANCE:g} in one call of two branches; random weights, the same for both; "
        f"{'half' if setup.fp16 else 'single'} precision on {setup.device}. Peak memory is that of the process, libraries included.",
        ratio_text(made),
        difference_text(made, fp16=setup.fp16),
    ]
    if not setup.device.startswith("cuda"):
        text.append(
            "Offloading (`--offload model`, `enable_model_cpu_offload`) needs a CUDA device and was not measured here; "
            "`--device cuda` measures both."
        )
    tables = (
        table_of(f"One generation, median of {counted(setup.rounds)}", made),
        table_of("Decoding alone, in a process that holds nothing but the autoencoder", decoded),
    )
    series = tuple(
        Series(
            who,
            tuple(
                (float(job.chunk), float(got[0].device_gb or got[0].peak_gb))
                for job, got in decoded.items()
                if job.who == who
            ),
        )
        for who in ("mv3d", "diffusers")
    )
    chart = Chart(
        "generation-decoding", "Memory of decoding", "frames decoded at a time", "peak memory, GB", series
    )
    return tuple(text), tables, (chart,)


def _shape_only(setup: Setup) -> Iterator[torch.Tensor]:
    with torch.device("meta"):
        return network_of(setup).build().parameters()


def setup_of(options: argparse.Namespace) -> Setup:
    """The scale's, with what was asked for instead. Raises UsageError for a size that the network cannot have."""
    setup = SETUPS[scale_of(options)]
    given = {
        "channels": tuple(options.channels) if options.channels else None,
        "size": options.size, "frames": options.frames, "steps": options.steps, "rounds": options.rounds,
        "chunk": options.decode_chunk,
    }  # fmt: skip
    setup = replace(setup, **{key: value for key, value in given.items() if value is not None})
    factor = 8 * 2 ** (len(setup.channels) - 1)
    if setup.size % factor:
        raise UsageError(
            f"--size: expected a multiple of {factor} for {len(setup.channels)} levels, got {setup.size}"
        )
    chunks = tuple(sorted({min(chunk, setup.frames) for chunk in setup.chunks}))
    return replace(setup, chunks=chunks, device=options.device, fp16=options.fp16, threads=options.threads)


def main() -> None:
    parser = part_parser(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--channels", type=int, nargs="+", default=None)
    parser.add_argument("--size", type=int, default=None, help="side of the frames in pixels")
    parser.add_argument("--frames", type=int, default=None)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--decode-chunk", type=int, default=None)
    parser.add_argument("--fp16", action="store_true")
    parser.add_argument("--threads", type=int, default=0, help="of torch; by default its own choice")
    options = parser.parse_args()
    begun = time.perf_counter()
    text, tables, charts = measure(setup_of(options))
    part = Part(
        "generation",
        "Generation beside diffusers' pipeline",
        describe_machine(),
        versions_of("mv3d", "torch", "diffusers", "transformers"),
        round(time.perf_counter() - begun, 1),
        text,
        tables,
        charts,
    )
    print("\n".join(part.text))
    if options.out:
        write_part(part, options.out)


if __name__ == "__main__":
    main()
