"""`mv3d generate`: photos in, posed views out."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mv3d.cli.output import StageBars, note, print_result
from mv3d.core.errors import UsageError


@dataclass(frozen=True)
class GenerateCommand:
    """Turn photos of single objects into posed views."""

    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE...")]
    """Photos, or folders of photos. Best with transparency; else they are cut out."""
    out: Path = Path("out")
    """Where to write; several photos go to OUT/NAME each."""
    model: str = "default"
    """default, sv3d_u, sv3d_p, a hub id (owner/name), or a model folder."""
    revision: str | None = None
    """Of a hub id: a commit, tag or branch."""
    lora: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE[:WEIGHT]"), tyro.conf.UseAppendAction] = ()
    """An adapter, with its weight (default 1). Give the flag several times to mix several."""
    views: int | None = None
    """How many. Default: as many as the model was trained for."""
    elevation: Annotated[str | None, tyro.conf.arg(metavar="DEG|auto")] = None
    """Of the photo's camera, degrees up. auto: found by trial, about as long as the generation itself.
    Default: 10 for a model that takes it; for one that does not, measured on its views."""
    trajectory: Annotated[str, tyro.conf.arg(metavar="static|dynamic|sine|FILE.json")] = "static"
    """The cameras' path: one height, a smooth random path (--seed), a wave, or angles of your own."""
    steps: int | None = None
    """Noise levels of the sampler. Default: the model's (SV3D: 50)."""
    sampler: Literal["euler", "heun", "dpmpp_2m"] | None = None
    """euler: the original. dpmpp_2m: as good in fewer steps. heun: two network calls per step."""
    guidance: Annotated[float | None, tyro.conf.arg(metavar="MAX")] = None
    """Largest guidance, opposite the photo; 1 at the photo. Default: the model's (SV3D: 2.5)."""
    seed: int = 0
    """The same seed gives the same views."""
    foreground_ratio: float = 0.917
    """Share of the frame that the object's larger side fills."""
    matting: Literal["auto", "rembg", "colour"] = "auto"
    """How photos without transparency are cut out. auto: rembg where it and its model are here."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Of the network. auto: fp16 on CUDA, fp32 on the CPU."""
    offload: Literal["none", "model"] = "none"
    """model: only the part at work is on the GPU; less memory, a little slower."""
    decode_chunk: int = 7
    """Views decoded at a time: fewer need less memory."""
    overwrite: bool = False
    """Replace earlier results, and remove the mesh that was made of them in the same folder."""
    json: bool = False
    """Print one JSON object."""


def generate(command: GenerateCommand) -> int:
    """Run the command; the exit code."""
    from mv3d.generation.config import GenerateConfig

    if not command.images:
        raise UsageError("expected at least one IMAGE or folder of images; see mv3d generate --help")
    config = GenerateConfig(
        model=command.model,
        revision=command.revision,
        lora=command.lora,
        views=command.views,
        elevation=_elevation(command.elevation),
        trajectory=command.trajectory,
        steps=command.steps,
        sampler=command.sampler,
        guidance=command.guidance,
        seed=command.seed,
        foreground_ratio=command.foreground_ratio,
        matting=command.matting,
        device=command.device,
        dtype=command.dtype,
        offload=command.offload,
        decode_chunk=command.decode_chunk,
    )
    from mv3d.models.locate import resolve

    resolve(command.model, revision=command.revision)  # a wrong name is told before torch loads
    from mv3d.generation.run import GenerateResult, generate_to

    bars = StageBars()

    def report(result: GenerateResult) -> None:
        bars.close()
        for warning in result.record.get("warnings", ()) if not result.already_done else ():
            note(f"warning: {warning}")
        if result.already_done:
            note(
                f"{result.out_dir}: done already: the same input and settings; use --overwrite to make it again"
            )
        elif result.error is None:
            record = result.record
            note(f"{result.out_dir}: {record['views']} views in {record['seconds']['total']:.0f} s")
        if result.removed:
            note(
                f"{result.out_dir}: removed {', '.join(result.removed)}: made of the views that were replaced; "
                f"make new ones with: mv3d recon {result.out_dir}"
            )

    try:
        results = generate_to(
            command.images,
            command.out,
            config,
            overwrite=command.overwrite,
            progress=lambda name: bars,
            on_result=report,
        )
    finally:
        bars.close()
    failed = [result for result in results if result.error is not None]
    if len(results) == 1 and failed and failed[0].error is not None and not command.json:
        raise failed[0].error
    for result in failed:
        print(f"mv3d: {result.error}", file=sys.stderr)
    if len(results) > 1 and failed:
        note(f"{len(failed)} of {len(results)} failed")
    document = {
        "results": [
            {
                "image": str(r.image),
                "out": str(r.out_dir),
                "already_done": r.already_done,
                "error": None if r.error is None else str(r.error),
                "record": r.record,
            }
            for r in results
        ]
    }
    print_result([str(r.out_dir) for r in results if r.error is None], document, as_json=command.json)
    return 1 if failed else 0


def _elevation(text: str | None) -> float | Literal["auto"] | None:
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"--elevation: expected a number of degrees or auto, got {text}") from error
