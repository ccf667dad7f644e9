"""No damaged or hostile file ends in anything but a value or one sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fuzz import driver
from fuzz.case import BAIT, Watch, judge, write_input, write_seeds
from fuzz.targets import TARGETS, Target
from mv3d.core.errors import InputError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of memory and time are POSIX's")


def _assert_nothing_found(outcomes: list[driver.Outcome], work: Path) -> None:
    findings = [o for o in outcomes if o.finding]
    told = "\n".join(f"{o.reader}:{o.number} {o.kind}: {o.what} [{o.damage}]\n{o.trace}" for o in findings)
    assert not findings, f"{told}\ninputs: {work}; python tests/fuzz/run.py --only READER:NUMBER"


def test_a_few_inputs_for_every_reader(tmp_path: Path):
    jobs = driver.plan(60)
    assert {reader for reader, _ in jobs} == set(TARGETS)
    outcomes = driver.run(jobs, tmp_path)
    assert len(outcomes) == 60
    _assert_nothing_found(outcomes, tmp_path)
    assert 5 < sum(outcome.kind == "refused" for outcome in outcomes)


@pytest.mark.slow
def test_two_thousand_inputs(tmp_path: Path):
    outcomes = driver.run(driver.plan(2000), tmp_path)
    print(driver.table(outcomes))
    _assert_nothing_found(outcomes, tmp_path)


def test_an_input_is_made_of_its_seed_and_number_alone(tmp_path: Path):
    write_seeds(tmp_path / "seeds", ("catalogue",))
    made = []
    for work, number, seed in (("a", 3, 0), ("b", 3, 0), ("c", 4, 0), ("d", 3, 1)):
        folder = tmp_path / work
        folder.mkdir()
        write_input(tmp_path / "seeds", folder, "catalogue", number, seed)
        made.append({p.name: p.read_bytes() for p in (folder / "input").rglob("*") if p.is_file()})
    assert made[0] == made[1]
    assert made[0] != made[2] and made[0] != made[3]


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


def _hostile(folder: Path) -> None:
    """What a bad reader does, by the name of the valid input."""
    what = json.loads((folder / "what.json").read_text())["what"]
    if what == "traceback":
        raise ZeroDivisionError("oh")
    if what == "lines":
        raise InputError("one\ntwo")
    if what == "writes":
        (folder / "new.txt").write_text("x")
    if what == "wanders":
        (folder.parent / BAIT / "secret.bin").read_bytes()
    if what == "calls":
        import socket

        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", 9), timeout=0.1)


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("traceback", "ZeroDivisionError"),
        ("lines", "message"),
        ("writes", "files"),
        ("wanders", "reached out"),
        ("calls", "reached out"),
        ("nothing", "value"),
    ],
)
def test_the_judge_sees(what: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch: Watch):
    def seeds(folder: Path) -> None:
        (folder / "x").mkdir()
        (folder / "x" / "what.json").write_text(json.dumps({"what": what}))

    monkeypatch.setitem(TARGETS, "bad", Target(1, seeds, _hostile))
    monkeypatch.setattr("fuzz.case.bent_file", lambda path, rng, other: "nothing")
    write_seeds(tmp_path / "seeds", ("bad",))
    work = tmp_path / "work"
    work.mkdir()
    outcome = judge(tmp_path / "seeds", work, "bad", 0, 0, watch)
    assert outcome.kind == kind, outcome


@pytest.mark.parametrize(("code", "kind"), [("os.abort()", "death"), ("while True: pass", "hang")])
def test_the_driver_survives_what_ends_a_process(
    code: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, os, sys\nfrom pathlib import Path\n"
        "work = Path(sys.argv[2])\n"
        "for line in sys.stdin:\n"
        "    reader, number = line.split()\n"
        "    (work / 'current').write_text(line)\n"
        f"    if number == '1':\n        {code}\n"
        "    with (work / 'outcomes.jsonl').open('a') as out:\n"
        "        out.write(json.dumps({'reader': reader, 'number': int(number), 'kind': 'value'}) + '\\n')\n"
    )
    monkeypatch.setattr(driver, "WORKER", worker)
    monkeypatch.setattr(driver, "WALL_SECONDS", 2)
    outcomes = driver.run([("model", 0), ("model", 1), ("model", 2)], tmp_path / "work")
    assert [outcome.kind for outcome in outcomes] == ["value", kind, "value"]


def test_shares_add_up():
    for count in (len(TARGETS), 60, 2000):
        jobs = driver.plan(count)
        assert len(jobs) == count == len(set(jobs))
