"""`mv3d eval run`: the table is what the single measures say, and the same however often it was interrupted."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from helpers.objects import colourful, unpack
from helpers.places import SHARED
from helpers.tiny_model import FRAMES, SIDE, write_model
from PIL import Image

from mv3d.cli.main import main
from mv3d.core.errors import InputError, OutputError, UsageError
from mv3d.core.records import ALGORITHMS, read_record
from mv3d.evaluation import (
    SV3D_ROWS,
    EvalRunConfig,
    PerceptualConfig,
    bootstrap_interval,
    compare,
    evaluate_model,
    evaluate_views,
    find_contamination,
    published_rows,
    read_image_set,
)
from mv3d.evaluation.run.folders import is_current, read_pictures
from mv3d.evaluation.run.plan import plan_run
from mv3d.evaluation.run.scores import recalls_of
from mv3d.generation.config import GenerateConfig
from mv3d.generation.photo import PreparedPhoto
from mv3d.generation.views import generate_orbit, load_model
from mv3d.models.folder import read_info, write_info
from mv3d.models.lora import Lora, save_lora
from mv3d.models.network import SV3D_U, SVD, MicroConditioning
from mv3d.orbits.catalogue import CatalogueItem, read_list
from mv3d.orbits.jobs import render_object
from mv3d.render.trajectories import load_orbit
from mv3d.views.folder import to_uint8

pytestmark = pytest.mark.usefixtures("one_thread")

CAMERA = MicroConditioning(("cond_aug", "polar", "azimuth"), (16, 32, 32))
TABLES = ("table.md", "table.csv", "table.json")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """camera: told every view's, as SV3D_p. long: more of them, as SV3D smooths paths over 5. still: told none, as SV3D_u. video: SVD as it was released."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "camera", CAMERA, kind="sv3d_p")
    write_model(folder / "long", CAMERA, kind="sv3d_p")
    write_info(folder / "long", replace(read_info(folder / "long"), num_frames=9))
    write_model(folder / "still", replace(SV3D_U, widths=(16,)), kind="sv3d_u")
    write_model(folder / "video", replace(SVD, widths=(16, 16, 16)), kind="svd")
    return folder


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> Path:
    """Two objects, one of them with an origin, and a file of noise between them."""
    folder = tmp_path_factory.mktemp("sets") / "cups"
    folder.mkdir()
    colourful(trimesh.creation.box((1, 2, 3)).subdivide().subdivide(), folder / "block.glb")
    colourful(trimesh.creation.torus(2.0, 0.7), folder / "torus.glb")
    (folder / "noise.glb").write_bytes(b"glTF" + bytes(range(200)))
    (folder / "SOURCES.csv").write_text(
        "name,file,category,source_repo,path,commit,licence,author\n"
        "torus,torus.glb,GSO,someone/things,gso/torus.obj,abc,CC-BY-4.0,Ann | Bob\n"
    )
    return folder


def config_of(models: Path, name: str = "camera", **settings: Any) -> EvalRunConfig:
    settings = {"device": "cpu", "environment": "uniform", "samples": 1} | settings
    return EvalRunConfig(model=str(models / name), perceptual=PerceptualConfig(clip_s="no"), **settings)


@pytest.fixture(scope="module")
def done(objects, models, tmp_path_factory) -> Path:
    """A finished run; not to be written to."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "static"
    assert not evaluate_model(objects, out, config_of(models)).already_done
    torch.set_num_threads(before)
    return out


def test_tables_and_views_of_another_algorithm_are_not_done(objects, models, done, tmp_path, monkeypatch):
    out = shutil.copytree(done, tmp_path / "run")
    first = next((out / "generated").iterdir())
    record = read_record(first / "object.json")
    current = {"settings": record.settings, "input_sha256": record.input_sha256}
    assert is_current(first, **current)
    monkeypatch.setitem(ALGORITHMS, "generate", ALGORITHMS["generate"] + 1)
    assert not is_current(first, **current)
    monkeypatch.setitem(ALGORITHMS, "eval run", 2)
    with pytest.raises(OutputError, match="algorithm version 1 of eval run, now 2"):
        evaluate_model(objects, out, config_of(models))


def tables(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in TABLES}


def rows_of(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    lines = csv.DictReader(io.StringIO((folder / "table.csv").read_text()))
    return {(row["uid"], row["way"]): row for row in lines}


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), np.float32) / 255


def test_the_table_is_what_the_measures_say(done):
    table, rows = json.loads((done / "table.json").read_text()), rows_of(done)
    found: dict[str, list[dict[str, float]]] = {"model": [], "baseline": []}
    for uid in ("block", "torus"):
        document = evaluate_views(done / "generated" / uid, done / "truth" / uid)
        found["model"].append(document["mean_without_input"])
        for key in ("psnr", "ssim", "mse", "mask_iou"):
            row = rows[uid, "model"]
            assert float(row[key]) == pytest.approx(document["mean_without_input"][key], rel=1e-12)
            assert float(row[f"{key}_with_input"]) == pytest.approx(document["mean"][key], rel=1e-12)
        # The baseline, picture by picture.
        frames = [picture(done / "truth" / uid / "images" / f"{n:03d}.png") for n in range(FRAMES)]
        values = [compare(frames[-1], frame) for frame in frames[:-1]]
        found["baseline"].append({key: float(np.mean([v[key] for v in values])) for key in values[0]})
        for key, value in found["baseline"][-1].items():
            assert float(rows[uid, "input repeated"][key]) == pytest.approx(value, rel=1e-9)
        recalls = recalls_of(read_pictures(done / "generated" / uid), read_pictures(done / "truth" / uid))
        assert float(rows[uid, "model"]["silhouette_recall"]) == pytest.approx(recalls[:-1].mean())
    by_kind = {row["kind"]: row for row in table["rows"]}
    for kind, values in found.items():
        for key in ("psnr", "ssim", "mask_iou"):
            ours = [value[key] for value in values]
            interval = bootstrap_interval(ours, resamples=2000, seed=0)
            stated = by_kind[kind]["mean_without_input"][key]
            assert stated["mean"] == pytest.approx(np.mean(ours))
            assert (stated["low"], stated["high"]) == pytest.approx((interval.low, interval.high))
    gain = by_kind["difference"]["mean_without_input"]["psnr"]["mean"]
    assert gain == pytest.approx(
        np.mean([a["psnr"] - b["psnr"] for a, b in zip(*found.values(), strict=True)])
    )
    view = by_kind["model"]["by_view"][1]
    one = [evaluate_views(done / "generated" / u, done / "truth" / u)["views"][1] for u in ("block", "torus")]
    assert view["azimuth_deg"] == pytest.approx(144)
    assert view["psnr"] == pytest.approx(np.mean([row["psnr"] for row in one]))


def test_truth_and_views_are_those_of_the_commands(done, objects, models, tmp_path):
    """What `mv3d orbits render` renders, and what `mv3d generate` makes of its last view."""
    plan = plan_run(objects, config_of(models))
    item = next(item for item in plan.items if item.uid == "torus")
    document, frames = unpack(render_object(item, plan.orbit), tmp_path)
    stored = [np.asarray(Image.open(f)) for f in sorted((done / "truth/torus/images").iterdir())]
    assert np.array_equal(np.stack(stored), frames)
    orbit = load_orbit(done / "truth/torus/transforms.json")
    assert orbit.elevations_deg == (10.0,) * FRAMES and orbit.input_view == FRAMES - 1
    assert orbit.azimuths_deg == pytest.approx((72, 144, 216, 288, 0))
    assert orbit.radius == document["cameras"]["radius"]
    config = GenerateConfig(model=str(models / "camera"), elevation=10.0, device="cpu")
    given = PreparedPhoto(frames[-1].astype(np.float32) / 255, "alpha")
    made = generate_orbit(given, config, load_model(config)).views.images
    kept = [np.asarray(Image.open(f)) for f in sorted((done / "generated/torus/images").iterdir())]
    assert np.array_equal(np.stack(kept), to_uint8(made))
    assert np.array_equal(kept[-1], frames[-1]) and np.abs(made[0] - made[-1]).max() > 0.1


def test_what_cannot_be_rendered_is_a_line_and_is_counted(done):
    table, rows = json.loads((done / "table.json").read_text()), rows_of(done)
    assert (table["objects"], table["compared"], table["left_out"]) == (3, 2, 1)
    (reject,) = table["rejects"]
    assert (reject["uid"], reject["stage"], reject["reason"]) == ("noise", "render", "unreadable")
    row = rows["noise", ""]
    assert (row["status"], row["stage"], row["psnr"]) == ("left out", "render", "")
    assert [row["objects"] for row in table["rows"][:3]] == [2, 2, 2]
    text = (done / "table.md").read_text()
    assert "2 of 3 objects compared, 1 left out" in text and "- `noise`: render: unreadable" in text


def test_the_protocol_can_be_followed(done, objects):
    document = json.loads((done / "protocol.json").read_text())
    assert document["finished"] and set(document["outputs"]) == set(TABLES)
    about = {entry["uid"]: entry for entry in document["objects"]}
    torus = about["torus"]
    assert (torus["licence"], torus["author"]) == ("CC-BY-4.0", "Ann | Bob")
    assert all(re.fullmatch("[0-9a-f]{64}", entry["sha256"]) for entry in document["objects"])
    assert len(torus["cameras"]["azimuths_deg"]) == FRAMES and torus["cameras"]["radius"] > 1
    assert torus["environment"]["name"] == "uniform"
    found = document["protocol"]
    assert found["resolution"] == {"rendered": SIDE, "compared": SIDE}
    assert len(found["model"]["model"]["sha256"]) == 64 and found["light"]["environment"] == "uniform"
    text = (done / "table.md").read_text()
    assert "Ann \\| Bob" in text and "lpips: it needs pictures of at least 63" in text
    # Published figures stand there as such.
    assert (
        "| SV3D_p (arXiv 2403.12008, table 1; published) | 300 | 21.26 | 0.88 |  | 0.02 | 0.08 | 0.89 |"
        in text
    )
    assert "published: other objects, renders and protocol" in text and "table 2" not in text
    widths = {
        line.replace("\\|", "").count("|") for line in text.split("## Objects")[0].splitlines() if "|" in line
    }
    assert len(widths) == 1


def test_finished_says_so_and_another_request_is_refused(done, objects, models, tmp_path, capsys):
    out = shutil.copytree(done, tmp_path / "out")
    flags = ["--device", "cpu", "--clip-s", "no", "--environment", "uniform", "--samples", "1"]
    command = ["eval", "run", str(objects), "--model", str(models / "camera"), "--out", str(out), *flags]
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["already_done"] and document["compared"] == 2 and "done already" in captured.err
    assert "left out: noise: render: unreadable" in captured.err
    assert tables(out) == tables(done)
    assert main([*command, "--steps", "2"]) == 1
    assert "holds another evaluation (generation: steps: there 3, asked for 2)" in capsys.readouterr().err
    assert tables(out) == tables(done)
    rendered = (out / "truth/torus/object.json").stat()
    assert main([*command, "--steps", "2", "--no-baseline", "--overwrite"]) == 0
    captured = capsys.readouterr()
    assert "PSNR" in captured.out.splitlines()[0] and "table 1; published)" in captured.out
    assert tables(out) != tables(done)
    assert {row["kind"] for row in json.loads((out / "table.json").read_text())["rows"]} == {
        "model",
        "published",
    }
    # What is still right was not made again.
    assert (out / "truth/torus/object.json").stat().st_mtime_ns == rendered.st_mtime_ns
    # Something else in the folder is left alone.
    other = tmp_path / "other"
    other.mkdir()
    (other / "table.md").write_text("mine")
    with pytest.raises(OutputError, match=r"holds table\.md of something else"):
        evaluate_model(objects, other, config_of(models), overwrite=True)
    assert (other / "table.md").read_text() == "mine"


def test_resumed_after_a_loss_it_gives_the_same_bytes(done, objects, models, tmp_path):
    out = shutil.copytree(done, tmp_path / "out")
    shutil.rmtree(out / "truth/torus")
    (out / "generated/block/images/001.png").unlink()
    (out / "objects/block.json").write_text("{cut of")
    (out / "table.csv").unlink()
    (out / ".mv3d-killed/object").mkdir(parents=True)
    assert not evaluate_model(objects, out, config_of(models)).already_done
    assert tables(out) == tables(done)
    assert not list(out.glob(".mv3d-*"))


@pytest.mark.parametrize("stop", [0, 1, 2, 5, 8, 10, 14])
def test_cut_off_at_any_rename_it_gives_the_same_bytes(done, objects, models, tmp_path, monkeypatch, stop):
    """The truth is there, what comes after it is not; so many renames are let through."""
    out = shutil.copytree(done, tmp_path / "out")
    shutil.rmtree(out / "generated")
    for name in ("objects/block.json", "objects/torus.json", *TABLES):
        (out / name).unlink()
    real, left = os.replace, stop

    def cut(source: Any, target: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        real(source, target)

    config = config_of(models)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", cut)
        with pytest.raises(KeyboardInterrupt):
            evaluate_model(objects, out, config)
    assert not evaluate_model(objects, out, config).already_done
    assert tables(out) == tables(done)


def test_a_dynamic_orbit_is_the_truths_own(objects, models, tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    shutil.copy(objects / "torus.glb", folder / "torus.glb")
    config = config_of(models, "long", orbit="dynamic", seed=3)
    table = evaluate_model(folder, tmp_path / "out", config).table
    assert table["compared"] == 1
    assert [row["name"] for row in table["rows"] if row["kind"] == "published"] == ["SV3D_c", "SV3D_p"]
    truth = tmp_path / "out/truth/torus"
    orbit = load_orbit(truth / "transforms.json")
    assert len(orbit.azimuths_deg) == 9 and orbit.input_view == 8 and orbit.azimuths_deg[-1] == 0
    assert np.ptp(orbit.elevations_deg) > 1 and np.ptp(np.diff(orbit.azimuths_deg[:-1])) > 1
    path = GenerateConfig(model=config.model, trajectory=str(truth / "transforms.json"), seed=3, device="cpu")
    given = PreparedPhoto(picture(truth / "images" / "008.png"), "alpha")
    made = generate_orbit(given, path, load_model(path)).views
    assert made.orbit.elevations_deg == pytest.approx(orbit.elevations_deg)
    kept = sorted((tmp_path / "out/generated/torus/images").iterdir())
    assert np.array_equal(np.stack([np.asarray(Image.open(f)) for f in kept]), to_uint8(made.images))
    # A static orbit of the same model gives other views: the path does reach the network.
    static = generate_orbit(given, replace(path, trajectory="static", elevation=10.0), load_model(path))
    assert np.abs(static.views.images[:-1] - made.images[:-1]).max() > 1e-3


def test_the_size_of_the_comparison_is_not_that_of_generation():
    assert EvalRunConfig(size=32).generation().size is None


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["--model", "still", "--orbit", "dynamic"],
            2,
            "--orbit dynamic: expected a model that takes a camera",
        ),
        (["--model", "video"], 2, "takes no camera"),
        (["--orbit", "spiral"], 2, "spiral"),
        (["--views", "1"], 2, "--views: expected 2 to 1000, got 1"),
        (["--views", "9"], 2, "--views: expected at most 5"),
        (["--size", "5"], 2, "--size: expected 11 to 4096"),
        (["--samples", "0"], 2, "--samples"),
        (["--resamples", "0"], 2, "--resamples"),
        (["--elevation", "90"], 2, "--elevation"),
        (["--steps", "0"], 2, "--steps"),
        (["--workers", "0"], 2, "--workers"),
        (["--environment", "builtin"], 2, "--environment: expected one light"),
        (["--environment", "moon"], 1, "moon"),
        (["--lpips", "yes"], 2, "--lpips: expected pictures of at least 63"),
        (["--model", "nowhere/at/all"], 1, "nowhere/at/all"),
    ],
)
def test_bad_requests_are_one_line_and_write_nothing(
    objects, models, tmp_path, monkeypatch, capsys, arguments, code, words
):
    monkeypatch.chdir(models)
    out = tmp_path / "out"
    command = ["eval", "run", str(objects), "--model", "camera", "--out", str(out), "--clip-s", "no"]
    assert main([*command, *arguments]) == code
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
    assert not out.exists()


def test_no_list_no_table(models, tmp_path):
    with pytest.raises(InputError, match="expected a folder, a list of objects or a 3D file"):
        evaluate_model(tmp_path / "nothing", tmp_path / "out", config_of(models))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="the catalogue is empty"):
        evaluate_model(empty, tmp_path / "out", config_of(models))
    assert not (tmp_path / "out").exists()


def test_where_nothing_can_be_compared_the_table_says_so(models, tmp_path, capsys):
    rows = [{"uid": "a", "path": "a.glb"}, {"uid": "b", "path": "b.glb", "sha256": "0" * 64}]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b.glb").write_bytes(b"glTF")
    out = tmp_path / "out"
    command = ["eval", "run", str(tmp_path / "list.jsonl"), "--model", str(models / "still")]
    assert main([*command, "--out", str(out), "--clip-s", "no", "--device", "cpu"]) == 1
    assert "0 of 2 objects compared, 2 left out" in capsys.readouterr().err
    table = json.loads((out / "table.json").read_text())
    assert [reject["uid"] for reject in table["rejects"]] == ["a", "b"]
    assert "fetch it" in table["rejects"][0]["detail"] and "sha256" in table["rejects"][1]["detail"]
    assert "0 of 2 objects compared" in (out / "table.md").read_text()


def test_one_silhouette_too_few_covers_nothing(done):
    truth = read_pictures(done / "truth/torus")
    assert recalls_of(truth, truth).min() > 0.9
    masks = truth.masks.copy()
    masks[2] = 0
    assert np.array_equal(recalls_of(replace(truth, masks=masks), truth), np.zeros(FRAMES))
    # Both readers see the same pictures.
    assert np.array_equal(read_image_set(done / "truth/torus").images, truth.images)


# The bootstrap


def test_interval_has_the_width_of_the_normal_law():
    for count, seed in ((50, 1), (400, 2)):
        values = np.random.default_rng(seed).normal(20, 3, count)
        found = bootstrap_interval(values, resamples=4000, seed=seed)
        # Percentile interval of a mean: ± 1.96 s/√n, s with n and not n - 1 below it.
        half = 1.959964 * values.std() / np.sqrt(count)
        assert found.mean == pytest.approx(values.mean())
        assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)
        assert (found.high + found.low) / 2 == pytest.approx(found.mean, abs=0.1 * half)
        wide = bootstrap_interval(values, resamples=4000, seed=seed, level=0.99)
        assert (wide.high - wide.low) / 2 == pytest.approx(half * 2.575829 / 1.959964, rel=0.08)


def test_interval_of_equal_values_and_of_one_has_no_width():
    for values in ([0.1, 0.1, 0.1], [7.3]):
        found = bootstrap_interval(values)
        assert found.low == found.mean == found.high == values[0]


def test_interval_is_that_of_the_seed_and_follows_shifts():
    values = np.random.default_rng(0).normal(size=30)
    first = bootstrap_interval(values, seed=5)
    assert first == bootstrap_interval(values, seed=5) != bootstrap_interval(values, seed=6)
    moved = bootstrap_interval(3 * values + 2, seed=5)
    assert (moved.low, moved.high) == pytest.approx((3 * first.low + 2, 3 * first.high + 2))


def test_interval_written_out():
    values = np.array([1.0, 4.0, 6.0])
    draws = np.random.default_rng(9).integers(3, size=(200, 3))
    means = sorted(float(np.mean([values[i] for i in row])) for row in draws)
    found = bootstrap_interval(values, resamples=200, seed=9)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [[1.0]]])
def test_interval_of_what_is_no_list_of_numbers(values):
    with pytest.raises(InputError, match="bootstrap"):
        bootstrap_interval(values)
    with pytest.raises(UsageError, match="--resamples"):
        bootstrap_interval([1.0], resamples=0)


# The guard

ITEMS = [
    CatalogueItem("mug_1", Path("cups/Mug.glb"), category="GSO", title="Blue Mug"),
    CatalogueItem("bowl", Path("cups/bowl.glb")),
]
DIGESTS = {"mug_1": "a" * 64, "bowl": "b" * 64}
HEADER = "uid,title,author,licence,licence_url,source,sha256\n"


def warned(folder: Path, **settings: Any) -> tuple[str, ...]:
    return find_contamination(folder, ITEMS, DIGESTS, **({"set_name": "cups"} | settings)).warnings


def test_guard_finds_files_by_their_hash(tmp_path):
    (tmp_path / "attribution.csv").write_text(HEADER + f"x,Y,,MIT,,,{'B' * 64}\nz,W,,MIT,,,{'c' * 64}\n")
    (said,) = warned(tmp_path)
    assert said.startswith("trained on 1 of the 2 objects: the sha256") and said.endswith(": bowl")


@pytest.mark.parametrize("row", ["MUG_1,,", "x,blue mug,", "mug,,"])
def test_guard_finds_names(tmp_path, row):
    """By uid, by title, by the name of the file; large letters or small."""
    (tmp_path / "attribution.csv").write_text(HEADER + row + f",MIT,,,{'c' * 64}\n")
    (said,) = warned(tmp_path)
    assert said.startswith("perhaps trained on 1 of the 2 objects: their names") and said.endswith(": mug_1")


def test_guard_is_silent_about_others_and_says_what_it_looked_at(tmp_path):
    assert find_contamination(tmp_path, ITEMS, DIGESTS).looked_at == ()
    (tmp_path / "attribution.csv").write_text(HEADER + f"mug_12,Blue Mug 2,,MIT,,,{'c' * 64}\n,,,,,,\n")
    (tmp_path / "README.md").write_text("# Trained on teacups\n\nAnd on saucers.")
    (tmp_path / "mv3d.json").write_text('{\n  "base": "someone/hiccups"\n}')
    found = find_contamination(tmp_path, ITEMS, DIGESTS, set_name="cups")
    assert found.warnings == () and found.looked_at == ("attribution.csv", "README.md", "mv3d.json")


def test_guard_does_not_pass_over_a_list_it_cannot_read(tmp_path):
    (tmp_path / "attribution.csv").write_bytes(b"uid,title\n\xff\xfe\n")
    (said,) = warned(tmp_path)
    assert "cannot be read" in said and "not known" in said


@pytest.mark.parametrize(
    ("card", "name"),
    [
        ("| | |\n|---|---|\n| Data | cups, 12 orbit samples; licences: MIT (12) |\n", "cups"),
        ("We trained on many things.\nAmong them the set Cups.", "cups"),
        ("---\ndatasets:\n- someone/cups\n---\n", "cups"),
        ("Fine-tuned on Google-Scanned Objects.", "Google Scanned Objects"),
        ("Trained on renders of GSO, then evaluated on GSO.", "Google Scanned Objects"),
        ("Never trained on dogs. Trained on google_scanned_objects.", "Google Scanned Objects"),
    ],
)
def test_guard_reads_the_card(tmp_path, card, name):
    (tmp_path / "README.md").write_text(card)
    (said,) = warned(tmp_path)
    assert said.startswith(f'perhaps trained on {name}: README.md of the model says "')


@pytest.mark.parametrize(
    "card",
    [
        "Evaluated on Google Scanned Objects: 20.1 dB.",
        "Trained on nothing of GSO: its objects were held out.",
        "Objects of cups were never trained on.",
        "| PSNR on GSO, benchmark | 21 |",
        "Bigso and gsoap are something else.",
    ],
)
def test_guard_is_silent_where_the_card_says_the_contrary(tmp_path, card):
    (tmp_path / "README.md").write_text(card)
    assert warned(tmp_path) == ()


def test_guard_asks_for_gso_only_where_the_set_is_of_it_and_passes_over_plain_names(tmp_path):
    (tmp_path / "README.md").write_text("Trained on data of GSO, with a test set.")
    assert find_contamination(tmp_path, ITEMS[1:], DIGESTS, set_name="test").warnings == ()
    assert len(find_contamination(tmp_path, ITEMS, DIGESTS, set_name="test").warnings) == 1


@pytest.mark.skipif(not (SHARED / "assets/eval").is_dir(), reason="needs the evaluation objects")
def test_guard_knows_the_origin_of_real_objects(tmp_path):
    items = read_list(SHARED / "assets/eval")
    (tmp_path / "README.md").write_text("Trained on Google Scanned Objects.")
    assert len(find_contamination(tmp_path, items, {}, set_name="eval").warnings) == 1
    others = [item for item in items if not item.uid.startswith("gso_")]
    assert find_contamination(tmp_path, others, {}, set_name="eval").warnings == ()


def test_guard_reads_adapters(tmp_path):
    save_lora(
        tmp_path / "a.safetensors",
        Lora({"m": torch.zeros(1, 2)}, {"m": torch.zeros(2, 1)}, 1.0, metadata={"data": "cups, 3 orbits"}),
    )
    from mv3d.evaluation.run.plan import _adapter_texts

    texts = _adapter_texts([tmp_path / "a.safetensors"])
    (said,) = warned(tmp_path, adapters=texts)
    assert said.startswith("perhaps trained on cups: a.safetensors of the model says")


def test_warnings_reach_the_reader_also_of_a_finished_run(done, objects, models, tmp_path, capsys):
    model = shutil.copytree(models / "camera", tmp_path / "camera")
    out = shutil.copytree(done, tmp_path / "out")
    digest = json.loads((done / "protocol.json").read_text())["objects"][2]["sha256"]
    (model / "attribution.csv").write_text(HEADER + f"t,T,,MIT,,,{digest}\n")
    flags = ["--device", "cpu", "--clip-s", "no", "--environment", "uniform", "--samples", "1"]
    command = ["eval", "run", str(objects), "--model", str(model), "--out", str(out), *flags]
    assert main(command) == 0
    said = "trained on 1 of the 3 objects"
    assert f"warning: {said}" in capsys.readouterr().err
    assert json.loads((out / "table.json").read_text())["warnings"][0].startswith(said)
    assert f"> **Warning:** {said}" in (out / "table.md").read_text()
    assert main(command) == 0
    again = capsys.readouterr().err
    assert f"warning: {said}" in again and "done already" in again
    # The views were not made again.
    made = [folder / "generated/torus/object.json" for folder in (out, done)]
    assert made[0].read_bytes() == made[1].read_bytes()


# The published rows


def test_published_rows_are_marked_with_their_table():
    assert [row.method for row in published_rows("static")] == ["SV3D_u", "SV3D_c", "SV3D_p"]
    assert [row.method for row in published_rows("dynamic")] == ["SV3D_c", "SV3D_p"]
    assert all(row.table == (1 if row.orbit == "static" else 2) for row in SV3D_ROWS)


@pytest.mark.skipif(not (SHARED / "notes/nvs.md").is_file(), reason="needs the notes of the paper's tables")
def test_published_rows_are_as_noted():
    text = (SHARED / "notes/nvs.md").read_text().replace("*", "")
    static = text.split("Table 1 GSO static")[1].split("Table 2")[0]
    dynamic = text.split("Table 2 GSO dynamic")[1].split("\n")[0]
    for row in SV3D_ROWS:
        values = [f"{v:.2f}".removeprefix("0") for v in (row.lpips, row.psnr, row.ssim, row.clip_s, row.mse)]
        if row.orbit == "static":
            assert f"| {row.method} | {' | '.join(values)} |" in static
        else:
            assert f"{row.method} {'/'.join(values)}" in dynamic
