"""benchmarks/: what parts hand on, the page made of it, the charts, and one part from the command to the page."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import growth
import make_page
import numpy as np
import pytest
import rendering
import shards
from make_page import Outcome, cell_text, page, read_outcomes, run_part, write_outcomes, write_page
from part import Chart, Machine, Part, Series, Table, read_part, write_part
from PIL import Image

from mv3d.core.errors import InputError
from mv3d.core.plots import Line, axis_of, chart_png, line_chart, log_ticks, tick_text
from mv3d.render.mesh import Mesh

MACHINE = Machine("Some CPU", 2, 16.0, "3.11.7", "Linux")
RENDERING = Part(
    part="rendering",
    title="Rendering",
    machine=MACHINE,
    versions={"numpy": "2.0", "Blender": "4.2"},
    seconds=12.0,
    text=("What is compared.", "What is not fair."),
    tables=(Table("21 views", ("renderer", "s"), (("mv3d | Embree", 1.23456), ("Cycles", None))),),
    charts=(
        Chart("time", "Time", "views", "s", (Series("mv3d", ((6, 1.0), (84, 9.0))),), log_x=True, log_y=True),
    ),
    missing=("pyrender was not there; pip install pyrender.",),
)


def outcome(part: str, error: str = "", scale: make_page.Scale = "small") -> Outcome:
    return Outcome(part, scale, "2025-01-02 03:04", "abc1234", 12.5, error)


# -- parts


def test_a_part_survives_its_file(tmp_path: Path):
    path = write_part(RENDERING, tmp_path / "rendering.json")
    assert read_part(path) == RENDERING
    assert json.loads(path.read_text())["schema"] == 1


def test_wrong_parts_are_told(tmp_path: Path):
    with pytest.raises(InputError, match="expected 2 cells"):
        Table("t", ("a", "b"), ((1,),))
    with pytest.raises(InputError, match="small letters"):
        Chart("A name", "t", "x", "y", ())
    with pytest.raises(InputError, match="use None"):
        write_part(dataclasses.replace(RENDERING, seconds=float("nan")), tmp_path / "x.json")
    path = tmp_path / "rendering.json"
    with pytest.raises(InputError, match="expected the JSON"):
        read_part(path)
    path.write_text('{"schema": 0}')
    with pytest.raises(InputError, match="schema 1, got 0"):
        read_part(path)
    document = json.loads(write_part(RENDERING, path).read_text())
    del document["machine"]["cpu"]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="expected the form"):
        read_part(path)


# -- the page

GOLDEN = """# Benchmarks

Made by `python benchmarks/make_page.py`; do not edit. Each part runs mv3d and its peers in one run on one machine and says what is compared and what is not fair about it; peers that were not there are named with how to install them.

The sizes are those of `--small`: small enough for two cores and about an hour.

- Some CPU, 2 cores, 16 GB of memory; Python 3.11.7; Linux

Versions: Blender 4.2, numpy 2.0.

| part |  | size | took | date, UTC | commit |
|---|---|---|---|---|---|
| `rendering` | [Rendering](#rendering) | small | 12 s | 2025-01-02 03:04 | abc1234 |
| `growth` | **failed** | small | 12 s | 2025-01-02 03:04 | abc1234 |

## Rendering

What is compared.

What is not fair.

**21 views**

| renderer | s |
|---|---|
| mv3d \\| Embree | 1.23 |
| Cycles | – |

![Time: s against views](benchmarks/rendering-time.png)

Not measured:

- pyrender was not there; pip install pyrender.

## growth

This part failed: `exit code 1: ValueError: 'x'`
"""


def test_the_page_of_given_parts(tmp_path: Path):
    outcomes = {
        "growth": outcome("growth", "exit code 1: ValueError: `x`"),
        "rendering": outcome("rendering"),
    }
    assert page(outcomes, {"rendering": RENDERING}) == GOLDEN
    with pytest.raises(InputError, match="at least one part"):
        page({}, {})


def test_the_page_is_made_again_without_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder, docs = tmp_path / "out", tmp_path / "docs"
    folder.mkdir()
    (docs / "benchmarks").mkdir(parents=True)
    (docs / "benchmarks" / "of-an-earlier-page.png").write_bytes(b"x")
    write_part(RENDERING, folder / "rendering.json")
    write_outcomes({"rendering": outcome("rendering", scale="quick")}, folder)
    assert make_page.main(["--from", str(folder), "--docs", str(docs)]) == 0
    assert capsys.readouterr().out.strip() == str(docs / "benchmarks.md")
    text = (docs / "benchmarks.md").read_text(encoding="utf-8")
    assert "figures say little" in text and "failed" not in text
    (picture,) = (docs / "benchmarks").iterdir()
    assert picture.name == "rendering-time.png" and f"(benchmarks/{picture.name})" in text
    assert picture.stat().st_size < 60_000 and Image.open(picture).size == (1440, 760)
    # What an earlier run says is there must be there.
    (folder / "rendering.json").unlink()
    assert make_page.main(["--from", str(folder), "--docs", str(docs)]) == 1
    (folder / "run.json").write_text("{}")
    with pytest.raises(InputError, match="record of a run"):
        read_outcomes(folder)


SCRIPT = """
import sys
from pathlib import Path
path = Path(sys.argv[sys.argv.index("--out") + 1])
assert "--quick" in sys.argv and "--objects" in sys.argv
{body}
"""


def test_a_part_that_fails_is_named_and_the_others_go_on(tmp_path: Path):
    write_part(RENDERING, tmp_path / "given.json")
    bodies = {
        "rendering": f"path.write_bytes(Path({str(tmp_path / 'given.json')!r}).read_bytes())",
        "shards": "path.write_text('{}'); raise ValueError('no such object')",
        "training": "pass",
        "growth": "import time; time.sleep(60)",
    }
    for name, body in bodies.items():
        (tmp_path / f"{name}.py").write_text(SCRIPT.format(body=body))
    out = tmp_path / "out"
    out.mkdir()
    (out / "shards.json").write_text("of an earlier run")
    outcomes = {
        name: run_part(name, "quick", tmp_path, out, limit_s=1 if name == "growth" else 60, folder=tmp_path)
        for name in bodies
    }
    errors = {name: one.error for name, one in outcomes.items()}
    assert errors["rendering"] == ""
    assert errors["shards"] == "exit code 1: ValueError: no such object"
    assert "expected the JSON" in errors["training"] and errors["growth"] == "stopped after 1 s"
    assert sorted(path.name for path in out.glob("*.json")) == ["rendering.json"]
    write_outcomes(outcomes, out)
    text = write_page(out, tmp_path / "docs").read_text(encoding="utf-8")
    assert "no such object" in text and text.count("This part failed") == 3 and "## Rendering" in text


def test_cells():
    assert [cell_text(v) for v in (None, True, 12345, 12345.6, 0.012345, 34.56, "a\n b", 7)] == [
        "–", "yes", "12,345", "12,346", "0.0123", "34.6", "a b", "7",
    ]  # fmt: skip


# -- charts


def test_a_chart_draws_every_line_where_it_belongs():
    chart = line_chart([Line("", [(0.0, 0.0), (10.0, 10.0)])], title="t", x="x", y="y", x_ticks=(0, 10))
    left, right, top, bottom = 64 * 2, 700 * 2, 30 * 2, 336 * 2
    up = axis_of([0.0, 10.0], log=False, name="y")
    for share in (0, 0.25, 0.5, 1):
        place = left + share * (right - left), bottom - up.share(10 * share) * (bottom - top)
        assert chart.getpixel((round(place[0]), round(place[1]))) == (0x00, 0x72, 0xB2), share
    assert chart.getpixel((left + 200, top + 100)) == (255, 255, 255)
    two = line_chart([Line("a", [(1, 1), (2, 2)]), Line("b", [(1, 2)])], title="t", x="x", y="y", width=300)
    assert two.size == (600, 760)
    colors = {color for _, color in two.getcolors(1 << 20) or []}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colors
    assert len(chart_png(two)) < 60_000


def test_axes():
    up = axis_of([0.0, 60.0], log=False, name="a")
    assert up.low == 0 and up.share(up.high) == 1
    log = axis_of([6, 84], log=True, name="a")
    assert log.share(log.low) == 0 and log.share(log.high) == pytest.approx(1)
    # Half way by the logarithm is the geometric mean.
    assert log.share((log.low * log.high) ** 0.5) == pytest.approx(0.5)
    for low, high in ((1, 1e6), (0.3, 700), (6, 84), (100, 130), (1e-5, 2e-5)):
        ticks = log_ticks(low, high)
        assert 3 <= len(ticks) <= 8 and low <= ticks[0] and ticks[-1] <= high, (low, high, ticks)
    assert [tick_text(v) for v in (0, 0.05, 128, 5000, 20_000, 1_500_000)] == [
        "0", "0.05", "128", "5000", "20k", "1.5M",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("points", "words"),
    [([], "at least one point"), ([(1, float("nan"))], "finite"), ([(1, 0), (2, 1)], "above 0")],
)
def test_charts_that_cannot_be_drawn(points: list[tuple[float, float]], words: str):
    with pytest.raises(InputError, match=words):
        line_chart([Line("", points)], title="t", x="x", y="y", log_y=True)


# -- the parts


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """A folder with one textured ball."""
    rows, columns = 16, 24
    v, u = (axis.ravel() for axis in np.mgrid[: rows + 1, : columns + 1] / [[[rows]], [[columns]]])
    polar, azimuth = np.pi * v, 2 * np.pi * u
    points = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], 1)
    index = np.arange(len(points)).reshape(rows + 1, columns + 1)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    x = np.arange(128) / 128 * 2 * np.pi
    stripes = 128 + 100 * np.stack([np.sin(3 * x), np.cos(2 * x), np.sin(x)], -1)
    texture = np.broadcast_to(stripes.astype(np.uint8), (64, 128, 3)).copy()
    folder = tmp_path / "objects"
    folder.mkdir()
    Mesh(points, faces, uv=np.stack([u, v], 1), texture=texture).export(folder / "ball.glb")
    return folder


def test_renderers_without_another_program_agree(objects: Path):
    mesh, model = rendering.textured(rendering.object_of(objects), 3000)
    assert 3000 <= len(mesh.faces) == len(model.faces) < 4 * 3000
    cameras = rendering.framed(model, rendering.static_orbit(2, 10.0), 48)
    ours = rendering.by_ray_casting(mesh, cameras, 1, 1)
    theirs = rendering.by_trimesh(mesh, cameras, 1)
    iou, color_db, lit_db = rendering.agreement(theirs, ours)
    assert iou is not None and iou > 0.995 and color_db is not None and color_db > 25 and lit_db is None
    turned = dataclasses.replace(theirs, color=theirs.color[::-1], alpha=theirs.alpha[::-1])
    assert (rendering.agreement(turned, ours)[1] or 0) < color_db - 5


def test_objects_that_are_not_there(tmp_path: Path):
    with pytest.raises(InputError, match=r"--objects .*expected a folder with \.glb"):
        rendering.object_of(tmp_path)


def test_how_growth_is_told():
    plan = growth.Plan(
        {growth.RECONSTRUCT: growth.Point(10, 64, 1000), growth.RENDER: growth.Point(5, 64, 100)},
        {growth.RECONSTRUCT: {"views": (20, 10, 40)}, growth.RENDER: {"faces": (100, 200, 300)}},
    )
    points = growth.values_of(plan, growth.RECONSTRUCT)
    assert points[0] == plan.base[growth.RECONSTRUCT] and [p.views for p in points] == [10, 20, 40]
    found = {
        growth.RECONSTRUCT: {
            p: growth.Cost(0.1 * p.views**2, p.views, p.views, {"field": 1.0}, 1000) for p in points
        },
        # Asked for 200 or for 300, the object has 400.
        growth.RENDER: {
            p: growth.Cost(float(max(p.faces, 150)), 1, 1, {}, 100 if p.faces == 100 else 400)
            for p in growth.values_of(plan, growth.RENDER)
        },
    }
    charts, rows = growth.charts_and_rows(plan, found)
    lines = {chart.name: {s.label: s.points for s in chart.series} for chart in charts}
    assert lines["views-time"] == {"reconstruct": ((10, 10), (20, 40), (40, 160))}
    assert [x for x, _ in lines["faces-memory"]["render"]] == [100, 400]
    assert (
        rows[0][:5] == ("reconstruct", "views", "10 to 40", "10.0 to 160.0 s", "2.00")
        and rows[0][6] == "1.00"
    )
    assert growth.stage_table(plan, found[growth.RECONSTRUCT]).rows[0][-1] == 1.0


def test_every_plan_holds_its_bases():
    for plan in growth.PLANS.values():
        for work, axes in plan.axes.items():
            assert all(getattr(plan.base[work], axis) in values for axis, values in axes.items())
            assert all(len(values) >= 3 and list(values) == sorted(values) for values in axes.values())


def test_one_command_from_objects_to_the_page(
    objects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MV3D_BLENDER", "/nowhere/blender")
    monkeypatch.delenv("MV3D_PYRENDER", raising=False)
    out, docs = tmp_path / "out", tmp_path / "docs"
    arguments = [
        "--quick",
        "--only",
        "rendering",
        "--objects",
        str(objects),
        "--out",
        str(out),
        "--docs",
        str(docs),
        "--limit-s",
        "900",
    ]
    code = make_page.main(arguments)
    told = capsys.readouterr()
    assert code == 0, told
    text = (docs / "benchmarks.md").read_text(encoding="utf-8")
    assert "## Rendering" in text and "| trimesh.ray |" in text and "3 views of ball" in text
    missing = text.partition("Not measured:")[2]
    assert "pip install bpy" in missing and "pip install pyrender" in missing
    part = read_part(out / "rendering.json")
    rows = {(row[0], row[1]): row for row in part.tables[0].rows}
    assert all(float(row[5]) > 0.95 for row in rows.values() if row[5] is not None)
    # The page is the same when made of what was left.
    assert make_page.main(["--from", str(out), "--docs", str(docs)]) == 0
    assert (docs / "benchmarks.md").read_text(encoding="utf-8") == text


def test_measurements_of_shards_become_tables(tmp_path: Path):
    found = {"Writing shards": {"an object, s": 1.23456}, "Reading shards": {"orbits/s": 2743.45}}
    path = tmp_path / "shards.json"
    write_part(shards.part_of(found, shards.SIZES["quick"], 3.0), path)
    assert [(table.caption, table.rows) for table in read_part(path).tables] == [
        ("Writing shards", (("an object, s", 1.235),)),
        ("Reading shards", (("orbits/s", 2743.0),)),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shards", "training", "growth"])
def test_quick_parts(name: str, objects: Path, tmp_path: Path):
    done = run_part(name, "quick", objects, tmp_path, limit_s=900)
    assert done.error == "", (tmp_path / f"{name}.log").read_text()
    part = read_part(tmp_path / f"{name}.json")
    assert part.part == name and part.tables and part.text
    assert all(len(data) < 60_000 for data in make_page.charts_of(part).values())
