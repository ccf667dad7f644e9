"""The table of an evaluation, as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from mv3d.core.records import SCHEMA
from mv3d.evaluation.run.plan import Plan
from mv3d.evaluation.run.published import REMARK, published_rows
from mv3d.evaluation.run.scores import METHODS, METRICS, Method, Part, by_view, differences, intervals
from mv3d.views.metrics import CONVENTION

_TITLES = {
    "psnr": "PSNR, dB ↑",
    "ssim": "SSIM ↑",
    "ssim_padded": "SSIM, padded ↑",
    "mse": "MSE ↓",
    "lpips": "LPIPS ↓",
    "clip_s": "CLIP-S ↑",
    "mask_iou": "mask IoU ↑",
    "silhouette_recall": "silhouette recall ↑",
}
_DIGITS = {"psnr": 2, "mse": 4}
_BRIEF = ("psnr", "ssim", "lpips", "clip_s", "mask_iou")
BASELINE = "input repeated"


def table_document(
    plan: Plan, scores: Mapping[str, Mapping[str, Any]], rejects: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """The document of table.json. scores: uid → result of `score_object`. rejects: uid, stage, reason, detail each."""
    ordered = [scores[item.uid] for item in plan.items if item.uid in scores]
    count, settings = len(ordered), {"resamples": plan.config.resamples, "seed": plan.config.seed}
    parts: tuple[Part, ...] = ("mean_without_input", "mean")
    rows: list[dict[str, Any]] = []
    for method, name in _names(plan).items():
        means = {part: intervals([score[method][part] for score in ordered], **settings) for part in parts}
        row = {"name": name, "kind": method, "objects": count, **means, "by_view": by_view(ordered, method)}
        rows.append(row)
    if plan.config.baseline:
        means = {part: intervals(differences(ordered, part), **settings) for part in parts}
        rows.append({"name": "difference, object by object", "kind": "difference", "objects": count, **means})
    published = [
        {
            "name": row.method,
            "kind": "published",
            "remark": REMARK,
            "source": f"{row.source}, table {row.table}",
            "objects": row.objects,
            "metrics": row.metrics,
        }
        for row in published_rows(plan.config.orbit)
    ]
    return {
        "schema": SCHEMA,
        "set": plan.name,
        "model": plan.config.model,
        "orbit": plan.config.orbit,
        "objects": len(plan.items),
        "compared": count,
        "left_out": len(rejects),
        "rows": [*rows, *published],
        "per_object": [_object_row(plan, index, scores) for index in range(len(plan.items))],
        "rejects": list(rejects),
        "warnings": list(plan.contamination.warnings),
        "training_data": {"looked_at": list(plan.contamination.looked_at)},
        "missing": dict(plan.found.missing),
        "bootstrap": {"over": "objects", "level": 0.95, **settings},
        "convention": CONVENTION,
    }


def csv_text(document: Mapping[str, Any]) -> str:
    """One line for each object and method, in the order of the list: means without the input view, then with it.

    An object that was left out has one line with the reason.
    """
    keys = _present(document)
    header = ["uid", "title", "licence", "author", "sha256", "way", "status", "stage", "reason", "detail"]
    header += [*keys, *(f"{key}_with_input" for key in keys)]
    rejects = {reject["uid"]: reject for reject in document["rejects"]}
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, header, lineterminator="\n", restval="")
    writer.writeheader()
    for row in document["per_object"]:
        about = {key: row[key] for key in ("uid", "title", "licence", "author", "sha256")}
        if row["uid"] in rejects:
            why = {key: rejects[row["uid"]][key] for key in ("stage", "reason", "detail")}
            writer.writerow(about | {"status": "left out"} | why)
        for method in METHODS:
            if method not in row:
                continue
            means = dict(row[method]["mean_without_input"])
            means |= {f"{key}_with_input": value for key, value in row[method]["mean"].items()}
            name = "model" if method == "model" else BASELINE
            writer.writerow(about | {"way": name, "status": "compared"} | means)
    return buffer.getvalue()


def markdown(document: Mapping[str, Any], protocol: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    keys = _shown(document)
    count, left_out = document["compared"], document["left_out"]
    head = ["", "objects", *(_TITLES[key] for key in keys)]
    lines = [f"# {_cell(document['model'])} on {_cell(document['set'])}, {document['orbit']} orbit", ""]
    lines += [line for text in document["warnings"] for line in (f"> **Warning:** {_cell(text)}", "")]
    lines += [
        f"{count} of {document['objects']} objects compared, {left_out} left out. Means over the objects, each the mean "
        "of its views without the input view; in brackets 95 % bootstrap intervals over the objects.",
        "",
        *_table(head, _rows(document, keys, "mean_without_input")),
        "",
        f"Rows with a source are {REMARK} ({_cell(', '.join(_sources(document)))}).",
        "",
        "With the input view, which comes back as it was given (its PSNR counts as 100 dB):",
        "",
        *_table(head, _rows(document, keys, "mean")),
        "",
        "## Objects",
        "",
        *_object_table(document),
    ]
    if document["rejects"]:
        lines += ["", "## Left out", ""]
        lines += [
            f"- `{r['uid']}`: {r['stage']}: {r['reason']}: {_cell(r['detail'])}" for r in document["rejects"]
        ]
    lines += ["", "## Protocol", "", *_protocol_lines(document, protocol), ""]
    return "\n".join(lines)


def summary_lines(document: Mapping[str, Any]) -> list[str]:
    """The means as aligned text for a terminal."""
    keys = _shown(document)
    head = ["", "objects", *(_TITLES[key] for key in keys)]
    rows = [head, *_rows(document, keys, "mean_without_input")]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _names(plan: Plan) -> dict[Method, str]:
    names: dict[Method, str] = {"model": plan.config.model}
    if plan.config.baseline:
        names["baseline"] = f"{BASELINE} (no model)"
    return names


def _object_row(plan: Plan, index: int, scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    item = plan.items[index]
    row: dict[str, Any] = {key: getattr(item, key) for key in ("uid", "title", "licence", "author")}
    row["sha256"] = plan.digests[item.uid]
    for method, score in scores.get(item.uid, {}).items():
        row[method] = {part: score[part] for part in ("mean_without_input", "mean")}
    return row


def _present(document: Mapping[str, Any]) -> list[str]:
    model = document["rows"][0]["mean_without_input"]
    return [key for key in METRICS if key in model] or ["psnr", "ssim", "mse", "mask_iou"]


def _shown(document: Mapping[str, Any]) -> list[str]:
    """The metrics present, and those of the published rows."""
    published = [row["metrics"] for row in document["rows"] if row["kind"] == "published"]
    present = _present(document)
    return [key for key in METRICS if key in present or any(key in metrics for metrics in published)]


def _rows(document: Mapping[str, Any], keys: Sequence[str], part: str) -> list[list[str]]:
    rows = []
    for row in document["rows"]:
        if row["kind"] == "published":
            # Published means may or may not count the input view: once is enough.
            if part == "mean":
                continue
            cells = [_digits(key, row["metrics"][key], 2) if key in row["metrics"] else "" for key in keys]
            rows.append([f"{row['name']} ({row['source']}; published)", str(row["objects"]), *cells])
            continue
        means, signed = row[part], row["kind"] == "difference"
        cells = [_interval(key, means[key], signed=signed) if key in means else "–" for key in keys]
        rows.append([row["name"], str(row["objects"]), *cells])
    return rows


def _sources(document: Mapping[str, Any]) -> list[str]:
    return sorted({row["source"] for row in document["rows"] if row["kind"] == "published"})


def _object_table(document: Mapping[str, Any]) -> list[str]:
    keys = [key for key in _present(document) if key in _BRIEF]
    methods = [method for method in METHODS if any(method in row for row in document["per_object"])]
    label = {"model": "", "baseline": f", {BASELINE}"}
    titles = [_TITLES[key][:-2] + label[method] for method in methods for key in keys]
    rows = []
    for row in document["per_object"]:
        cells = [
            _digits(key, row[method]["mean_without_input"][key]) if method in row else "left out"
            for method in methods
            for key in keys
        ]
        rows.append([f"`{row['uid']}`", row["licence"], row["author"], *cells])
    return _table(["object", "licence", "author", *titles], rows)


def _sampling(model: Mapping[str, Any]) -> str:
    """How the views were sampled; nothing for a prior, whose views are renders."""
    if model["steps"] is None:
        return ""
    return f"{model['steps']} steps of {model['sampler']}, guidance {model['guidance']:g}, "


def _protocol_lines(document: Mapping[str, Any], protocol: Mapping[str, Any]) -> list[str]:
    orbit, light, model = protocol["orbit"], protocol["light"], protocol["model"]
    size, mean = protocol["resolution"], "mean " if orbit["kind"] == "dynamic" else ""
    lines = [
        f"- Orbit: {orbit['views']} views, {orbit['path']}; {mean}elevation {orbit['elevation_deg']:g}°; field of view "
        f"{orbit['fov_deg']:g}°; distance {orbit['distance']}.",
        f"- Object: {protocol['object']}.",
        f"- Light: {light['environment']}, turned {light['turn']}. Renderer: {protocol['renderer']['backend']}, "
        f"{protocol['renderer']['samples']} samples a pixel.",
        f"- Condition: {protocol['condition']['view']}, {protocol['condition']['picture']}; {protocol['condition']['camera']}.",
        f"- Resolution: rendered at {size['rendered']}², compared at {size['compared']}²; {protocol['compared']}.",
        f"- Model: sha256 `{model['model']['sha256']}`, {_sampling(model)}{model['dtype']} on {model['device']}, seed "
        f"{model['seed']}.",
        f"- Bootstrap: {protocol['bootstrap']}.",
    ]
    looked_at = document["training_data"]["looked_at"]
    if not looked_at:
        lines.append("- Training data: the model says nothing of them, so nothing could be looked up.")
    elif not document["warnings"]:
        lines.append(
            f"- Training data: nothing in the model's {', '.join(looked_at)} names this set or its objects."
        )
    lines += [f"- Not computed: {_cell(text)}" for text in document["missing"].values()]
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(map(_cell, head)) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(map(_cell, row)) + " |" for row in rows),
    ]


def _cell(text: str) -> str:
    """One line that ends no cell: titles and names come from strangers."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _interval(key: str, value: Mapping[str, float], *, signed: bool) -> str:
    mean = _digits(key, value["mean"])
    if signed and not mean.startswith("-"):
        mean = f"+{mean}"
    return f"{mean} [{_digits(key, value['low'])}, {_digits(key, value['high'])}]"


def _digits(key: str, value: float, digits: int | None = None) -> str:
    return f"{value:.{_DIGITS.get(key, 3) if digits is None else digits}f}"
