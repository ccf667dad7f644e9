"""A job as a process of its own: `python -m mv3d.app.job_process`, in the folder of the job.

It tells its progress in lines of JSON on stdout, what libraries print goes to stderr, and it ends when its stdin does:
a server that is gone leaves no process behind. Exit codes are those of the command line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mv3d.app.job import Job, read_job
from mv3d.app.job_settings import photo_configs, views_configs
from mv3d.app.job_store import CUTOUT, OUT, PREVIEWS
from mv3d.core.errors import InputError, Mv3dError, Mv3dWarning
from mv3d.core.files import atomic_path, remove
from mv3d.core.signals import terminated_as_interrupt
from mv3d.generation.config import GenerateConfig, LiftConfig

if TYPE_CHECKING:
    import numpy as np

    from mv3d.recon.pipeline import ReconResult

Tell = Callable[..., None]
_CUTOUT_SIDE = 384
_PREVIEW_SIDE = 256
_NOT_TRUSTED = "the result is written, but does not fit its views, and is not to be trusted"
_LAST_WORDS_S = 10.0


def main() -> int:
    """Run the job of the present folder; the exit code."""
    tell = _teller()
    threading.Thread(target=_end_with_server, daemon=True).start()
    try:
        with terminated_as_interrupt():
            run_job(Path.cwd(), tell)
    except Mv3dError as error:
        tell(error=str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 143
    except OSError as error:
        if error.filename is None:
            raise
        tell(error=f"{Path(error.filename).name}: {error.strerror}; check the disk")
        return 1
    return 0


def run_job(folder: Path, tell: Tell) -> None:
    """Make what the job of a folder asks for. Raises Mv3dError.

    tell: is called with `stage` and `progress`; with `warnings`, all that are known so far; Paths are relative to the present folder, so that no sentence tells where the server keeps its jobs.
    """
    job = read_job(folder)
    if job is None:
        raise InputError(f"{folder}: expected a job.json, found none that can be read")
    heard: list[str] = []
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, Mv3dWarning):
                heard.append(str(message))
                tell(warnings=heard)
            else:
                usual(message, category, *where, **more)

        warnings.showwarning = show
        results = _from_photo(job, tell) if job.kind == "photo" else _from_views(job, tell)
    tell(warnings=list(dict.fromkeys([*heard, *results])))


def _from_photo(job: Job, tell: Tell) -> list[str]:
    """The warnings of the results."""
    configs = photo_configs(job.settings)
    settings = configs.for_photo() if isinstance(configs, LiftConfig) else configs[0]
    _show_cutout(job.kind, settings, tell)
    if isinstance(configs, LiftConfig):
        import torch  # noqa: PLC0415 - after the cut-out, which is there at once

        from mv3d.generation.lifting import lift_to  # noqa: PLC0415

        torch.set_num_threads(1)  # more wait for each other longer than the small network takes
        return _told(
            lift_to(job.kind, OUT, configs, overwrite=True, keep_finished=True, progress=_progress(tell))
        )
    for_views, for_mesh = configs
    found: list[str] = []

    def on_views(views: Any) -> None:
        _clear_previews()
        if views.error is None:
            found.extend(views.record.get("warnings", ()))
            tell(warnings=found)

    _clear_previews()
    if for_mesh is None:
        from mv3d.generation.batch import generate_to  # noqa: PLC0415 - loads torch and diffusers

        progress = _progress(tell)
        (views,) = generate_to(
            [job.kind], OUT, for_views, overwrite=True, keep_finished=True,
            progress=lambda _: progress, on_result=on_views, on_frame=_show_frame,
        )  # fmt: skip
        if views.error is not None:
            raise views.error
        return found
    from mv3d.api import make_to  # noqa: PLC0415 - loads torch and diffusers

    _, mesh = make_to(
        job.kind, OUT, for_views, for_mesh, overwrite=True,
        progress=_progress(tell), on_views=on_views, on_frame=_show_frame,
    )  # fmt: skip
    return [*found, *_told(mesh)]


def _from_views(job: Job, tell: Tell) -> list[str]:
    from mv3d.api import reconstruct_to  # noqa: PLC0415 - loads torch

    source = next((path.name for path in sorted(Path().glob(f"{job.kind}*"))), job.kind)
    for_mesh, reading = views_configs(job.settings)
    mesh = reconstruct_to(
        source, OUT, for_mesh, reading=reading, overwrite=True, keep_finished=True, progress=_progress(tell)
    )
    return _told(mesh)


def _told(mesh: ReconResult) -> list[str]:
    return [*mesh.report.get("warnings", ()), *([] if mesh.fits else [_NOT_TRUSTED])]


def _show_cutout(photo: str, config: GenerateConfig, tell: Tell) -> None:
    """Write the object as it is cut out of the photo, before the long work begins."""
    tell(stage="cut out", progress=0.0)
    from PIL import Image  # noqa: PLC0415 - the process tells that it runs before it loads anything

    from mv3d.generation.photo import prepare_image  # noqa: PLC0415
    from mv3d.views.folder import to_uint8  # noqa: PLC0415

    prepared = prepare_image(
        photo, width=_CUTOUT_SIDE, foreground_ratio=config.foreground_ratio, matting=config.matting
    )
    with atomic_path(Path(CUTOUT)) as part:
        Image.fromarray(to_uint8(prepared.rgba)).save(part, format="PNG")
    tell(stage="cut out", progress=1.0, warnings=list(prepared.warnings))


def _show_frame(index: int, _: int, frame: np.ndarray) -> None:
    """Write a view on white as it is made, small, for the page."""
    from PIL import Image  # noqa: PLC0415

    from mv3d.views.folder import to_uint8  # noqa: PLC0415

    picture = Image.fromarray(to_uint8(frame[..., :3]))
    picture.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    Path(PREVIEWS).mkdir(exist_ok=True)
    with atomic_path(Path(PREVIEWS, f"{index:03d}.png")) as part:
        picture.save(part, format="PNG")


def _clear_previews() -> None:
    if Path(PREVIEWS).exists():
        remove(Path(PREVIEWS))


def _progress(tell: Tell) -> Callable[[str, float], None]:
    last = [0.0, ""]

    def report(stage: str, share: float) -> None:
        if stage != last[1] or share in (0.0, 1.0) or time.monotonic() - float(last[0]) > 0.1:
            last[:] = [time.monotonic(), stage]
            tell(stage=stage, progress=share)

    return report


def _teller() -> Tell:
    """Lines to the server; from now on whatever else is written to stdout goes to stderr."""
    sys.stdout.flush()
    channel, lock = os.dup(1), threading.Lock()
    os.dup2(2, 1)

    def tell(**values: Any) -> None:
        with lock:
            os.write(channel, json.dumps(values).encode() + b"\n")

    return tell


def _end_with_server() -> None:
    """Wait until the server closes our stdin, by ending it or by its own end; then end as by SIGTERM, or else at once."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_LAST_WORDS_S)
    os._exit(143)


if __name__ == "__main__":
    sys.exit(main())
