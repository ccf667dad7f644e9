"""The stages of `mv3d eval run`, from the meshes to the table; a run can be killed and resumed at any point.

Each object passes three stages, each with a record of its settings and inputs: the truth is rendered, the model
generates views from the truth's last view, the two are compared. A stage whose record matches is kept, so the same call
resumes an interrupted one and gives the same table. An object that fails a stage becomes a row of `rejects`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mv3d.core.errors import InputError, MissingPartError, Mv3dError, OutputError, UsageError
from mv3d.core.files import discard, sha256, to_json, write_text
from mv3d.core.locking import folder_lock
from mv3d.core.machine import is_out_of_memory
from mv3d.core.outputs import refuse_inputs, unchanged
from mv3d.core.progress import Progress
from mv3d.core.records import (
    SCHEMA,
    RunRecord,
    RunStatus,
    read_document,
    read_record,
    refuse_other_algorithm,
    run_status,
    write_record,
)
from mv3d.evaluation.run.config import EvalRunConfig
from mv3d.evaluation.run.folders import (
    RECORD,
    facts_of,
    is_current,
    read_pictures,
    views_digest,
    write_object,
)
from mv3d.evaluation.run.plan import Plan, default_out, plan_run, protocol
from mv3d.evaluation.run.scores import score_object
from mv3d.evaluation.run.tables import csv_text, markdown, table_document
from mv3d.orbits.as_views import read_sample
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.infrastructure.isolate import Limits, LocalPool, Work
from mv3d.orbits.jobs import render_object
from mv3d.orbits.sample import Reject

if TYPE_CHECKING:
    from mv3d.generation.views import LoadedModel

PROTOCOL = "protocol.json"
TABLES = ("table.md", "table.csv", "table.json")
TRUTH, GENERATED, OBJECTS = "truth", "generated", "objects"


@dataclass(frozen=True)
class EvalRunResult:
    """The folder and its table. table: the content of table.json. already_done: nothing was computed."""

    out_dir: Path
    table: dict[str, Any] = field(repr=False)
    already_done: bool = False


def evaluate_model(
    source: str | os.PathLike[str],
    out_dir: str | os.PathLike[str] | None = None,
    config: EvalRunConfig | None = None,
    *,
    workers: int = 1,
    limits: Limits | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    work: Work = render_object,
) -> EvalRunResult:
    """Evaluate a model on a folder or a list of objects (`mv3d.orbits.catalogue`), and write a table to `out_dir`.

    out_dir: by default SET-MODEL-ORBIT. It holds table.md, table.json, table.csv (a line for each object),
    protocol.json, and below truth/ and generated/ a views folder for each object. workers: objects rendered at a time,
    each in a process of its own within `limits`. overwrite: replace a table of other settings, and retry the objects
    that were left out; renders and views that the new settings do not change are kept.

    Raises InputError for a list or a model that cannot be used, UsageError for an orbit that the model cannot make,
    OutputError if the folder holds something else or another run is at work there, MissingPartError for a metric that
    is asked for and cannot be had. The failure of a single object is a row of the table's `rejects`.
    """
    config = config or EvalRunConfig()
    if workers < 1:
        raise UsageError(f"--workers: expected at least 1, got {workers}")
    plan = plan_run(source, config)
    out = Path(out_dir) if out_dir is not None else default_out(source, config)
    with folder_lock(out, (PROTOCOL, *TABLES)):
        run = _Run(plan, out, overwrite)
        run.claim()
        if run.finished:
            return EvalRunResult(out, run.table(), already_done=True)
        for left in sorted({path.parent for path in out.glob("*/*/.mv3d*")}):  # by a run that was killed
            with folder_lock(left):
                pass
        run.begin()
        run.render(workers, limits or Limits(), work, progress)
        run.generate(progress)
        run.compare(progress)
        return EvalRunResult(out, run.finish())


class _Run:
    """The folder of one evaluation. One process at a time uses it."""

    def __init__(self, plan: Plan, out: Path, overwrite: bool) -> None:
        self._plan, self._out, self._overwrite = plan, out, overwrite

    @property
    def finished(self) -> bool:
        """True if the tables of this request are complete and carry the warnings that the model's documents give now."""
        plan, path = self._plan, self._out / PROTOCOL
        status = run_status(path, settings=plan.settings, input_sha256=plan.objects_sha256)
        if status is not RunStatus.DONE:
            return False
        return self.table()["warnings"] == list(plan.contamination.warnings)

    def claim(self) -> None:
        """Refuse a folder of another request, and clean up after a killed run."""
        out, plan, overwrite = self._out, self._plan, self._overwrite
        record = read_record(out / PROTOCOL)
        there = [name for name in (PROTOCOL, *TABLES, TRUTH, GENERATED, OBJECTS) if (out / name).exists()]
        same = record is not None and record.details.get("identity_sha256") == plan.identity_sha256
        if record is None and there:
            raise OutputError(
                f"{out}: holds {', '.join(there)} of something else; choose another --out, or remove them"
            )
        if record is not None and not same and not overwrite:
            raise OutputError(
                f"{out}: holds another evaluation ({_difference(record, plan)}); choose another --out, or use "
                "--overwrite to replace it (renderings and views that are still right are kept)"
            )
        if not overwrite:
            refuse_other_algorithm(out / PROTOCOL)
        refuse_inputs(out, (TRUTH, GENERATED, OBJECTS), [item.path for item in plan.items if item.path])
        if overwrite:
            stale = list[Path]()
            for path in [*(out / name for name in TABLES), *(out / OBJECTS).glob("*.json")]:
                if path.name in TABLES or path.stem in plan.digests or "uid" in (read_document(path) or {}):
                    stale.append(path)
            discard(out, [path.relative_to(out).as_posix() for path in (*stale, *self._others())])

    def begin(self) -> None:
        """Record the request as unfinished."""
        write_record(self._out / PROTOCOL, self._record(finished=False))
        (self._out / OBJECTS).mkdir(exist_ok=True)

    def render(self, workers: int, limits: Limits, work: Work, progress: Progress | None) -> None:
        """Render the truth of every object that has none yet."""
        todo = [item for item in self._kept() if not self._has_truth(item)]
        with LocalPool(work, self._plan.orbit, workers=workers, limits=limits) as pool:
            begun = done = 0
            while done < len(todo):
                while begun < len(todo) and pool.capacity() > 0:
                    pool.submit(begun, todo[begun])
                    begun += 1
                for position, outcome in pool.results():
                    item, done = todo[position], done + 1
                    if isinstance(outcome, Reject):
                        self._reject(item, "render", outcome.reason, outcome.detail)
                        continue
                    views, facts = read_sample(outcome)
                    write_object(
                        views,
                        self._truth(item),
                        overwrite=self._overwrite,
                        command="orbits render",
                        settings=self._plan.truth,
                        input_sha256=self._plan.digests[item.uid],
                        **facts,
                    )
                    _report(progress, "render", done, len(todo))

    def generate(self, progress: Progress | None) -> None:
        """Generate views of every truth that has none yet. The model is loaded for the first of them."""
        from mv3d.generation.views import load_model  # noqa: PLC0415 - loads diffusers

        model: LoadedModel | None = None
        for item in self._remaining("generate", self._has_views, progress):
            model = model or load_model(self._plan.generate)
            try:
                self._generate_one(item, model)
            except (MissingPartError, OutputError):
                raise
            except Mv3dError as error:
                if error.__cause__ is not None and is_out_of_memory(error.__cause__):
                    raise  # no fault of this object: the next one would end the same way
                self._reject(item, "generate", type(error).__name__, str(error))

    def compare(self, progress: Progress | None) -> None:
        """Score every object that has no scores yet."""
        plan = self._plan
        for item in self._remaining("compare", self._scores, progress):
            try:
                scores = score_object(
                    read_pictures(self._generated(item)),
                    read_pictures(self._truth(item)),
                    size=plan.scoring["size"],
                    found=plan.found,
                    baseline=plan.config.baseline,
                )
            except InputError as error:
                self._reject(item, "compare", type(error).__name__, str(error))
                continue
            self._note(item, {"of": self._scored_of(item), "scores": scores})

    def finish(self) -> dict[str, Any]:
        """Write the tables, then the record that marks them as complete."""
        out, plan = self._out, self._plan
        found = {item.uid: scores for item in plan.items if (scores := self._scores(item)) is not None}
        rejects = [reject for item in plan.items if (reject := self._rejected(item)) is not None]
        assert len(found) + len(rejects) == len(plan.items), "every object is in the table"
        table = table_document(plan, found, rejects)
        write_text(out / "table.json", to_json(table))
        write_text(out / "table.csv", csv_text(table))
        write_text(out / "table.md", markdown(table, protocol(plan)))
        write_record(out / PROTOCOL, self._record(finished=True))
        return table

    def table(self) -> dict[str, Any]:
        """table.json of a finished run."""
        return json.loads((self._out / "table.json").read_text(encoding="utf-8"))

    def _generate_one(self, item: CatalogueItem, model: LoadedModel) -> None:
        from mv3d.generation.photo import PreparedPhoto  # noqa: PLC0415 - as above
        from mv3d.generation.views import generate_orbit  # noqa: PLC0415
        from mv3d.views.views import Views  # noqa: PLC0415

        truth = read_pictures(self._truth(item))
        assert truth.input_view is not None and truth.cameras is not None
        config = self._plan.generate
        if self._plan.config.orbit == "dynamic":  # the truth's own path, whatever it is
            path = str(self._truth(item) / "transforms.json")
            config = replace(config, trajectory=path, elevation=None)
        made = generate_orbit(PreparedPhoto(truth.images[truth.input_view], "alpha"), config, model)
        write_object(
            Views(made.views.images, truth.cameras, truth.orbit, truth.input_view),
            self._generated(item),
            overwrite=self._overwrite,
            command="generate",
            settings=self._plan.generation,
            input_sha256=views_digest(self._truth(item)),
            warnings=list(made.warnings),
            seconds=made.seconds,
        )

    def _kept(self) -> list[CatalogueItem]:
        return [item for item in self._plan.items if self._rejected(item) is None]

    def _remaining(
        self, stage: str, done: Callable[[CatalogueItem], Any], progress: Progress | None
    ) -> Iterator[CatalogueItem]:
        """The objects that a stage has not done yet, with a report before each and after the last."""
        todo = [item for item in self._kept() if not done(item)]
        for number, item in enumerate(todo):
            _report(progress, stage, number, len(todo))
            yield item
        _report(progress, stage, len(todo), len(todo))

    def _has_truth(self, item: CatalogueItem) -> bool:
        digest = self._plan.digests[item.uid] or "absent"
        return is_current(self._truth(item), settings=self._plan.truth, input_sha256=digest)

    def _has_views(self, item: CatalogueItem) -> bool:
        digest = views_digest(self._truth(item))
        return is_current(self._generated(item), settings=self._plan.generation, input_sha256=digest)

    def _scores(self, item: CatalogueItem) -> dict[str, Any] | None:
        """The scores of the present views; None if there are none."""
        document = read_document(self._object(item)) or {}
        return document.get("scores") if document.get("of") == self._scored_of(item) else None

    def _scored_of(self, item: CatalogueItem) -> dict[str, Any]:
        return {
            "truth": views_digest(self._truth(item)),
            "generated": views_digest(self._generated(item)),
            "scoring": json.loads(json.dumps(self._plan.scoring)),
            "baseline": self._plan.config.baseline,
        }

    def _rejected(self, item: CatalogueItem) -> dict[str, str] | None:
        document = read_document(self._object(item)) or {}
        return document.get("reject") if document.get("of") == self._plan.identity_sha256 else None

    def _reject(self, item: CatalogueItem, stage: str, reason: str, detail: str) -> None:
        line = " ".join(detail.split()).replace(f"{self._out}{os.sep}", "")
        reject = {"uid": item.uid, "stage": stage, "reason": reason, "detail": line}
        self._note(item, {"of": self._plan.identity_sha256, "reject": reject})

    def _note(self, item: CatalogueItem, document: Mapping[str, Any]) -> None:
        write_text(self._object(item), to_json({"schema": SCHEMA, "uid": item.uid, **document}))

    def _record(self, *, finished: bool) -> RunRecord:
        out, plan = self._out, self._plan
        objects = []
        for item in plan.items:
            about = {key: value for key, value in asdict(item).items() if key in _ABOUT}
            facts = facts_of(self._truth(item)) if finished and self._rejected(item) is None else {}
            shown = {key: facts[key] for key in ("cameras", "environment", "normalization") if key in facts}
            objects.append(about | {"sha256": plan.digests[item.uid]} | shown)
        return RunRecord.of(
            "eval run",
            input_sha256=plan.objects_sha256,
            details={
                "finished": finished,
                "protocol": protocol(plan),
                "objects": objects,
                "identity_sha256": plan.identity_sha256,
            },
            settings=plan.settings,
            outputs={name: sha256(out / name) for name in TABLES} if finished else {},
        )

    def _others(self) -> Iterator[Path]:
        """Folders of objects that the list no longer holds, if they hold nothing else and nobody changed them."""
        for folder in [*(self._out / TRUTH).glob("*"), *(self._out / GENERATED).glob("*")]:
            record = read_record(folder / RECORD)
            if folder.name not in self._plan.digests and record is not None:
                if {path.name for path in folder.iterdir()} == {RECORD, *unchanged(folder, record)}:
                    yield folder

    def _truth(self, item: CatalogueItem) -> Path:
        return self._out / TRUTH / item.uid

    def _generated(self, item: CatalogueItem) -> Path:
        return self._out / GENERATED / item.uid

    def _object(self, item: CatalogueItem) -> Path:
        return self._out / OBJECTS / f"{item.uid}.json"


_ABOUT = ("uid", "title", "category", "licence", "author", "source")


def _report(progress: Progress | None, stage: str, done: int, total: int) -> None:
    if progress is not None:
        progress(stage, done / total if total else 1.0)


def _difference(record: RunRecord, plan: Plan) -> str:
    """The first setting that differs."""
    mine, there = json.loads(json.dumps(plan.settings)), record.settings or {}
    for key, value in mine.items():
        other = there.get(key)
        if other == value:
            continue
        if isinstance(value, dict) and isinstance(other, dict):
            inner = next(name for name in {**other, **value} if other.get(name) != value.get(name))
            return f"{key}: {inner}: there {other.get(inner)}, asked for {value.get(inner)}"
        return f"{key}: there {other}, asked for {value}"
    return "another list of objects"
